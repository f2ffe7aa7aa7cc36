/* What happens when a shim dies under its container. */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"

#define STATUS_UNKNOWN 255
#define CLEAN_PATIENCE (30 * NS_PER_S)

/* The `delete` action kills what is left and says how it ended; when even that fails, nobody knows. */
static void find_end(struct task *task)
{
	struct task_end end = {STATUS_UNKNOWN, clock_wall()};
	AUTO(pb) Shim__DeleteResponse *rsp = NULL;
	struct err err = ERR_INIT;
	uint32_t pid = 0;

	if (task->orphan) {
		if (task_end_orphan(task, &err) >= 0)
			return;
		log_warn("end task %s: %s", task->bundle.id, err.msg);
		task_end_shim(task, NULL);
	}
	if (shim_delete(&task->owner->env, task->binary, &task->bundle, &rsp, &err) < 0) {
		log_warn("clean up after the dead shim of %s: %s", task->bundle.id, err.msg);
	} else {
		end.status = rsp->exit_status;
		if (rsp->exited_at)
			end.at = pb_time(rsp->exited_at);
		pid = rsp->pid;
	}
	news_ended(task, pid, end);
}

static void set_cleaned(struct task *task)
{
	pthread_mutex_lock(&task->owner->lock);
	task->cleaned = true;
	pthread_cond_broadcast(&task->owner->changed);
	pthread_mutex_unlock(&task->owner->lock);
}

void task_clean(struct task *task)
{
	find_end(task);
	set_cleaned(task);
}

/* True for the one who is to do it; the others wait. */
static bool begin_burial(struct task *task)
{
	struct cd_tasks *t = task->owner;
	bool first;

	pthread_mutex_lock(&t->lock);
	first = task->burial == NOT_BURIED;
	if (first)
		task->burial = BURYING;
	while (!first && task->burial == BURYING)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return first;
}

void task_bury(struct task *task)
{
	if (!begin_burial(task))
		return;
	news_close(task, 0);
	task_remove_traces(task, true);
	task_drop(task);
	pthread_mutex_lock(&task->owner->lock);
	task->burial = BURIED;
	pthread_cond_broadcast(&task->owner->changed);
	pthread_mutex_unlock(&task->owner->lock);
}

bool task_wait_cleaned(struct task *task)
{
	struct cd_tasks *t = task->owner;
	int64_t until = clock_mono_ns() + CLEAN_PATIENCE;
	struct timespec deadline = {until / NS_PER_S, until % NS_PER_S};
	bool cleaned;

	pthread_mutex_lock(&t->lock);
	while (task->dead && !task->cleaned && !t->stopping &&
	       pthread_cond_clockwait(&t->changed, &t->lock, CLOCK_MONOTONIC, &deadline) == 0)
		;
	cleaned = task->cleaned;
	pthread_mutex_unlock(&t->lock);
	return cleaned;
}

/* Those who wait hear of it last: by then the name is free again. */
static void *clean_thread(void *arg)
{
	struct task *task = arg;
	struct cd_tasks *t = task->owner;

	log_warn("the shim of task %s/%s died", task->bundle.ns, task->bundle.id);
	find_end(task);
	task_bury(task);
	set_cleaned(task);
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
