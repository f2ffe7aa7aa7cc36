#include "bench/netproxy/fault.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_rules_are_counted(void **state)
{
	struct fault_rules f = {0};
	struct err err = ERR_INIT;

	assert_int_equal(fault_rules_add(&f, STR("flip=7 2 /blobs/"), &err), 0);
	assert_int_equal(fault_rules_add(&f, STR("status=503 all GET /v2/"), &err), 0);
	assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b")).action, FAULT_FLIP);
	assert_int_equal(fault_rules_match(&f, STR("HEAD /v2/a")).action, FAULT_NONE);
	assert_int_equal(fault_rules_match(&f, STR("HEAD /v2/a/blobs/b")).value, 7);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b")).value, 503);
	fault_rules_clear(&f);
	assert_int_equal(fault_rules_match(&f, STR("GET /v2/a/blobs/b")).action, FAULT_NONE);
	fault_rules_fini(&f);
}

static void test_bad_rules(void **state)
{
	static const char *const bad[] = {
	    "",
	    "stall",
	    "stall 1",
	    "stall 0 x",
	    "stall=3 1 x",
	    "flip 1 x",
	    "flip=x 1 x",
	    "flip= 1 x",
	    "flip=101% 1 x",
	    "status=99 1 x",
	    "status=50% 1 x",
	    "explode 1 x",
	    "stall many x",
	};
	struct fault_rules f = {0};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(fault_rules_add(&f, str_of(bad[i]), &err), -ERR_INVALID);
	}
	assert_int_equal(f.rules.n, 0);
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
	    cmocka_unit_test(test_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
