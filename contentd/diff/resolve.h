/*
 * Directories below a root that is not trusted: names are resolved component by component, symbolic links as they would be
 * in a container whose root this is. ".." ends at the root. One owner.
 */
#ifndef DIFF_RESOLVE_H
#define DIFF_RESOLVE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"

#include <sys/stat.h>

#define RESOLVE_LINKS_MAX 255 /* containerd's and Go's filepath.EvalSymlinks' bound */

struct resolver {
	int root_fd;      /* borrowed */
	struct map named; /* what `resolver_name` was told: device and inode */
	struct buf path;  /* the last directory asked for ... */
	struct buf real;  /* ... without links ... */
	int fd;           /* ... and found; -1: none */
};
#define RESOLVER_INIT(root)                                                                                            \
	((struct resolver){.root_fd = (root), .named = MAP_INIT, .path = BUF_INIT, .real = BUF_INIT, .fd = -1})
void resolver_fini(struct resolver *r);
DEFINE_AUTO_FINI(resolver);

/* The directory at a clean relative path ("" is the root). *fd is borrowed until the next call. create: makes what is
 * missing (0755, ours) and names all directories on the way. ERR_NOT_FOUND; ERR_INVALID when something else than a
 * directory is in the way. */
int resolver_dir(struct resolver *r, struct str path, bool create, int *fd, struct err *err);

/* Something was removed or replaced: forget where the last directory was. */
void resolver_forget(struct resolver *r);

/* Remembers a file, to be asked about later. */
void resolver_name(struct resolver *r, const struct stat *st);
bool resolver_is_named(const struct resolver *r, const struct stat *st);

#endif
