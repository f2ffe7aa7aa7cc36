/* containerd.services.tasks.v1.Tasks over shims. */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "rpc/proto/tasks.pb-c.h"

#define STATE_PATIENCE (2 * NS_PER_S)
#define SHUTDOWN_PATIENCE (3 * NS_PER_S)

static struct cd_tasks *tasks_of(void *svc)
{
	return svc;
}

/* The container must exist, then the task. */
static int find(struct cd_tasks *t, struct rpc_call *c, const char *id, struct task **out, struct err *err)
{
	Containers__Container *record;
	const char *ns;

	TRY(t->host.ns(t->host.arg, c, &ns, err));
	TRY(t->host.container(t->host.arg, ns, id, rpc_arena(c), &record, err));
	return task_get(t, ns, id, out, err);
}

static int call(struct task *task, struct rpc_call *c, const char *method, const ProtobufCMessage *msg, void *rsp,
                struct err *err)
{
	return shim_call(task->shim, method, msg, 0, c, rsp, err);
}

static int state_of(struct task *task, const char *exec_id, struct arena *a, TaskTypes__Process **out, struct err *err)
{
	Shim__StateRequest req = SHIM__STATE_REQUEST__INIT;
	AUTO(pb) Shim__StateResponse *got = NULL;
	TaskTypes__Process *p;

	req.id = task->bundle.id;
	req.exec_id = exec_id;
	TRY(shim_call(task->shim, "State", &req.base, clock_mono_ns() + STATE_PATIENCE, NULL, &got, err));
	p = pb_new(a, &task_types__process__descriptor);
	p->id = arena_strdup(a, *exec_id ? exec_id : task->bundle.id);
	p->pid = got->pid;
	p->status = got->status;
	p->stdin = arena_strdup(a, got->stdin);
	p->stdout = arena_strdup(a, got->stdout);
	p->stderr = arena_strdup(a, got->stderr);
	p->terminal = got->terminal;
	p->exit_status = got->exit_status;
	if (got->exited_at)
		p->exited_at = pb_time_new(a, pb_time(got->exited_at));
	*out = p;
	return 0;
}

/* ---- Create ---- */

static void fill_create(Shim__CreateTaskRequest *req, const struct task *task, const Tasks__CreateTaskRequest *from,
                        const Containers__Container *record)
{
	req->id = task->bundle.id;
	req->bundle = task->bundle.path;
	req->n_rootfs = from->n_rootfs;
	req->rootfs = from->rootfs;
	req->terminal = from->terminal;
	req->stdin = from->stdin;
	req->stdout = from->stdout;
	req->stderr = from->stderr;
	req->options = from->options;
	if (!req->options && record->runtime)
		req->options = record->runtime->options;
}

static int create_steps(struct task *task, struct rpc_call *c, const Tasks__CreateTaskRequest *from,
                        const Containers__Container *record, struct err *err)
{
	Shim__CreateTaskRequest req = SHIM__CREATE_TASK_REQUEST__INIT;
	AUTO(pb) Shim__CreateTaskResponse *rsp = NULL;
	struct cd_tasks *t = task->owner;
	const char *runtime = record->runtime && *record->runtime->name ? record->runtime->name : t->runtime;

	if (*from->runtime_path)
		runtime = from->runtime_path;
	if (!record->spec)
		return err_set(err, ERR_PRECONDITION, "container %s has no specification", task->bundle.id);
	TRY(shim_binary(runtime, &task->binary, err));
	TRY(bundle_make(&task->bundle, str_make(record->spec->value.data, record->spec->value.len), err));
	task_follow_log(task);
	TRY(shim_start(&t->env, task->binary, &task->bundle, task_shim_gone, task, &task->shim, err));
	fill_create(&req, task, from, record);
	TRY(call(task, c, "Create", &req.base, &rsp, err));
	task_set_ready(task, rsp->pid);
	return 0;
}

static void ask_shutdown(struct task *task)
{
	Shim__ShutdownRequest req = SHIM__SHUTDOWN_REQUEST__INIT;

	req.id = task->bundle.id;
	shim_call(task->shim, "Shutdown", &req.base, clock_mono_ns() + SHUTDOWN_PATIENCE, NULL, NULL, NULL);
}

/* Nothing of a task that was not created stays. */
static void take_back(struct task *task)
{
	AUTO(pb) Shim__DeleteResponse *rsp = NULL;
	struct err err = ERR_INIT;

	if (task->shim) {
		ask_shutdown(task);
		if (shim_delete(&task->owner->env, task->binary, &task->bundle, &rsp, &err) < 0)
			log_warn("take back task %s: %s", task->bundle.id, err.msg);
	}
	err = ERR_INIT;
	if (bundle_remove(&task->bundle, &err) < 0)
		log_warn("bundle of %s: %s", task->bundle.id, err.msg);
	task_drop(task);
}

