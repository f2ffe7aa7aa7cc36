/* What tasks.c, service.c, dead.c and events.c share; not for others. */
#ifndef TASKS_INTERNAL_H
#define TASKS_INTERNAL_H

#include "base/loop.h"
#include "base/map.h"
#include "base/vec.h"
#include "contentd/tasks/shim.h"
#include "contentd/tasks/tasks.h"
#include "rpc/pb.h"

#include <pthread.h>
#include <time.h>

struct task {
	struct cd_tasks *owner;
	struct bundle bundle;
	char *binary; /* of the shim */
	struct shim *shim;

	/* guarded by owner->lock */
	unsigned refs;
	bool ready;    /* created: calls may use the shim */
	bool deleting; /* on its orderly way out: a closing connection is no news */
	bool dead;     /* the shim died; `exit_status` counts once `cleaned` */
	bool cleaned;
	bool following; /* its log: the log thread has a reference */
	uint32_t pid, exit_status;
	struct timespec exited_at;

	struct loop_io *log_io; /* the log thread's */
	int log_fd;
};

struct cd_tasks {
	char *root, *state, *address, *ttrpc_address, *runtime, *program;
	struct cd_tasks_host host;
	struct shim_env env;
	struct rpc_io *io;
	struct ttrpc_server *events;
	struct loop *log_loop; /* reads what shims log */
	pthread_t log_thread;
	bool log_started;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a task was cleaned, or the number of cleaners fell */
	struct map table;       /* "<ns>\0<id>" -> struct task; lock */
	unsigned cleaners;      /* threads that clean up after dead shims; lock */
	bool stopping;          /* lock */
};

/* ---- the table ---- */

/* A new entry, not ready: keeps the name taken. ERR_EXISTS. The caller has a reference. */
int task_add(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err);
/* The task with a reference; ERR_NOT_FOUND also while it is being made. */
int task_get(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err);
void task_unref(struct task *task);
static inline void task_cleanup(struct task **task)
{
	if (*task)
		task_unref(*task);
}
void task_set_ready(struct task *task, uint32_t pid);
/* Takes it out of the table (its reference too); once. */
void task_drop(struct task *task);

/* Called by shim.h when a connection breaks; starts the cleaning. */
void task_shim_gone(void *arg);

/* Cleans up after a task whose shim is dead (dead.c): `delete`, events, bundle, table. */
void task_clean(struct task *task);

/* Waits until a dead task is cleaned; false when that takes too long. */
bool task_wait_cleaned(struct task *task);

/* Copies the shim's log into ours from now on. */
void task_follow_log(struct task *task);
void task_leave_log(struct task *task);

/* ---- events.c ---- */

int tasks_serve_events(struct cd_tasks *t, struct err *err);

#endif
