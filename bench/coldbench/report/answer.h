/*
 * What a reader wants to know first: how one engine does beside the reference, and beside the best of the others. That engine is
 * contentd when it was measured, else the first one; the others are those that have no contentd in them. Any thread.
 */
#ifndef BENCH_COLDBENCH_REPORT_ANSWER_H
#define BENCH_COLDBENCH_REPORT_ANSWER_H

#include "bench/coldbench/report/analysis.h"

struct answer {
	const struct cell *subject; /* whose figure is NULL when all repetitions failed */
	const struct cell
	    *rival; /* the best of the others beside it; NULL when that is the reference, or there is none */
	struct comparison to_rival;
};

/* The engine that answers are about. */
const char *answer_engine(const struct analysis *a);

/* The next case of that engine that has a reference; cases that others are measured by (warm, touched) are left out. False at the
 * end; begin with *at = 0. */
bool answer_next(const struct analysis *a, size_t *at, struct answer *out);

/* How the subject, which has a figure, compares to `other`, in three parts: `verdict` "4.9 × faster", "cannot be told", "too few repetitions";
 * "no comparison"; `relation` "than containerd", "from containerd", "beside containerd (2 of 7 failed)", "with containerd, which
 * failed"; and the interval of that factor, or, where nothing is told, of the ratio: "4.7–5.1", or "" when there is none. */
struct words {
	const char *class; /* "faster", "slower" or "cannot" */
	struct buf verdict, relation, interval;
};
void words_init(struct words *w, const struct cell *subject, const struct cell *other, const struct comparison *c);
void words_fini(struct words *w);
DEFINE_AUTO_FINI(words);

#endif
