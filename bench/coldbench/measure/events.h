/*
 * The kernel's events about processes (proc connector, linux/cn_proc.h), as a socket: what watch.h is made of.
 *
 * Needs root in the initial user, process and network namespaces. A kernel without the events (CONFIG_PROC_EVENTS) may take
 * the socket, and stay silent.
 *
 * Only what concerns whole processes is delivered: a filter in the kernel drops the rest, above all the threads of Go
 * programs, which are nine of ten events. Each event that is delivered wakes its reader, on a processor that is wanted by
 * what is measured.
 */
#ifndef BENCH_COLDBENCH_MEASURE_EVENTS_H
#define BENCH_COLDBENCH_MEASURE_EVENTS_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct event {
	enum { EVENT_NONE, EVENT_FORK, EVENT_EXEC, EVENT_EXIT } kind;
	pid_t pid;
	pid_t parent;  /* EVENT_FORK */
	int status;    /* EVENT_EXIT: as of waitpid */
	int64_t at_ns; /* CLOCK_MONOTONIC */
};

struct events {
	int fd; /* readable when there is an event; -1: closed */
	bool listening;
};

/* ERR_UNAVAILABLE when this kernel certainly has none. */
int events_open(struct events *out, struct err *err);
void events_close(struct events *e);

/* Takes the next one, or EVENT_NONE when there is none of interest. False: the kernel has dropped some before it, as the
 * reader was too slow. */
bool events_take(const struct events *e, struct event *out);

/* The kernel makes no events for it until it is resumed, which costs nothing. */
int events_pause(struct events *e, struct err *err);
int events_resume(struct events *e, struct err *err);

#endif
