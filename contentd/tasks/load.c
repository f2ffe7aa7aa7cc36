/*
 * After a restart: the tasks of an earlier daemon are found by their bundles, their shims reconnected side by side, and
 * the dead ones cleaned up after. What happened meanwhile is told a moment later: the shims that are alive repeat their own
 * news, which is better than ours. Those who follow events may be back later still: what is told of inherited tasks is
 * kept for them.
 */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "contentd/tasks/process.h"

#include <fcntl.h>
#include <stdatomic.h>

#define OWED_PATIENCE (2 * NS_PER_S)
#define THREADS_MAX 32
#define CONFIG_BYTES_MAX (16u << 20)

/* ---- what is still to be told ---- */

/* Tells it, with the reference taken over. */
static void settle(struct task *task)
{
	bool dead;

	pthread_mutex_lock(&task->owner->lock);
	dead = task->cleaned;
	pthread_mutex_unlock(&task->owner->lock);
	if (dead)
		task_bury(task);
	else
		news_tell_known(task);
	task_unref(task);
}

void owed_settle(struct cd_tasks *t)
{
	for (;;) {
		struct task *task = NULL;

		pthread_mutex_lock(&t->lock);
		if (t->owed.n)
			task = vec_pop(&t->owed);
		pthread_mutex_unlock(&t->lock);
		if (!task)
			return;
		settle(task);
	}
}

static void on_time(void *arg)
{
	owed_settle(arg);
}

static void arm(void *arg)
{
	struct cd_tasks *t = arg;
	struct err err = ERR_INIT;

	if (!t->owed_timer && loop_timer_new(t->loop, on_time, t, &t->owed_timer, &err) < 0) {
		log_warn("news of tasks: %s", err.msg);
		owed_settle(t);
		return;
	}
	loop_timer_set(t->owed_timer, clock_mono_ns() + OWED_PATIENCE);
}

static void owe(struct task *task)
{
	struct cd_tasks *t = task->owner;

	pthread_mutex_lock(&t->lock);
	task->refs++;
	vec_push(&t->owed, task);
	pthread_mutex_unlock(&t->lock);
	loop_post(t->loop, arm, t);
}

/* ---- one task ---- */

/* As long as containerd by default. */
static int64_t patience(const struct task *task)
{
	return task->owner->patience_ns / 2;
}

/* What its shim says it has done, which the shim may not have been able to tell. */
static void look(struct task *task)
{
	Shim__StateRequest req = SHIM__STATE_REQUEST__INIT;
	AUTO(pb) Shim__StateResponse *state = NULL;
	struct err err = ERR_INIT;

	req.id = task->bundle.id;
	if (shim_call_within(task->shim, "State", &req.base, patience(task), &state, &err) < 0) {
		log_warn("state of task %s/%s: %s", task->bundle.ns, task->bundle.id, err.msg);
		return;
	}
	if (state->status == TASK_TYPES__STATUS__STOPPED)
		news_ended(task, state->pid, (struct task_end){state->exit_status, pb_time(state->exited_at)});
	else if (state->status != TASK_TYPES__STATUS__CREATED)
		news_starting(task, true);
}

static int reconnect(struct task *task, struct err *err)
{
	Shim__ConnectRequest req = SHIM__CONNECT_REQUEST__INIT;
	AUTO(pb) Shim__ConnectResponse *rsp = NULL;
	const struct shim_wait wait = {.deadline_ns = clock_mono_ns() + patience(task)};

	action_wait_start(&task->bundle, wait.deadline_ns);
	TRY(shim_reconnect(&task->owner->env, &task->bundle, task_shim_gone, task, &task->shim, err));
	req.id = task->bundle.id;
	TRY(shim_call(task->shim, "Connect", &req.base, &wait, &rsp, err));
	shim_process_note(&task->bundle, rsp->shim_pid);
	if (!rsp->task_pid) {
		task_ask_shutdown(task);
		return err_set(err, ERR_NOT_FOUND, "its shim knows no such task");
	}
	task_set_ready(task, rsp->task_pid);
	return 0;
}

static void set_dead(struct task *task)
{
	pthread_mutex_lock(&task->owner->lock);
	task->ready = task->dead = true;
	pthread_mutex_unlock(&task->owner->lock);
}

/* True when the task goes on. */
static bool reload(struct task *task)
{
	struct err err = ERR_INIT;

	task_follow_log(task);
	if (reconnect(task, &err) < 0) {
		log_warn("task %s/%s is lost: %s", task->bundle.ns, task->bundle.id, err.msg);
		set_dead(task);
		/* The last of several that it serves ends it. */
		if (err.code == ERR_DEADLINE && task_end_shim(task, &err) < 0)
			log_warn("%s", err.msg);
		return false;
	}
	look(task);
	task->orphan = task_is_orphan(task);
	if (task->orphan) {
		set_dead(task);
		return false;
	}
	log_info("task %s/%s goes on", task->bundle.ns, task->bundle.id);
	owe(task);
	return true;
}

