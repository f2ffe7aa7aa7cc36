#include "bench/coldbench/stats.h"

#include "base/cleanup.h"
#include "base/testing.h"

#include <math.h>
#include <string.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

/* A generator of its own, so that the data are not those that the bootstrap draws with. Values look like start-up times:
 * a floor, a bell (sum of uniforms), now and then a long one. */
static uint64_t lcg_state;

static double uniform(void)
{
	lcg_state = lcg_state * 6364136223846793005u + 1442695040888963407u;
	return (double)(lcg_state >> 11) * 0x1p-53;
}

static double normal(void)
{
	double sum = -6;

	for (int i = 0; i < 12; i++)
		sum += uniform();
	return sum;
}

static double start_ms(void)
{
	double v = 500 + 20 * normal();

	return uniform() < 0.1 ? v + 200 * uniform() : v;
}

static void draw(double *out, size_t n, double (*from)(void))
{
	for (size_t i = 0; i < n; i++)
		out[i] = from();
}

static void test_quantiles(void **state)
{
	const double v[] = {1, 2, 3, 4, 10};
	const double pair[] = {1, 2};
	const double far[] = {1, INFINITY, INFINITY};

	NEAR(stats_quantile(v, 5, 0), 1);
	NEAR(stats_quantile(v, 5, 0.25), 2);
	NEAR(stats_quantile(v, 5, 0.5), 3);
	NEAR(stats_quantile(v, 5, 0.9), 7.6); /* R: quantile(c(1,2,3,4,10), 0.9, type=7) */
	NEAR(stats_quantile(v, 5, 1), 10);
	NEAR(stats_quantile(pair, 2, 0.5), 1.5);
	NEAR(stats_quantile(pair, 1, 0.95), 1);
	assert_true(isnan(stats_quantile(v, 0, 0.5)));
	assert_true(isinf(stats_quantile(far, 3, 0.75)));
}

static void test_summary(void **state)
{
	double v[] = {10, 1, 4, 3, 2};
	struct summary s;

	stats_summary(v, 5, 1, &s);
	assert_int_equal(s.n, 5);
	NEAR(s.min, 1);
	NEAR(s.p25, 2);
	NEAR(s.median, 3);
	NEAR(s.p75, 4);
	NEAR(s.p95, 8.8);
	NEAR(s.max, 10);
	NEAR(s.mean, 4);
	NEAR(s.mad, 1.0 / 3); /* |v - 3| sorted: 0 1 1 2 7 */
	/* The least is the median of a resample with probability 0.058 (three or more of five draws), as is the largest. */
	NEAR(s.ci.low, 1);
	NEAR(s.ci.high, 10);
}

static void test_summary_of_few(void **state)
{
	double one[] = {7}, equal[] = {5, 5, 5, 5}, zeros[] = {0, 0, 0};
	struct summary s;

	stats_summary(one, 0, 1, &s);
	assert_int_equal(s.n, 0);
	assert_true(isnan(s.median) && isnan(s.ci.low) && isnan(s.mad));
	stats_summary(one, 1, 1, &s);
	NEAR(s.median, 7);
	NEAR(s.mad, 0);
	assert_true(isnan(s.ci.low) && isnan(s.ci.high));
	stats_summary(equal, 4, 1, &s);
	NEAR(s.ci.low, 5);
	NEAR(s.ci.high, 5);
	NEAR(s.mad, 0);
	stats_summary(zeros, 3, 1, &s);
	NEAR(s.mad, 0);
}

/*
 * With n values the resampled median has a known distribution: for odd n it is at most the i-th value with the chance that a
 * binomial (n, i/n) reaches (n + 1) / 2. Of 9 values that is 0.13 % for the first and 3.0 % for the second; of 7, 1.0 % for
 * the first. The expanded tails are 0.72 % and 0.41 %: from the second to the eighth, and from the first to the seventh.
 */
static void test_interval_is_exact(void **state)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		double nine[] = {11, 12, 13, 14, 15, 16, 17, 18, 19}, seven[] = {11, 12, 13, 14, 15, 16, 17};
		struct summary s;

		stats_summary(nine, 9, seed, &s);
		NEAR(s.ci.low, 12);
		NEAR(s.ci.high, 18);
		stats_summary(seven, 7, seed, &s);
		NEAR(s.ci.low, 11);
		NEAR(s.ci.high, 17);
	}
}

