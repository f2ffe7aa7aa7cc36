/*
 * Running tasks: which container is served by which shim, and the Tasks service over them.
 *
 * The table holds one struct task per (namespace, id), reference counted: the table has one reference, each call one.
 * Shims send their events to our ttrpc socket. A shim whose connection breaks is dead: a thread of its own cleans up
 * after it and tells the world (exit, delete). At start the bundles of earlier tasks are found again and their shims
 * reconnected, all in parallel. Any thread.
 */
#ifndef TASKS_TASKS_H
#define TASKS_TASKS_H

#include "base/cleanup.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/types.pb-c.h"
#include "rpc/service.h"

struct cd_tasks;

/* What tasks need of the daemon. */
struct cd_tasks_host {
	/* The container's record, in the arena; ERR_NOT_FOUND. */
	int (*container)(void *arg, const char *ns, const char *id, struct arena *a, Containers__Container **out,
	                 struct err *err);
	/* Namespace of a call, checked. */
	int (*ns)(void *arg, struct rpc_call *c, const char **ns, struct err *err);
	/* An event of a shim, as it came. `inherited`: of a task that an earlier daemon began, whose followers may not be
	 * back yet. */
	int (*forward)(void *arg, const Types__Envelope *envelope, bool inherited, struct err *err);
	/* An event of our own. */
	void (*publish)(void *arg, const char *ns, const char *topic, const ProtobufCMessage *event, bool inherited);
	void *arg;
};

struct cd_tasks_opts {
	const char *root, *state; /* absolute */
	const char *address;      /* of the gRPC socket; events go to <address>.ttrpc */
	const char *runtime;      /* default of containers that name none */
	bool debug;
	int64_t patience_ns; /* how long a shim may be silent in a call until it is tried whether it is hung; 0: 10 s */
	struct cd_tasks_host host;
};

/* Listens for events. Texts are copied. */
int cd_tasks_new(const struct cd_tasks_opts *opts, struct cd_tasks **out, struct err *err);
/* Takes no more events: before those who follow them are cut off, so that what comes now is for the next daemon. */
void cd_tasks_stop_events(struct cd_tasks *t);
/* Closes the connections; shims and containers go on. */
void cd_tasks_free(struct cd_tasks *t);
DEFINE_AUTO_FREE(cd_tasks);

/* Finds the tasks of an earlier daemon again; returns when each is reconnected or given up. The dead are cleaned up after
 * in the background. Once; until then no event of a shim is taken. */
int cd_tasks_load(struct cd_tasks *t, struct err *err);

/* What a runtime says of itself. ERR_NOT_FOUND when its shim is not installed; *out lives in the arena. */
int cd_tasks_runtime_info(struct cd_tasks *t, const Types__RuntimeRequest *req, struct arena *a,
                          Types__RuntimeInfo **out, struct err *err);

size_t cd_tasks_count(struct cd_tasks *t);

/* The Tasks service; its svc is a function of the host, so the table is copied with the svc set: */
struct rpc_service cd_tasks_service(struct cd_tasks *t);

#endif
