/*
 * A store in plain text for tests of the graph: real records in a table in memory, and a model of the files. Ids are
 * "kind/namespace/space/key" (gc/id.h). Facts, one a word:
 *	target=D              image: its content          snapshot=SNAPSHOTTER/KEY   container
 *	parent=KEY            snapshot                    index=HEX                  snapshot: of one layer index
 *	lower=@x@y            snapshot: its record names the indexes below it
 *	active                snapshot that is not committed
 *	>TYPE:ID              lease: a resource           +LABEL=VALUE               containerd.io/gc.LABEL
 *	in-use                file                        expires=RFC3339            ingest
 *	>D                    ingest: expects; index: object D
 * A digest is written "#x": sha256 and 64 times that character; an index key or object "@x".
 */
#ifndef CONTENTD_COLLECT_TESTING_H
#define CONTENTD_COLLECT_TESTING_H

#include "base/kv_mem.h"
#include "contentd/collect/graph.h"

struct text_file {
	enum gc_kind kind;
	char *ns, *key, *facts;
	bool condemned;
};

/* Somebody who looks on. Any of them NULL. */
struct text_watch {
	void (*hold)(void *arg);                             /* nobody else writes from here on */
	void (*removing)(void *arg, const struct gc_id *id); /* in a hold: it is to go, and nothing speaks for it */
	void (*dropped)(void *arg, const struct gc_id *id);  /* a file is deleted; a record has been, for good */
	void *arg;
};

struct text_store {
	struct kv_mem *mem;
	struct cd_meta *meta;
	struct cd_graph *graph;
	struct gc *gc;
	struct gc_graph table; /* the graph's, through the watch */
	struct text_watch watch;
	VEC(struct text_file) files;
	unsigned drops;      /* calls of drop */
	struct buf dropped;  /* what was deleted outside of holds, "kind/key ", in order */
	struct buf found;    /* of a dry run */
	struct timespec now; /* of cycles; TEXT_NOW at first */
};

#define TEXT_NOW ((struct timespec){.tv_sec = 1767323045}) /* 2026-01-02T03:04:05Z */
/* "#x" written out; valid until the fourth one after it. */
const char *text_sha(char c);
#define TEXT_BEFORE "2026-01-02T03:04:04Z"
#define TEXT_AFTER "2026-01-02T03:04:06Z"

void text_store_init(struct text_store *s);
void text_store_fini(struct text_store *s);
DEFINE_AUTO_FINI(text_store);

/* The daemon dies: of what it wrote without a sync the first `keep` writes remain. The next one opens what is there. */
void text_store_crash(struct text_store *s, unsigned keep);

/* Adds or replaces one; resources of a lease are only added. */
void text_put(struct text_store *s, const char *id, const char *facts);
/* A record with what is part of it (no snapshot with children), or a file. */
void text_remove(struct text_store *s, const char *id);
/* `resource` as in the facts of a lease: "content:#a". */
void text_unlease(struct text_store *s, const char *lease, const char *resource);

/* Has the graph remove one, in a hold. */
void text_graph_remove(struct text_store *s, const char *id);

/* One cycle. */
void text_collect(struct text_store *s);
/* Everything that is there: ids, in order of kinds and names, a space between. The caller's. Namespaces are left out. */
char *text_left(struct text_store *s);

#endif
