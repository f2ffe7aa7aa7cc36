/* What happens when a shim dies under its container. */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "rpc/proto/event.pb-c.h"

#define STATUS_UNKNOWN 255

/* The `delete` action kills what is left and says how it ended; when even that fails, nobody knows. */
static void find_exit(struct task *task, struct timespec *at, uint32_t *pid, uint32_t *status)
{
	AUTO(pb) Shim__DeleteResponse *rsp = NULL;
	struct err err = ERR_INIT;

	*at = clock_wall();
	*pid = task->pid;
	*status = STATUS_UNKNOWN;
	if (shim_delete(&task->owner->env, task->binary, &task->bundle, &rsp, &err) < 0) {
		log_warn("clean up after the dead shim of %s: %s", task->bundle.id, err.msg);
		return;
	}
	*status = rsp->exit_status;
	if (rsp->pid)
		*pid = rsp->pid;
	if (rsp->exited_at)
		*at = pb_time(rsp->exited_at);
}

static void tell(struct task *task, struct timespec at, uint32_t pid, uint32_t status)
{
	const struct cd_tasks_host *host = &task->owner->host;
	Pb__Timestamp stamp = PB__TIMESTAMP__INIT;
	Event__TaskExit exit = EVENT__TASK_EXIT__INIT;
	Event__TaskDelete gone = EVENT__TASK_DELETE__INIT;

	stamp.seconds = at.tv_sec;
	stamp.nanos = (int32_t)at.tv_nsec;
	exit.container_id = exit.id = task->bundle.id;
	exit.pid = gone.pid = pid;
	exit.exit_status = gone.exit_status = status;
	exit.exited_at = gone.exited_at = &stamp;
	gone.container_id = task->bundle.id;
	host->publish(host->arg, task->bundle.ns, "/tasks/exit", &exit.base);
	host->publish(host->arg, task->bundle.ns, "/tasks/delete", &gone.base);
}

void task_clean(struct task *task)
{
	struct err err = ERR_INIT;
	struct timespec at;
	uint32_t pid, status;

	find_exit(task, &at, &pid, &status);
	tell(task, at, pid, status);
	if (bundle_remove(&task->bundle, &err) < 0)
		log_warn("bundle of %s: %s", task->bundle.id, err.msg);
	pthread_mutex_lock(&task->owner->lock);
	task->exit_status = status;
	task->exited_at = at;
	task->pid = pid;
	task->cleaned = true;
	pthread_cond_broadcast(&task->owner->changed);
	pthread_mutex_unlock(&task->owner->lock);
	task_drop(task);
}

static void *clean_thread(void *arg)
{
	struct task *task = arg;
	struct cd_tasks *t = task->owner;

	log_warn("the shim of task %s/%s died", task->bundle.ns, task->bundle.id);
	task_clean(task);
	task_unref(task);
	pthread_mutex_lock(&t->lock);
	t->cleaners--;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

void task_shim_gone(void *arg)
{
	struct task *task = arg;
	struct cd_tasks *t = task->owner;
	pthread_t thread;
	bool clean;

	pthread_mutex_lock(&t->lock);
	clean = task->ready && !task->deleting && !task->dead && !t->stopping;
	if (clean) {
		task->dead = true;
		task->refs++;
		t->cleaners++;
	}
	pthread_mutex_unlock(&t->lock);
	if (!clean)
		return;
	if (pthread_create(&thread, NULL, clean_thread, task) == 0) {
		pthread_detach(thread);
		return;
	}
	log_error("no thread to clean up after task %s: its bundle stays until the next start", task->bundle.id);
	pthread_mutex_lock(&t->lock);
	t->cleaners--;
	pthread_mutex_unlock(&t->lock);
	/* The reference stays: it cannot be given back on this thread, which may not block. */
}