static int create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__CreateTaskRequest *req = request;
	struct cd_tasks *t = tasks_of(svc);
	Tasks__CreateTaskResponse rsp = TASKS__CREATE_TASK_RESPONSE__INIT;
	AUTO(task) struct task *task = NULL;
	Containers__Container *record;
	const char *ns;

	TRY(t->host.ns(t->host.arg, c, &ns, err));
	if (req->checkpoint && *req->checkpoint->digest)
		return err_set(err, ERR_UNIMPLEMENTED, "restoring from a checkpoint is not supported");
	TRY(t->host.container(t->host.arg, ns, req->container_id, rpc_arena(c), &record, err));
	TRY(task_add(t, ns, req->container_id, &task, err));
	if (create_steps(task, c, req, record, err) < 0) {
		take_back(task);
		return err_wrap(err, "create task %s", req->container_id);
	}
	rsp.container_id = req->container_id;
	rsp.pid = task->pid;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- Start, Delete ---- */

static int start(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__StartRequest *from = request;
	Shim__StartRequest req = SHIM__START_REQUEST__INIT;
	Tasks__StartResponse rsp = TASKS__START_RESPONSE__INIT;
	AUTO(pb) Shim__StartResponse *got = NULL;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	TRY(call(task, c, "Start", &req.base, &got, err));
	rsp.pid = got->pid;
	return rpc_reply(c, &rsp.base, err);
}

static void set_deleting(struct task *task, bool on)
{
	pthread_mutex_lock(&task->owner->lock);
	task->deleting = on;
	pthread_mutex_unlock(&task->owner->lock);
}

static int reply_deleted(struct rpc_call *c, const char *id, const Shim__DeleteResponse *from, struct err *err)
{
	Tasks__DeleteResponse rsp = TASKS__DELETE_RESPONSE__INIT;

	rsp.id = id;
	rsp.pid = from->pid;
	rsp.exit_status = from->exit_status;
	rsp.exited_at = from->exited_at;
	return rpc_reply(c, &rsp.base, err);
}

/* The shim was found dead: what its clean-up learnt is the answer. */
static int reply_dead(struct rpc_call *c, struct task *task, struct err *err)
{
	Tasks__DeleteResponse rsp = TASKS__DELETE_RESPONSE__INIT;

	if (!task_wait_cleaned(task))
		return err_set(err, ERR_UNAVAILABLE, "the shim of task %s died", task->bundle.id);
	rsp.pid = task->pid;
	rsp.exit_status = task->exit_status;
	rsp.exited_at = pb_time_new(rpc_arena(c), task->exited_at);
	return rpc_reply(c, &rsp.base, err);
}

/* A call failed with `r` because the shim is gone. The connection's own report may come later than this. */
static bool is_lost(struct task *task, int r)
{
	if (r != -(int)ERR_UNAVAILABLE || shim_alive(task->shim))
		return false;
	task_shim_gone(task);
	return true;
}

/* Shims before 1.7 refuse to delete a running task with an unclassed error. */
static int refused(struct task *task, struct rpc_call *c, int r, struct err *err)
{
	TaskTypes__Process *p;

	if (r == -(int)ERR_UNKNOWN && state_of(task, "", rpc_arena(c), &p, NULL) >= 0 &&
	    p->status != TASK_TYPES__STATUS__STOPPED)
		err->code = ERR_PRECONDITION;
	return -(int)err->code;
}

static int delete (struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__DeleteTaskRequest *from = request;
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__DeleteResponse *got = NULL;
	AUTO(task) struct task *task = NULL;
	struct err late = ERR_INIT;
	int r;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	r = call(task, c, "Delete", &req.base, &got, err);
	if (r < 0)
		return is_lost(task, r) ? reply_dead(c, task, err) : refused(task, c, r, err);
	set_deleting(task, true);
	ask_shutdown(task);
	if (bundle_remove(&task->bundle, &late) < 0)
		log_warn("bundle of %s: %s", task->bundle.id, late.msg);
	task_drop(task);
	return reply_deleted(c, "", got, err);
}

static int delete_process(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__DeleteProcessRequest *from = request;
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__DeleteResponse *got = NULL;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	if (!*from->exec_id)
		return err_set(err, ERR_INVALID, "exec id is empty");
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	TRY(call(task, c, "Delete", &req.base, &got, err));
	return reply_deleted(c, from->exec_id, got, err);
}

/* ---- Get, List ---- */

static int get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__GetRequest *from = request;
	Tasks__GetResponse rsp = TASKS__GET_RESPONSE__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	TRY(state_of(task, from->exec_id, rpc_arena(c), &rsp.process, err));
	return rpc_reply(c, &rsp.base, err);
}

struct task_list {
	VEC(struct task *) v;
};

static void task_list_fini(struct task_list *l)
{
	vec_each(&l->v, task)
		task_unref(*task);
	vec_fini(&l->v);
}
DEFINE_AUTO_FINI(task_list);

static void list_ready(struct cd_tasks *t, const char *ns, struct task_list *out)
{
	struct str key;
	void *value;

	pthread_mutex_lock(&t->lock);
	for (size_t at = 0; map_next(&t->table, &at, &key, &value);) {
		struct task *task = value;

		if (!task->ready || task->dead || strcmp(task->bundle.ns, ns) != 0)
			continue;
		task->refs++;
		vec_push(&out->v, task);
	}
	pthread_mutex_unlock(&t->lock);
}

