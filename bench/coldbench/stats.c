#include "bench/coldbench/stats.h"

#include "base/buf.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESAMPLES 2000
#define Z_95 1.959963985
#define PAIRED_MAX 1000 /* values a side: a million pairs */

/* xoshiro256++ 1.0 of Blackman and Vigna, seeded by splitmix64 (random_next) as they advise: the same numbers on every machine. */
struct rng {
	uint64_t s[4];
};

static void rng_seed(struct rng *r, uint64_t seed)
{
	for (size_t i = 0; i < ARRAY_LEN(r->s); i++)
		r->s[i] = random_next(&seed);
}

static inline uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t *s = r->s;
	uint64_t result = rotl(s[0] + s[3], 23) + s[0];
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Uniform below n, which is less than 2^32: the bias of the multiplication is below n / 2^32. */
static inline size_t rng_below(struct rng *r, size_t n)
{
	return (size_t)((rng_next(r) >> 32) * (uint64_t)n >> 32);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double *sorted_copy(const double *values, size_t n)
{
	double *copy = xcalloc(n ? n : 1, sizeof(*copy));

	if (n)
		memcpy(copy, values, n * sizeof(*copy));
	qsort(copy, n, sizeof(*copy), compare_doubles);
	return copy;
}

double stats_quantile(const double *sorted, size_t n, double q)
{
	double at, below;
	size_t i;

	if (!n)
		return NAN;
	at = q * (double)(n - 1);
	if (at <= 0)
		return sorted[0];
	if (at >= (double)(n - 1))
		return sorted[n - 1];
	below = floor(at);
	i = (size_t)below;
	/* not for equal ones: the difference of two infinities is no number */
	return sorted[i] == sorted[i + 1] ? sorted[i] : sorted[i] + (at - below) * (sorted[i + 1] - sorted[i]);
}

/*
 * The median of n values drawn from the sorted ones with replacement. Counting how often each is drawn takes the place of
 * sorting what was drawn. `counts` has room for n and is all zero before and after.
 */
static double resampled_median(struct rng *r, const double *sorted, size_t n, uint32_t *counts)
{
	size_t lower = (n - 1) / 2, upper = n / 2, seen = 0, i = 0;
	double low;

	for (size_t k = 0; k < n; k++)
		counts[rng_below(r, n)]++;
	while (seen + counts[i] <= lower)
		seen += counts[i++];
	low = sorted[i];
	while (seen + counts[i] <= upper)
		seen += counts[i++];
	memset(counts, 0, n * sizeof(*counts));
	return (low + sorted[i]) / 2;
}

static struct interval interval_of(double *resampled, double tail)
{
	qsort(resampled, RESAMPLES, sizeof(*resampled), compare_doubles);
	return (struct interval){stats_quantile(resampled, RESAMPLES, tail),
	                         stats_quantile(resampled, RESAMPLES, 1 - tail)};
}

/*
 * The percentiles that a 95 % interval from n values has to reach to. Plain ones are too narrow when n is small, as the
 * resamples' spread is that of n, not of n - 1, and a normal quantile stands where Student's would: 86 % of the intervals
 * of 7 start-up times hold the median. Hesterberg's expanded percentiles mend both ("What Teachers Should Know About the
 * Bootstrap", The American Statistician 69, 2015). Student's quantile by Abramowitz and Stegun 26.7.5.
 */
static double expanded_tail(size_t n)
{
	const double z = Z_95, z2 = z * z;
	double v = (double)n - 1;
	double t = z + z * (z2 + 1) / (4 * v) + z * ((5 * z2 + 16) * z2 + 3) / (96 * v * v) +
	           z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * v * v * v);

	return erfc(t * sqrt((double)n / v) / M_SQRT2) / 2;
}

static struct interval median_interval(const double *sorted, size_t n, uint64_t seed)
{
	AUTO_FREE uint32_t *counts = NULL;
	double medians[RESAMPLES];
	struct rng r;

	if (n < 2) /* one value says nothing of how it varies */
		return (struct interval){NAN, NAN};
	if (sorted[0] == sorted[n - 1])
		return (struct interval){sorted[0], sorted[0]};
	counts = xcalloc(n, sizeof(*counts));
	rng_seed(&r, seed);
	for (size_t i = 0; i < RESAMPLES; i++)
		medians[i] = resampled_median(&r, sorted, n, counts);
	return interval_of(medians, expanded_tail(n));
}

static double relative_mad(const double *sorted, size_t n, double median)
{
	AUTO_FREE double *deviations = xcalloc(n, sizeof(*deviations));
	double mad;

	for (size_t i = 0; i < n; i++)
		deviations[i] = fabs(sorted[i] - median);
	qsort(deviations, n, sizeof(*deviations), compare_doubles);
	mad = stats_quantile(deviations, n, 0.5);
	return mad == 0 ? 0 : mad / fabs(median);
}

