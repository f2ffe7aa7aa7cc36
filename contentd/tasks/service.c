/* containerd.services.tasks.v1.Tasks over shims. */
#include "contentd/tasks/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "contentd/tasks/process.h"
#include "rpc/proto/runc.pb-c.h"
#include "rpc/proto/tasks.pb-c.h"

#include <signal.h>

#define STATE_PATIENCE (2 * NS_PER_S)
#define TAKE_BACK_PATIENCE (10 * NS_PER_S)
#define NEWS_PATIENCE (1 * NS_PER_S)

static struct cd_tasks *tasks_of(void *svc)
{
	return svc;
}

/* The container must exist, then the task, whose shim may be dead. */
static int find_any(struct cd_tasks *t, struct rpc_call *c, const char *id, struct task **out, struct err *err)
{
	Containers__Container *record;
	const char *ns;

	TRY(t->host.ns(t->host.arg, c, &ns, err));
	TRY(t->host.container(t->host.arg, ns, id, rpc_arena(c), &record, err));
	return task_get(t, ns, id, out, err);
}

static int find(struct cd_tasks *t, struct rpc_call *c, const char *id, struct task **out, struct err *err)
{
	AUTO(task) struct task *task = NULL;

	TRY(find_any(t, c, id, &task, err));
	if (task_is_dead(task))
		return err_set(err, ERR_NOT_FOUND, "task %s not found: its shim died", id);
	if (task_is_leaving(task))
		return err_set(err, ERR_NOT_FOUND, "task %s not found", id);
	*out = STEAL(task);
	return 0;
}

static int state_of(struct task *task, const char *exec_id, struct arena *a, TaskTypes__Process **out, struct err *err)
{
	Shim__StateRequest req = SHIM__STATE_REQUEST__INIT;
	AUTO(pb) Shim__StateResponse *got = NULL;

	req.id = task->bundle.id;
	req.exec_id = exec_id;
	TRY(shim_call_within(task->shim, "State", &req.base, STATE_PATIENCE, &got, err));
	*out = process_of(a, *exec_id ? exec_id : task->bundle.id, got);
	return 0;
}

/* ---- Create ---- */

static void fill_create(Shim__CreateTaskRequest *req, const struct task *task, const Tasks__CreateTaskRequest *from,
                        Pb__Any *options)
{
	req->id = task->bundle.id;
	req->bundle = task->bundle.path;
	req->n_rootfs = from->n_rootfs;
	req->rootfs = from->rootfs;
	req->terminal = from->terminal;
	req->stdin = from->stdin;
	req->stdout = from->stdout;
	req->stderr = from->stderr;
	req->options = options;
}

/* Of the task if it has any, else of the container. */
static Pb__Any *options_of(const Tasks__CreateTaskRequest *from, const Containers__Container *record)
{
	if (from->options && from->options->value.len)
		return from->options;
	return record->runtime ? record->runtime->options : NULL;
}

static int create_steps(struct task *task, struct rpc_call *c, const Tasks__CreateTaskRequest *from,
                        const Containers__Container *record, uint32_t *pid, struct err *err)
{
	Shim__CreateTaskRequest req = SHIM__CREATE_TASK_REQUEST__INIT;
	AUTO(pb) Shim__CreateTaskResponse *rsp = NULL;
	Pb__Any *options = options_of(from, record);
	struct cd_tasks *t = task->owner;
	const char *runtime = record->runtime && *record->runtime->name ? record->runtime->name : t->runtime;
	struct str spec;

	if (*from->runtime_path)
		runtime = from->runtime_path;
	if (!record->spec)
		return err_set(err, ERR_PRECONDITION, "container %s has no specification", task->bundle.id);
	TRY(shim_find(&t->env, runtime, &task->binary, err));
	spec = str_make(record->spec->value.data, record->spec->value.len);
	task->cgroup = cgroups_path(spec);
	if (task->cgroup)
		cgroups_enter(t->cgroups, task->cgroup, false);
	TRY(bundle_make(&task->bundle, spec, err));
	task_follow_log(task);
	TRY(shim_start(&t->env, task->binary, &task->bundle, options, task_shim_gone, task, &task->shim, err));
	task_set_address(task);
	fill_create(&req, task, from, options);
	TRY(shim_call(task->shim, "Create", &req.base, &(struct shim_wait){.on_behalf = c}, &rsp, err));
	*pid = rsp->pid;
	task_set_ready(task, rsp->pid);
	return 0;
}

