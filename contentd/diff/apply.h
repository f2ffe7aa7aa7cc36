/*
 * Layers into snapshots and directories. Where the mounts are those of an active snapshot of ours that stands on indexed
 * layers, a blob becomes objects and a layer index, and the snapshot gets that; everywhere else it is unpacked into a
 * directory (unpack.h). Any thread; the calls take as long as the blob is large, and end early when theirs is cancelled.
 */
#ifndef DIFF_APPLY_H
#define DIFF_APPLY_H

#include "contentd/daemon.h"
#include "contentd/diff/trees.h"
#include "contentd/diff/unpack.h"
#include "rpc/proto/contentd_records.pb-c.h"

/* Applies a blob of the content store to the mounts. sync: on disk when it returns. ERR_NOT_FOUND: no such content. */
int diff_apply(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Types__Descriptor *layer,
               const struct tree_mounts *mounts, bool sync, struct unpacked *out, struct err *err);

/* Unpacks a layer that is in the content store (bytes of `fd`) into the directory of an active snapshot, above `parent`. */
int diff_fill_dir(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *key, const char *parent,
                  int blob_fd, struct unpacked *out, struct err *err);

/* An active snapshot that has an index gets the same as files in its directory, above `parent`, because that is a
 * directory, too. Needs the layer's blob; ERR_PRECONDITION when something was written over it. */
int diff_index_to_dir(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *key,
                      const char *parent, struct err *err);

/* The root of the mounts; see tree_open. */
int diff_open_tree(struct cd_daemon *d, const struct tree_mounts *mounts, int *fd, struct err *err);

#endif
