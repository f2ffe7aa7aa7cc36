#include "bench/netproxy/history.h"

#include "base/clock.h"
#include "base/testing.h"

static void note(struct history *h, int64_t ns, uint64_t bytes)
{
	const struct moment m = {.time_ns = ns, .to_client_bytes = bytes, .requests = bytes / 10};

	history_note(h, &m);
}

static void test_between_changes(void **state)
{
	struct history h;

	history_init(&h, 100, NS_PER_S);
	note(&h, NS_PER_S + 5 * NS_PER_MS, 10);
	note(&h, NS_PER_S + 9 * NS_PER_MS, 30);
	assert_int_equal(history_at(&h, 0).to_client_bytes, 0);
	assert_int_equal(history_at(&h, NS_PER_S + 5 * NS_PER_MS - 1).to_client_bytes, 0);
	assert_int_equal(history_at(&h, NS_PER_S + 5 * NS_PER_MS).to_client_bytes, 10);
	assert_int_equal(history_at(&h, NS_PER_S + 8 * NS_PER_MS).requests, 1);
	assert_int_equal(history_at(&h, NS_PER_S + 9 * NS_PER_MS).to_client_bytes, 30);
	assert_int_equal(history_at(&h, 5 * NS_PER_S).to_client_bytes, 30);
	assert_int_equal(history_at(&h, 5 * NS_PER_S).time_ns, 5 * NS_PER_S);
	history_reset(&h, 6 * NS_PER_S);
	assert_int_equal(history_at(&h, 7 * NS_PER_S).to_client_bytes, 0);
	history_fini(&h);
}

static void test_what_does_not_change_is_not_kept(void **state)
{
	struct history h;

	history_init(&h, 100, 0);
	for (int i = 1; i < 50; i++)
		note(&h, i * NS_PER_MS, 10);
	assert_int_equal(h.moments.n, 2);
	assert_int_equal(history_at(&h, NS_PER_MS).to_client_bytes, 10);
	history_fini(&h);
}

/* Never more than max, never later than a grain, and exact at the end. */
static void test_memory_is_bounded(void **state)
{
	const int64_t step = 7 * NS_PER_US;
	const int n = 100000;
	struct history h;

	history_init(&h, 64, 0);
	for (int i = 1; i <= n; i++) {
		note(&h, i * step, (uint64_t)i);
		assert_true(h.moments.n < 64);
	}
	assert_true(h.grain_ns < n * step / 8); /* not coarser than the room asks for */
	for (int i = 1; i <= n; i += 997) {
		uint64_t got = history_at(&h, i * step).to_client_bytes;

		assert_true(got <= (uint64_t)i && (uint64_t)i - got <= (uint64_t)(h.grain_ns / step) + 1);
	}
	assert_int_equal(history_at(&h, n * step).to_client_bytes, n);
	history_fini(&h);
}

static void test_what_lies_apart_stays_exact(void **state)
{
	struct history h;

	history_init(&h, 64, 0);
	note(&h, 10 * NS_PER_MS, 7);
	for (int i = 0; i < 2000; i++)
		note(&h, NS_PER_S + i * NS_PER_US, 100 + (uint64_t)i);
	assert_int_equal(history_at(&h, 10 * NS_PER_MS).to_client_bytes, 7);
	assert_int_equal(history_at(&h, 10 * NS_PER_MS - 1).to_client_bytes, 0);
	assert_int_equal(history_at(&h, NS_PER_S - 1).to_client_bytes, 7);
	assert_int_equal(history_at(&h, 2 * NS_PER_S).to_client_bytes, 2099);
	history_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_between_changes),
	    cmocka_unit_test(test_what_does_not_change_is_not_kept),
	    cmocka_unit_test(test_memory_is_bounded),
	    cmocka_unit_test(test_what_lies_apart_stays_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
