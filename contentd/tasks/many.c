/* Calls that ask the shims of many tasks: all at once, so that one that hangs does not delay the others. */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "contentd/filter/filter.h"
#include "rpc/proto/tasks.pb-c.h"

#define PATIENCE (2 * NS_PER_S)

/* ---- asking ---- */

struct round;

struct asked {
	struct round *round;
	struct task *task;
	struct timespec at;
	void *rsp; /* NULL: no answer */
	struct err why;
};

struct round {
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t left; /* lock */
	VEC(struct asked) asked;
};

static void on_answer(void *arg, int rc, void *rsp, const struct err *why)
{
	struct asked *a = arg;
	struct round *r = a->round;

	(void)rc;
	a->rsp = rsp;
	a->why = *why;
	pthread_mutex_lock(&r->lock);
	if (--r->left == 0)
		pthread_cond_signal(&r->done);
	pthread_mutex_unlock(&r->lock);
}

/* `request` makes the message for a task, in the arena. */
static void ask(struct round *r, const struct task_list *tasks, const char *method,
                const ProtobufCMessage *(*request)(struct arena *a, const char *id), struct arena *arena)
{
	int64_t deadline = clock_mono_ns() + PATIENCE;

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->done, NULL);
	r->left = tasks->v.n;
	vec_reserve(&r->asked, tasks->v.n + 1);
	vec_each(&tasks->v, task) {
		struct asked *a = vec_add(&r->asked);
		struct err err = ERR_INIT;

		a->round = r;
		a->task = *task;
		a->at = clock_wall();
		if (shim_call_async((*task)->shim, method, request(arena, (*task)->bundle.id), deadline, on_answer, a,
		                    &err) < 0)
			on_answer(a, -(int)err.code, NULL, &err);
	}
	pthread_mutex_lock(&r->lock);
	while (r->left)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void round_fini(struct round *r)
{
	vec_each(&r->asked, a)
		pb_free(a->rsp);
	vec_fini(&r->asked);
	pthread_cond_destroy(&r->done);
	pthread_mutex_destroy(&r->lock);
}
DEFINE_AUTO_FINI(round);

/* ---- List ---- */

TaskTypes__Process *process_of(struct arena *a, const char *id, const Shim__StateResponse *from)
{
	TaskTypes__Process *p = pb_new(a, &task_types__process__descriptor);

	p->id = arena_strdup(a, id);
	p->pid = from->pid;
	p->status = from->status;
	p->stdin = arena_strdup(a, from->stdin);
	p->stdout = arena_strdup(a, from->stdout);
	p->stderr = arena_strdup(a, from->stderr);
	p->terminal = from->terminal;
	p->exit_status = from->exit_status;
	if (from->exited_at)
		p->exited_at = pb_time_new(a, pb_time(from->exited_at));
	return p;
}

static const ProtobufCMessage *state_request(struct arena *a, const char *id)
{
	Shim__StateRequest *req = pb_new(a, &shim__state_request__descriptor);

	req->id = id;
	return &req->base;
}

int tasks_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Tasks__ListTasksResponse rsp = TASKS__LIST_TASKS_RESPONSE__INIT;
	AUTO(task_list) struct task_list tasks = {VEC_INIT};
	AUTO(round) struct round round = {.asked = VEC_INIT};
	struct cd_tasks *t = svc;
	const char *ns;

	(void)request;
	TRY(t->host.ns(t->host.arg, c, &ns, err));
	tasks_alive(t, ns, &tasks);
	ask(&round, &tasks, "State", state_request, rpc_arena(c));
	rsp.tasks = arena_zalloc(rpc_arena(c), tasks.v.n + 1, sizeof(*rsp.tasks));
	vec_each(&round.asked, a)
		/* One that ends meanwhile is left out. */
		if (a->rsp)
			rsp.tasks[rsp.n_tasks++] = process_of(rpc_arena(c), a->task->bundle.id, a->rsp);
	return rpc_reply(c, &rsp.base, err);
}

/* ---- Metrics ---- */

static bool task_field(const void *object, const struct str *path, size_t n_path, struct str *value)
{
	const struct task *task = object;

	if (n_path != 1)
		return false;
	if (str_eqc(path[0], "id"))
		*value = str_of(task->bundle.id);
	else if (str_eqc(path[0], "namespace"))
		*value = str_of(task->bundle.ns);
	else
		return false;
	return true;
}

static const ProtobufCMessage *stats_request(struct arena *a, const char *id)
{
	Shim__StatsRequest *req = pb_new(a, &shim__stats_request__descriptor);

	req->id = id;
	return &req->base;
}

/* Borrows from the answer. */
static Types__Metric *metric_of(struct arena *arena, const struct asked *a)
{
	const Shim__StatsResponse *rsp = a->rsp;
	Types__Metric *m;

	if (!rsp || !rsp->stats) {
		if (a->why.code != ERR_NOT_FOUND)
			log_warn("metrics of task %s: %s", a->task->bundle.id, a->why.msg);
		return NULL;
	}
	m = pb_new(arena, &types__metric__descriptor);
	m->timestamp = pb_time_new(arena, a->at);
	m->id = a->task->bundle.id;
	m->data = rsp->stats;
	return m;
}

int tasks_metrics(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__MetricsRequest *from = request;
	Tasks__MetricsResponse rsp = TASKS__METRICS_RESPONSE__INIT;
	AUTO(task_list) struct task_list all = {VEC_INIT}, tasks = {VEC_INIT};
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	AUTO(round) struct round round = {.asked = VEC_INIT};
	struct cd_tasks *t = svc;
	const char *ns;

	TRY(t->host.ns(t->host.arg, c, &ns, err));
	TRY(cd_filter_new(from->filters, from->n_filters, &filter, err));
	tasks_alive(t, ns, &all);
	vec_each(&all.v, task)
		if (cd_filter_match(filter, task_field, *task)) {
			task_ref(*task);
			vec_push(&tasks.v, *task);
		}
	ask(&round, &tasks, "Stats", stats_request, rpc_arena(c));
	rsp.metrics = arena_zalloc(rpc_arena(c), tasks.v.n + 1, sizeof(*rsp.metrics));
	vec_each(&round.asked, a) {
		Types__Metric *m = metric_of(rpc_arena(c), a);

		if (m)
			rsp.metrics[rsp.n_metrics++] = m;
	}
	return rpc_reply(c, &rsp.base, err);
}
