/*
 * Power: how likely a real difference of a given size is told with so many repetitions, and how many it takes. From measured
 * samples, by drawing repetitions from them again and again. Pure functions of their arguments; any thread.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_POWER_H
#define BENCH_COLDBENCH_DOCTOR_POWER_H

#include <stddef.h>
#include <stdint.h>

/* As stats_power, but with a slow-down that was really there: the share of `trials` in which n repetitions drawn from `slow`
 * are told to be MORE than n drawn from `same`. */
double power_of_measured(const double *slow, size_t n_slow, const double *same, size_t n_same, size_t n,
                         unsigned trials, uint64_t seed);

/* What is searched: the power with n repetitions. It grows with n, but for the noise of its estimate. */
typedef double power_fn(size_t n, const void *arg);

/* The smallest n from `least` to `most` with power(n) >= target, by doubling and halving; 0 when even `most` does not do. */
size_t power_search(power_fn *power, const void *arg, double target, size_t least, size_t most);

#endif
