/*
 * Garbage collection of everything that has a name: image, lease and content records, snapshots, ingests, layer
 * indexes, objects, metadata images. The algorithm alone: no clock, no threads, no storage. What exists and what refers
 * to what it asks through the table `struct gc_graph`, in bounded steps, while the owner goes on changing it.
 *
 *     gc_begin ─► scan ─► mark ─► gather ─► sweep ─► over         each gc_step does a bounded part of it
 *                  all     from    names of   referrers first,
 *                 records  roots   the rest   in small batches, each under the owner's hold
 *
 * A node is collected when it existed at the scan, was not reachable from a root, and neither it nor anything that leads
 * to it was written or referred to since the cycle began. Colours are two bits in memory, so a crash costs the cycle only.
 *
 * What the owner promises:
 *  1. When a write that creates or changes a record is visible to `scan` and `node`, it calls gc_wrote() for that record
 *     (or, where only references were added to it, gc_referred() for their targets). Removing records or references needs
 *     no call.
 *  2. Between the first look at what a write will refer to ("does this blob exist already?") and that call, it keeps the
 *     collector out of hold(): a lock that writers share and hold() takes alone is enough. (Or it calls gc_referred()
 *     before the look, and the look waits for a removal of that record which is under way.)
 * What it gets: nothing reachable, leased, or touched during a cycle is collected in it; and since referrers go before
 * what they refer to, a record that still stands leads only to things that stand (rings made of labels aside).
 *
 * gc_wrote and gc_referred: any thread. All else on one struct gc: one thread at a time.
 */
#ifndef GC_GC_H
#define GC_GC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "gc/id.h"

#include <time.h>

/* How one node refers to another. */
enum gc_how {
	GC_OWN, /* part of the record: image -> target, snapshot -> parent, lease -> what it lists, index -> objects */
	GC_LABEL, /* by a label; not followed where a flat lease leads */
	GC_FLAT,  /* from a flat lease: the target is kept with what it owns, not with what its labels name */
	GC_BACK,  /* by a label on the target, which names the referrer; else as GC_LABEL */
};

/* Why a node is a root. */
#define GC_ROOTS(X)                                                                                                    \
	X(NONE, "not a root")                                                                                          \
	X(LEASE, "lease that has not expired")                                                                         \
	X(IMAGE, "image")                                                                                              \
	X(INGEST, "ingest that has not expired")                                                                       \
	X(CONTAINER, "container")                                                                                      \
	X(SANDBOX, "sandbox")                                                                                          \
	X(LABEL, "label containerd.io/gc.root")                                                                        \
	X(OWNER, "in use")

enum gc_root {
#define X(name, text) GC_ROOT_##name,
	GC_ROOTS(X)
#undef X
};

const char *gc_root_text(enum gc_root root);

/*
 * Where the owner reports records. For each: gc_sink_node, then its labels, then the rest; the texts of its id are
 * borrowed until the next one, or the owner's return. A record with very many references may be reported in pieces, each
 * begun by gc_sink_node and all labels again.
 */
struct gc_sink;
void gc_sink_node(struct gc_sink *s, const struct gc_id *id);
/* Any label of the record: the ones that matter are found here. */
void gc_sink_label(struct gc_sink *s, struct str key, struct str value);
/* When an ingest expires; one without a call is no root. */
void gc_sink_expires(struct gc_sink *s, struct timespec at);
/* The owner's own reason: a stream in use without a lease, a pin. */
void gc_sink_root(struct gc_sink *s);
/* A reference that is part of the record. The target need not exist. */
void gc_sink_ref(struct gc_sink *s, const struct gc_id *to);
/* A reference that the owner makes of a label: followed where the label itself would be. */
void gc_sink_label_ref(struct gc_sink *s, const struct gc_id *to);
/* Many references count as much as many records: true when scan() should return even before `max`. */
bool gc_sink_full(const struct gc_sink *s);

/* remove() answers that the node stays. */
#define GC_KEEP 1

