/*
 * The owner that the collector (gc/gc.h) asks: everything that has a name here, what refers to what, and how it is
 * removed. Records come from the metadata and the snapshotter's table; what is kept in files, from a table of functions,
 * so that all of this runs over a key-value table in memory and a model of the files as well:
 *
 *	kv = kv_mem_kv(mem)                            the table; contentd: RocksDB
 *	cd_meta_new(kv, &meta, err)                    records; whoever writes them goes through cd_meta_commit, or uses
 *	cd_graph_new(meta, &store, &graph)             `store`: the files, below. contentd: collect/store.c
 *	gc = gc_new(cd_graph_gc(graph)); cd_uses_bind(cd_meta_uses(meta), gc, NULL, NULL)
 *	cd_uses_begin_cycle(cd_meta_uses(meta), &run)  instead of gc_begin
 *	while (gc_step(gc, budget, err) > 0)
 *	cd_graph_finish(graph, err)                    at the end of each cycle: the removals that wait
 *
 * What goes and in which order. In a hold, which takes microseconds: records go in one unsynced batch, files are only
 * condemned. Outside of it: the table is synced, then what was condemned is deleted. A crash in between leaves files that
 * no record names; the next cycle finds them by listing, and an orphan list of a lease by its missing lease.
 *
 * Kinds of files (gc/id.h), ns and space empty but for ingests:
 *	BLOB      "sha256:<hex>"    owned by content records
 *	INGEST    ref, in a namespace ("" for our own transfers)
 *	INDEX     64 hex digits     of a layer; owned by indexed snapshots
 *	METADATA  64 hex digits     mounted image of a chain; owned by every snapshot of that chain
 *	STREAM    id, in a namespace
 *	OBJECT, PARTIAL  64 hex digits; owned by indexes. Only with `objects`: to say what keeps them. They are not removed one
 *	                 by one: who has dropped an index sweeps what no index names any more.
 * Containers (and sandboxes) are roots and never removed.
 *
 * One thread; several graphs over the same metadata may be in use at a time.
 */
#ifndef CONTENTD_COLLECT_GRAPH_H
#define CONTENTD_COLLECT_GRAPH_H

#include "contentd/collect/uses.h"
#include "contentd/meta/meta.h"

/* A file, or what is like one. Borrowed. */
struct cd_file {
	struct gc_id id;
	bool in_use;             /* a root: somebody writes or reads it just now */
	bool expires;            /* INGEST: a root until then; without it, and when not in use, it is none */
	struct timespec at;      /* when it expires */
	struct gc_id refs_to[1]; /* INGEST: the content that it will be */
	unsigned n_refs;
	int64_t bytes; /* on disk, or 0: for those who ask for sizes */
};

typedef int (*cd_file_fn)(void *arg, const struct cd_file *f, struct err *err);

/* Something that has been removed from the graph. */
struct cd_gone {
	struct gc_id id; /* IMAGE, SNAPSHOT, or a kind of file */
	uint64_t dir;    /* SNAPSHOT: its directory; 0: none */
};

struct cd_store {
	/* Calls fn for every file of a kind; a kind that is not kept here has none. fn may use the metadata. */
	int (*list)(void *arg, enum gc_kind kind, cd_file_fn fn, void *fn_arg, struct err *err);

	/* What an index refers to (OBJECT); only asked with `objects`. */
	int (*refs)(void *arg, const struct gc_id *id, void (*fn)(void *fn_arg, const struct gc_id *to), void *fn_arg,
	            struct err *err);

	/* In a hold, so without I/O: who looks for that file from now on must not find it, and who wants to make it must
	 * wait until it is dropped. GC_KEEP: it is in use after all. */
	int (*condemn)(void *arg, const struct gc_id *id, struct err *err);

	/* It stays: the removal of its records has failed. */
	void (*spare)(void *arg, const struct gc_id *id);

	/* Outside of holds, records are gone for good: deletes. What fails is logged, and found again by a later cycle. */
	void (*drop)(void *arg, const struct cd_gone *gone, size_t n);

	void *arg;
};

struct cd_graph;

/* `store` is copied. objects: report OBJECT and PARTIAL too. */
struct cd_graph *cd_graph_new(struct cd_meta *meta, const struct cd_store *store, bool objects);
void cd_graph_free(struct cd_graph *g); /* what is not finished is spared */
DEFINE_AUTO_FREE(cd_graph);

/* Valid as long as the graph. */
const struct gc_graph *cd_graph_gc(const struct cd_graph *g);

/* Brings the removals of holds that have ended to the disk. Also happens by itself, whenever some dozens wait. */
int cd_graph_drop(struct cd_graph *g, struct err *err);
/* The same at the end of a cycle, with the lists of leases that are gone: in the middle of one their names would count as
 * being used. */
int cd_graph_finish(struct cd_graph *g, struct err *err);

/* How long the holds since the last call have lasted, together. */
int64_t cd_graph_held(struct cd_graph *g);

#endif
