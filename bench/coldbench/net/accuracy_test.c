/* Once through all measurements of netproxy's accuracy; how good they are is not a test's concern. */
#include "bench/coldbench/net/accuracy.h"

#include "base/testing.h"

#include <math.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void test_measuring(void **state)
{
	char dir[] = "/tmp/coldbench-accuracy.XXXXXX";
	AUTO(accuracy) struct accuracy a = {0};

	assert_non_null(mkdtemp(dir));
	OK(accuracy_measure(dir, 0.01, -1, &a, err));
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(a.delays.n, 4);
	assert_int_equal(a.rates.n, 12);
	vec_each(&a.delays, d) {
		assert_true(d->n > 0 && d->direct_ms > 0 && d->open_direct_ms > 0);
		/* With the network between it takes a round trip at least, two with a new connection. */
		assert_true(d->median_ms + d->direct_ms > 0 && d->open_median_ms + d->open_direct_ms > 0);
		assert_true(d->p95_ms >= d->median_ms && d->open_p95_ms >= d->open_median_ms);
	}
	vec_each(&a.rates, r)
		assert_true(r->got_mbit > 0 && isfinite(r->error));
}

/* Who wants to stop before it has begun waits for nothing. */
static void test_stopping(void **state)
{
	char dir[] = "/tmp/coldbench-accuracy.XXXXXX";
	AUTO(accuracy) struct accuracy a = {0};
	AUTO_FD int cancel_fd = eventfd(1, EFD_CLOEXEC);

	assert_non_null(mkdtemp(dir));
	FAILS(accuracy_measure(dir, 1, cancel_fd, &a, err), ERR_CANCELLED);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(a.rates.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_measuring),
	    cmocka_unit_test(test_stopping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