/* ---- all of them ---- */

struct found {
	struct task *task; /* a reference */
	bool lost;
};

/* Shared by the threads that load. */
struct loading {
	struct cd_tasks *t;
	VEC(struct found) tasks;
	atomic_size_t next, next_lost;
	atomic_uint refs;
	size_t left; /* not yet reloaded; t->lock */
};

static void loading_unref(struct loading *l)
{
	if (atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	vec_each(&l->tasks, f)
		task_unref(f->task);
	vec_fini(&l->tasks);
	free(l);
}

static void reload_some(struct loading *l)
{
	size_t i;

	while ((i = atomic_fetch_add(&l->next, 1)) < l->tasks.n) {
		l->tasks.p[i].lost = !reload(l->tasks.p[i].task);
		pthread_mutex_lock(&l->t->lock);
		l->left--;
		pthread_cond_broadcast(&l->t->changed);
		pthread_mutex_unlock(&l->t->lock);
	}
}

/* After all were reloaded: the living go first. */
static void clean_some(struct loading *l)
{
	size_t i;

	while ((i = atomic_fetch_add(&l->next_lost, 1)) < l->tasks.n) {
		struct task *task = l->tasks.p[i].task;

		if (!l->tasks.p[i].lost)
			continue;
		task_clean(task);
		if (task->orphan)
			task_bury(task);
		else
			owe(task);
	}
}

static void wait_reloaded(struct loading *l)
{
	pthread_mutex_lock(&l->t->lock);
	while (l->left)
		pthread_cond_wait(&l->t->changed, &l->t->lock);
	pthread_mutex_unlock(&l->t->lock);
}

static void *load_thread(void *arg)
{
	struct loading *l = arg;
	struct cd_tasks *t = l->t;

	reload_some(l);
	wait_reloaded(l);
	clean_some(l);
	loading_unref(l);
	pthread_mutex_lock(&t->lock);
	t->cleaners--;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void start_threads(struct loading *l)
{
	size_t n = l->tasks.n < THREADS_MAX ? l->tasks.n : THREADS_MAX;

	for (size_t i = 0; i < n; i++) {
		pthread_t thread;

		atomic_fetch_add(&l->refs, 1);
		pthread_mutex_lock(&l->t->lock);
		l->t->cleaners++;
		pthread_mutex_unlock(&l->t->lock);
		if (pthread_create(&thread, NULL, load_thread, l) == 0)
			pthread_detach(thread);
		else
			load_thread(l); /* then as much of it as there is to do here */
	}
}

static void enter_cgroup(struct task *task)
{
	AUTO_FREE char *path = xasprintf("%s/config.json", task->bundle.path);
	AUTO(buf) struct buf config = BUF_INIT;

	if (file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &config, NULL) >= 0)
		task->cgroup = cgroups_path(buf_str(&config));
	if (task->cgroup)
		cgroups_enter(task->owner->cgroups, task->cgroup, true);
}

static int found_one(struct loading *l, const char *ns, const char *id, struct err *err)
{
	struct found f = {0};

	TRY(task_add(l->t, ns, id, &f.task, err));
	vec_push(&l->tasks, f);
	f.task->inherited = true;
	news_load(f.task);
	task_set_address(f.task);
	enter_cgroup(f.task);
	/* Nothing in a bundle is synced: on a disk the file may be there, and empty, when the machine went down. */
	if (bundle_read(&f.task->bundle, "shim-binary-path", &f.task->binary, NULL) >= 0 && *f.task->binary)
		return 0;
	free(STEAL(f.task->binary));
	return shim_find(&l->t->env, l->t->runtime, &f.task->binary, err);
}

static void on_bundle(void *arg, const char *ns, const char *id)
{
	struct err err = ERR_INIT;

	if (found_one(arg, ns, id, &err) < 0)
		log_warn("task %s/%s: %s", ns, id, err.msg);
}

static void link_bundles(const char *state)
{
	struct err err = ERR_INIT;

	if (bundle_link(state, &err) < 0)
		log_warn("bundles have no second name: %s", err.msg);
}

int cd_tasks_load(struct cd_tasks *t, struct err *err)
{
	struct loading *l = xcalloc(1, sizeof(*l));
	int r;

	l->t = t;
	atomic_init(&l->refs, 1);
	link_bundles(t->state);
	r = bundle_sweep(t->root, t->state, on_bundle, l, err);
	pthread_mutex_lock(&t->lock);
	l->left = l->tasks.n;
	t->found = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	start_threads(l);
	wait_reloaded(l);
	cgroups_sweep(t->cgroups);
	loading_unref(l);
	return r;
}
