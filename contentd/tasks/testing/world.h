/*
 * For tests: tasks as a daemon and its client have them, with the real shim and the real runc, over the real gRPC server
 * and client. Containers are those whose id begins with 'c'; they run a shell on the machine's busybox. Needs root. One
 * thread.
 */
#ifndef TASKS_TESTING_WORLD_H
#define TASKS_TESTING_WORLD_H

#include "base/buf.h"
#include "base/clock.h"
#include "contentd/tasks/tasks.h"
#include "rpc/client.h"
#include "rpc/pb.h"
#include "rpc/proto/tasks.pb-c.h"
#include "rpc/server.h"

#include <pthread.h>

#define PATIENCE (20 * NS_PER_S)

struct world {
	char dir[64];
	/* Of this run alone: runc keeps containers by namespace and id, whoever started them. Also the name of the control
	 * group. */
	char ns[40];
	char *root, *state, *address, *rootfs;
	struct cd_tasks *tasks;
	struct rpc_server *server;
	struct rpc_client *client;
	char *command;         /* of the containers: sh -c ... */
	bool forgotten;        /* there are no records of containers */
	bool grouped;          /* all containers share a shim */
	int64_t shim_patience; /* of the daemon, as of cd_tasks_opts */
	int64_t patience;      /* of calls */
	pthread_mutex_t lock;
	pthread_cond_t arrived;
	struct buf topics; /* "create start ~exit": of the events so far, ~ of an earlier daemon's task; lock */
};

/* For cmocka; *state is the world. The daemon runs. */
int world_set_up(void **state);
int world_tear_down(void **state);

/* Containers go on between the two. */
void world_start_daemon(struct world *w);
void world_stop_daemon(struct world *w);

/* ---- what a client does ---- */

int world_call(struct world *w, const char *method, const ProtobufCMessage *req, void *rsp, struct err *err);
/* `out`: where its output goes, or NULL. */
int world_create(struct world *w, const char *id, const char *out, struct err *err);
int world_start(struct world *w, const char *id, const char *exec, struct err *err);
int world_wait(struct world *w, const char *id, const char *exec, uint32_t *status, struct err *err);
int world_delete(struct world *w, const char *id, uint32_t *status, struct err *err);
/* Registers `sh -c command` as an exec; world_start starts it. */
int world_add_process(struct world *w, const char *id, const char *exec, const char *command, struct err *err);
int world_kill_all(struct world *w, const char *id, int signal, struct err *err);
/* Container c1 has run, and its first process has ended with that status, which has been waited for; its shim. */
pid_t world_run_to_end(struct world *w, uint32_t status);
/* How many there are; status and pid of the first. */
unsigned world_count_tasks(struct world *w, uint32_t *status, uint32_t *pid);

/* ---- what must be ---- */

/* Waits until as many events came, and compares. */
void world_expect_topics(struct world *w, const char *want);
/* Of container c1: no bundle, no mount, no control group. */
void world_expect_no_traces(const struct world *w);
/* A control group of ours, in any hierarchy. */
bool world_has_cgroup(const struct world *w);
/* Processes that have our socket among their arguments; those that are ending get a moment. */
bool world_has_shims(const struct world *w);

/* Of a container's first process it is the shim. */
pid_t process_parent(uint32_t pid);
/* Waits: gone, or a zombie whose new parent has not looked yet. */
bool process_has_ended(uint32_t pid);

#endif
