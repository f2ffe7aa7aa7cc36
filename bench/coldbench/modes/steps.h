/*
 * What the modes that do not measure one start have in common: an engine's life around their work, commands to it, and
 * counters. Failures name the step.
 */
#ifndef BENCH_COLDBENCH_MODES_STEPS_H
#define BENCH_COLDBENCH_MODES_STEPS_H

#include "bench/coldbench/measure/usage.h"
#include "bench/coldbench/modes/mode.h"

#include <stdatomic.h>

/* One sample in the making. */
struct steps {
	struct world *w;
	const struct bench_case *c;
	const struct target *targets; /* what the steps below pull, run and mount is the first */
	struct sample *s;
	struct engine engine;
	char *output; /* file that gets what commands print */
	struct usage before;
	void *own;        /* the mode's */
	atomic_bool stop; /* what steps_on_mount has begun is to end */
};

/* Starts the case's engine, calls `body`, ends the engine whatever came of it. `t` needs its first four fields. */
int steps_with_engine(struct steps *t, int (*body)(struct steps *t, struct err *err), struct err *err);

/* Drops the kernel's caches; cold.resident_bytes is what stays there of the programs that engines are driven with. */
int steps_drop_caches(struct steps *t, struct err *err);

/* Pulls the image; *ns is how long the command took, NULL when nobody asks. */
int steps_pull(struct steps *t, int64_t *ns, struct err *err);

/* The command that runs the image with these arguments, in the foreground to its end. */
int steps_run(struct steps *t, const char *id, const char *const *args, struct err *err);

/* Mounts the image; *at is the caller's. ERR_UNIMPLEMENTED when the engine cannot. */
int steps_mount(struct steps *t, const char *name, char **at, struct err *err);
int steps_umount(struct steps *t, const char *at, struct err *err);

/* Does the work of `fn` on the mount `at` in a thread of its own, and waits for it, however long it takes. When it has used no
 * processor time for w->timeout_ns (found within twice that), or the user wants to stop, t->stop is set; who then does not
 * come back is held by a file system whose server hangs, and no signal of ours frees him: the engine is killed. ERR_DEADLINE,
 * ERR_CANCELLED. Where not even that frees him, coldbench says so and ends. */
int steps_on_mount(struct steps *t, int (*fn)(struct steps *t, const char *at, struct err *err), const char *at,
                   struct err *err);

/* Waits until the engine uses next to no processor time and the network is silent; ERR_DEADLINE when that is not so
 * within the time that a start may take. *ns (may be NULL): how long it was, without the second that it takes to see. */
int steps_settle(struct steps *t, int64_t *ns, struct err *err);

/* The network counts from here, and its faults strike from here on: what a mode prepares goes over a healthy one. */
int steps_begin_network(struct steps *t, struct err *err);

/* Processor time, memory and page faults (usage.h), and the network likewise (sample.h), from here... */
int steps_begin_counting(struct steps *t, struct err *err);
/* ... to here: sets cpu_s.* and the others, and net.* as they were at `at_ns` (CLOCK_MONOTONIC). `inits`: first processes of
 * containers that run, whose part is not the engine's. */
int steps_end_counting(struct steps *t, int64_t at_ns, const pid_t *inits, size_t n_inits, struct err *err);

/* PREFIX.p50, .p95, .max of values in ns, in ms. Sorts them. */
void steps_quantiles(struct sample *s, const char *prefix, double *ns, size_t n);

#endif
