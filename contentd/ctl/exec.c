/* contentctl exec: another process in a running container. */
#include "contentd/ctl/attach.h"
#include "contentd/ctl/container.h"
#include "contentd/ctl/spec.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

struct exec {
	struct ctl *c;
	const char *container, *user, *cwd;
	bool interactive, terminal;
	char **args;
	unsigned n_args;
	char id[32];
	bool registered;
	struct attach attach;
};

static int process_of(struct exec *e, struct buf *out, struct err *err)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	Containers__Container *record;

	TRY(container_get(e->c, e->container, &record, err));
	if (!record->spec)
		return err_set(err, ERR_INTERNAL, "container %s has no configuration", e->container);
	TRY(spec_process_from_spec(str_make(record->spec->value.data, record->spec->value.len), e->args, e->n_args, &p,
	                           err));
	if (e->cwd) {
		free(p.cwd);
		p.cwd = xstrdup(e->cwd);
	}
	if (e->user) {
		TaskTypes__Process *task;

		free(p.user);
		p.user = xstrdup(e->user);
		vec_clear(&p.groups);
		TRY(container_task(e->c, e->container, &task, err));
		TRY(spec_resolve_user(&p, task ? arena_printf(&e->c->arena, "/proc/%u/root", task->pid) : NULL, err));
	}
	p.terminal = e->terminal;
	spec_write_process(&p, out);
	return 0;
}

static int start(struct exec *e, struct err *err)
{
	Tasks__ExecProcessRequest req = TASKS__EXEC_PROCESS_REQUEST__INIT;
	Tasks__StartRequest go = TASKS__START_REQUEST__INIT;
	Pb__Any any = PB__ANY__INIT;
	AUTO(buf) struct buf process = BUF_INIT;

	TRY(process_of(e, &process, err));
	TRY(attach_open(&e->attach, err));
	any.type_url = CTL_PROCESS_TYPE;
	any.value = (ProtobufCBinaryData){process.n, (uint8_t *)process.p};
	req.container_id = e->container;
	req.exec_id = e->id;
	req.terminal = e->terminal;
	req.spec = &any;
	req.stdin = e->attach.in_path ?: "";
	req.stdout = e->attach.out_path ?: "";
	req.stderr = e->attach.err_path ?: "";
	TRY(rpc_call(e->c->client, &tasks__tasks__descriptor, "Exec", NULL, &req.base, NULL, err));
	e->registered = true;
	TRY(attach_wait_ahead(&e->attach, err));
	go.container_id = e->container;
	go.exec_id = e->id;
	return rpc_call(e->c->client, &tasks__tasks__descriptor, "Start", NULL, &go.base, NULL, err);
}

static void forget(struct exec *e)
{
	Tasks__DeleteProcessRequest req = TASKS__DELETE_PROCESS_REQUEST__INIT;
	struct err err = ERR_INIT;

	if (!e->registered)
		return;
	req.container_id = e->container;
	req.exec_id = e->id;
	if (rpc_call(e->c->client, &tasks__tasks__descriptor, "DeleteProcess", NULL, &req.base, NULL, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		fprintf(stderr, "contentctl: forget the process: %s\n", err.msg);
}

static int run(struct exec *e, uint32_t *status, struct err *err)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(err, errno, "random bytes");
	snprintf(e->id, sizeof(e->id), "exec-%016llx", (unsigned long long)random);
	TRY(ctl_connect(e->c, err));
	TRY_WRAP(start(e, err), err, "exec in container %s", e->container);
	return attach_run(&e->attach, status, err);
}

enum { OPT_CWD = 256 };

static const struct argp_option OPTIONS[] = {
    {"interactive", 'i', NULL, 0, "hand on standard input", 0},
    {"tty", 't', NULL, 0, "give it a terminal", 0},
    {"user", 'u', "USER[:GROUP]", 0, "run as another user (default: the container's)", 0},
    {"workdir", OPT_CWD, "DIR", 0, "working directory (default: the container's)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct exec *e = state->input;

	switch (key) {
	case 'i':
		e->interactive = true;
		return 0;
	case 't':
		e->terminal = true;
		return 0;
	case 'u':
		e->user = arg;
		return 0;
	case OPT_CWD:
		e->cwd = arg;
		return 0;
	case ARGP_KEY_ARG:
		e->container = arg;
		e->args = state->argv + state->next;
		e->n_args = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		if (!e->container || !e->n_args)
			argp_error(state, "which container, and which program?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int ctl_exec_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {OPTIONS,
	                    parse,
	                    "CONTAINER CMD...",
	                    "Runs another program in a running container and exits with its status.",
	                    NULL,
	                    NULL,
	                    NULL};
	struct exec e = {.c = c};
	struct err err = ERR_INIT;
	uint32_t status = 0;
	int r;

	ctl_parse(c, &argp, ARGP_IN_ORDER, argc, argv, &e);
	e.attach = ATTACH_INIT(c, e.container, e.id);
	e.attach.interactive = e.interactive;
	e.attach.terminal = e.terminal;
	r = run(&e, &status, &err);
	forget(&e);
	if (r >= 0)
		attach_drain(&e.attach);
	attach_close(&e.attach);
	return r < 0 ? container_fail(c, &err) : (int)status;
}
