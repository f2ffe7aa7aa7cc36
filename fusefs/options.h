/* The command line of contentfs, shared by holder and worker. */
#ifndef FUSEFS_OPTIONS_H
#define FUSEFS_OPTIONS_H

#include "base/log.h"
#include "fusefs/data.h"

enum ffs_role {
	FFS_ROLE_HOLDER, /* start anew */
	FFS_ROLE_RESUME, /* holder over descriptors that somebody kept; starts a worker */
	FFS_ROLE_ADOPT,  /* holder started by a worker that lost its own; the worker goes on */
	FFS_ROLE_WORKER,
};

/* Descriptors of --resume, --adopt and --worker. Part of the interface with whoever keeps them (fusefs/README.md). */
enum {
	FFS_FD_FUSE = 3,
	FFS_FD_STATE,
	FFS_FD_CREDS,
	FFS_FD_LISTEN,
	FFS_FD_LOCK,
	FFS_FDS_KEPT, /* --resume takes the five above */
	FFS_FD_LINK = FFS_FDS_KEPT,
	FFS_FD_WORKER, /* --adopt: pidfd of the worker */
};

/* Exit statuses. */
enum {
	FFS_EXIT_OK = 0, /* worker: the mount is gone; holder: ended in order */
	FFS_EXIT_FAILED = 1,
	FFS_EXIT_USAGE = 2,
	FFS_EXIT_BUSY = 3, /* another contentfs serves this state directory */
};

struct ffs_options {
	enum ffs_role role;
	const char *root, *state;     /* absolute, without trailing slash */
	const char *config;           /* or NULL */
	const char *certs_dir;        /* certs.d of the registry hosts; default /etc/contentd/certs.d */
	const char *gzip_index_hosts; /* host[:port] by commas, "*": all; NULL or empty: none (fusefs/open_gzip.c) */
	enum log_level log_level;
	bool log_json;
	unsigned fuse_threads;
	unsigned answer_timeout_ms;   /* of registries; 0: registry/client.h's */
	int64_t heartbeat_timeout_ns; /* the holder replaces a worker that is silent for longer */
	struct ffs_data_opts data;
	char **argv; /* of this process, for starting the others alike */
	int argc;
};

/* Parses; prints usage or a complaint and exits on --help, --version and mistakes. */
void ffs_options_parse(int argc, char **argv, struct ffs_options *out);

#endif
