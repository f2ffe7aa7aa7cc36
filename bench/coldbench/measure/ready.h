/*
 * When a program is ready: its own first useful sign, never "the pull returned". An image says it in its label
 * io.contentd.bench.ready:
 *
 *	line            the first whole line of its output
 *	exit            it has ended, with status 0
 *	tcp:PORT        a connection to PORT is accepted
 *	http:PORT/PATH  GET /PATH is answered with a status below 400
 *	file:/PATH      the file is there, in the container
 *
 * Ports are those of the container's own network namespace, whose loopback interface every runtime brings up.
 */
#ifndef BENCH_COLDBENCH_READY_H
#define BENCH_COLDBENCH_READY_H

#include "base/err.h"
#include "base/str.h"

#include <sys/types.h>

#define READY_LABEL "io.contentd.bench.ready"

enum ready_kind { READY_LINE, READY_EXIT, READY_TCP, READY_HTTP, READY_FILE };

struct ready {
	enum ready_kind kind;
	unsigned port;
	char *path; /* READY_HTTP, READY_FILE: begins with '/' */
};

int ready_parse(struct str text, struct ready *out, struct err *err);
void ready_fini(struct ready *r);

/* Waits for READY_TCP, READY_HTTP or READY_FILE of the container whose first process is `init`; *at_ns (CLOCK_MONOTONIC) is
 * when it was met. A port is tried again every 0.2 ms, by a thread that has entered the container's network namespace.
 * ERR_DEADLINE; ERR_UNAVAILABLE when the process ends before. `cancel_fd` readable ends it with ERR_CANCELLED. */
int ready_wait(const struct ready *r, pid_t init, int64_t deadline_ns, int cancel_fd, int64_t *at_ns, struct err *err);

#endif
