/*
 * The worker process of contentfs, and what it hands to its parts.
 *
 *   holder ──spawns──► worker: table, store, registry client, data, session, service
 *     └── link (SOCK_SEQPACKET): "ready", heartbeats, "stop"
 *
 * The descriptors come from the holder and survive every worker: none of them may be closed by a part.
 */
#ifndef FUSEFS_WORKER_H
#define FUSEFS_WORKER_H

#include "fusefs/data.h"
#include "fusefs/options.h"

#include <stdatomic.h>

struct ffs_session;
struct ffs_table;
struct reg_client;
struct ffs_secrets;

struct ffs_worker {
	const struct ffs_options *opts;

	int fuse_fd;   /* /dev/fuse of the mount <state>/lazy */
	int state_fd;  /* memory file: INIT request, node ids, trees, counters (table.h) */
	int creds_fd;  /* memory file, empty at first, for registry credentials (secrets.h) */
	int listen_fd; /* listening socket <state>/contentfs.sock, SOCK_SEQPACKET, non-blocking */
	int lock_fd;   /* <state>/contentfs.lock */
	int link_fd;   /* to the holder */

	uint64_t generation; /* workers started on this mount so far, this one included */
	char mount[4096];    /* path of the FUSE mount */

	struct ffs_table *table;
	struct ffs_store *store;
	struct reg_client *client;
	struct ffs_secrets *secrets;
	struct ffs_registries registries; /* these two */
	struct ffs_data *data;
	struct ffs_session *session;

	/* A call has freed much (set by any thread): what malloc keeps of it is given back with the next heartbeat, when nobody
	 * waits for it. */
	atomic_bool trim_due;
};

/* The holder's process id now: it changes when the holder was replaced. */
pid_t ffs_worker_holder_pid(const struct ffs_worker *w);

/* FUSE requests answered so far by all workers of this mount. */
void ffs_worker_fuse_counters(const struct ffs_worker *w, uint64_t *reads, uint64_t *lookups);

/* Opens <state>/contentfs.log again, if that is where the log goes, here and in the holder, which also takes our level and
 * format of log. */
int ffs_worker_reopen_log(struct ffs_worker *w, struct err *err);

/* Runs the worker on descriptors FFS_FD_*; returns the exit status (FFS_EXIT_*). */
int ffs_worker_main(const struct ffs_options *opts);

#endif
