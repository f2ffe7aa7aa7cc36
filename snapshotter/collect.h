/*
 * What a garbage collector has to know of snapshots, and how it removes them. What stands in the table is read from the
 * table alone: no store is needed for that, so that it can be run over a table in memory. Any thread.
 */
#ifndef SNAPSHOTTER_COLLECT_H
#define SNAPSHOTTER_COLLECT_H

#include "base/vec.h"
#include "snapshotter/snapshotter.h"

/* One snapshot. Borrowed. */
struct snap_node {
	struct snap_space space;
	const struct snap_info *info;
	bool has_meta;      /* of active ones and views */
	struct digest meta; /* name of the metadata image that it is mounted with */
	/* Index keys that this image is made of, whatever the chain has by now: those that the record names. */
	const struct digest *lower;
	size_t n_lower;
};
typedef int (*snap_node_fn)(void *arg, const struct snap_node *n, struct err *err);

/* At most `max` snapshots of all spaces after *cursor (empty at first), in an order that stays; moves *cursor. 1 when
 * there are no more. fn may use the table. */
int snap_nodes(const struct kv *kv, struct buf *cursor, unsigned max, snap_node_fn fn, void *arg, struct err *err);

/* One of them; nothing when it is gone. */
int snap_node_read(const struct kv *kv, struct snap_space sp, const char *name, snap_node_fn fn, void *arg,
                   struct err *err);

/* The name of the metadata image of the chain that ends in a committed snapshot: 1, or 0 when it has none, or is not
 * there. */
int snap_chain_meta(const struct kv *kv, struct snap_space sp, const char *name, struct digest *out, struct err *err);

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

/* ---- what is kept in files ---- */

/* Mounted images of chains. each: all there are (none at the level tree, where they stay until the next boot), with
 * their sizes. condemn: who wants it now waits until it is dropped or spared; false: it is being built; no I/O. drop:
 * unmounts and deletes what was condemned; mounts of containers are not touched. */
int snap_images_each(struct snap_store *s,
                     int (*fn)(void *arg, const struct digest *name, int64_t bytes, struct err *err), void *arg,
                     struct err *err);
bool snap_image_condemn(struct snap_store *s, const struct digest *name);
void snap_image_spare(struct snap_store *s, const struct digest *name);
void snap_image_drop(struct snap_store *s, const struct digest *name);

#endif