static void test_same_seed_same_answer(void **state)
{
	double a[40], again[40];
	struct summary s1, s2, s3;

	lcg_state = 1;
	draw(a, 40, start_ms);
	memcpy(again, a, sizeof(a));
	stats_summary(a, 40, 42, &s1);
	stats_summary(again, 40, 42, &s2);
	assert_memory_equal(&s1.ci, &s2.ci, sizeof(s1.ci));
	stats_summary(again, 40, 43, &s3);
	assert_true(s1.ci.low != s3.ci.low || s1.ci.high != s3.ci.high);
}

/* How often the interval holds the true median. */
static double coverage(size_t n, double (*from)(void), double truth)
{
	unsigned held = 0, trials = 400;
	double v[40];

	for (unsigned t = 0; t < trials; t++) {
		struct summary s;

		draw(v, n, from);
		stats_summary(v, n, t, &s);
		held += s.ci.low <= truth && truth <= s.ci.high;
	}
	return (double)held / trials;
}

static void test_coverage(void **state)
{
	static const size_t sizes[] = {5, 7, 10, 30};

	lcg_state = 2;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		double got = coverage(sizes[i], normal, 0);

		if (got < 0.93 || got > 0.99)
			fail_msg("%zu values: %.3f of the intervals hold the median", sizes[i], got);
	}
}

static void test_equal_sides_are_not_told_apart(void **state)
{
	static const size_t sizes[] = {5, 10, 30};

	lcg_state = 3;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		unsigned less = 0, more = 0, trials = 400;
		double a[30], b[30];

		for (unsigned t = 0; t < trials; t++) {
			struct comparison c;

			draw(a, sizes[i], start_ms);
			draw(b, sizes[i], start_ms);
			stats_compare(a, sizes[i], b, sizes[i], &c);
			less += c.verdict == VERDICT_LESS;
			more += c.verdict == VERDICT_MORE;
		}
		if (less + more > 28)
			fail_msg("%zu values: %u and %u of %u without a difference are told apart", sizes[i], less,
			         more, trials);
		/* the other end: an interval that is far too wide would never tell */
		if (sizes[i] >= 30 && less + more < 4)
			fail_msg("%zu values: only %u of %u", sizes[i], less + more, trials);
	}
}

static void test_compare(void **state)
{
	double a[] = {100, 101, 99, 102, 98, 100}, b[] = {200, 202, 198, 204, 196, 200};
	struct comparison c;

	stats_compare(a, 6, b, 6, &c);
	NEAR(c.ratio, 0.5);
	assert_int_equal(c.verdict, VERDICT_LESS);
	assert_true(c.ci.low > 0.47 && c.ci.low < 0.5 && c.ci.high > 0.5 && c.ci.high < 0.53);
	stats_compare(b, 6, a, 6, &c);
	NEAR(c.ratio, 2);
	assert_int_equal(c.verdict, VERDICT_MORE);
	NEAR(a[0], 100); /* the values stay as they are */
	NEAR(a[1], 101);
	stats_compare(a, 6, a, 6, &c);
	NEAR(c.ratio, 1);
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
}

/* U is at most 2 in 4 of the 252 orders of 5 and 5 values, at most 3 in 7: two ratios are left out on each side. */
static void test_compare_is_mann_and_whitney(void **state)
{
	double a[] = {1, 1, 1, 1, 1}, b[] = {1, 2, 4, 8, 16}, spread[] = {32, 64, 128, 256, 512};
	struct comparison c;

	stats_compare(b, 5, a, 5, &c); /* ratios: each value of b five times */
	NEAR(c.ratio, 4);
	NEAR(c.ci.low, 1);
	NEAR(c.ci.high, 16);
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
	stats_compare(spread, 5, b, 5,
	              &c); /* ratios: 2 to the power of 1, 2, 2, 3, 3, 3, ... 5 (five times), ... 8, 8, 9 */
	NEAR(c.ratio, 32);
	NEAR(c.ci.low, 4);
	NEAR(c.ci.high, 256);
	assert_int_equal(c.verdict, VERDICT_MORE);
}

/* What stands for many is like them. */
static void test_compare_of_many(void **state)
{
	static double a[3001], b[3001];
	struct comparison c;

	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		a[i] = 100 + (double)i / 100;
		b[i] = a[i] * 1.25;
	}
	stats_compare(b, ARRAY_LEN(b), a, ARRAY_LEN(a), &c);
	assert_true(fabs(c.ratio - 1.25) < 0.001);
	assert_int_equal(c.verdict, VERDICT_MORE);
	stats_compare(b, ARRAY_LEN(b), a, 10, &c);
	assert_int_equal(c.verdict, VERDICT_MORE);
}

