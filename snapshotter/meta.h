/*
 * Metadata images: built from layer indexes, mounted once per chain, shared by every snapshot that needs them.
 *
 * File <root>/meta/<64 hex>, mount <state>/meta/<64 hex>, and beside it the *tree*: a read-only overlay of that mount and
 * the data-only layers, at <64 hex>.<device of the FUSE mount>. At level 3 nothing is mounted, contentfs serves
 * <state>/lazy/.trees/<64 hex> from the file. The name is the hash of the ordered index keys. A file is never trusted
 * across a reboot: those of another boot are removed at open, so that none needs a sync. Any thread; one mutex guards the
 * table, building and mounting happen outside of it, one builder per image.
 */
#ifndef SNAPSHOTTER_META_H
#define SNAPSHOTTER_META_H

#include "snapshotter/snapshotter.h"

struct snap_meta;

int snap_meta_open(const char *root, const char *state, struct snap_meta **out, struct err *err);
void snap_meta_close(struct snap_meta *m); /* leaves mounts in place */

void snap_meta_set_level(struct snap_meta *m, enum snap_level level);

/* What a chain is below an upper directory. */
struct snap_lower {
	char *tree;  /* a directory with all of it, true contents included */
	char *parts; /* level 1: the same as what lowerdir ends in ("E::L::F"), one overlay less deep; others: NULL */
};
void snap_lower_fini(struct snap_lower *l);
DEFINE_AUTO_FINI(snap_lower);

/* Builds and mounts what is missing; also a tree again whose FUSE mount was lost and made anew. */
int snap_meta_ensure(struct snap_meta *m, const struct digest *indexes, unsigned n, struct snap_lower *out,
                     struct err *err);

/* Taking images away, in two steps so that the decision can be made under the caller's lock and the work outside of it.
 * condemn: it ceases to be ready, and who wants it now waits until it is dropped, then builds it again; false when it is
 * being built. spare: takes that back. drop: unmounts, deletes. */
bool snap_meta_condemn(struct snap_meta *m, const struct digest *key);
void snap_meta_spare(struct snap_meta *m, const struct digest *key);
void snap_meta_drop(struct snap_meta *m, const struct digest *key);

/* Calls fn for every image file (none at the level tree, which keeps all of a boot). A negative return ends with it. */
int snap_meta_each(struct snap_meta *m, int (*fn)(void *arg, const struct digest *key, int64_t bytes, struct err *err),
                   void *arg, struct err *err);

/* Writes the image of a chain of layer index files to `path`; used by snap_meta_ensure and by the probe. objects_fd: the
 * object directory, asked for what is published. */
int snap_meta_build(int index_dir_fd, int objects_fd, const struct digest *indexes, unsigned n, const char *path,
                    struct err *err);

#endif
