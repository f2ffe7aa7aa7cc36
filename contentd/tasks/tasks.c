#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define CONNECT_PATIENCE (5 * NS_PER_S)
#define CLEAN_PATIENCE (30 * NS_PER_S)
#define LOG_LINE_MAX 4096

/* ---- the table ---- */

static void key_of(const char *ns, const char *id, struct buf *out)
{
	buf_add(out, ns, strlen(ns) + 1);
	buf_adds(out, id);
}

int task_add(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(bundle) struct bundle b = BUNDLE_INIT;
	struct task *task = NULL;

	TRY(bundle_init(&b, t->root, t->state, ns, id, err));
	key_of(ns, id, &key);
	pthread_mutex_lock(&t->lock);
	if (!map_has(&t->table, buf_str(&key))) {
		task = xcalloc(1, sizeof(*task));
		task->owner = t;
		task->bundle = b;
		task->log_fd = -1;
		task->refs = 2;
		b = BUNDLE_INIT;
		map_put(&t->table, buf_str(&key), task);
	}
	pthread_mutex_unlock(&t->lock);
	if (!task)
		return err_set(err, ERR_EXISTS, "task %s already exists", id);
	*out = task;
	return 0;
}

int task_get(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct task *task;

	key_of(ns, id, &key);
	pthread_mutex_lock(&t->lock);
	task = map_get(&t->table, buf_str(&key));
	if (task && !task->ready)
		task = NULL;
	if (task)
		task->refs++;
	pthread_mutex_unlock(&t->lock);
	if (!task)
		return err_set(err, ERR_NOT_FOUND, "task %s not found", id);
	*out = task;
	return 0;
}

void task_unref(struct task *task)
{
	struct cd_tasks *t = task->owner;
	bool last;

	pthread_mutex_lock(&t->lock);
	last = --task->refs == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	shim_close(task->shim);
	bundle_fini(&task->bundle);
	free(task->binary);
	free(task);
}

void task_set_ready(struct task *task, uint32_t pid)
{
	pthread_mutex_lock(&task->owner->lock);
	task->ready = true;
	task->pid = pid;
	pthread_mutex_unlock(&task->owner->lock);
}

void task_drop(struct task *task)
{
	struct cd_tasks *t = task->owner;
	AUTO(buf) struct buf key = BUF_INIT;
	bool was_there = false;

	key_of(task->bundle.ns, task->bundle.id, &key);
	pthread_mutex_lock(&t->lock);
	if (map_get(&t->table, buf_str(&key)) == task) {
		map_del(&t->table, buf_str(&key));
		was_there = true;
	}
	pthread_mutex_unlock(&t->lock);
	task_leave_log(task);
	if (was_there)
		task_unref(task);
}

size_t cd_tasks_count(struct cd_tasks *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->table.n;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool cd_tasks_has(struct cd_tasks *t, const char *ns, const char *id)
{
	AUTO(buf) struct buf key = BUF_INIT;
	bool has;

	key_of(ns, id, &key);
	pthread_mutex_lock(&t->lock);
	has = map_has(&t->table, buf_str(&key));
	pthread_mutex_unlock(&t->lock);
	return has;
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

/* ---- logs of shims ---- */

/* Shims tell of every plug-in they load: of interest when something is wrong. */
static void log_line(const struct task *task, struct str line)
{
	bool bad = memmem(line.p, line.n, "level=error", 11) || memmem(line.p, line.n, "level=warn", 10);

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
	    loop_io_new(task->owner->log_loop, task->log_fd, EPOLLIN, copy_log, task, &task->log_io, &err) < 0)
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
	loop_post(task->owner->log_loop, start_log_and_tell, &o);
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
		loop_post(task->owner->log_loop, stop_log, task);
}

static void *run_log_loop(void *arg)
{
	struct cd_tasks *t = arg;
	struct err err = ERR_INIT;

	if (loop_run(t->log_loop, &err) < 0)
		log_error("reading the logs of shims: %s", err.msg);
	return NULL;
}

/* ---- finding tasks again ---- */

struct found {
	struct task *task;
	pthread_t thread;
};

static int reconnect(struct task *task, struct err *err)
{
	Shim__ConnectRequest req = SHIM__CONNECT_REQUEST__INIT;
	AUTO(pb) Shim__ConnectResponse *rsp = NULL;
	int64_t deadline = clock_mono_ns() + CONNECT_PATIENCE;

	TRY(shim_reconnect(&task->owner->env, &task->bundle, task_shim_gone, task, &task->shim, err));
	req.id = task->bundle.id;
	TRY(shim_call(task->shim, "Connect", &req.base, deadline, NULL, &rsp, err));
	if (!rsp->task_pid)
		return err_set(err, ERR_NOT_FOUND, "its shim knows no such task");
	task_set_ready(task, rsp->task_pid);
	return 0;
}

static void *reload_task(void *arg)
{
	struct task *task = arg;
	struct err err = ERR_INIT;

	task_follow_log(task);
	if (reconnect(task, &err) >= 0) {
		log_info("task %s/%s goes on (pid %u)", task->bundle.ns, task->bundle.id, task->pid);
	} else {
		log_warn("task %s/%s is lost: %s", task->bundle.ns, task->bundle.id, err.msg);
		pthread_mutex_lock(&task->owner->lock);
		task->ready = task->dead = true;
		pthread_mutex_unlock(&task->owner->lock);
		task_clean(task);
	}
	task_unref(task);
	return NULL;
}

struct founds {
	VEC(struct found) v;
};

static int found_one(struct cd_tasks *t, const char *ns, const char *id, struct founds *out, struct err *err)
{
	struct found f = {0};

	TRY(task_add(t, ns, id, &f.task, err));
	if (bundle_read(&f.task->bundle, "shim-binary-path", &f.task->binary, NULL) < 0)
		TRY(shim_binary(t->runtime, &f.task->binary, err));
	vec_push(&out->v, f);
	return 0;
}

static void scan_ns(struct cd_tasks *t, const char *dir, const char *ns, struct founds *out)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, ns);
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct err err = ERR_INIT;

		if (e->d_name[0] != '.' && found_one(t, ns, e->d_name, out, &err) < 0)
			log_warn("task %s/%s: %s", ns, e->d_name, err.msg);
	}
	if (d)
		closedir(d);
}

