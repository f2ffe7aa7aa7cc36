#include "bench/netproxy/trips.h"

#include "base/testing.h"

/* A link from begin to end, nothing else meanwhile. */
static unsigned link_of(struct trips *t, unsigned after, int64_t begin_ns, int64_t end_ns)
{
	unsigned depth = trips_begin(t, after, begin_ns);

	trips_answered(t, depth, end_ns);
	return depth;
}

static void test_one_after_the_other(void **state)
{
	struct trips t = {0};

	assert_int_equal(trips_at(&t, 1000), 0);
	assert_int_equal(link_of(&t, 0, 0, 10), 1);
	assert_int_equal(link_of(&t, 0, 10, 20), 2);
	assert_int_equal(link_of(&t, 0, 25, 35), 3);
	trips_fini(&t);
}

static void test_sent_together(void **state)
{
	struct trips t = {0};

	for (int i = 0; i < 5; i++)
		assert_int_equal(trips_begin(&t, 0, i), 1);
	for (int i = 0; i < 5; i++)
		trips_answered(&t, 1, 10 + i);
	assert_int_equal(trips_at(&t, 100), 1);
	assert_int_equal(trips_begin(&t, 0, 12), 2); /* two answers are still to come */
	trips_fini(&t);
}

static void test_an_answer_under_way_is_not_known(void **state)
{
	struct trips t = {0};

	/* The proxy learns of the second request after it has delivered the first answer; it was sent before. */
	trips_answered(&t, trips_begin(&t, 0, 0), 10);
	assert_int_equal(trips_begin(&t, 0, 9), 1);
	assert_int_equal(trips_begin(&t, 0, 10), 2);
	trips_fini(&t);
}

static void test_a_connection_is_a_link(void **state)
{
	struct trips t = {0};
	unsigned first, second;

	first = trips_begin(&t, 0, 0);
	assert_int_equal(first, 1);
	assert_int_equal(trips_at(&t, 5), 0); /* unused: not counted */
	assert_int_equal(link_of(&t, first, 0, 20), 2);
	assert_int_equal(trips_at(&t, 19), 0);
	assert_int_equal(trips_at(&t, 20), 2);
	/* A second one, opened when the first answer was there. */
	second = trips_begin(&t, 0, 20);
	assert_int_equal(second, 3);
	assert_int_equal(trips_begin(&t, first, 20), 3); /* beside it, over the old one */
	assert_int_equal(link_of(&t, second, 20, 40), 4);
	assert_int_equal(trips_at(&t, 40), 4);
	trips_fini(&t);
}

static void test_short_chains_beside_a_long_one(void **state)
{
	struct trips t = {0};
	unsigned slow = trips_begin(&t, 0, 0);

	for (int i = 0; i < 4; i++)
		link_of(&t, 0, i * 10, i * 10 + 10);
	trips_answered(&t, slow, 50);
	assert_int_equal(trips_at(&t, 9), 0);
	assert_int_equal(trips_at(&t, 10), 1);
	assert_int_equal(trips_at(&t, 39), 3);
	assert_int_equal(trips_at(&t, 50), 4);
	trips_reset(&t);
	assert_int_equal(trips_at(&t, 50), 0);
	assert_int_equal(trips_begin(&t, 0, 50), 1);
	trips_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_after_the_other),
	    cmocka_unit_test(test_sent_together),
	    cmocka_unit_test(test_an_answer_under_way_is_not_known),
	    cmocka_unit_test(test_a_connection_is_a_link),
	    cmocka_unit_test(test_short_chains_beside_a_long_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
