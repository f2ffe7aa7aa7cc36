#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/label.h"

static void set_get_remove(void **state)
{
	AUTO(labels) struct labels l = LABELS_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(labels_set(&l, "b", "2", &err), 0);
	assert_int_equal(labels_set(&l, "a", "1", &err), 0);
	assert_int_equal(labels_set(&l, "c", "3", &err), 0);
	assert_int_equal(labels_set(&l, "b", "two", &err), 0);
	assert_int_equal(l.v.n, 3);
	assert_string_equal(l.v.p[0].key, "a");
	assert_string_equal(labels_get(&l, "b"), "two");
	assert_int_equal(labels_set(&l, "a", "", &err), 0);
	assert_null(labels_get(&l, "a"));
	assert_int_equal(labels_set(&l, "absent", "", &err), 0);
	assert_int_equal(l.v.n, 2);
}

static void the_pair_is_bounded(void **state)
{
	AUTO(labels) struct labels l = LABELS_INIT;
	AUTO_FREE char *value = xmalloc(LABEL_BYTES_MAX + 1);
	struct err err = ERR_INIT;

	memset(value, 'x', LABEL_BYTES_MAX);
	value[LABEL_BYTES_MAX] = '\0';
	assert_int_equal(labels_set(&l, "k", value, &err), -ERR_INVALID);
	value[LABEL_BYTES_MAX - 1] = '\0';
	assert_int_equal(labels_set(&l, "k", value, &err), 0);
}

static void copies_are_independent(void **state)
{
	AUTO(labels) struct labels a = LABELS_INIT;
	AUTO(labels) struct labels b = LABELS_INIT;

	assert_int_equal(labels_set(&a, "k", "v", NULL), 0);
	assert_int_equal(labels_set(&b, "old", "gone", NULL), 0);
	labels_copy(&a, &b);
	assert_int_equal(labels_set(&a, "k", "w", NULL), 0);
	assert_string_equal(labels_get(&b, "k"), "v");
	assert_null(labels_get(&b, "old"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(set_get_remove),
	    cmocka_unit_test(the_pair_is_bounded),
	    cmocka_unit_test(copies_are_independent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
