/* Measured values in the order in which they came. One owner. */
#ifndef BENCH_COLDBENCH_DOCTOR_NUMBERS_H
#define BENCH_COLDBENCH_DOCTOR_NUMBERS_H

#include "base/vec.h"
#include "bench/coldbench/stats.h"

struct numbers {
	VEC(double) v;
};

void numbers_fini(struct numbers *n);
DEFINE_AUTO_FINI(numbers);

void numbers_add(struct numbers *n, double value);
void numbers_summary(const struct numbers *n, struct summary *out);
double numbers_median(const struct numbers *n);
void numbers_compare(const struct numbers *a, const struct numbers *b, struct comparison *out);

#endif
