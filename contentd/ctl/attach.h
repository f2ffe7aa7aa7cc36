/*
 * The standard streams of a process in a container: FIFOs that its shim opens, copied from and to ours; the terminal;
 * signals handed on; and waiting for the end. Used by run and exec, which make the FIFOs, and by attach, which joins a
 * process that goes on without it.
 */
#ifndef CTL_ATTACH_H
#define CTL_ATTACH_H

#include "contentd/ctl/ctl.h"

#include "rpc/proto/tasks.pb-c.h"

#include <termios.h>

struct attach {
	struct ctl *c;
	const char *container, *exec; /* exec "": the container's first process */
	bool interactive, terminal;

	char *dir;                           /* of the FIFOs; removed at the end. NULL: they are somebody else's */
	char *in_path, *out_path, *err_path; /* "" where there is none */
	int in_fd, out_fd, err_fd, signal_fd;
	int log_fd, watch_fd; /* joined to a log instead of FIFOs: the file, and its changes */
	bool in_open;         /* our own standard input has not ended */
	bool joined;          /* by attach_join */
	bool left;            /* joined, and told to go: the process goes on */
	uint32_t left_status; /* what attach_run says then */
	bool half_left;       /* of the keys that tell so, the first was pressed */
	bool raw;
	struct termios saved;
	struct rpc_stream *wait;
	int64_t ready_ns; /* CLOCK_MONOTONIC of the first byte of output; 0 = none came */
};

#define ATTACH_INIT(ctl, container_id, exec_id)                                                                        \
	((struct attach){.c = (ctl),                                                                                   \
	                 .container = (container_id),                                                                  \
	                 .exec = (exec_id),                                                                            \
	                 .in_fd = -1,                                                                                  \
	                 .out_fd = -1,                                                                                 \
	                 .err_fd = -1,                                                                                 \
	                 .signal_fd = -1,                                                                              \
	                 .log_fd = -1,                                                                                 \
	                 .watch_fd = -1})

/* Makes and opens the FIFOs; from here on SIGINT, SIGTERM and their like are held for attach_run. */
int attach_open(struct attach *a, struct err *err);

/* Opens the streams of a task that runs: its FIFOs, or the end of the log that it writes. From here on SIGINT and the like,
 * and Ctrl-P Ctrl-Q on a terminal, make attach_run end without the process; the end of our own input does not end its.
 * ERR_PRECONDITION when it has no streams of these kinds. */
int attach_join(struct attach *a, const TaskTypes__Process *task, struct err *err);

/* Asks for the exit status ahead of the start, so that it cannot be missed. */
int attach_wait_ahead(struct attach *a, struct err *err);

/* Copies until the process has ended; *status is its exit status (128 + signal when it was killed). When it was left
 * (a->left): 0, or 128 + signal for another than SIGINT. */
int attach_run(struct attach *a, uint32_t *status, struct err *err);

/* Reads what is still in the FIFOs or the log, after the process has ended. */
void attach_drain(struct attach *a);

/* Restores the terminal, removes the FIFOs. Safe after any failure. */
void attach_close(struct attach *a);

#endif
