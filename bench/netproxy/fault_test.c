#include "bench/netproxy/fault.h"

#include "base/clock.h"
#include "base/testing.h"

static void test_rules_are_counted(void **state)
{
	struct fault_rules f = {0};
	struct err err = ERR_INIT;

	assert_int_equal(fault_rules_add(&f, STR("flip=7 2 /blobs/"), &err), 0);
	assert_int_equal(fault_rules_add(&f, STR("status=503 all GET /v2/"), &err), 0);
	assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b"), 0).action, FAULT_FLIP);
	assert_int_equal(fault_rules_match(&f, STR("HEAD /v2/a"), 0).action, FAULT_NONE);
	assert_int_equal(fault_rules_match(&f, STR("HEAD /v2/a/blobs/b"), 0).value, 7);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b"), 0).value, 503);
	fault_rules_clear(&f);
	assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b"), 0).action, FAULT_NONE);
	fault_rules_fini(&f);
}

static void test_bad_rules(void **state)
{
	static const char *const bad[] = {
	    "",
	    "stall",
	    "stall 1",
	    "stall 0 x",
	    "stall=0 1 x",
	    "stall=50% 1 x",
	    "reset=3 1 x",
	    "flip 1 x",
	    "flip=x 1 x",
	    "flip= 1 x",
	    "flip=101% 1 x",
	    "status=99 1 x",
	    "status=50% 1 x",
	    "explode 1 x",
	    "stall many x",
	    "stall , x",
	    "stall 1, x",
	    "stall every=0 x",
	    "stall every= x",
	    "stall from=-1 x",
	    "stall for=0 x",
	    "stall for=99999999999 x",
	    "stall 1,sometimes x",
	};
	struct fault_rules f = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(fault_rules_add(&f, str_of(bad[i]), &err), -ERR_INVALID);
	}
	assert_int_equal(f.rules.n, 0);
	fault_rules_fini(&f);
}

/* Which of ten requests, one every 100 ms, are struck. */
static void strikes(struct fault_rules *f, char out[static 11])
{
	for (int i = 0; i < 10; i++)
		out[i] = fault_rules_match(f, STR("GET /x"), i * 100 * NS_PER_MS).action == FAULT_RESET ? '!' : '.';
	out[10] = 0;
}

static void test_schedules(void **state)
{
	static const struct {
		const char *rule, *want, *after_rewind;
	} cases[] = {
	    {"reset all /x", "!!!!!!!!!!", "!!!!!!!!!!"},
	    {"reset every=3 /x", "..!..!..!.", "..!..!..!."},
	    {"reset every=3 /y", "..........", ".........."},
	    {"reset 2,every=3 /x", "..!..!....", ".........."},
	    {"reset from=300 /x", "...!!!!!!!", "...!!!!!!!"},
	    {"reset for=300 /x", "!!!.......", "!!!......."},
	    {"reset from=250,for=200 /x", "...!!.....", "...!!....."},
	    {"reset for=200,from=250 /x", "...!!.....", "...!!....."},
	    {"reset every=2,from=500 /x", "......!.!.", "......!.!."},
	    {"reset 1,from=500 /x", ".....!....", ".........."},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fault_rules f = {0};
		char got[11];

		OK(fault_rules_add(&f, str_of(cases[i].rule), err));
		strikes(&f, got);
		assert_string_equal(got, cases[i].want);
		fault_rules_rewind(&f);
		strikes(&f, got);
		assert_string_equal(got, cases[i].after_rewind);
		fault_rules_fini(&f);
	}
}

static void test_a_rule_that_does_not_strike_leaves_it_to_the_next(void **state)
{
	struct fault_rules f = {0};

	OK(fault_rules_add(&f, STR("stall=250 every=2 /x"), err));
	OK(fault_rules_add(&f, STR("status=500 all /x"), err));
	assert_int_equal(fault_rules_match(&f, STR("GET /x"), 0).action, FAULT_STATUS);
	assert_int_equal(fault_rules_match(&f, STR("GET /x"), 0).value, 250);
	assert_int_equal(fault_rules_match(&f, STR("GET /x"), 0).action, FAULT_STATUS);
	fault_rules_fini(&f);
}

static void test_offsets(void **state)
{
	struct fault flip = {.action = FAULT_FLIP, .percent = true, .value = 50};
	struct fault cut = {.action = FAULT_TRUNCATE, .value = 10};

	assert_int_equal(fault_offset(&flip, 1000), 500);
	assert_true(fault_offset(&flip, -1) == UINT64_MAX);
	flip.value = 100;
	assert_int_equal(fault_offset(&flip, 1000), 999);
	assert_int_equal(fault_offset(&cut, -1), 10);
	assert_int_equal(fault_offset(&cut, 5), 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rules_are_counted),
	    cmocka_unit_test(test_bad_rules),
	    cmocka_unit_test(test_schedules),
	    cmocka_unit_test(test_a_rule_that_does_not_strike_leaves_it_to_the_next),
	    cmocka_unit_test(test_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
