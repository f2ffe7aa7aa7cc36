/*
 * The FUSE side: node ids, attributes and reads of the mount <state>/lazy, on a /dev/fuse that the holder keeps.
 *
 *   /ab/cdef…            objects by name: what overlayfs follows redirects to
 *   /.trees/<64 hex>/…   whole trees, named by their metadata image <root>/meta/<64 hex> (kernels without the former)
 *
 * No-open: the kernel caches names, attributes and pages for ever, and asks for what it has not. Requests are answered
 * from any thread and in any order; those that wait for the network occupy none.
 */
#ifndef FUSEFS_SESSION_H
#define FUSEFS_SESSION_H

#include "fusefs/data.h"
#include "fusefs/table.h"

struct ffs_session;

/* Attaches to fuse_fd (not owned), replays the INIT request of the table, and has the kernel send again what an earlier
 * worker left unanswered (`first`: there was none). `root`: where meta/ is. */
int ffs_session_new(int fuse_fd, struct ffs_table *table, struct ffs_data *data, const char *root, bool first,
                    struct ffs_session **out, struct err *err);

/* Serves with this many threads until the mount is gone (0), or something is badly wrong. */
int ffs_session_run(struct ffs_session *s, unsigned threads, struct err *err);

/* Longest time that a thread has been busy with one request; 0 when none is. */
int64_t ffs_session_stuck_ns(struct ffs_session *s);

#endif
