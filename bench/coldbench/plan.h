/*
 * The order of a run: in each repetition every case once, in an order that is drawn anew, so that whatever drifts (heat, a
 * neighbour's load) hits all engines alike. The same seed gives the same order. Pure; any thread.
 */
#ifndef BENCH_COLDBENCH_PLAN_H
#define BENCH_COLDBENCH_PLAN_H

#include "bench/coldbench/suite.h"

struct plan_item {
	size_t i_case;       /* of the suite */
	unsigned repetition; /* from 1 */
};

struct plan {
	VEC(struct plan_item) items;
};

/* What of the suite the user wants; NULL and 0: all, as it says. */
struct plan_filter {
	const char
	    *only; /* a regular expression (POSIX, extended) that matches somewhere in case_name or GROUP/case_name */
	const char *engines; /* names, "contentd,containerd" */
	unsigned repetitions;
};

/* ERR_INVALID: the expression is none, or an engine is not known; ERR_NOT_FOUND: no case is left. */
int plan_make(const struct suite *s, const struct plan_filter *f, uint64_t seed, struct plan *out, struct err *err);
void plan_fini(struct plan *p);
DEFINE_AUTO_FINI(plan);

#endif
