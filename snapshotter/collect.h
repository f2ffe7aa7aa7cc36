/*
 * What a garbage collector has to know of snapshots, from the table alone: no store is needed for it, so that it can be
 * run over a table in memory. Any thread.
 */
#ifndef SNAPSHOTTER_COLLECT_H
#define SNAPSHOTTER_COLLECT_H

#include "base/vec.h"
#include "snapshotter/snapshotter.h"

/* One snapshot. Borrowed. */
struct snap_node {
	struct snap_space space;
	const struct snap_info *info;
	bool has_meta;
	struct digest
	    meta; /* name of the metadata image of its chain (of its parent's, when it is neither committed nor has an index) */
};
typedef int (*snap_node_fn)(void *arg, const struct snap_node *n, struct err *err);

/* At most `max` snapshots of all spaces after *cursor (empty at first), in an order that stays; moves *cursor. 1 when
 * there are no more. fn may use the table. */
int snap_nodes(const struct kv *kv, struct buf *cursor, unsigned max, snap_node_fn fn, void *arg, struct err *err);

/* One of them; nothing when it is gone. */
int snap_node_read(const struct kv *kv, struct snap_space sp, const char *name, snap_node_fn fn, void *arg,
                   struct err *err);

/* The keys to remove from the table, in one batch, for the snapshot to be gone, and the number of its directory (0: it
 * has none), which is to be removed after that is on disk: snap_drop_dir. It must have no children that stay.
 * ERR_NOT_FOUND. */
struct snap_removal {
	struct buf record_key, child_key; /* child_key empty: there is no such key */
	uint64_t dir;
};
void snap_removal_fini(struct snap_removal *r);
DEFINE_AUTO_FINI(snap_removal);
int snap_removal_make(const struct kv *kv, struct snap_space sp, const char *name, struct snap_removal *out,
                      struct err *err);

#endif