static int list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Tasks__ListTasksResponse rsp = TASKS__LIST_TASKS_RESPONSE__INIT;
	AUTO(task_list) struct task_list tasks = {VEC_INIT};
	struct cd_tasks *t = tasks_of(svc);
	const char *ns;

	(void)request;
	TRY(t->host.ns(t->host.arg, c, &ns, err));
	list_ready(t, ns, &tasks);
	rsp.tasks = arena_zalloc(rpc_arena(c), tasks.v.n + 1, sizeof(*rsp.tasks));
	vec_each(&tasks.v, task)
		/* One that ends meanwhile is left out. */
		if (state_of(*task, "", rpc_arena(c), &rsp.tasks[rsp.n_tasks], NULL) >= 0)
			rsp.n_tasks++;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- Wait ---- */

static int wait_dead(struct rpc_call *c, struct task *task, struct err *err)
{
	Tasks__WaitResponse rsp = TASKS__WAIT_RESPONSE__INIT;

	if (!task_wait_cleaned(task))
		return err_set(err, ERR_UNAVAILABLE, "the shim of task %s died", task->bundle.id);
	rsp.exit_status = task->exit_status;
	rsp.exited_at = pb_time_new(rpc_arena(c), task->exited_at);
	return rpc_reply(c, &rsp.base, err);
}

static int wait(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__WaitRequest *from = request;
	Shim__WaitRequest req = SHIM__WAIT_REQUEST__INIT;
	Tasks__WaitResponse rsp = TASKS__WAIT_RESPONSE__INIT;
	AUTO(pb) Shim__WaitResponse *got = NULL;
	AUTO(task) struct task *task = NULL;
	int r;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	r = call(task, c, "Wait", &req.base, &got, err);
	if (r < 0)
		return is_lost(task, r) ? wait_dead(c, task, err) : r;
	rsp.exit_status = got->exit_status;
	rsp.exited_at = got->exited_at;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- the calls that are handed on ---- */

static int kill_task(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__KillRequest *from = request;
	Shim__KillRequest req = SHIM__KILL_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.signal = from->signal;
	req.all = from->all;
	return call(task, c, "Kill", &req.base, NULL, err);
}

static int exec(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ExecProcessRequest *from = request;
	Shim__ExecProcessRequest req = SHIM__EXEC_PROCESS_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	if (!*from->exec_id)
		return err_set(err, ERR_INVALID, "exec id is empty");
	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.terminal = from->terminal;
	req.stdin = from->stdin;
	req.stdout = from->stdout;
	req.stderr = from->stderr;
	req.spec = from->spec;
	return call(task, c, "Exec", &req.base, NULL, err);
}

static int resize(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ResizePtyRequest *from = request;
	Shim__ResizePtyRequest req = SHIM__RESIZE_PTY_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.width = from->width;
	req.height = from->height;
	return call(task, c, "ResizePty", &req.base, NULL, err);
}

static int close_io(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__CloseIORequest *from = request;
	Shim__CloseIORequest req = SHIM__CLOSE_IOREQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.stdin = from->stdin;
	return call(task, c, "CloseIO", &req.base, NULL, err);
}

static int pause_task(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__PauseTaskRequest *from = request;
	Shim__PauseRequest req = SHIM__PAUSE_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	return call(task, c, "Pause", &req.base, NULL, err);
}

static int resume(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ResumeTaskRequest *from = request;
	Shim__ResumeRequest req = SHIM__RESUME_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	return call(task, c, "Resume", &req.base, NULL, err);
}

static int update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__UpdateTaskRequest *from = request;
	Shim__UpdateTaskRequest req = SHIM__UPDATE_TASK_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.resources = from->resources;
	req.annotations = from->annotations;
	req.n_annotations = from->n_annotations;
	return call(task, c, "Update", &req.base, NULL, err);
}

static int list_pids(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ListPidsRequest *from = request;
	Shim__PidsRequest req = SHIM__PIDS_REQUEST__INIT;
	Tasks__ListPidsResponse rsp = TASKS__LIST_PIDS_RESPONSE__INIT;
	AUTO(pb) Shim__PidsResponse *got = NULL;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	TRY(call(task, c, "Pids", &req.base, &got, err));
	rsp.processes = got->processes;
	rsp.n_processes = got->n_processes;
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method METHODS[] = {
    {"Create", 0, create},
    {"Start", 0, start},
    {"Delete", 0, delete},
    {"DeleteProcess", 0, delete_process},
    {"Get", 0, get},
    {"List", 0, list},
    {"Kill", 0, kill_task},
    {"Exec", 0, exec},
    {"ResizePty", 0, resize},
    {"CloseIO", 0, close_io},
    {"Pause", 0, pause_task},
    {"Resume", 0, resume},
    {"ListPids", 0, list_pids},
    {"Update", 0, update},
    {"Wait", RPC_LONG, wait},
};

struct rpc_service cd_tasks_service(struct cd_tasks *t)
{
	return (struct rpc_service){&tasks__tasks__descriptor, METHODS, ARRAY_LEN(METHODS), t, NULL};
}
