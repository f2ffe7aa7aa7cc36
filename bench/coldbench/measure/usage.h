/*
 * Processor time, memory and page faults of all processes that an engine has, and had: those that descend from this
 * process, which is their subreaper. A container's own processes (below its first one) are left out.
 */
#ifndef BENCH_COLDBENCH_MEASURE_USAGE_H
#define BENCH_COLDBENCH_MEASURE_USAGE_H

#include "base/vec.h"
#include "bench/coldbench/sample.h"

#include <sys/types.h>

struct usage_process {
	char name[32]; /* of the program: the file's name, not what it calls itself */
	unsigned count;
	double cpu_s;
	uint64_t peak_bytes, pss_bytes, majflt, minflt;
};

struct usage {
	VEC(struct usage_process) processes;
	unsigned n_unread; /* whose share of memory could not be read: they have ended, or nobody may */
	int unread_errno;  /* of the last of them */
};

void usage_fini(struct usage *u);
DEFINE_AUTO_FINI(usage);

/* Those that run now are the harness' own (the registry, the network): they are left out from now on, with all below them.
 * engine_up does it (mode.h). */
int usage_begin(struct err *err);

/* What they have used by now, the dead ones that somebody waited for included: they count for the one that waited, and as
 * "commands" when that was this process. A container that has ended so counts for whoever waited for its first process.
 * `inits`: first processes of containers, left out with all below them. `with_pss` reads the proportional share of memory, too
 * (slow: not while something is measured). */
int usage_take(const pid_t *inits, size_t n_inits, bool with_pss, struct usage *out, struct err *err);

/* cpu_s.*, peak_bytes.*, ... of a sample: what has come between two takes. */
void usage_sample(const struct usage *before, const struct usage *after, struct sample *s);

/* Kills all that run, and waits for none: whoever hangs on one of them is free, and the end of the engine goes its way. */
int usage_kill(struct err *err);

/* The end of an engine: waits for orphans that have ended, and gives the others `grace_ns` to end. Who runs still is killed,
 * and named in `left` ("runc (1234), ..."). While this process has no child that somebody else waits for. */
int usage_end(int64_t grace_ns, struct buf *left, struct err *err);

#endif
