/* The logs of shims: FIFOs in their bundles, copied into ours by the loop thread. */
#include "contentd/tasks/internal.h"

#include "base/log.h"

#define LOG_LINE_MAX 4096

/* Shims tell of every plug-in they load: of interest when something is wrong, and most when they die of it. */
static void log_line(const struct task *task, struct str line)
{
	bool bad = memmem(line.p, line.n, "level=error", 11) || memmem(line.p, line.n, "level=warn", 10) ||
	           str_starts(line, STR("panic: ")) || str_starts(line, STR("fatal error: "));

	if (line.n)
		log_at(bad ? LOG_WARN : LOG_DEBUG, "shim of %s: " STR_FMT, task->bundle.id, STR_ARG(line));
}

static void copy_log(void *arg, uint32_t events)
{
	struct task *task = arg;
	char line[LOG_LINE_MAX];
	ssize_t n;

	(void)events;
	while ((n = read(task->log_fd, line, sizeof(line))) > 0) {
		struct str rest = str_make(line, (size_t)n), one;

		while (rest.n && str_split(&rest, '\n', &one))
			log_line(task, one);
	}
}

static void start_log(void *arg)
{
	struct task *task = arg;
	struct err err = ERR_INIT;

	if (bundle_open_log(&task->bundle, &task->log_fd, &err) < 0 ||
	    loop_io_new(task->owner->loop, task->log_fd, EPOLLIN, copy_log, task, &task->log_io, &err) < 0)
		log_warn("log of the shim of %s: %s", task->bundle.id, err.msg);
}

/* The log thread's last act for a task; frees the reference that following holds. */
static void stop_log(void *arg)
{
	struct task *task = arg;

	if (task->log_io) {
		copy_log(task, 0);
		loop_io_free(task->log_io);
		task->log_io = NULL;
	}
	if (task->log_fd >= 0)
		close(STEAL_FD(task->log_fd));
	task_unref(task);
}

struct opened {
	pthread_mutex_t lock;
	pthread_cond_t done;
	struct task *task;
	bool is_done;
};

static void start_log_and_tell(void *arg)
{
	struct opened *o = arg;

	start_log(o->task);
	pthread_mutex_lock(&o->lock);
	o->is_done = true;
	pthread_cond_signal(&o->done);
	pthread_mutex_unlock(&o->lock);
}

/* Returns when the FIFO is open: a shim that finds no reader ends at once. */
void task_follow_log(struct task *task)
{
	struct opened o = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER, .task = task};

	pthread_mutex_lock(&task->owner->lock);
	task->refs++;
	task->following = true;
	pthread_mutex_unlock(&task->owner->lock);
	loop_post(task->owner->loop, start_log_and_tell, &o);
	pthread_mutex_lock(&o.lock);
	while (!o.is_done)
		pthread_cond_wait(&o.done, &o.lock);
	pthread_mutex_unlock(&o.lock);
}

void task_leave_log(struct task *task)
{
	bool follows;

	pthread_mutex_lock(&task->owner->lock);
	follows = task->following;
	task->following = false;
	pthread_mutex_unlock(&task->owner->lock);
	if (follows)
		loop_post(task->owner->loop, stop_log, task);
}
