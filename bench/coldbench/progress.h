/* Progress of a run: on a terminal one line that changes, elsewhere a line for each sample. One thread. */
#ifndef BENCH_COLDBENCH_PROGRESS_H
#define BENCH_COLDBENCH_PROGRESS_H

#include "base/err.h"

#include <stdint.h>
#include <stdio.h>

struct progress {
	FILE *to;
	bool is_terminal, is_dirty;
	size_t n, total;
	int64_t begun_ns;
	char last[96]; /* the newest figure */
};

void progress_begin(struct progress *p, FILE *to, size_t total);

/* What is measured now. */
void progress_case(struct progress *p, const char *name);

/* What came of it. */
void progress_done(struct progress *p, const char *name, const char *figure);

/* A line that stays: what failed, what was left out. Also before progress_begin and after progress_end, when `to` is set. */
void progress_say(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Something that takes its time, before the first sample ("image python as estargz"). */
void progress_step(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void progress_end(struct progress *p);

/* "40 s", "3 min", "1 h 20 min" */
char *progress_duration(double seconds, char dst[static 32]);

#endif
