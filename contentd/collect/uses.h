/*
 * Between those who write metadata and the collector: what running work relies on.
 *
 * Who looks at something and will act on what it saw *uses* it, from before the look until its own records are written:
 * the collector marks what is used, so that it does not vanish in between. Nobody waits: a use is announced under a lock
 * that the collector takes to decide on a batch of removals, some ten microseconds; only who announces one of those very
 * records waits until their removal is written. A use that lasts longer than a cycle is announced to the next one as well.
 * Uses are in memory: they end with the process.
 *
 *	struct cd_use use;                    or, for as long as an API call runs: cd_use_for_call (daemon.h)
 *	cd_use_begin(&use, cd_meta_uses(meta));
 *	cd_use_add(&use, &id);          before the look
 *	... look, write ...             cd_meta_commit announces what its records refer to by itself
 *	cd_use_end(&use);
 *
 * Any thread.
 */
#ifndef CONTENTD_COLLECT_USES_H
#define CONTENTD_COLLECT_USES_H

#include "base/cleanup.h"
#include "base/vec.h"
#include "gc/gc.h"

struct cd_uses;

struct cd_uses *cd_uses_new(void);
void cd_uses_free(struct cd_uses *all); /* all uses must have ended */
DEFINE_AUTO_FREE(cd_uses);

/* What one piece of work uses. Must not move. */
struct cd_use {
	struct cd_uses *all;
	VEC(struct cd_used_id) ids; /* all->lock */
	struct buf text;            /* all->lock; of the ids */
	struct cd_use *prev, *next; /* all->lock */
};

void cd_use_begin(struct cd_use *u, struct cd_uses *all);
/* Texts are copied. The thing need not exist. */
void cd_use_add(struct cd_use *u, const struct gc_id *id);
void cd_use_end(struct cd_use *u); /* twice, or never begun (zeroed): fine */
DEFINE_CLEANUP(cd_use, struct cd_use, cd_use_end(it));

/* ---- what was written ---- */

/* Something that the collector's plans depend on. */
struct cd_written {
	unsigned writes, deletions; /* records; a resource that was taken off a lease is a deletion */
	struct timespec expires;    /* the first expiry among what was written; tv_sec INT64_MAX: none */
};
#define CD_WRITTEN_NONE ((struct cd_written){.expires = {.tv_sec = INT64_MAX}})

/* A record is there, or is another one, and everybody can see it: to be called before its use ends. cd_meta_commit and
 * the snapshotter do that themselves. */
void cd_uses_wrote(struct cd_uses *all, const struct gc_id *id);
/* For the schedule. */
void cd_uses_written(struct cd_uses *all, const struct cd_written *w);

/* ---- the collector's side ---- */

/* Whom to tell; NULL: nobody any more. `written` (may be NULL) must not block, nor call back. */
void cd_uses_bind(struct cd_uses *all, struct gc *gc, void (*written)(void *arg, const struct cd_written *w),
                  void *arg);
/* gc_begin, in such a way that no use is missed. */
void cd_uses_begin_cycle(struct cd_uses *all, const struct gc_run *run);
/* The same for a dry run of another collector, which hears of nothing that comes later. */
void cd_uses_begin_dry(struct cd_uses *all, struct gc *gc, const struct gc_run *run);
/* The hold of struct gc_graph, for a decision: nobody announces anything. */
void cd_uses_hold(struct cd_uses *all);
/* In a hold: the record is going to be removed. Until cd_uses_landed who announces a use of it waits; others do not. The
 * texts stay valid until then. */
void cd_uses_leave(struct cd_uses *all, const struct gc_id *id);
void cd_uses_release(struct cd_uses *all);
/* Records that were leaving are gone, or stay after all. */
void cd_uses_landed(struct cd_uses *all);

#endif
