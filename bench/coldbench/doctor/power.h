/*
 * Power: how likely a real difference of a given size is told with so many repetitions, and how many it takes. From measured
 * samples, by drawing repetitions from them again and again. Pure functions of their arguments; any thread.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_POWER_H
#define BENCH_COLDBENCH_DOCTOR_POWER_H

#include <stddef.h>
#include <stdint.h>

/* Shares of trials in which the reports' verdict of a beside b is MORE, and LESS. */
struct power {
	double more, less;
};

/* In each of `trials`, n repetitions a side are drawn from the values of a and of b (at least one each), which are as good models
 * of their noise as they are many. Of a slow-down of a that is there, `more` is the power; of pools that are the same, either is
 * a false alarm. */
struct power power_of(const double *a, size_t n_a, const double *b, size_t n_b, size_t n, unsigned trials,
                      uint64_t seed);

/* What is searched: the power with n repetitions. It grows with n, but for the noise of its estimate. */
typedef double power_fn(size_t n, const void *arg);

/* The smallest n from `least` to `most` with power(n) >= target, by doubling and halving; 0 when even `most` does not do. */
size_t power_search(power_fn *power, const void *arg, double target, size_t least, size_t most);

#endif
