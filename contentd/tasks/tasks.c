#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define SHUTDOWN_PATIENCE (3 * NS_PER_S)
#define CALL_PATIENCE (10 * NS_PER_S)

/* ---- the table ---- */

static void key_of(const char *ns, const char *id, struct buf *out)
{
	buf_add(out, ns, strlen(ns) + 1);
	buf_adds(out, id);
}

/* False when the name is taken. */
static bool put(struct cd_tasks *t, struct str key, struct bundle *b, struct task **out)
{
	struct task *task = NULL;

	pthread_mutex_lock(&t->lock);
	if (!map_has(&t->table, key)) {
		task = xcalloc(1, sizeof(*task));
		task->owner = t;
		task->bundle = *b;
		task->log_fd = -1;
		task->refs = 2;
		news_init(&task->news);
		*b = BUNDLE_INIT;
		map_put(&t->table, key, task);
		*out = task;
	}
	pthread_mutex_unlock(&t->lock);
	return task;
}

/* A name that a dead task has is free once that is cleaned up after. */
static bool make_way(struct cd_tasks *t, const char *ns, const char *id)
{
	AUTO(task) struct task *task = task_peek(t, ns, id);

	if (!task)
		return true;
	if (!task_is_dead(task) || !task_wait_cleaned(task))
		return false;
	task_bury(task);
	return true;
}

int task_add(struct cd_tasks *t, const char *ns, const char *id, struct task **out, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(bundle) struct bundle b = BUNDLE_INIT;

	TRY(bundle_init(&b, t->root, t->state, ns, id, err));
	key_of(ns, id, &key);
	while (!put(t, buf_str(&key), &b, out))
		if (!make_way(t, ns, id))
			return err_set(err, ERR_EXISTS, "task %s already exists", id);
	return 0;
}

bool task_is_dead(struct task *task)
{
	bool dead;

	pthread_mutex_lock(&task->owner->lock);
	dead = task->dead;
	pthread_mutex_unlock(&task->owner->lock);
	return dead;
}

bool task_is_leaving(struct task *task)
{
	bool leaving;

	pthread_mutex_lock(&task->owner->lock);
	leaving = task->deleting && !task->owner->stopping;
	pthread_mutex_unlock(&task->owner->lock);
	return leaving;
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

struct task *task_peek(struct cd_tasks *t, const char *ns, const char *id)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct task *task;

	key_of(ns, id, &key);
	pthread_mutex_lock(&t->lock);
	task = map_get(&t->table, buf_str(&key));
	if (task)
		task->refs++;
	pthread_mutex_unlock(&t->lock);
	return task;
}

void task_ref(struct task *task)
{
	pthread_mutex_lock(&task->owner->lock);
	task->refs++;
	pthread_mutex_unlock(&task->owner->lock);
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
	news_fini(&task->news);
	bundle_fini(&task->bundle);
	free(task->binary);
	free(task->address);
	free(task->cgroup);
	free(task);
}

void task_set_ready(struct task *task, uint32_t pid)
{
	news_created(task, pid);
	pthread_mutex_lock(&task->owner->lock);
	task->ready = true;
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

int cd_tasks_runtime_info(struct cd_tasks *t, const Types__RuntimeRequest *req, struct arena *a,
                          Types__RuntimeInfo **out, struct err *err)
{
	AUTO_FREE char *binary = NULL;
	AUTO(buf) struct buf answer = BUF_INIT;

	TRY(shim_find(&t->env, req->runtime_path, &binary, err));
	TRY(action_info(&t->env, binary, req->options, &answer, err));
	return pb_unpack_in(a, &types__runtime_info__descriptor, buf_str(&answer), out, err);
}

size_t cd_tasks_count(struct cd_tasks *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->table.n;
	pthread_mutex_unlock(&t->lock);
	return n;
}

void task_remove_traces(struct task *task, bool rough)
{
	struct cd_tasks *t = task->owner;
	struct err err = ERR_INIT;

	shim_remove_socket(&t->env, &task->bundle);
	/* The group first: a runtime that was killed at its work leaves a child for a moment, which makes mount points in
	 * the bundle, and would make the bundle again. */
	if (task->cgroup)
		cgroups_leave(t->cgroups, task->cgroup, rough);
	free(STEAL(task->cgroup));
	if (bundle_remove(&task->bundle, &err) < 0)
		log_warn("bundle of %s: %s", task->bundle.id, err.msg);
}

void task_set_address(struct task *task)
{
	AUTO(shim_answer) struct shim_answer answer = {NULL, 0};

	if (shim_kept_answer(&task->bundle, &answer, NULL) < 0)
		return;
	pthread_mutex_lock(&task->owner->lock);
	free(task->address);
	task->address = STEAL(answer.address);
	pthread_mutex_unlock(&task->owner->lock);
}

void task_ask_shutdown(struct task *task)
{
	Shim__ShutdownRequest req = SHIM__SHUTDOWN_REQUEST__INIT;

	req.id = task->bundle.id;
	if (shim_call_within(task->shim, "Shutdown", &req.base, SHUTDOWN_PATIENCE, NULL, NULL) == -(int)ERR_DEADLINE)
		task_end_shim(task, NULL);
}

void task_list_fini(struct task_list *l)
{
	vec_each(&l->v, task)
		task_unref(*task);
	vec_fini(&l->v);
}

void tasks_alive(struct cd_tasks *t, const char *ns, struct task_list *out)
{
	struct str key;
	void *value;

	pthread_mutex_lock(&t->lock);
	for (size_t at = 0; map_next(&t->table, &at, &key, &value);) {
		struct task *task = value;

		if (!task->ready || task->dead || (ns && strcmp(task->bundle.ns, ns) != 0))
			continue;
		task->refs++;
		vec_push(&out->v, task);
	}
	pthread_mutex_unlock(&t->lock);
}

/* ---- life-cycle ---- */

static void *run_loop(void *arg)
{
	struct cd_tasks *t = arg;
	struct err err = ERR_INIT;

	if (loop_run(t->loop, &err) < 0)
		log_error("the loop of tasks: %s", err.msg);
	return NULL;
}

static int open_parts(struct cd_tasks *t, struct err *err)
{
	AUTO_FREE char *state_dir = xasprintf("%s/tasks", t->state);
	AUTO_FREE char *root_dir = xasprintf("%s/tasks", t->root);
	AUTO_FREE char *cgroups = xasprintf("%s/cgroups", t->state);

	TRY(program_path(&t->program, err));
	t->env.daemon = t->program;
	TRY(dir_make(state_dir, 0711, err));
	TRY(dir_make(root_dir, 0700, err));
	TRY(cgroups_new(cgroups, &t->cgroups, err));
	TRY(rpc_io_new(&t->io, err));
	t->env.io = t->io;
	TRY(loop_new(&t->loop, err));
	if (pthread_create(&t->loop_thread, NULL, run_loop, t) != 0)
		return err_set(err, ERR_EXHAUSTED, "no thread for the loop of tasks");
	t->loop_started = true;
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
	t->patience_ns = opts->patience_ns ?: CALL_PATIENCE;
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
	owed_settle(t);
	while ((task = any_task(t)))
		task_drop(task);
	if (t->loop_started) {
		loop_quit(t->loop);
		pthread_join(t->loop_thread, NULL);
	}
	if (t->owed_timer)
		loop_timer_free(t->owed_timer);
	loop_free(t->loop);
	rpc_io_free(t->io);
	cgroups_free(t->cgroups);
	map_fini(&t->table);
	vec_fini(&t->owed);
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
