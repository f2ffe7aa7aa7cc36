/*
 * What processes do, as the kernel tells it (proc connector, cn_proc.h): it lets coldbench see when a container's first
 * process is made and when it executes the program, for every engine alike and without asking it.
 *
 * Needs root in the initial user and network namespaces. A thread of its own takes the events. watch_wait_exec and
 * watch_lookup may be called by many threads at once (a burst of starts waits for each of them), the rest by one.
 */
#ifndef BENCH_COLDBENCH_WATCH_H
#define BENCH_COLDBENCH_WATCH_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct watch;

/* A container's first process: number 1 of a new process namespace, below a process of ours. */
struct watch_init {
	pid_t pid;         /* in our namespace */
	int64_t forked_ns; /* CLOCK_MONOTONIC */
	int64_t
	    exec_ns; /* when it executed the program (the runtime's own executions before it do not count); 0: not yet */
	int64_t exit_ns; /* 0: not yet */
	int status;      /* as of waitpid */
};

/* ERR_UNAVAILABLE on kernels without CONFIG_PROC_EVENTS. This process becomes the subreaper of what it starts. */
int watch_start(struct watch **out, struct err *err);
void watch_stop(struct watch *w);

/* Forgets all that has happened. */
void watch_reset(struct watch *w);

/* Waits until a container whose control group, or whose command line's ancestors, name `id` (NULL: any) executes its
 * program. ERR_DEADLINE. `cancel_fd` readable: ERR_CANCELLED. */
int watch_wait_exec(struct watch *w, const char *id, int64_t deadline_ns, int cancel_fd, struct watch_init *out,
                    struct err *err);

/* What is known by now about that process. */
bool watch_lookup(struct watch *w, pid_t init, struct watch_init *out);

/* Events that the kernel dropped since the reset: a measurement with any is void. */
uint64_t watch_lost(struct watch *w);

#endif
