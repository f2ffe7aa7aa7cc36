/*
 * The daemon: its parts, and the gates through which calls reach those that take a moment to open. The socket accepts at
 * once; the database opens in a thread (gate `meta`), and then, side by side, the tasks of an earlier daemon are found
 * again (gate `tasks`), contentfs is reached and the snapshotter opened (gate `data`). Every call but version and health
 * waits for the first; those of tasks, and those that need the data plane, for theirs. A data plane that cannot be opened
 * is tried again, again and again, while everything else is served.
 *
 *	main ── cd_daemon_new ── cd_daemon_start ── (signals) ── cd_daemon_stop ── cd_daemon_free
 *
 * Services take the daemon as their `svc` (services.h). Fields are constant once set. Any thread.
 */
#ifndef CONTENTD_DAEMON_H
#define CONTENTD_DAEMON_H

#include "base/cleanup.h"
#include "contentd/collect/collector.h"
#include "contentd/config/config.h"
#include "contentd/content/content.h"
#include "contentd/events.h"
#include "contentd/gate.h"
#include "contentd/meta/meta.h"
#include "contentd/streams.h"
#include "fusefs/client.h"
#include "rpc/server.h"
#include "snapshotter/snapshotter.h"

#include <pthread.h>

struct kv_rocks;
struct cd_remote_images;
struct cd_file_store;
struct cd_tasks;
struct cd_watch;

struct cd_daemon {
	struct cd_config config;
	struct cd_events *events;
	struct cd_streams *streams;
	struct cd_content *content;
	struct cd_remote_images *remote_images;
	struct cd_file_store *files;

	struct cd_meta *meta;           /* behind cd_wait_meta, where every handler is */
	struct kv snap_kv;              /* the table as the snapshotter gets it: the collector hears what is written */
	struct cd_collector *collector; /* by cd_collector_now */
	struct snap_store *snaps;       /* by cd_snapshots */
	struct ffs_client *data;        /* by cd_data */
	struct cd_watch *watch;         /* of `data` */
	char uuid[37];                  /* of this installation; kept in <root>/uuid */

	struct cd_tasks *tasks; /* NULL when only served by cd_daemon_serve */

	struct rpc_server *server;
	struct cd_gate meta_gate, data_gate, tasks_gate;
	int root_lock, state_lock; /* descriptors */
	bool has_socket;           /* at config.address */
	struct kv_rocks *rocks;
	pthread_t opener;
	bool opener_started;
	pthread_mutex_t stop_lock;
	pthread_cond_t stop_cond; /* wakes the opener, which may wait for another try */
	bool stopping;            /* stop_lock */
};

/* Makes the directories and everything that needs no waiting. The config is taken over, also on failure. */
int cd_daemon_new(struct cd_config *config, struct cd_daemon **out, struct err *err);
void cd_daemon_free(struct cd_daemon *d); /* stops first */
DEFINE_AUTO_FREE(cd_daemon);

/* Listens and serves, and opens the rest in a thread. */
int cd_daemon_start(struct cd_daemon *d, struct err *err);

/* Ends calls and closes what start opened. Containers and contentfs go on. */
void cd_daemon_stop(struct cd_daemon *d);

/* The pieces of cd_daemon_start, for tests: a table that somebody else owns, no data plane (snaps may be NULL, and is
 * taken), calls on the listening socket `fd`. */
int cd_daemon_use(struct cd_daemon *d, const struct kv *kv, TAKE(struct snap_store *) snaps, struct err *err);
int cd_daemon_serve(struct cd_daemon *d, TAKE(int) fd, struct err *err);
/* After cd_daemon_use: starts the collector, which otherwise only cd_daemon_start does. Before calls are served. */
int cd_daemon_collect(struct cd_daemon *d, struct err *err);

/* ---- for services ---- */

/* Wait for the gates; `c` is the call that waits (its cancellation ends the wait), or NULL. ERR_UNAVAILABLE when the
 * part could not be opened. */
int cd_wait_meta(struct cd_daemon *d, struct rpc_call *c, struct err *err);
int cd_snapshots(struct cd_daemon *d, struct rpc_call *c, struct snap_store **out, struct err *err);
int cd_data(struct cd_daemon *d, struct rpc_call *c, struct ffs_client **out, struct err *err);

/* The data plane if it is there now, else NULL: for those who would rather do without than wait. */
struct ffs_client *cd_data_now(struct cd_daemon *d);

/* The collector, or NULL while the data plane is not there: nothing is collected then. */
struct cd_collector *cd_collector_now(struct cd_daemon *d);

/* Uses something (collect/uses.h) until the call's handler has returned. Any thread that works for the call. */
void cd_use_for_call(struct cd_daemon *d, struct rpc_call *c, const struct gc_id *id);
/* The same of a blob, and of what a namespace knows of it. */
void cd_use_blob_for_call(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char *digest);

/* The namespace of a call: ERR_PRECONDITION when there is none, ERR_INVALID when it is no identifier. */
int cd_call_ns(struct rpc_call *c, const char **ns, struct err *err);

/* The lease of a call, NULL when it names none; ERR_NOT_FOUND when it does not exist. It is used until the call ends: one
 * that expires meanwhile stays. */
int cd_call_lease(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char **lease, struct err *err);
/* The same for calls that add nothing to it: NULL also when the lease does not exist (any more). Those that only read need
 * none. */
int cd_call_lease_if_any(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char **lease, struct err *err);

/* True when `name` is one of the configured snapshotter names. */
bool cd_is_snapshotter(const struct cd_daemon *d, const char *name);

/* True for "" and for the full name of a service that is served. */
bool cd_knows_service(const char *name);

#endif