void stats_summary(double *values, size_t n, uint64_t seed, struct summary *out)
{
	double sum = 0;

	*out = (struct summary){.n = n,
	                        .min = NAN,
	                        .p25 = NAN,
	                        .median = NAN,
	                        .p75 = NAN,
	                        .p95 = NAN,
	                        .max = NAN,
	                        .mean = NAN,
	                        .mad = NAN,
	                        .ci = {NAN, NAN}};
	if (!n)
		return;
	qsort(values, n, sizeof(*values), compare_doubles);
	for (size_t i = 0; i < n; i++)
		sum += values[i];
	out->min = values[0];
	out->p25 = stats_quantile(values, n, 0.25);
	out->median = stats_quantile(values, n, 0.5);
	out->p75 = stats_quantile(values, n, 0.75);
	out->p95 = stats_quantile(values, n, 0.95);
	out->max = values[n - 1];
	out->mean = sum / (double)n;
	out->mad = relative_mad(values, n, out->median);
	out->ci = median_interval(values, n, seed);
}

/* Equal ones have ratio 1, two zeros included. */
static double ratio_of(double a, double b)
{
	return a == b ? 1 : a / b;
}

/* At most PAIRED_MAX of them, evenly spaced, which stand for all: pairs are many. */
static size_t thin(double *sorted, size_t n)
{
	if (n <= PAIRED_MAX)
		return n;
	for (size_t i = 0; i < PAIRED_MAX; i++)
		sorted[i] = sorted[i * (n - 1) / (PAIRED_MAX - 1)];
	return PAIRED_MAX;
}

/*
 * How many of the n_a * n_b ordered ratios lie outside of the interval on each side: the largest u with P(U <= u) <= 2.5 %
 * for Mann and Whitney's U, by its normal approximation with a correction for continuity, which is never above the exact
 * value and at most one below (all sizes from 3 to 30). Negative: not even all of them make 95 %.
 */
static ptrdiff_t left_out(size_t n_a, size_t n_b)
{
	double a = (double)n_a, b = (double)n_b;

	return (ptrdiff_t)floor(a * b / 2 - Z_95 * sqrt(a * b * (a + b + 1) / 12) - 0.5);
}

/*
 * The ratio is Hodges and Lehmann's estimate: the median of the ratios of all pairs, one of a side each. Where two sides
 * differ by a factor alone, it needs two thirds of the repetitions that the ratio of their medians would; and the ordered
 * ratios themselves have the interval, exact for whatever distribution (Hollander, Wolfe, Chicken: Nonparametric
 * Statistical Methods, 4.2 and 4.3, of logarithms).
 */
static void compare_sorted(double *a, size_t n_a, double *b, size_t n_b, struct comparison *out)
{
	AUTO_FREE double *ratios = NULL;
	size_t n = 0;
	ptrdiff_t u;

	*out = (struct comparison){.ratio = NAN, .ci = {NAN, NAN}, .verdict = VERDICT_CANNOT_TELL};
	if (!n_a || !n_b)
		return;
	n_a = thin(a, n_a);
	n_b = thin(b, n_b);
	ratios = xcalloc(n_a * n_b, sizeof(*ratios));
	for (size_t i = 0; i < n_a; i++)
		for (size_t j = 0; j < n_b; j++)
			ratios[n++] = ratio_of(a[i], b[j]);
	qsort(ratios, n, sizeof(*ratios), compare_doubles);
	out->ratio = stats_quantile(ratios, n, 0.5);
	u = left_out(n_a, n_b);
	if (u < 0)
		return;
	out->ci = (struct interval){ratios[u], ratios[n - 1 - (size_t)u]};
	if (n_a < STATS_LEAST || n_b < STATS_LEAST)
		return;
	if (out->ci.high < 1)
		out->verdict = VERDICT_LESS;
	else if (out->ci.low > 1)
		out->verdict = VERDICT_MORE;
}

void stats_compare(const double *a, size_t n_a, const double *b, size_t n_b, struct comparison *out)
{
	AUTO_FREE double *sorted_a = sorted_copy(a, n_a);
	AUTO_FREE double *sorted_b = sorted_copy(b, n_b);

	compare_sorted(sorted_a, n_a, sorted_b, n_b, out);
}

/*
 * The median of the means of all pairs of differences (each with itself, too), and of these ordered means as many are outside
 * of the interval on each side as the largest u with P(T <= u) <= 2.5 % for Wilcoxon's T, by its normal approximation with a
 * correction for continuity (Hollander, Wolfe, Chicken: 3.2 and 3.3).
 */
double stats_shift(const double *differences, size_t n_all, struct interval *ci)
{
	AUTO_FREE double *sorted = sorted_copy(differences, n_all);
	AUTO_FREE double *means = NULL;
	size_t n = thin(sorted, n_all), n_means = 0;
	double k = (double)n, u = floor(k * (k + 1) / 4 - Z_95 * sqrt(k * (k + 1) * (2 * k + 1) / 24) - 0.5);

	*ci = (struct interval){NAN, NAN};
	if (!n)
		return NAN;
	means = xcalloc(n * (n + 1) / 2, sizeof(*means));
	for (size_t i = 0; i < n; i++)
		for (size_t j = i; j < n; j++)
			means[n_means++] = (sorted[i] + sorted[j]) / 2;
	qsort(means, n_means, sizeof(*means), compare_doubles);
	if (u >= 0)
		*ci = (struct interval){means[(size_t)u], means[n_means - 1 - (size_t)u]};
	return stats_quantile(means, n_means, 0.5);
}
