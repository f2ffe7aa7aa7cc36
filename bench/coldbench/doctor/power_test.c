#include "base/testing.h"
#include "bench/coldbench/doctor/power.h"

#include "base/cleanup.h"

#include <math.h>

/* A step: not told with less than *arg repetitions. */
static double step(size_t n, const void *arg)
{
	return n >= *(const size_t *)arg;
}

static void the_search_finds_the_smallest(void **state)
{
	for (size_t want = 1; want <= 100; want++) {
		assert_int_equal(power_search(step, &want, 0.5, 1, 100), want);
		assert_int_equal(power_search(step, &want, 0.5, 4, 100), want < 4 ? 4 : want);
	}
}

static void the_search_ends_at_its_limit(void **state)
{
	size_t more = 101, limit = 100;

	assert_int_equal(power_search(step, &more, 0.5, 4, 100), 0);
	assert_int_equal(power_search(step, &limit, 0.5, 4, 100), 100);
	assert_int_equal(power_search(step, &limit, 0.5, 100, 100), 100);
}

static double grows(size_t n, const void *arg)
{
	return 1 - exp(-(double)n / 10);
}

static void the_search_reaches_its_target(void **state)
{
	assert_int_equal(power_search(grows, NULL, 0.8, 1, 512), 17); /* 1 - exp(-1.7) = 0.817 */
	assert_int_equal(power_search(grows, NULL, 0.95, 1, 512), 30);
}

/* Twenty values around 100, 5 % apart at most, in an order that says nothing. */
static void make_pool(double *out, size_t n, double factor)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (100 + (double)(i * 7 % n) / (double)n * 5) * factor;
}

static void what_is_planted_is_told(void **state)
{
	double same[20], slow[20];
	struct power p;

	make_pool(same, ARRAY_LEN(same), 1);
	make_pool(slow, ARRAY_LEN(slow), 1.15);
	p = power_of(slow, ARRAY_LEN(slow), same, ARRAY_LEN(same), 10, 50, 1);
	assert_true(p.more == 1 && p.less == 0);
	p = power_of(same, ARRAY_LEN(same), slow, ARRAY_LEN(slow), 10, 50, 1); /* the other way round */
	assert_true(p.more == 0 && p.less == 1);
	p = power_of(slow, ARRAY_LEN(slow), same, ARRAY_LEN(same), 3, 50, 1); /* too few to tell anything */
	assert_true(p.more == 0 && p.less == 0);
}

/* Either side has its half of the 5 %. */
static void what_is_not_there_is_seldom_told(void **state)
{
	double same[20];
	struct power p;

	make_pool(same, ARRAY_LEN(same), 1);
	p = power_of(same, ARRAY_LEN(same), same, ARRAY_LEN(same), 20, 1000, 1);
	assert_true(p.more > 0.005 && p.less > 0.005);
	assert_true(p.more + p.less < 0.065);
}

static void more_repetitions_tell_more(void **state)
{
	double same[20], slow[20], few, many;

	make_pool(same, ARRAY_LEN(same), 1);
	make_pool(slow, ARRAY_LEN(slow), 1.015);
	few = power_of(slow, ARRAY_LEN(slow), same, ARRAY_LEN(same), 5, 200, 1).more;
	many = power_of(slow, ARRAY_LEN(slow), same, ARRAY_LEN(same), 60, 200, 1).more;
	assert_true(few < 0.6);
	assert_true(many > 0.8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_search_finds_the_smallest),    cmocka_unit_test(the_search_ends_at_its_limit),
	    cmocka_unit_test(the_search_reaches_its_target),    cmocka_unit_test(what_is_planted_is_told),
	    cmocka_unit_test(what_is_not_there_is_seldom_told), cmocka_unit_test(more_repetitions_tell_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
