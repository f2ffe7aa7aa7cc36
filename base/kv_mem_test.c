#include "base/kv_mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void put(const struct kv *kv, const char *key, const char *value)
{
	assert_int_equal(kv_write(kv, &(struct kv_op){str_of(key), str_of(value), false}, 1, true, NULL), 0);
}

static int collect(void *arg, struct str key, struct str value, struct err *err)
{
	struct buf *out = arg;

	buf_addstr(out, key);
	buf_addc(out, '=');
	buf_addstr(out, value);
	buf_addc(out, ' ');
	return str_eqc(key, "stop") ? 1 : str_eqc(key, "bad") ? err_set(err, ERR_DATA_LOSS, "bad") : 0;
}

static void test_put_get_scan(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);

	put(kv, "b2", "x");
	put(kv, "a", "1");
	put(kv, "b1", "y");
	put(kv, "b2", "z");
	assert_int_equal(kv_get(kv, STR("b2"), &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "z");
	assert_int_equal(kv_get(kv, STR("b"), &b, NULL), -ERR_NOT_FOUND);
	buf_clear(&b);
	assert_int_equal(kv_scan(kv, STR("b"), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "b1=y b2=z ");
	buf_clear(&b);
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "a=1 b1=y b2=z ");
	buf_clear(&b);
	assert_int_equal(kv_scan_after(kv, STR("b"), STR("b1"), collect, &b, NULL), 0);
	assert_int_equal(kv_scan_after(kv, STR("b"), STR("a"), collect, &b, NULL), 0);
	assert_int_equal(kv_scan_after(kv, STR("b"), STR("b2"), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "b2=z b1=y b2=z ");
}

static void test_batch_and_removal(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);
	struct kv_op ops[] = {{STR("a"), STR("1"), false},
	                      {STR("c"), STR("3"), false},
	                      {STR("a"), STR_NONE, true},
	                      {STR("never there"), STR_NONE, true}};

	assert_int_equal(kv_write(kv, ops, ARRAY_LEN(ops), false, NULL), 0);
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "c=3 ");
}

static void test_scan_ends_as_told(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);

	put(kv, "stop", "");
	put(kv, "z", "");
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "stop= ");
	put(kv, "bad", "");
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), -ERR_DATA_LOSS);
}

static const struct kv *table;

static int collect_and_look(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(buf) struct buf again = BUF_INIT;

	TRY(kv_get(table, key, &again, err)); /* no lock is held */
	assert_true(str_eq(buf_str(&again), value));
	return collect(arg, key, value, err);
}

static void test_pieces(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf cursor = BUF_INIT;
	AUTO(buf) struct buf b = BUF_INIT;

	table = kv_mem_kv(m);
	put(table, "a", "0");
	put(table, "b1", "1");
	put(table, "b2", "2");
	put(table, "b3", "3");
	put(table, "c", "0");
	assert_int_equal(kv_piece(table, STR("b"), &cursor, 2, collect_and_look, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "b1=1 b2=2 ");
	put(table, "b11", "new"); /* behind the cursor: not seen any more */
	put(table, "b4", "4");
	assert_int_equal(kv_piece(table, STR("b"), &cursor, 2, collect_and_look, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "b1=1 b2=2 b3=3 b4=4 ");
	assert_int_equal(kv_piece(table, STR("b"), &cursor, 2, collect_and_look, &b, NULL), 1);
	assert_string_equal(buf_cstr(&b), "b1=1 b2=2 b3=3 b4=4 ");
	assert_string_equal(buf_cstr(&cursor), "b4");
}

static void test_a_piece_that_fails(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf cursor = BUF_INIT;
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);

	put(kv, "a", "1");
	put(kv, "bad", "2");
	put(kv, "c", "3");
	assert_int_equal(kv_piece(kv, STR_NONE, &cursor, 3, collect, &b, NULL), -ERR_DATA_LOSS);
	assert_string_equal(buf_cstr(&b), "a=1 bad=2 ");
	assert_int_equal(cursor.n, 0);
}

static void test_failing_writes(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);

	kv_mem_fail_after(m, 1, ERR_EXHAUSTED);
	put(kv, "a", "1");
	assert_int_equal(kv_write(kv, &(struct kv_op){STR("b"), STR("2"), false}, 1, true, NULL), -ERR_EXHAUSTED);
	assert_int_equal(kv_get(kv, STR("b"), &b, NULL), -ERR_NOT_FOUND);
	kv_mem_fail_after(m, 0, ERR_OK);
	put(kv, "b", "2");
}

static void put_unsynced(const struct kv *kv, const char *key, const char *value)
{
	assert_int_equal(kv_write(kv, &(struct kv_op){str_of(key), str_of(value), !value}, 1, false, NULL), 0);
}

static void test_crash(void **state)
{
	AUTO(kv_mem) struct kv_mem *m = kv_mem_new();
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_mem_kv(m);

	kv_mem_remember(m);
	put(kv, "a", "1");
	put_unsynced(kv, "a", "2");
	put_unsynced(kv, "b", "1");
	put_unsynced(kv, "a", NULL);
	put_unsynced(kv, "b", "2");
	assert_int_equal(kv_mem_unsynced(m), 4);
	kv_mem_crash(m, 2);
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "a=2 b=1 ");
	put_unsynced(kv, "c", "1");
	put(kv, "d", "1"); /* takes what came before it along */
	kv_mem_crash(m, 0);
	buf_clear(&b);
	assert_int_equal(kv_scan(kv, STR(""), collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "a=2 b=1 c=1 d=1 ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_put_get_scan),
	    cmocka_unit_test(test_batch_and_removal),
	    cmocka_unit_test(test_scan_ends_as_told),
	    cmocka_unit_test(test_pieces),
	    cmocka_unit_test(test_a_piece_that_fails),
	    cmocka_unit_test(test_failing_writes),
	    cmocka_unit_test(test_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
