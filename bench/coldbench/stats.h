/* Statistics of samples. Pure functions of their arguments; any thread. */
#ifndef BENCH_COLDBENCH_STATS_H
#define BENCH_COLDBENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct interval {
	double low, high;
};

struct summary {
	size_t n;
	double min, p25, median, p75, p95, max, mean;
	double mad;         /* median absolute deviation, as a share of the median: the noise */
	struct interval ci; /* 95 % of the median, by bootstrap */
};

/* Quantile with linear interpolation (Hyndman and Fan, type 7); the values are sorted. NaN of none. */
double stats_quantile(const double *sorted, size_t n, double q);

/* Sorts the values. */
void stats_summary(double *values, size_t n, uint64_t seed, struct summary *out);

enum verdict { VERDICT_CANNOT_TELL, VERDICT_LESS, VERDICT_MORE };

struct comparison {
	double ratio; /* median of a / median of b */
	struct interval ci;
	enum verdict verdict; /* LESS: a is less than b. CANNOT_TELL: 1 lies in the interval */
};

/* Ratio of medians with a 95 % bootstrap interval (percentile; both sides resampled on their own). */
void stats_compare(const double *a, size_t n_a, const double *b, size_t n_b, uint64_t seed, struct comparison *out);

/* The share of `trials` in which a planted slow-down by `factor` is told (verdict MORE), with n repetitions a side drawn from
 * `pool` (measured values of one engine). */
double stats_power(const double *pool, size_t n_pool, double factor, size_t n, unsigned trials, uint64_t seed);

#endif
