/*
 * Statistics of samples. Pure functions of their arguments: the same seed gives the same answer. Any thread.
 *
 * Values are finite and not negative. Intervals come from 2000 resamples: percentiles of the bootstrapped median, wider ones
 * when there are few values.
 */
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
	struct interval ci; /* 95 % of the median, by bootstrap; NaN of a single value */
};

/* Quantile with linear interpolation (Hyndman and Fan, type 7); the values are sorted. NaN of none. */
double stats_quantile(const double *sorted, size_t n, double q);

/* Sorts the values. Of none, all is NaN. */
void stats_summary(double *values, size_t n, uint64_t seed, struct summary *out);

/* Values a side below which a comparison tells nothing: sides without a difference would be told apart too often (7 % of
 * cases with 4 and 4 values, 10 % with 3 and 3). */
#define STATS_LEAST 5

enum verdict { VERDICT_CANNOT_TELL, VERDICT_LESS, VERDICT_MORE };

struct comparison {
	double ratio; /* median of a / median of b */
	struct interval ci;
	/* LESS: a is less than b. CANNOT_TELL: 1 lies in the interval, or a side has fewer values than STATS_LEAST. */
	enum verdict verdict;
};

/* Ratio of medians with a 95 % bootstrap interval, both sides resampled on their own. Two zeros have ratio 1; NaN when a
 * side has no value, and the interval with less than two. */
void stats_compare(const double *a, size_t n_a, const double *b, size_t n_b, uint64_t seed, struct comparison *out);

/* The share of `trials` in which a planted slow-down by `factor` is told (verdict MORE), with n repetitions a side drawn from
 * `pool` (measured values of one engine, at least one), which is as good a model of the noise as the pool is large. */
double stats_power(const double *pool, size_t n_pool, double factor, size_t n, unsigned trials, uint64_t seed);

#endif