/* Nobody waits for a Create any more that the shim may still be at, or has just done. A new connection ends what came
 * over the old one, and tells which it is. */
static int undo_create(struct task *task, struct err *err)
{
	Shim__ConnectRequest who = SHIM__CONNECT_REQUEST__INIT;
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__ConnectResponse *rsp = NULL;
	const struct shim_wait wait = {.deadline_ns = clock_mono_ns() + TAKE_BACK_PATIENCE};

	shim_close(STEAL(task->shim));
	TRY(shim_reconnect(&task->owner->env, &task->bundle, task_shim_gone, task, &task->shim, err));
	who.id = req.id = task->bundle.id;
	TRY(shim_call(task->shim, "Connect", &who.base, &wait, &rsp, err));
	return rsp->task_pid ? shim_call(task->shim, "Delete", &req.base, &wait, NULL, err) : 0;
}

/* Nothing of a task that nobody will have stays. `made`: it is there in the shim, or may be. */
static void take_back(struct task *task, bool made)
{
	AUTO(pb) Shim__DeleteResponse *rsp = NULL;
	struct err err = ERR_INIT;

	if (task->shim && made && undo_create(task, &err) < 0) {
		log_warn("take back task %s: %s", task->bundle.id, err.msg);
		task_end_shim(task, NULL);
	}
	if (task->shim) {
		task_ask_shutdown(task);
		/* It fails when the shim came to nothing. */
		shim_delete(&task->owner->env, task->binary, &task->bundle, &rsp, NULL);
	} else {
		task_end_shim(task, NULL); /* one that was started, but cannot be reached */
	}
	news_close(task, NEWS_PATIENCE);
	task_remove_traces(task, true);
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
	if (create_steps(task, c, req, record, &rsp.pid, err) < 0) {
		take_back(task, err->code == ERR_CANCELLED || err->code == ERR_DEADLINE);
		return err_wrap(err, "create task %s", req->container_id);
	}
	/* Who removes a container meanwhile finds no task of it yet. */
	if (t->host.container(t->host.arg, ns, req->container_id, rpc_arena(c), &record, err) < 0) {
		take_back(task, true);
		return err_wrap(err, "create task %s", req->container_id);
	}
	rsp.container_id = req->container_id;
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
	bool is_init = !*from->exec_id;
	int r;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	if (is_init)
		news_starting(task, true);
	r = task_call(task, c, "Start", &req.base, &got, err);
	if (r < 0 && is_init && r != -(int)ERR_CANCELLED && r != -(int)ERR_DEADLINE && r != -(int)ERR_UNAVAILABLE)
		news_starting(task, false);
	TRY(r);
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

/* The answer is what is known of its end. */
static int reply_known(struct rpc_call *c, struct task *task, struct err *err)
{
	Tasks__DeleteResponse rsp = TASKS__DELETE_RESPONSE__INIT;
	struct task_end end;

	news_end(task, &rsp.pid, &end);
	rsp.exit_status = end.status;
	rsp.exited_at = pb_time_new(rpc_arena(c), end.at);
	return rpc_reply(c, &rsp.base, err);
}

static int wait_cleaned(struct task *task, struct err *err)
{
	if (task_wait_cleaned(task))
		return 0;
	return err_set(err, ERR_UNAVAILABLE, "the shim of task %s died", task->bundle.id);
}

/* The shim was found dead: what its clean-up learnt is the answer. */
static int delete_dead(struct rpc_call *c, struct task *task, struct err *err)
{
	TRY(wait_cleaned(task, err));
	task_bury(task);
	return reply_known(c, task, err);
}

/* A call failed with `r` because the shim is gone. The connection's own report may come later than this. */
static bool is_lost(struct task *task, int r)
{
	if (r != -(int)ERR_UNAVAILABLE || shim_alive(task->shim))
		return false;
	task_shim_gone(task);
	return true;
}

/* Shims before 1.7 refuse to delete what is running with an unclassed error. */
static int refused(struct task *task, const char *exec_id, struct rpc_call *c, int r, struct err *err)
{
	TaskTypes__Process *p;

	if (r == -(int)ERR_UNKNOWN && state_of(task, exec_id, rpc_arena(c), &p, NULL) >= 0 &&
	    p->status != TASK_TYPES__STATUS__STOPPED)
		err->code = ERR_PRECONDITION;
	return -(int)err->code;
}

/* The shim has forgotten the task: so do we. */
static void forget(struct task *task)
{
	set_deleting(task, true);
	task_ask_shutdown(task);
	news_close(task, NEWS_PATIENCE);
	task_remove_traces(task, false);
	task_drop(task);
}

/* The shim is hung. When the first process has ended nothing is lost with the shim; else only who kills may end that. */
static int end_if_done(struct task *task, struct err *err)
{
	struct task_end end;
	uint32_t pid;

	if (!news_end(task, &pid, &end) && process_runs(pid))
		return err_set(err, ERR_UNAVAILABLE, "the shim of task %s does not answer, and the task runs",
		               task->bundle.id);
	TRY(task_end_shim(task, err));
	task_shim_gone(task);
	return 0;
}

static int delete (struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__DeleteTaskRequest *from = request;
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__DeleteResponse *got = NULL;
	AUTO(task) struct task *task = NULL;
	bool hung;
	int r;

	TRY(find_any(tasks_of(svc), c, from->container_id, &task, err));
	if (task_is_dead(task))
		return delete_dead(c, task, err);
	req.id = from->container_id;
	r = task_call_or_hung(task, c, "Delete", &req.base, &got, &hung, err);
	if (hung)
		TRY(end_if_done(task, err));
	if (hung || (r < 0 && is_lost(task, r)))
		return delete_dead(c, task, err);
	if (r < 0 && r != -(int)ERR_NOT_FOUND)
		return refused(task, "", c, r, err);
	if (r < 0) {
		forget(task);
		return reply_known(c, task, err);
	}
	news_ended(task, got->pid, (struct task_end){got->exit_status, pb_time(got->exited_at)});
	forget(task);
	return reply_deleted(c, "", got, err);
}

static int delete_process(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__DeleteProcessRequest *from = request;
	Shim__DeleteRequest req = SHIM__DELETE_REQUEST__INIT;
	AUTO(pb) Shim__DeleteResponse *got = NULL;
	AUTO(task) struct task *task = NULL;
	int r;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	if (!*from->exec_id)
		return err_set(err, ERR_INVALID, "exec id is empty");
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	r = task_call(task, c, "Delete", &req.base, &got, err);
	if (r < 0)
		return refused(task, from->exec_id, c, r, err);
	return reply_deleted(c, from->exec_id, got, err);
}

/* ---- Get ---- */

static int get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__GetRequest *from = request;
	Tasks__GetResponse rsp = TASKS__GET_RESPONSE__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	TRY(state_of(task, from->exec_id, rpc_arena(c), &rsp.process, err));
	return rpc_reply(c, &rsp.base, err);
}

