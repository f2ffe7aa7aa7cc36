#include "base/buf.h"
#include "base/bytes.h"
#include "base/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void appends_and_stays_terminated(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_string_equal(buf_cstr(&b), "");
	buf_add(&b, NULL, 0);
	assert_int_equal(b.p[0], 0);
	buf_adds(&b, "ab");
	buf_addc(&b, 'c');
	buf_addstr(&b, STR("de"));
	buf_addstr(&b, STR_NONE);
	buf_addf(&b, "-%d-%s", 7, "x");
	assert_string_equal(b.p, "abcde-7-x");
	assert_int_equal(b.n, 9);
	buf_addz(&b, 3);
	assert_int_equal(b.n, 12);
	assert_memory_equal(b.p + 9, "\0\0\0", 4);
	buf_clear(&b);
	assert_int_equal(b.n, 0);
	assert_string_equal(buf_cstr(&b), "");
	assert_true(b.cap > 0);
}

static void growth_keeps_the_bytes(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (int i = 0; i < 100000; i++) {
		buf_addc(&b, (char)('a' + i % 26));
		assert_true(b.n < b.cap && b.p[b.n] == 0);
	}
	for (int i = 0; i < 100000; i++)
		assert_int_equal(b.p[i], 'a' + i % 26);
}

static void reserve_leaves_the_count(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	char *at;

	buf_adds(&b, "x");
	at = buf_reserve(&b, 1000);
	assert_ptr_equal(at, b.p + 1);
	assert_int_equal(b.n, 1);
	assert_true(b.cap >= 1002);
	assert_int_equal(b.p[1], 0);
}

/* Around the length at which the formatted text no longer fits the room that happens to be there. */
static void formats_of_any_length(void **state)
{
	for (int n = 0; n < 300; n++) {
		AUTO(buf) struct buf b = BUF_INIT;

		buf_addf(&b, "<%*s>", n, "");
		assert_int_equal(b.n, n + 2);
		assert_int_equal(strlen(b.p), n + 2);
		assert_int_equal(b.p[n + 1], '>');
	}
}

static void steal_is_never_null(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FREE char *empty = buf_steal(&b);
	AUTO_FREE char *text = NULL;

	assert_string_equal(empty, "");
	buf_adds(&b, "text");
	text = buf_steal(&b);
	assert_string_equal(text, "text");
	assert_null(b.p);
	assert_int_equal(b.cap, 0);
}

static void byte_orders(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	uint8_t raw[9];

	buf_le16(&b, 0x0102);
	buf_le32(&b, 0x01020304);
	buf_le64(&b, 0x0102030405060708);
	buf_be32(&b, 0x01020304);
	assert_int_equal(b.n, 18);
	assert_memory_equal(b.p, "\2\1\4\3\2\1\10\7\6\5\4\3\2\1\1\2\3\4", 18);
	assert_int_equal(get_le16(b.p), 0x0102);
	assert_int_equal(get_le32(b.p + 2), 0x01020304);
	assert_true(get_le64(b.p + 6) == 0x0102030405060708);
	assert_int_equal(get_be16(b.p + 14), 0x0102);
	assert_int_equal(get_be32(b.p + 14), 0x01020304);
	assert_true(get_be64(b.p + 6) == 0x0807060504030201);
	for (int at = 0; at < 2; at++) { /* unaligned too */
		put_le64(raw + at, 0x1122334455667788);
		assert_true(get_le64(raw + at) == 0x1122334455667788);
		put_be16(raw + at, 0xabcd);
		assert_int_equal(raw[at], 0xab);
		put_be32(raw + at, 7);
		assert_int_equal(raw[at + 3], 7);
		put_be64(raw + at, 9);
		assert_int_equal(raw[at + 7], 9);
		put_le16(raw + at, 0x1234);
		assert_int_equal(raw[at], 0x34);
		put_le32(raw + at, 5);
		assert_int_equal(raw[at], 5);
	}
}

static void formatted_allocation(void **state)
{
	AUTO_FREE char *a = xasprintf("%s-%d", "a", 1);
	AUTO_FREE char *b = xstrndup("abcdef", 3);
	AUTO_FREE char *c = xstrndup("ab", 9);
	AUTO_FREE char *d = xstrdup("");

	assert_string_equal(a, "a-1");
	assert_string_equal(b, "abc");
	assert_string_equal(c, "ab");
	assert_string_equal(d, "");
}

static void vectors(void **state)
{
	VEC(int) v = VEC_INIT;
	int sum = 0;

	for (int i = 0; i < 1000; i++)
		vec_push(&v, i);
	assert_int_equal(v.n, 1000);
	assert_int_equal(*vec_last(&v), 999);
	assert_int_equal(vec_pop(&v), 999);
	vec_swap_remove(&v, 0);
	assert_int_equal(v.p[0], 998);
	assert_int_equal(v.n, 998);
	*vec_add(&v) += 5;
	assert_int_equal(*vec_last(&v), 5);
	vec_each(&v, it)
		sum += *it;
	assert_int_equal(sum, 998 * 999 / 2 + 5);
	vec_clear(&v);
	assert_int_equal(v.n, 0);
	vec_fini(&v);
	assert_null(v.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(appends_and_stays_terminated), cmocka_unit_test(growth_keeps_the_bytes),
	    cmocka_unit_test(reserve_leaves_the_count),     cmocka_unit_test(formats_of_any_length),
	    cmocka_unit_test(steal_is_never_null),          cmocka_unit_test(byte_orders),
	    cmocka_unit_test(formatted_allocation),         cmocka_unit_test(vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
