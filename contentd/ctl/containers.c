/* contentctl ps, kill, pause, resume, rm. */
#include "contentd/ctl/container.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#define STOP_PATIENCE (10 * NS_PER_S)

/* ---- ps ---- */

static const char *status_name(const TaskTypes__Process *task)
{
	static const char *const names[] = {"unknown", "created", "running", "stopped", "paused", "pausing"};

	if (!task)
		return "ended";
	return (size_t)task->status < ARRAY_LEN(names) ? names[task->status] : "unknown";
}

struct listing {
	struct ctl *c;
	bool all, quiet;
	struct map tasks; /* container id -> TaskTypes__Process */
	struct term_table table;
	struct buf json;
	struct json_writer w;
};

static void list_one(struct listing *l, const Containers__Container *c)
{
	const TaskTypes__Process *task = map_get(&l->tasks, str_of(c->id));
	char age[32], pid[16] = "-", created[40];

	if (!l->all && (!task || task->status == TASK_TYPES__STATUS__STOPPED))
		return;
	if (l->c->json) {
		json_w_object_begin(&l->w);
		json_w_kcstr(&l->w, "id", c->id);
		json_w_kcstr(&l->w, "image", c->image);
		json_w_kcstr(&l->w, "status", status_name(task));
		json_w_ki64(&l->w, "pid", task ? task->pid : 0);
		if (task && task->status == TASK_TYPES__STATUS__STOPPED)
			json_w_ki64(&l->w, "exitStatus", task->exit_status);
		json_w_kcstr(&l->w, "created", time_rfc3339(pb_time(c->created_at), created));
		json_w_object_end(&l->w);
		return;
	}
	if (l->quiet) {
		printf("%s\n", c->id);
		return;
	}
	if (task && task->pid)
		snprintf(pid, sizeof(pid), "%u", task->pid);
	term_row(&l->table, c->id, c->image, status_name(task), pid, term_age(pb_time(c->created_at), age));
}

static int list(struct listing *l, struct err *err)
{
	Containers__ListContainersRequest req = CONTAINERS__LIST_CONTAINERS_REQUEST__INIT;
	Tasks__ListTasksRequest task_req = TASKS__LIST_TASKS_REQUEST__INIT;
	AUTO(pb) Containers__ListContainersResponse *rsp = NULL;
	AUTO(pb) Tasks__ListTasksResponse *tasks = NULL;

	TRY(ctl_connect(l->c, err));
	TRY(rpc_call(l->c->client, &containers__containers__descriptor, "List", NULL, &req.base, &rsp, err));
	TRY(rpc_call(l->c->client, &tasks__tasks__descriptor, "List", NULL, &task_req.base, &tasks, err));
	for (size_t i = 0; i < tasks->n_tasks; i++)
		map_put(&l->tasks, str_of(tasks->tasks[i]->id), tasks->tasks[i]);
	if (l->c->json) {
		json_writer_init(&l->w, &l->json, "  ");
		json_w_array_begin(&l->w);
	} else if (!l->quiet) {
		term_row(&l->table, "CONTAINER", "IMAGE", "STATUS", "PID", "CREATED");
	}
	for (size_t i = 0; i < rsp->n_containers; i++)
		list_one(l, rsp->containers[i]);
	if (l->c->json) {
		json_w_array_end(&l->w);
		printf("%s\n", buf_cstr(&l->json));
	}
	term_table_print(&l->table);
	return 0;
}

static const struct argp_option PS_OPTIONS[] = {
    {"all", 'a', NULL, 0, "ended ones too", 0},
    {"quiet", 'q', NULL, 0, "ids only", 0},
    {0},
};

static error_t parse_ps(int key, char *arg, struct argp_state *state)
{
	struct listing *l = state->input;

	if (key == 'a')
		l->all = true;
	else if (key == 'q')
		l->quiet = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "ps takes no argument");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_ps_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {PS_OPTIONS, parse_ps, "", "Lists running containers.", NULL, NULL, NULL};
	struct listing l = {.c = c, .tasks = MAP_INIT, .table = {.columns = 5, .cells = VEC_INIT}, .json = BUF_INIT};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &l);
	r = list(&l, &err);
	map_fini(&l.tasks);
	buf_fini(&l.json);
	return r < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- verbs over several containers ---- */

struct each {
	struct ctl *c;
	struct ctl_names ids;
	uint32_t signal;
	bool all, force;
};

static error_t take_ids(int key, struct argp_state *state, struct each *e)
{
	return ctl_take_names(key, state, &e->ids, "container");
}

static int signal_number(const char *text, uint32_t *out)
{
	uint64_t n;

	if (str_u64(str_of(text), 10, &n) && n > 0 && n < (uint64_t)SIGRTMAX) {
		*out = (uint32_t)n;
		return 0;
	}
	if (!strncasecmp(text, "SIG", 3))
		text += 3;
	for (int i = 1; i < SIGRTMIN; i++)
		if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), text)) {
			*out = (uint32_t)i;
			return 0;
		}
	return -1;
}

