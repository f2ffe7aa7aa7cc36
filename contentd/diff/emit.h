/*
 * Changes as entries of a layer: what is in a directory becomes a tar stream as the OCI image specification has layers. Files
 * with several names become hard links to the first that came; extended attributes go along, except those that belong to
 * overlayfs or to the host (security.* but capabilities); sockets are left out. One owner.
 */
#ifndef DIFF_EMIT_H
#define DIFF_EMIT_H

#include "base/map.h"
#include "base/vec.h"
#include "contentd/diff/layer_out.h"
#include "rpc/service.h"

#include <sys/stat.h>

struct emit {
	struct layer_out *out;
	struct rpc_call *call; /* NULL, or whose cancellation ends it */
	bool has_epoch;        /* times are not later than `epoch` */
	struct timespec epoch;
	struct map links; /* device and inode -> path (owned) */
	char *chunk;
};
void emit_init(struct emit *e, struct layer_out *out, struct rpc_call *call);
void emit_fini(struct emit *e);
DEFINE_AUTO_FINI(emit);

/* The file `name` in dir_fd as `path` ("" with name "." for the root). */
int emit_entry(struct emit *e, int dir_fd, const char *name, struct str path, const struct stat *st, struct err *err);

/* `path` is gone. */
int emit_whiteout(struct emit *e, struct str path, struct err *err);

/* Nothing of what the layers below have in the directory `path` is seen. */
int emit_opaque(struct emit *e, struct str path, struct err *err);

/* The end of the archive. */
int emit_end(struct emit *e, struct err *err);

/* The extended attributes of a file that are of a layer; texts owned by the caller: xattrs_fini. */
struct xattrs {
	VEC(struct esgz_xattr) v; /* sorted by name */
};
#define XATTRS_INIT ((struct xattrs){VEC_INIT})
int xattrs_read(int dir_fd, const char *name, struct xattrs *out, struct err *err);
void xattrs_fini(struct xattrs *x);
DEFINE_AUTO_FINI(xattrs);

#endif