static void test_compare_of_few(void **state)
{
	double a[] = {1, 2, 3, 4, 5}, b[] = {11, 12, 13, 14, 15};
	struct comparison c;

	stats_compare(a, 3, b, 5, &c);
	assert_true(c.ci.high < 1);
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
	stats_compare(b, 5, a, 3, &c);
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
	stats_compare(a, 4, b, 4, &c);
	assert_int_equal(c.verdict, VERDICT_LESS);
	stats_compare(a, 1, b, 5, &c);
	NEAR(c.ratio, 1.0 / 13);
	assert_true(isnan(c.ci.low));
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
	stats_compare(a, 0, b, 5, &c);
	assert_true(isnan(c.ratio));
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
}

static void test_compare_zeros(void **state)
{
	double zeros[] = {0, 0, 0, 0, 0}, ones[] = {1, 1, 1, 1, 1}, mixed[] = {0, 0, 0, 1, 1};
	struct comparison c;

	stats_compare(zeros, 5, zeros, 5, &c);
	NEAR(c.ratio, 1);
	assert_int_equal(c.verdict, VERDICT_CANNOT_TELL);
	stats_compare(zeros, 5, ones, 5, &c);
	NEAR(c.ratio, 0);
	assert_int_equal(c.verdict, VERDICT_LESS);
	stats_compare(ones, 5, zeros, 5, &c);
	assert_true(isinf(c.ratio));
	assert_int_equal(c.verdict, VERDICT_MORE);
	stats_compare(ones, 5, mixed, 5, &c);
	assert_true(!isnan(c.ci.low) && !isnan(c.ci.high));
}

/* Depression before and after a treatment: Hollander, Wolfe, Chicken, examples 3.1, 3.3 and 3.4. */
static void test_shift(void **state)
{
	const double before[] = {1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30};
	const double after[] = {0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};
	double differences[9];
	struct interval ci;

	for (size_t i = 0; i < 9; i++)
		differences[i] = after[i] - before[i];
	assert_float_equal(stats_shift(differences, 9, &ci), -0.46, 1e-9);
	assert_float_equal(ci.low, -0.786, 1e-9);
	assert_float_equal(ci.high, -0.010, 1e-9);
	assert_float_equal(stats_shift(differences, 1, &ci), after[0] - before[0], 1e-9);
	stats_shift(differences, 5, &ci);
	assert_true(isnan(ci.low) && isnan(ci.high));
	stats_shift(differences, 6, &ci);
	assert_false(isnan(ci.low) || isnan(ci.high));
	assert_true(isnan(stats_shift(NULL, 0, &ci)) && isnan(ci.low));
}

/* Of many pairs that differ by 3, nearly all intervals hold it, and none is wide. */
static void test_shift_of_many(void **state)
{
	double differences[1500], shift;
	struct interval ci;
	unsigned held = 0;

	lcg_state = 5;
	for (unsigned t = 0; t < 100; t++) {
		draw(differences, 100, start_ms);
		for (size_t i = 0; i < 50; i++)
			differences[i] = 3 + differences[i] - differences[50 + i];
		shift = stats_shift(differences, 50, &ci);
		assert_true(ci.low <= shift && shift <= ci.high);
		assert_true(ci.high - ci.low < 40); /* the differences themselves span some 300 */
		held += ci.low <= 3 && 3 <= ci.high;
	}
	assert_true(held >= 90);
	for (size_t i = 0; i < 1500; i++)
		differences[i] = (double)i;
	assert_float_equal(stats_shift(differences, 1500, &ci), 749.5, 2);
	assert_true(ci.low > 700 && ci.high < 800);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_quantiles),
	    cmocka_unit_test(test_summary),
	    cmocka_unit_test(test_summary_of_few),
	    cmocka_unit_test(test_interval_is_exact),
	    cmocka_unit_test(test_same_seed_same_answer),
	    cmocka_unit_test(test_coverage),
	    cmocka_unit_test(test_equal_sides_are_not_told_apart),
	    cmocka_unit_test(test_compare),
	    cmocka_unit_test(test_compare_is_mann_and_whitney),
	    cmocka_unit_test(test_compare_of_many),
	    cmocka_unit_test(test_compare_of_few),
	    cmocka_unit_test(test_compare_zeros),
	    cmocka_unit_test(test_shift),
	    cmocka_unit_test(test_shift_of_many),
	};

	return cmocka_run_group_tests_name("coldbench_stats", tests, NULL, NULL);
}
