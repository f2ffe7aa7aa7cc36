/*
 * Statistics of samples. Pure functions of their arguments: the same seed gives the same answer. Any thread.
 *
 * Values are finite, and not negative unless it is said. Intervals of medians come from 2000 resamples: percentiles of the
 * bootstrapped median, wider ones when there are few values.
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

/* Values a side below which a comparison tells nothing: of 3 and 3, all nine ratios together make an interval of 90 %. */
#define STATS_LEAST 4

enum verdict { VERDICT_CANNOT_TELL, VERDICT_LESS, VERDICT_MORE };

struct comparison {
	double ratio; /* of a to b: the median over all pairs (Hodges and Lehmann) */
	struct interval ci;
	/* LESS: a is less than b. CANNOT_TELL: 1 lies in the interval, or a side has fewer values than STATS_LEAST. */
	enum verdict verdict;
};

/* How a compares to b, by Mann and Whitney's test and the ratio and 95 % interval that belong to it: sides without a
 * difference are told apart in at most 5 % of cases, whatever their distribution. Two zeros have ratio 1; NaN when a side has
 * no value, and the interval when there are too few. */
void stats_compare(const double *a, size_t n_a, const double *b, size_t n_b, struct comparison *out);

/* The middle of differences within pairs, which may be negative: Hodges and Lehmann's estimate, and in *ci the 95 % interval of
 * Wilcoxon's signed ranks. Both need differences that lie evenly around their middle, as those of sides that differ by a
 * constant do. NaN of none; the interval of fewer than 6, too. */
double stats_shift(const double *differences, size_t n, struct interval *ci);

#endif
