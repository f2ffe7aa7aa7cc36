#include "base/map.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void put_get_delete(void **state)
{
	AUTO(map) struct map m = MAP_INIT;
	int a, b;

	assert_null(map_get(&m, STR("x")));
	assert_null(map_del(&m, STR("x")));
	assert_null(map_put(&m, STR("x"), &a));
	assert_ptr_equal(map_put(&m, STR("x"), &b), &a);
	assert_int_equal(m.n, 1);
	assert_ptr_equal(map_get(&m, STR("x")), &b);
	assert_false(map_has(&m, STR("X")));
	assert_ptr_equal(map_del(&m, STR("x")), &b);
	assert_false(map_has(&m, STR("x")));
	assert_int_equal(m.n, 0);
}

static void odd_keys(void **state)
{
	AUTO(map) struct map m = MAP_INIT;
	uint64_t zero = 0;
	int a, b, c;

	map_put(&m, STR(""), &a);
	map_put(&m, STR("\0"), &b);
	map_put(&m, map_key_u64(&zero), &c);
	map_put(&m, STR("none"), NULL);
	assert_ptr_equal(map_get(&m, STR_NONE), &a);
	assert_ptr_equal(map_get(&m, STR("\0")), &b);
	assert_ptr_equal(map_get(&m, map_key_u64(&zero)), &c);
	assert_null(map_get(&m, STR("none")));
	assert_true(map_has(&m, STR("none")));
}

static void keys_are_copied(void **state)
{
	AUTO(map) struct map m = MAP_INIT;
	char key[] = "key";

	map_put(&m, str_of(key), &m);
	key[0] = 'X';
	assert_true(map_has(&m, STR("key")));
}

/* Many random operations beside a plain array that says what must be there. */
static void against_an_array(void **state)
{
	enum { KEYS = 3000 };
	AUTO(map) struct map m = MAP_INIT;
	static void *want[KEYS];
	size_t n = 0;
	uint32_t x = 1;

	for (int step = 0; step < 200000; step++) {
		uint64_t k;
		void *v = &want[step % KEYS];

		x = x * 1664525 + 1013904223;
		k = (x >> 8) % KEYS;
		if (x >> 31) {
			assert_ptr_equal(map_put(&m, map_key_u64(&k), v), want[k]);
			n += !want[k];
			want[k] = v;
		} else {
			assert_ptr_equal(map_del(&m, map_key_u64(&k)), want[k]);
			n -= !!want[k];
			want[k] = NULL;
		}
		assert_int_equal(m.n, n);
	}
	for (uint64_t k = 0; k < KEYS; k++)
		assert_ptr_equal(map_get(&m, map_key_u64(&k)), want[k]);
}

/* Deleted entries must not fill the table: it stays small however long it is used. */
static void churn_does_not_grow_it(void **state)
{
	AUTO(map) struct map m = MAP_INIT;

	for (uint64_t k = 0; k < 100000; k++) {
		map_put(&m, map_key_u64(&k), &m);
		map_del(&m, map_key_u64(&k));
	}
	assert_int_equal(m.n, 0);
	assert_true(m.cap <= 64);
}

static void iterate_and_delete(void **state)
{
	AUTO(map) struct map m = MAP_INIT;
	uint64_t seen[1000] = {0};
	struct str key;
	size_t at = 0;
	void *value;

	for (uint64_t k = 0; k < 1000; k++)
		map_put(&m, map_key_u64(&k), &seen[k]);
	while (map_next(&m, &at, &key, &value)) {
		uint64_t k;

		memcpy(&k, key.p, sizeof(k));
		assert_ptr_equal(value, &seen[k]);
		seen[k]++;
		if (k % 2)
			map_del(&m, map_key_u64(&k));
	}
	assert_int_equal(m.n, 500);
	for (uint64_t k = 0; k < 1000; k++) {
		assert_int_equal(seen[k], 1);
		assert_int_equal(map_has(&m, map_key_u64(&k)), k % 2 == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(put_get_delete),         cmocka_unit_test(odd_keys),
	    cmocka_unit_test(keys_are_copied),        cmocka_unit_test(against_an_array),
	    cmocka_unit_test(churn_does_not_grow_it), cmocka_unit_test(iterate_and_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
