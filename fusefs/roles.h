/* What holder and worker have in common: locks, and starting each other. */
#ifndef FUSEFS_ROLES_H
#define FUSEFS_ROLES_H

#include "fusefs/link.h"
#include "fusefs/options.h"

#include <sys/types.h>

/* The kept descriptors: in the order of FFS_FD_FUSE on. */
struct ffs_kept {
	int fuse, state, creds, listen, lock;
};

/* Takes a byte of the lock file for this process, waiting up to patience_ns for a dying one. ERR_EXISTS: another one
 * has it. */
int ffs_role_lock(int lock_fd, int byte, int64_t patience_ns, struct err *err);

/* Starts this very program in another role, with the kept descriptors and up to two more behind them. */
int ffs_role_start(const struct ffs_options *opts, const char *role, const struct ffs_kept *kept, const int *more,
                   unsigned n_more, pid_t *pid, struct err *err);

/* Takes the descriptors 3 to 7 as kept ones; they must be open. */
int ffs_kept_take(struct ffs_kept *out, struct err *err);

/* Opens <state>/contentfs.log again, unless the log goes to a terminal or a pipe. */
int ffs_log_reopen(const char *state, struct err *err);

/* Runs the holder; returns the exit status. */
int ffs_holder_main(const struct ffs_options *opts);

#endif