int cd_tasks_load(struct cd_tasks *t, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/tasks", t->state);
	struct founds founds = {VEC_INIT};
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return err_errno(err, errno, "open %s", dir);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			scan_ns(t, dir, e->d_name, &founds);
	closedir(d);
	vec_each(&founds.v, f)
		if (pthread_create(&f->thread, NULL, reload_task, f->task) != 0) {
			f->thread = 0;
			reload_task(f->task);
		}
	vec_each(&founds.v, f)
		if (f->thread)
			pthread_join(f->thread, NULL);
	vec_fini(&founds.v);
	return 0;
}

/* ---- life-cycle ---- */

static int open_parts(struct cd_tasks *t, struct err *err)
{
	AUTO_FREE char *state_dir = xasprintf("%s/tasks", t->state);
	AUTO_FREE char *root_dir = xasprintf("%s/tasks", t->root);
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_errno(err, errno, "read /proc/self/exe");
	self[n] = '\0';
	t->program = xstrdup(self);
	t->env.daemon = t->program;
	TRY(dir_make(state_dir, 0711, err));
	TRY(dir_make(root_dir, 0700, err));
	TRY(rpc_io_new(&t->io, err));
	t->env.io = t->io;
	TRY(loop_new(&t->log_loop, err));
	if (pthread_create(&t->log_thread, NULL, run_log_loop, t) != 0)
		return err_set(err, ERR_EXHAUSTED, "no thread for the logs of shims");
	t->log_started = true;
	return tasks_serve_events(t, err);
}

int cd_tasks_new(const struct cd_tasks_opts *opts, struct cd_tasks **out, struct err *err)
{
	struct cd_tasks *t = xcalloc(1, sizeof(*t));
	int r;

	t->root = xstrdup(opts->root);
	t->state = xstrdup(opts->state);
	t->address = xstrdup(opts->address);
	t->ttrpc_address = xasprintf("%s.ttrpc", opts->address);
	t->runtime = xstrdup(opts->runtime);
	t->host = opts->host;
	t->env = (struct shim_env){.address = t->address, .ttrpc_address = t->ttrpc_address, .debug = opts->debug};
	t->table = MAP_INIT;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	r = open_parts(t, err);
	if (r < 0) {
		cd_tasks_free(t);
		return r;
	}
	*out = t;
	return 0;
}

static struct task *any_task(struct cd_tasks *t)
{
	size_t at = 0;
	struct str key;
	void *value = NULL;

	pthread_mutex_lock(&t->lock);
	if (!map_next(&t->table, &at, &key, &value))
		value = NULL;
	if (value)
		((struct task *)value)->deleting = true;
	pthread_mutex_unlock(&t->lock);
	return value;
}

void cd_tasks_free(struct cd_tasks *t)
{
	struct task *task;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	pthread_cond_broadcast(&t->changed);
	while (t->cleaners)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	ttrpc_server_free(t->events);
	while ((task = any_task(t)))
		task_drop(task);
	if (t->log_started) {
		loop_quit(t->log_loop);
		pthread_join(t->log_thread, NULL);
	}
	loop_free(t->log_loop);
	rpc_io_free(t->io);
	map_fini(&t->table);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t->root);
	free(t->state);
	free(t->address);
	free(t->ttrpc_address);
	free(t->runtime);
	free(t->program);
	free(t);
}
