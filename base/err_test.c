#include "base/err.h"

#include "base/str.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void set_and_wrap(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_set(&err, ERR_NOT_FOUND, "blob %d", 7), -ERR_NOT_FOUND);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(err.sys, 0);
	assert_string_equal(err.msg, "blob 7");
	assert_int_equal(err.n_frames, 1);
	assert_int_equal(err_wrap(&err, "pull %s", "x"), -ERR_NOT_FOUND);
	assert_string_equal(err.msg, "pull x: blob 7");
	assert_int_equal(err.n_frames, 2);
	assert_true(err.frames[0].line < err.frames[1].line);
	assert_true(str_ends(str_of(err.frames[0].file), STR("err_test.c")));
}

static void from_errno(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_errno(&err, ENOENT, "open %s", "/x"), -ERR_NOT_FOUND);
	assert_string_equal(err.msg, "open /x: No such file or directory");
	assert_int_equal(err.sys, ENOENT);
	assert_int_equal(err_errno(&err, 9999, "odd"), -ERR_UNKNOWN);
	assert_string_equal(err.msg, "odd: errno 9999");
}

static int fails(struct err *err)
{
	return err_set(err, ERR_ABORTED, "inner");
}

static int tries(struct err *err)
{
	TRY(fails(err));
	return 1;
}

static int tries_and_wraps(struct err *err)
{
	TRY_WRAP(fails(err), err, "outer");
	return 1;
}

static void try_returns_the_code(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(tries(&err), -ERR_ABORTED);
	assert_string_equal(err.msg, "inner");
	assert_int_equal(tries_and_wraps(&err), -ERR_ABORTED);
	assert_string_equal(err.msg, "outer: inner");
	/* The code survives where nobody wants the text. */
	assert_int_equal(tries(NULL), -ERR_ABORTED);
	assert_int_equal(tries_and_wraps(NULL), -ERR_ABORTED);
	assert_int_equal(err_errno(NULL, EEXIST, "x"), -ERR_EXISTS);
}

static void long_messages_are_cut(void **state)
{
	struct err err = ERR_INIT;

	for (int n = ERR_MSG_MAX - 10; n < ERR_MSG_MAX + 10; n++) {
		err_set(&err, ERR_INVALID, "%*s", n, "x");
		if (n < ERR_MSG_MAX) {
			assert_int_equal(strlen(err.msg), n);
			assert_true(str_ends(str_of(err.msg), STR("x")));
		} else {
			assert_int_equal(strlen(err.msg), ERR_MSG_MAX - 1);
			assert_true(str_ends(str_of(err.msg), STR("...")));
		}
	}
	err_set(&err, ERR_INVALID, "%*s", ERR_MSG_MAX - 5, "x");
	err_wrap(&err, "context");
	assert_true(str_starts(str_of(err.msg), STR("context: ")));
	assert_true(str_ends(str_of(err.msg), STR("...")));
	err_errno(&err, ENOENT, "%*s", ERR_MSG_MAX - 5, "x");
	assert_true(str_ends(str_of(err.msg), STR("...")));
}

/* A character of several bytes is never cut in the middle. */
static void cuts_keep_utf8(void **state)
{
	char text[2 * ERR_MSG_MAX];
	struct err err = ERR_INIT;

	for (size_t shift = 0; shift < 3; shift++) {
		memset(text, 'a', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		err_set(&err, ERR_INVALID, "%s", text);
		assert_true(str_is_utf8(str_of(err.msg)));
		assert_null(strchr(err.msg, '?')); /* nothing was repaired afterwards */
		assert_true(str_ends(str_of(err.msg), STR("\xe2\x82\xac...")));
	}
}

static void messages_are_one_line_of_utf8(void **state)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_INVALID, "name \"%s\"", "a\nb\x1b[2J\xff");
	assert_string_equal(err.msg, "name \"a b?[2J?\"");
	err_wrap(&err, "in\n%s", "\xfe");
	assert_string_equal(err.msg, "in ?: name \"a b?[2J?\"");
}

static void frames_are_bounded(void **state)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_INVALID, "x");
	for (int i = 0; i < 3 * ERR_FRAMES_MAX; i++)
		err_wrap(&err, "y");
	assert_int_equal(err.n_frames, ERR_FRAMES_MAX);
}

static void codes(void **state)
{
	struct err err = ERR_INIT;

	assert_string_equal(err_code_name(ERR_EXISTS), "already exists");
	assert_string_equal(err_code_name(ERR_UNAUTHENTICATED), "unauthenticated");
	assert_string_equal(err_code_name((enum err_code)99), "unknown");
	assert_int_equal(err_code_from_errno(ENOSPC), ERR_EXHAUSTED);
	assert_int_equal(err_code_from_errno(ECONNREFUSED), ERR_UNAVAILABLE);
	assert_int_equal(err_code_from_errno(EIO), ERR_UNKNOWN);
	assert_int_equal(err_to_errno(&err), 0);
	err_set(&err, ERR_NOT_FOUND, "x");
	assert_int_equal(err_to_errno(&err), ENOENT);
	assert_false(err_is_transient(&err));
	err_set(&err, ERR_DEADLINE, "x");
	assert_int_equal(err_to_errno(&err), EIO);
	assert_true(err_is_transient(&err));
	err_set(&err, ERR_UNIMPLEMENTED, "x");
	assert_int_equal(err_to_errno(&err), EOPNOTSUPP);
	err_errno(&err, ENOSPC, "x");
	assert_int_equal(err_to_errno(&err), ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(set_and_wrap),         cmocka_unit_test(from_errno),
	    cmocka_unit_test(try_returns_the_code), cmocka_unit_test(long_messages_are_cut),
	    cmocka_unit_test(cuts_keep_utf8),       cmocka_unit_test(messages_are_one_line_of_utf8),
	    cmocka_unit_test(frames_are_bounded),   cmocka_unit_test(codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
