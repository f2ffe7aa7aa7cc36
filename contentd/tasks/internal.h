/* What the files of this folder share; not for others. */
#ifndef TASKS_INTERNAL_H
#define TASKS_INTERNAL_H

#include "base/loop.h"
#include "base/map.h"
#include "base/vec.h"
#include "contentd/tasks/cgroups.h"
#include "contentd/tasks/shim.h"
#include "contentd/tasks/tasks.h"
#include "rpc/pb.h"

#include <pthread.h>
#include <time.h>

/* How far the world has been told about a task. */
enum told { TOLD_NOTHING, TOLD_CREATE, TOLD_START, TOLD_EXIT, TOLD_DELETE };

struct task_end {
	uint32_t status;
	struct timespec at;
};

/* What is known of a task, and what was published about it: news.c. */
struct news {
	pthread_mutex_t lock;   /* held while an event is published: it orders the events of a task */
	pthread_cond_t changed; /* `told` */
	/* guarded by lock */
	enum told told;
	bool created; /* Create was answered */
	bool started; /* Start was asked for: there is a start before the exit */
	bool ended;
	uint32_t pid;        /* of the first process; 0: not known yet */
	struct task_end end; /* when `ended` */
};

struct task {
	struct cd_tasks *owner;
	struct bundle bundle;
	char *binary; /* of the shim */
	struct shim *shim;
	char *address;  /* of the shim, maybe of other tasks too; NULL: not known (yet). Set under owner->lock */
	char *cgroup;   /* that it entered, or NULL */
	bool inherited; /* from an earlier daemon; constant once those are found */
	struct news news;

	/* guarded by owner->lock */
	unsigned refs;
	bool ready;    /* created: calls may use the shim */
	bool deleting; /* on its orderly way out: a closing connection is no news */
	bool dead;     /* the shim died */
	bool cleaned;  /* and all that it left is gone; news.end counts */
	enum { NOT_BURIED, BURYING, BURIED } burial;
	bool following; /* its log: the log thread has a reference */

	bool orphan; /* its container is gone: dead to the world, but its shim is not. Set before `dead` */

	struct loop_io *log_io; /* the log thread's */
	int log_fd;
};

struct cd_tasks {
	char *root, *state, *address, *ttrpc_address, *runtime, *program;
	struct cd_tasks_host host;
	struct shim_env env;
	int64_t patience_ns; /* how long a call may take until its shim is asked for, and that may take */
	struct rpc_io *io;
	struct ttrpc_server *events;
	struct cgroups *cgroups;
	struct loop *loop; /* reads what shims log; a timer for `owed` */
	pthread_t loop_thread;
	bool loop_started;
	struct loop_timer *owed_timer; /* the loop thread's */

	pthread_mutex_t lock;
	pthread_cond_t changed;  /* found; a task was cleaned; the number of cleaners fell */
	struct map table;        /* "<ns>\0<id>" -> struct task; lock */
	VEC(struct task *) owed; /* news that those who follow events could not hear yet: load.c; lock */
	unsigned cleaners;       /* threads that clean up after dead shims; lock */
	bool found;              /* the tasks of an earlier daemon are in the table; lock */
	bool stopping;           /* lock */
};

/* ---- the table: tasks.c ---- */

/* A new entry, not ready: keeps the name taken. ERR_EXISTS; one whose shim is dead is waited for. The caller has a
 * reference. */
int task_add(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err);
/* The task with a reference; ERR_NOT_FOUND also while it is being made. */
int task_get(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err);
/* The same for tasks in any state; NULL when there is none. */
struct task *task_peek(struct cd_tasks *t, const char *ns, const char *id);
bool task_is_dead(struct task *task);
/* Its shim has forgotten it, and goes; who deletes it is not done yet. */
bool task_is_leaving(struct task *task);
void task_ref(struct task *task);
void task_unref(struct task *task);
static inline void task_cleanup(struct task **task)
{
	if (*task)
		task_unref(*task);
}
void task_set_ready(struct task *task, uint32_t pid);
/* Takes it out of the table (its reference too); once. */
void task_drop(struct task *task);
/* Removes what it has on disk, and the control groups around it that are empty now. `rough` as of cgroups_leave. */
void task_remove_traces(struct task *task, bool rough);