static const struct argp_option KILL_OPTIONS[] = {
    {"signal", 's', "SIGNAL", 0, "name or number (SIGTERM)", 0},
    {"all", 'a', NULL, 0, "to every process in the container", 0},
    {0},
};

static error_t parse_kill(int key, char *arg, struct argp_state *state)
{
	struct each *e = state->input;

	if (key == 's') {
		if (signal_number(arg, &e->signal) < 0)
			argp_error(state, "there is no signal '%s'", arg);
		return 0;
	}
	if (key == 'a') {
		e->all = true;
		return 0;
	}
	return take_ids(key, state, e);
}

static int kill_one(void *arg, const char *id, struct err *err)
{
	struct each *e = arg;

	TRY_WRAP(container_kill(e->c, id, e->signal, e->all, err), err, "kill %s", id);
	return 0;
}

int ctl_kill_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {KILL_OPTIONS, parse_kill, "CONTAINER...", "Sends a signal to containers.", NULL,
	                    NULL,         NULL};
	struct each e = {.c = c, .signal = SIGTERM};

	ctl_parse(c, &argp, 0, argc, argv, &e);
	return ctl_each(c, &e.ids, kill_one, &e);
}

/* ---- pause, resume ---- */

static error_t parse_pause(int key, char *arg, struct argp_state *state)
{
	return take_ids(key, state, state->input);
}

static int pause_one(void *arg, const char *id, struct err *err)
{
	Tasks__PauseTaskRequest req = TASKS__PAUSE_TASK_REQUEST__INIT;
	struct each *e = arg;

	req.container_id = id;
	TRY_WRAP(rpc_call(e->c->client, &tasks__tasks__descriptor, "Pause", NULL, &req.base, NULL, err), err,
	         "pause %s", id);
	return 0;
}

int ctl_pause_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse_pause, "CONTAINER...", "Stops all processes of containers for a while.", NULL,
	                    NULL, NULL};
	struct each e = {.c = c};

	ctl_parse(c, &argp, 0, argc, argv, &e);
	return ctl_each(c, &e.ids, pause_one, &e);
}

static int resume_one(void *arg, const char *id, struct err *err)
{
	Tasks__ResumeTaskRequest req = TASKS__RESUME_TASK_REQUEST__INIT;
	struct each *e = arg;

	req.container_id = id;
	TRY_WRAP(rpc_call(e->c->client, &tasks__tasks__descriptor, "Resume", NULL, &req.base, NULL, err), err,
	         "resume %s", id);
	return 0;
}

int ctl_resume_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse_pause, "CONTAINER...", "Lets paused containers go on.", NULL, NULL, NULL};
	struct each e = {.c = c};

	ctl_parse(c, &argp, 0, argc, argv, &e);
	return ctl_each(c, &e.ids, resume_one, &e);
}

/* ---- rm ---- */

static const struct argp_option RM_OPTIONS[] = {
    {"force", 'f', NULL, 0, "kill it first when it runs", 0},
    {0},
};

static error_t parse_rm(int key, char *arg, struct argp_state *state)
{
	struct each *e = state->input;

	if (key == 'f') {
		e->force = true;
		return 0;
	}
	return take_ids(key, state, e);
}

static int kill_and_wait(struct each *e, const char *id, struct err *err)
{
	Tasks__WaitRequest req = TASKS__WAIT_REQUEST__INIT;
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + STOP_PATIENCE};
	struct err gone = ERR_INIT;

	if (container_kill(e->c, id, SIGKILL, true, &gone) < 0 && gone.code != ERR_NOT_FOUND)
		return err_set(err, gone.code, "%s", gone.msg);
	req.container_id = id;
	return rpc_call(e->c->client, &tasks__tasks__descriptor, "Wait", &opts, &req.base, NULL, err);
}

static int rm_steps(struct each *e, const char *id, struct err *err)
{
	Containers__Container *record;
	TaskTypes__Process *task;

	TRY(container_get(e->c, id, &record, err));
	TRY(container_task(e->c, id, &task, err));
	if (task && task->status != TASK_TYPES__STATUS__STOPPED) {
		if (!e->force)
			return err_set(err, ERR_PRECONDITION, "it is running (--force kills it)");
		TRY(kill_and_wait(e, id, err));
	}
	TRY(container_delete_task(e->c, id, err));
	TRY(container_delete_record(e->c, id, err));
	if (*record->snapshot_key)
		TRY(container_delete_snapshot(e->c, record->snapshot_key, err));
	const char *log = pb_kv_get(record->labels, record->n_labels, CTL_LOG_LABEL);
	if (log && unlink(log) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove its log %s", log);
	return 0;
}

static int rm_one(void *arg, const char *id, struct err *err)
{
	struct each *e = arg;

	TRY_WRAP(rm_steps(e, id, err), err, "rm %s", id);
	return 0;
}

int ctl_rm_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {RM_OPTIONS, parse_rm, "CONTAINER...", "Removes containers.", NULL, NULL, NULL};
	struct each e = {.c = c};

	ctl_parse(c, &argp, 0, argc, argv, &e);
	return ctl_each(c, &e.ids, rm_one, &e);
}
