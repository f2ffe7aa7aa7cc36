/* contentctl attach: our standard streams in place of those of a container that runs without us. */
#include "contentd/ctl/attach.h"
#include "contentd/ctl/container.h"

#include <stdio.h>

struct join {
	struct ctl *c;
	const char *container;
	bool no_stdin;
	struct attach attach;
};

static int join(struct join *j, uint32_t *status, struct err *err)
{
	Containers__Container *record;
	TaskTypes__Process *task;

	TRY(ctl_connect(j->c, err));
	TRY(container_get(j->c, j->container, &record, err));
	TRY(container_task(j->c, j->container, &task, err));
	if (!task || task->status == TASK_TYPES__STATUS__STOPPED)
		return err_set(err, ERR_PRECONDITION, "it does not run");
	TRY(attach_join(&j->attach, task, err));
	TRY(attach_wait_ahead(&j->attach, err));
	return attach_run(&j->attach, status, err);
}

static const struct argp_option OPTIONS[] = {
    {"no-stdin", 'n', NULL, 0, "hand on no standard input", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct join *j = state->input;

	if (key == 'n') {
		j->no_stdin = true;
	} else if (key == ARGP_KEY_ARG) {
		if (j->container)
			argp_error(state, "one container at a time");
		j->container = arg;
	} else if (key == ARGP_KEY_NO_ARGS) {
		argp_error(state, "which container?");
	} else {
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int ctl_attach_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    OPTIONS,
	    parse,
	    "CONTAINER",
	    "Shows what a running container writes from now on, hands it what is typed, and exits with its "
	    "status.\vCtrl-C leaves it, and it goes on; one that has a terminal gets the Ctrl-C, and is left "
	    "by Ctrl-P Ctrl-Q. Its input stays open when ours ends. Of two clients at one container each gets a part "
	    "of what it writes, unless that goes to a log.",
	    NULL,
	    NULL,
	    NULL};
	struct join j = {.c = c};
	struct err err = ERR_INIT;
	uint32_t status = 0;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &j);
	j.attach = ATTACH_INIT(c, j.container, "");
	j.attach.interactive = !j.no_stdin;
	r = join(&j, &status, &err);
	if (r >= 0 && !j.attach.left)
		attach_drain(&j.attach);
	attach_close(&j.attach);
	if (r < 0) {
		err_wrap(&err, "attach to %s", j.container);
		return ctl_fail(c, &err);
	}
	if (j.attach.left)
		fprintf(stderr, "contentctl: left %s, which goes on\n", j.container);
	return (int)status;
}