/* ---- Wait ---- */

static int wait_dead(struct rpc_call *c, struct task *task, struct err *err)
{
	Tasks__WaitResponse rsp = TASKS__WAIT_RESPONSE__INIT;
	struct task_end end;
	uint32_t pid;

	TRY(wait_cleaned(task, err));
	news_end(task, &pid, &end);
	rsp.exit_status = end.status;
	rsp.exited_at = pb_time_new(rpc_arena(c), end.at);
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

	TRY(find_any(tasks_of(svc), c, from->container_id, &task, err));
	if (task_is_dead(task))
		return wait_dead(c, task, err);
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	r = shim_call(task->shim, "Wait", &req.base, &(struct shim_wait){.on_behalf = c}, &got, err);
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
	bool hung;
	int r;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.signal = from->signal;
	req.all = from->all;
	r = task_call_or_hung(task, c, "Kill", &req.base, NULL, &hung, err);
	if (!hung || from->signal != SIGKILL || *from->exec_id)
		return r;
	/* Who cleans up after the shim kills the container. */
	TRY(task_end_shim(task, err));
	task_shim_gone(task);
	return wait_cleaned(task, err);
}

static int exec(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ExecProcessRequest *from = request;
	Shim__ExecProcessRequest req = SHIM__EXEC_PROCESS_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	if (!*from->exec_id)
		return err_set(err, ERR_INVALID, "exec id is empty");
	if (!from->spec) /* of which stock shims die, with their containers */
		return err_set(err, ERR_INVALID, "the process has no specification");
	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.exec_id = from->exec_id;
	req.terminal = from->terminal;
	req.stdin = from->stdin;
	req.stdout = from->stdout;
	req.stderr = from->stderr;
	req.spec = from->spec;
	return task_call(task, c, "Exec", &req.base, NULL, err);
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
	return task_call(task, c, "ResizePty", &req.base, NULL, err);
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
	return task_call(task, c, "CloseIO", &req.base, NULL, err);
}