struct task_list {
	VEC(struct task *) v; /* references */
};
void task_list_fini(struct task_list *l);
DEFINE_AUTO_FINI(task_list);
/* The tasks that can be asked: of a namespace, or (NULL) all. */
void tasks_alive(struct cd_tasks *t, const char *ns, struct task_list *out);

/* Notes the shim that is in the bundle's answer as this task's. */
void task_set_address(struct task *task);

/* Asks the shim to end, which it does when it serves no other container; one that does not answer is ended. */
void task_ask_shutdown(struct task *task);

/* ---- shims that do not answer: hung.c ---- */

/* A call to the shim on behalf of `c`, that takes as long as it takes while the shim answers Connect; not for Create, which
 * stock shims do with the doors closed. ERR_UNAVAILABLE when it is hung. */
int task_call(struct task *task, struct rpc_call *c, const char *method, const ProtobufCMessage *msg, void *rsp,
              struct err *err);
/* The same; *hung says that this is why it failed. */
int task_call_or_hung(struct task *task, struct rpc_call *c, const char *method, const ProtobufCMessage *msg, void *rsp,
                      bool *hung, struct err *err);

/* Ends the process of a shim that does not answer. An error says why not: it serves other tasks too, or is not known. */
int task_end_shim(struct task *task, struct err *err);

/* ---- dead shims: dead.c ---- */

/* Called by shim.h when a connection breaks; starts the cleaning. */
void task_shim_gone(void *arg);

/* Cleans up after a task whose shim is dead: finds how it ended, kills what is left. `dead` is set. */
void task_clean(struct task *task);

/* Tells its end, if anybody ever knew of it, and removes its last traces, once; when this returns the name is free. After
 * the cleaning. */
void task_bury(struct task *task);

/* Waits until a dead task is cleaned; false when that takes too long. */
bool task_wait_cleaned(struct task *task);

/* ---- tasks without a container: orphan.c ---- */

bool task_is_orphan(struct task *task);
/* Ends it by its shim, which is asked to end too. Blocks for seconds. */
int task_end_orphan(struct task *task, struct err *err);

/* ---- after a restart: load.c ---- */

/* Tells what is still to be told. */
void owed_settle(struct cd_tasks *t);

/* ---- logs of shims: log.c ---- */

/* Copies the shim's log into ours from now on; when this returns the FIFO is open. */
void task_follow_log(struct task *task);
void task_leave_log(struct task *task);

/* ---- events: events.c and news.c ---- */

int tasks_serve_events(struct cd_tasks *t, struct err *err);

void news_init(struct news *n);
void news_fini(struct news *n);

/* Reads what an earlier daemon has noted in the bundle. */
void news_load(struct task *task);

/* Start will be asked for (or that came to nothing). */
void news_starting(struct task *task, bool starting);

/* The task is there, by an answer of the shim. */
void news_created(struct task *task, uint32_t pid);

/* It has ended: noted, not told. What is known already stays. */
void news_ended(struct task *task, uint32_t pid, struct task_end end);

/* How it ended; false when that is not known. */
bool news_end(struct task *task, uint32_t *pid, struct task_end *end);

/* Publishes an event of a shim, `m` its payload: what belongs before it and is missing first; nothing when it was told
 * already, or is about an earlier task of this name. */
int news_forward(struct task *task, const Types__Envelope *envelope, const ProtobufCMessage *m, struct err *err);

/* Publishes what is known and was not told: after a restart. */
void news_tell_known(struct task *task);

/* Tells of the end of a task that is gone, if its shim does not do so within patience_ns; nothing when nobody ever knew of
 * the task. */
void news_close(struct task *task, int64_t patience_ns);

/* ---- the service: service.c and many.c ---- */

int tasks_list(struct rpc_call *c, const void *request, void *svc, struct err *err);
int tasks_metrics(struct rpc_call *c, const void *request, void *svc, struct err *err);

/* A shim's State as the API has it; in the arena. */
TaskTypes__Process *process_of(struct arena *a, const char *id, const Shim__StateResponse *from);

#endif
