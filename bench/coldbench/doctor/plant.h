/*
 * A planted slow-down: an engine like another one whose command that runs a container waits before it begins. What is to be
 * told is really there, and goes the way of everything that is measured. One thread.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_PLANT_H
#define BENCH_COLDBENCH_DOCTOR_PLANT_H

#include "bench/coldbench/engines/engine.h"

struct plant {
	struct engine_kind kind; /* what engines of it have as theirs; its name is ours */
	const struct engine_kind *base;
	double delay_ms;
	char name[64], title[96];
};

/* An engine named "BASE+SUFFIX". It must not move while there are engines of it. */
void plant_init(struct plant *p, const struct engine_kind *base, double delay_ms, const char *suffix);

#endif
