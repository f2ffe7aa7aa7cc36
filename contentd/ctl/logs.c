/* contentctl logs. */
#include "contentd/ctl/logs.h"

#include "contentd/ctl/container.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>

#define REST_PATIENCE (10 * NS_PER_S)
#define TICK_MS 500 /* between two questions for the container's state */
#define REST_TICK_MS 20

/* ---- after the end ---- */

enum writers { WRITERS_NONE, WRITERS_SOME, WRITERS_UNKNOWN };

/* A read lease is refused while somebody has the file open for writing (fcntl(2)); not every file system has leases. */
static enum writers writers_of(int fd)
{
	/* Who opens it for writing just now has it sent to us. */
	signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN ? WRITERS_SOME : WRITERS_UNKNOWN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return WRITERS_NONE;
}

/* False when there was none in that time. */
static bool wait_change(int changes, int ms)
{
	struct pollfd p = {.fd = changes, .events = POLLIN};
	bool changed = poll(&p, 1, ms) > 0;
	char events[4096];

	while (read(changes, events, sizeof(events)) > 0)
		;
	return changed;
}

int logs_copy_rest(int fd, int changes, int (*copy)(void *arg, struct err *err), void *arg, struct err *err)
{
	int64_t until = clock_mono_ns() + REST_PATIENCE;
	bool done;

	do {
		/* Asked before the last copy: nothing comes after it. */
		enum writers writers = writers_of(fd);

		TRY(copy(arg, err));
		done = writers == WRITERS_NONE ||
		       (!wait_change(changes, writers == WRITERS_SOME ? REST_TICK_MS : TICK_MS) &&
		        writers == WRITERS_UNKNOWN);
	} while (!done && clock_mono_ns() < until);
	return 0;
}

/* ---- the verb ---- */

struct logs {
	struct ctl *c;
	const char *id;
	bool follow;
	int fd; /* of the log */
};

static const struct argp_option LOGS_OPTIONS[] = {
    {"follow", 'f', NULL, 0, "go on until the container ends", 0},
    {0},
};

static error_t parse_logs(int key, char *arg, struct argp_state *state)
{
	struct logs *l = state->input;

	if (key == 'f') {
		l->follow = true;
	} else if (key == ARGP_KEY_ARG) {
		if (l->id)
			argp_error(state, "one container at a time");
		l->id = arg;
	} else if (key == ARGP_KEY_NO_ARGS) {
		argp_error(state, "which container?");
	} else {
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static int copy_log(void *arg, struct err *err)
{
	struct logs *l = arg;
	char bytes[65536];
	ssize_t n;

	while ((n = read(l->fd, bytes, sizeof(bytes))) > 0)
		if (fwrite(bytes, 1, (size_t)n, stdout) != (size_t)n)
			return err_errno(err, errno, "write to standard output");
	fflush(stdout);
	return n < 0 ? err_errno(err, errno, "read the log") : 0;
}

static int follow(struct logs *l, const char *path, struct err *err)
{
	AUTO_FD int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (changes < 0 || inotify_add_watch(changes, path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
		return err_errno(err, errno, "watch %s", path);
	for (;;) {
		TaskTypes__Process *task;

		TRY(container_task(l->c, l->id, &task, err));
		if (!task || task->status == TASK_TYPES__STATUS__STOPPED)
			return logs_copy_rest(l->fd, changes, copy_log, l, err);
		TRY(copy_log(l, err));
		wait_change(changes, TICK_MS);
	}
}

static int print_logs(struct logs *l, struct err *err)
{
	Containers__Container *record;
	AUTO_FD int fd = -1;
	const char *path;

	TRY(ctl_connect(l->c, err));
	TRY(container_get(l->c, l->id, &record, err));
	path = pb_kv_get(record->labels, record->n_labels, CTL_LOG_LABEL);
	if (!path)
		return err_set(err, ERR_NOT_FOUND, "container %s has no log: it was not started with --detach", l->id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	l->fd = fd;
	return l->follow ? follow(l, path, err) : copy_log(l, err);
}

int ctl_logs_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {LOGS_OPTIONS, parse_logs, "CONTAINER", "Prints what a detached container wrote.",
	                    NULL,         NULL,       NULL};
	struct logs l = {.c = c};
	struct err err = ERR_INIT;

	ctl_parse(c, &argp, 0, argc, argv, &l);
	return print_logs(&l, &err) < 0 ? ctl_fail(c, &err) : 0;
}
