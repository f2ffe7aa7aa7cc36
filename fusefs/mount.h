/* The FUSE mount <state>/lazy, made by the holder with plain system calls. */
#ifndef FUSEFS_MOUNT_H
#define FUSEFS_MOUNT_H

#include "base/buf.h"
#include "base/err.h"

/* Mounts on `path` (made if absent; a dead mount that is left there is detached first), and takes the kernel's first
 * request, INIT, off the descriptor: every worker has to see it. */
int ffs_mount_make(const char *path, int *fuse_fd, struct buf *init, struct err *err);

/* Detaches the mount and aborts its connection: readers get errors. Best effort. */
void ffs_mount_end(const char *path);

/* False when the connection is over (unmounted, or aborted). */
bool ffs_mount_alive(int fuse_fd);

/* Sets the read-ahead of the mount, as only root can after mounting; asks the file system nothing. */
int ffs_mount_set_readahead(const char *path, unsigned kib, struct err *err);

#endif
