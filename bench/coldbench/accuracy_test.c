/* Once through all measurements of netproxy's accuracy; how good they are is not a test's concern. */
#include "bench/coldbench/accuracy.h"

#include "base/testing.h"

#include <math.h>
#include <unistd.h>

static void test_measuring(void **state)
{
	char dir[] = "/tmp/coldbench-accuracy.XXXXXX";
	AUTO(accuracy) struct accuracy a = {0};

	assert_non_null(mkdtemp(dir));
	OK(accuracy_measure(dir, 0.01, NULL, &a, err));
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(a.delays.n, 4);
	assert_int_equal(a.rates.n, 12);
	/* A network could not have been faster than it is. */
	vec_each(&a.delays, d)
		assert_true(d->n > 0 && d->median_ms > 0 && d->open_median_ms > 0 && d->together_ms > 0);
	vec_each(&a.rates, r)
		assert_true(r->got_mbit > 0 && isfinite(r->error));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_measuring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
