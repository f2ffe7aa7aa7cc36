/*
 * Shims that do not answer. A call may take as long as the runtime needs, so that alone tells nothing; but a shim that
 * works answers Connect meanwhile. One that does not is hung: the call is given up, and where nothing depends on the
 * shim any more (the container is to be killed, or has ended) its process is ended, after which it is a dead shim like
 * any other. One that serves several tasks is never ended for one of them.
 */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "contentd/tasks/process.h"

/* Other tasks that live by the same shim. */
struct siblings {
	bool any;
	bool coming; /* one of them is being made: until that is done stock shims let nothing else in */
};

static struct siblings siblings_of(struct task *task)
{
	struct cd_tasks *t = task->owner;
	struct siblings s = {false, false};
	struct str key;
	void *value;

	pthread_mutex_lock(&t->lock);
	for (size_t at = 0; task->address && map_next(&t->table, &at, &key, &value);) {
		const struct task *other = value;

		if (other == task || other->dead || !other->address || strcmp(other->address, task->address) != 0)
			continue;
		s.any = true;
		s.coming = s.coming || !other->ready;
	}
	pthread_mutex_unlock(&t->lock);
	return s;
}

/* ---- calls ---- */

struct asking {
	struct task *task;
	struct rpc_call *call;
	bool hung;
};

static bool still_there(void *arg)
{
	Shim__ConnectRequest req = SHIM__CONNECT_REQUEST__INIT;
	struct asking *a = arg;
	struct task *task = a->task;
	const struct shim_wait wait = {.deadline_ns = clock_mono_ns() + task->owner->patience_ns, .on_behalf = a->call};
	int r;

	req.id = task->bundle.id;
	r = shim_call(task->shim, "Connect", &req.base, &wait, NULL, NULL);
	/* Unless it is the caller who had no more time. */
	a->hung = r == -(int)ERR_DEADLINE && clock_mono_ns() >= wait.deadline_ns && !siblings_of(task).coming;
	return !a->hung;
}

int task_call_or_hung(struct task *task, struct rpc_call *c, const char *method, const ProtobufCMessage *msg, void *rsp,
                      bool *hung, struct err *err)
{
	struct asking a = {task, c, false};
	const struct shim_wait wait = {
	    .on_behalf = c, .patience_ns = task->owner->patience_ns, .still_there = still_there, .arg = &a};
	int r = shim_call(task->shim, method, msg, &wait, rsp, err);

	*hung = a.hung && r == -(int)ERR_UNAVAILABLE;
	/* A client that hands on signals sends one more while it deletes: the shim is gone because the task is. */
	if (r == -(int)ERR_UNAVAILABLE && task_is_leaving(task))
		return err_set(err, ERR_NOT_FOUND, "task %s not found", task->bundle.id);
	if (!*hung)
		return r;
	log_warn("the shim of task %s/%s does not answer to %s", task->bundle.ns, task->bundle.id, method);
	return err_set(err, ERR_UNAVAILABLE, "the shim of task %s does not answer", task->bundle.id);
}

int task_call(struct task *task, struct rpc_call *c, const char *method, const ProtobufCMessage *msg, void *rsp,
              struct err *err)
{
	bool hung;

	return task_call_or_hung(task, c, method, msg, rsp, &hung, err);
}

/* ---- ending it ---- */

int task_end_shim(struct task *task, struct err *err)
{
	if (siblings_of(task).any)
		return err_set(err, ERR_UNAVAILABLE, "the shim of task %s does not answer, and serves other tasks too",
		               task->bundle.id);
	if (shim_process_end(&task->owner->env, &task->bundle, err) < 0)
		return err_wrap(err, "the shim of task %s does not answer", task->bundle.id);
	log_warn("the shim of task %s/%s did not answer: ended", task->bundle.ns, task->bundle.id);
	return 0;
}
