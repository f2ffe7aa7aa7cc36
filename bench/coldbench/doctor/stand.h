/*
 * Where the doctor measures starts: a registry with one image, a network in front of it, and the case whose figures it wants.
 * One thread.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_STAND_H
#define BENCH_COLDBENCH_DOCTOR_STAND_H

#include "bench/coldbench/doctor/doctor.h"
#include "bench/coldbench/modes/mode.h"

struct stand {
	struct world world;
	struct network network;
	struct bench_case c; /* a single start of the doctor's engine and image */
	struct image image;
	char *ref;
	struct target target; /* these two */
	bool watching;
	unsigned launches; /* so far, for names */
};

/* Nothing of it is watched until stand_watch. */
int stand_start(const struct doctor *d, struct stand *out, struct err *err);
void stand_stop(struct stand *s);
DEFINE_CLEANUP(stand, struct stand, stand_stop(it));

/* Processes are watched from now on, or not. Engines whose containers are to be seen start while they are. */
int stand_watch(struct stand *s, bool on, struct err *err);

/* The name of the next container, in `dst`. */
const char *stand_next_id(struct stand *s, char dst[static 32]);

/* Shuffles numbers from 0 to n - 1. */
void stand_order(unsigned *out, unsigned n);

/* ERR_CANCELLED once the user wants to stop. */
int stand_check(const struct stand *s, struct err *err);

#endif
