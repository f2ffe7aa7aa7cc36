/*
 * What processes do, as the kernel tells it (proc connector, linux/cn_proc.h): it lets coldbench see when a container's
 * first process is made and when it executes the program, for every engine alike and without asking it.
 *
 * Needs root in the initial user, process and network namespaces. A thread of its own takes the events; the calls are for
 * any thread, but for watch_stop. Processes that were there before watch_start are not known, nor is what descends from
 * them: daemons start afterwards.
 */
#ifndef BENCH_COLDBENCH_MEASURE_WATCH_H
#define BENCH_COLDBENCH_MEASURE_WATCH_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>
#include <sys/types.h>

struct watch;

/* A container's first process: number 1 of a new process namespace, below a process of ours. */
struct watch_init {
	pid_t pid;         /* in our namespace */
	int64_t forked_ns; /* CLOCK_MONOTONIC, as are all */
	int64_t exec_ns;   /* it executed the program (the runtime executing itself does not count); 0: not yet */
	int64_t exit_ns;   /* 0: not yet */
	int status;        /* as of waitpid */
};

/* ERR_UNAVAILABLE on kernels without CONFIG_PROC_EVENTS. This process becomes the subreaper of what it starts. */
int watch_start(struct watch **out, struct err *err);
void watch_stop(struct watch *w);

/* Forgets all that has happened; what runs is still known. */
void watch_reset(struct watch *w);

/* Does not listen until it is resumed, and costs nothing: a process that comes meanwhile, and what it starts, stays unknown. */
int watch_pause(struct watch *w, struct err *err);
int watch_resume(struct watch *w, struct err *err);

/* Waits until a container that `id` names (NULL: any) executes its program; of several the one made last. A container is
 * named by a part of its control group's path, or by an argument of a process that it descends from. ERR_DEADLINE.
 * `cancel_fd` readable (-1: none): ERR_CANCELLED. */
int watch_wait_exec(struct watch *w, const char *id, int64_t deadline_ns, int cancel_fd, struct watch_init *out,
                    struct err *err);

/* The same until the first process of number `init` has ended; ERR_NOT_FOUND when there was none. */
int watch_wait_exit(struct watch *w, pid_t init, int64_t deadline_ns, int cancel_fd, struct watch_init *out,
                    struct err *err);

/* What is known by now about that process. */
bool watch_lookup(struct watch *w, pid_t init, struct watch_init *out);

/* How often since the reset the kernel dropped events: a measurement with any is void. */
uint64_t watch_lost(struct watch *w);

/* Is it number 1 of a process namespace below the reader's? Of /proc/PID/status (proc_pid_status(5)), its line NSpid. Pure. */
bool watch_status_is_init(struct str status);

/* Does the path of a control group (lines of /proc/PID/cgroup) have `id` as one of its parts? Pure. */
bool watch_cgroup_names(struct str cgroup, struct str id);

#endif
