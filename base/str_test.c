#include "base/str.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void comparing(void **state)
{
	assert_int_equal(str_cmp(STR("a"), STR("a")), 0);
	assert_true(str_cmp(STR("a"), STR("b")) < 0);
	assert_true(str_cmp(STR("ab"), STR("a")) > 0);
	assert_true(str_cmp(STR_NONE, STR("a")) < 0);
	assert_true(str_cmp(STR("\xff"), STR("a")) > 0); /* bytes, not chars */
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), STR_NONE));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_true(str_ends(STR("abc"), STR("bc")));
	assert_false(str_ends(STR("c"), STR("bc")));
	assert_true(str_ieq(STR("Content-LENGTH"), STR("content-length")));
	assert_false(str_ieq(STR("a"), STR("ab")));
	assert_false(str_ieq(STR("[@"), STR("{`"))); /* neighbours of letters differ by the same bit */
}

static void cutting(void **state)
{
	struct str s = STR("sha256:ab");

	assert_true(str_skip(&s, STR("sha256:")));
	assert_true(str_eqc(s, "ab"));
	assert_false(str_skip(&s, STR("x")));
	assert_true(str_eqc(s, "ab"));
	assert_true(str_eqc(str_sub(STR("abcdef"), 2, 3), "cde"));
	assert_true(str_eqc(str_sub(STR("abc"), 2, SIZE_MAX), "c"));
	assert_int_equal(str_sub(STR("abc"), 9, 1).n, 0);
	assert_true(str_eqc(str_trim(STR(" \t\r\n a b \v\f")), "a b"));
	assert_int_equal(str_trim(STR(" \n ")).n, 0);
	assert_int_equal(str_find(STR("a/b/c"), '/'), 1);
	assert_int_equal(str_rfind(STR("a/b/c"), '/'), 3);
	assert_int_equal(str_find(STR_NONE, 'x'), -1);
	assert_int_equal(str_rfind(STR("abc"), 'x'), -1);
}

/* The parts of `text`, each in brackets. */
static void assert_splits(struct str text, const char *want)
{
	char got[64] = "";
	struct str head;

	while (str_split(&text, ',', &head)) {
		strncat(got, "[", sizeof(got) - strlen(got) - 1);
		strncat(got, head.p, head.n);
		strncat(got, "]", sizeof(got) - strlen(got) - 1);
	}
	assert_string_equal(got, want);
}

static void splitting(void **state)
{
	assert_splits(STR("a,b"), "[a][b]");
	assert_splits(STR("a,"), "[a][]");
	assert_splits(STR(",a"), "[][a]");
	assert_splits(STR(",,"), "[][][]");
	assert_splits(STR(""), "[]");
	assert_splits(STR_NONE, "");
}

static void numbers(void **state)
{
	uint64_t u;
	int64_t i;

	assert_true(str_u64(STR("18446744073709551615"), 10, &u) && u == UINT64_MAX);
	assert_false(str_u64(STR("18446744073709551616"), 10, &u));
	assert_true(str_u64(STR("fFfFffffffffffff"), 16, &u) && u == UINT64_MAX);
	assert_false(str_u64(STR("10000000000000000"), 16, &u));
	assert_false(str_u64(STR(""), 10, &u));
	assert_false(str_u64(STR("-1"), 10, &u));
	assert_false(str_u64(STR("+1"), 10, &u));
	assert_false(str_u64(STR(" 1"), 10, &u));
	assert_false(str_u64(STR("1a"), 10, &u));
	assert_false(str_u64(STR("g"), 16, &u));
	assert_true(str_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
	assert_true(str_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
	assert_false(str_i64(STR("9223372036854775808"), &i));
	assert_false(str_i64(STR("-9223372036854775809"), &i));
	assert_false(str_i64(STR("-"), &i));
	assert_false(str_i64(STR("--1"), &i));
}

static void copying(void **state)
{
	AUTO_FREE char *d = str_dup(STR("ab"));
	AUTO_FREE char *e = str_dup(STR_NONE);
	char c[3];

	assert_string_equal(d, "ab");
	assert_string_equal(e, "");
	assert_true(str_copy(STR("ab"), c, sizeof(c)));
	assert_string_equal(c, "ab");
	assert_false(str_copy(STR("abc"), c, sizeof(c)));
	assert_string_equal(c, "");
	assert_false(str_copy(STR("a\0"), c, sizeof(c)));
	assert_false(str_copy(STR(""), c, 0));
	assert_true(str_copy(STR_NONE, c, sizeof(c)));
}

static void hashing(void **state)
{
	assert_true(str_hash(STR("abc")) == str_hash(STR("abc")));
	assert_true(str_hash(STR("abc")) != str_hash(STR("abd")));
	assert_true(str_hash(STR("")) == str_hash(STR_NONE));
}

static void utf8_sequences(void **state)
{
	assert_true(str_is_utf8(STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
	assert_true(str_is_utf8(STR_NONE));
	assert_false(str_is_utf8(STR("a\xc3")));
	assert_int_equal(utf8_len("\xe2\x82\xac", 3), 3);
	assert_int_equal(utf8_len("\xe2\x82\xac", 2), 0);
	assert_int_equal(utf8_len("\xed\xa0\x80", 3), 0);
	assert_int_equal(utf8_len("", 0), 0);
}

static void cleaning(void **state)
{
	char text[] = "a\nb\tc\x1b[31m\x7f \xc3\xa9 \xff \xc2\x9b!";

	text_clean(text);
	assert_string_equal(text, "a b c?[31m? \xc3\xa9 ? ?\?!");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(comparing),      cmocka_unit_test(cutting),  cmocka_unit_test(splitting),
	    cmocka_unit_test(numbers),        cmocka_unit_test(copying),  cmocka_unit_test(hashing),
	    cmocka_unit_test(utf8_sequences), cmocka_unit_test(cleaning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
