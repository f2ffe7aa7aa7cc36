/*
 * The standard streams of a process in a container: FIFOs that its shim opens, copied from and to ours; the terminal;
 * signals handed on; and waiting for the end. Used by run and exec.
 */
#ifndef CTL_ATTACH_H
#define CTL_ATTACH_H

#include "contentd/ctl/ctl.h"

#include <termios.h>

struct attach {
	struct ctl *c;
	const char *container, *exec; /* exec "": the container's first process */
	bool interactive, terminal;

	char *dir;                           /* of the FIFOs; removed at the end */
	char *in_path, *out_path, *err_path; /* "" where there is none */
	int in_fd, out_fd, err_fd, signal_fd;
	bool in_open; /* our own standard input has not ended */
	bool raw;
	struct termios saved;
	struct rpc_stream *wait;
	int64_t ready_ns; /* CLOCK_MONOTONIC of the first byte of output; 0 = none came */
};

/* Makes and opens the FIFOs; from here on SIGINT, SIGTERM and their like are held for attach_run. */
int attach_open(struct attach *a, struct err *err);

/* Asks for the exit status ahead of the start, so that it cannot be missed. */
int attach_wait_ahead(struct attach *a, struct err *err);

/* Copies until the process has ended; *status is its exit status (128 + signal when it was killed). */
int attach_run(struct attach *a, uint32_t *status, struct err *err);

/* Reads what is still in the FIFOs, after the task was deleted. */
void attach_drain(struct attach *a);

/* Restores the terminal, removes the FIFOs. Safe after any failure. */
void attach_close(struct attach *a);

#endif