/* What is collected. Texts passed either way are borrowed for the call. An error of any of them fails the cycle. */
struct gc_graph {
	/*
	 * Reports up to `max` records (fewer once gc_sink_full), of all kinds, that come after *cursor in an order of the
	 * owner's, and moves *cursor (empty at first; the owner's bytes); 1 when there are no more. Records that stand all
	 * the while must be reported; of those that come and go meanwhile, any. With 10^6 records called some thousand
	 * times.
	 */
	int (*scan)(void *arg, struct buf *cursor, unsigned max, struct gc_sink *sink, struct err *err);

	/* Reports one record as it is now; nothing if it is gone. Also called in a hold. */
	int (*node)(void *arg, const struct gc_id *id, struct gc_sink *sink, struct err *err);

	/* Until release(), no write stands between its first look and its gc_wrote. Both may be NULL where writes and
	 * steps exclude each other anyway. release() may commit what remove() collected in a batch. */
	void (*hold)(void *arg);
	int (*release)(void *arg, struct err *err);

	/* Called in a hold: deletes the node, or answers GC_KEEP when somebody uses it (a pin, an open file): then it is
	 * kept with everything it leads to. Already gone: 0. Must not call back into this struct gc. */
	int (*remove)(void *arg, const struct gc_id *id, struct err *err);

	void *arg;
};

struct gc_stats {
	uint64_t seen[GC_KINDS_N];    /* records that the scan found */
	uint64_t removed[GC_KINDS_N]; /* or, in a dry run, would be */
	uint64_t kept;                /* answered GC_KEEP */
	uint64_t held;                /* holds taken */
	uint64_t memory_bytes;        /* the most that the cycle used */
	/* The first expiry of a lease, an image or an ingest that had not passed at the cycle's `now`. Things expire just
	 * after it: that is when to collect again at the latest. tv_sec is INT64_MAX when nothing will expire. */
	struct timespec next_expiry;
};

struct gc_run {
	struct timespec now; /* wall clock; decides what has expired, for the whole cycle */
	unsigned batch;      /* most removals in one hold; 0: 16 */
	bool dry_run;        /* call `found` where remove() would be called; takes no hold */
	void (*found)(void *arg, const struct gc_id *id);
	void *arg;
};

struct gc;
/* The table must outlive it. */
struct gc *gc_new(const struct gc_graph *graph);
void gc_free(struct gc *gc);
DEFINE_AUTO_FREE(gc);

/* Starts a cycle; none may be running. */
void gc_begin(struct gc *gc, const struct gc_run *run);
bool gc_running(const struct gc *gc);

/*
 * Does about `budget` units of work: a record read, a reference followed, a removal are one each. 1 while the cycle
 * goes on, 0 when it is over. An error ends the cycle: what was removed is removed, the rest is for the next.
 */
int gc_step(struct gc *gc, unsigned budget, struct err *err);

/* Of the cycle that runs, or of the last one. */
const struct gc_stats *gc_stats(const struct gc *gc);

/* The write barrier. Outside a cycle both cost a lock and a look. */
void gc_wrote(struct gc *gc, const struct gc_id *id);
void gc_referred(struct gc *gc, const struct gc_id *to);

/*
 * Waiting for "everything that is garbage now is gone": a ticket stands for the first cycle that begins after the call.
 * Dry runs serve no tickets. gc_ticket_state: 0 not yet, 1 done, negative (ERR_ABORTED) when that cycle failed.
 */
uint64_t gc_ticket(const struct gc *gc);
int gc_ticket_state(const struct gc *gc, uint64_t ticket, struct err *err);

/* ---- what keeps a node ---- */

struct gc_link {
	struct gc_id id; /* texts belong to the chain */
	enum gc_how how; /* how the one before refers to it; of no meaning in the first */
};

struct gc_chain {
	VEC(struct gc_link) links; /* the root first, the node last; empty: garbage */
	enum gc_root root;         /* of the first */
	struct buf text;
};

#define GC_CHAIN_INIT ((struct gc_chain){.links = VEC_INIT, .text = BUF_INIT})

void gc_chain_fini(struct gc_chain *c);
DEFINE_AUTO_FINI(gc_chain);

/* A shortest chain of references from a root to the node. ERR_NOT_FOUND when no record has that name. Reads all records
 * twice, takes no hold; what changes meanwhile may give an answer that was never true as a whole. */
int gc_why(const struct gc_graph *graph, const struct gc_id *id, struct timespec now, struct gc_chain *chain,
           struct err *err);

#endif