static int pause_task(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__PauseTaskRequest *from = request;
	Shim__PauseRequest req = SHIM__PAUSE_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	return task_call(task, c, "Pause", &req.base, NULL, err);
}

static int resume(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__ResumeTaskRequest *from = request;
	Shim__ResumeRequest req = SHIM__RESUME_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	return task_call(task, c, "Resume", &req.base, NULL, err);
}

static int update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__UpdateTaskRequest *from = request;
	Shim__UpdateTaskRequest req = SHIM__UPDATE_TASK_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	if (!from->resources) /* of which stock shims die, with their containers */
		return err_set(err, ERR_INVALID, "no resources to update");
	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.resources = from->resources;
	req.annotations = from->annotations;
	req.n_annotations = from->n_annotations;
	return task_call(task, c, "Update", &req.base, NULL, err);
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
	TRY(task_call(task, c, "Pids", &req.base, &got, err));
	rsp.processes = got->processes;
	rsp.n_processes = got->n_processes;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- Checkpoint ---- */

static const char *image_path_of(struct arena *a, const Pb__Any *options)
{
	Runc__CheckpointOptions *o;

	if (!options || pb_any_unpack_in(a, options, &runc__checkpoint_options__descriptor, &o, NULL) < 0)
		return "";
	return o->image_path;
}

static int checkpoint(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Tasks__CheckpointTaskRequest *from = request;
	Tasks__CheckpointTaskResponse rsp = TASKS__CHECKPOINT_TASK_RESPONSE__INIT;
	Shim__CheckpointTaskRequest req = SHIM__CHECKPOINT_TASK_REQUEST__INIT;
	AUTO(task) struct task *task = NULL;

	TRY(find(tasks_of(svc), c, from->container_id, &task, err));
	req.id = from->container_id;
	req.path = image_path_of(rpc_arena(c), from->options);
	req.options = from->options;
	if (!*req.path)
		return err_set(err, ERR_UNIMPLEMENTED,
		               "checkpoints are written to an image path, not into the content store");
	TRY(task_call(task, c, "Checkpoint", &req.base, NULL, err));
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method METHODS[] = {
    {"Create", 0, create},
    {"Start", 0, start},
    {"Delete", 0, delete},
    {"DeleteProcess", 0, delete_process},
    {"Get", 0, get},
    {"List", 0, tasks_list},
    {"Kill", 0, kill_task},
    {"Exec", 0, exec},
    {"ResizePty", 0, resize},
    {"CloseIO", 0, close_io},
    {"Pause", 0, pause_task},
    {"Resume", 0, resume},
    {"ListPids", 0, list_pids},
    {"Checkpoint", RPC_LONG, checkpoint},
    {"Update", 0, update},
    {"Metrics", 0, tasks_metrics},
    {"Wait", RPC_LONG, wait},
};

struct rpc_service cd_tasks_service(struct cd_tasks *t)
{
	return (struct rpc_service){&tasks__tasks__descriptor, METHODS, ARRAY_LEN(METHODS), t, NULL};
}
