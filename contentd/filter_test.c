#include "contentd/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* An object with a few fields, "labels" by dots. */
static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	if (n == 1 && str_eqc(path[0], "name"))
		*value = STR("foo");
	else if (n == 1 && str_eqc(path[0], "other"))
		*value = STR("bar,baz x");
	else if (n == 3 && str_eqc(path[0], "labels") && str_eqc(path[1], "a") && str_eqc(path[2], "b"))
		*value = STR("1");
	else if (n == 2 && str_eqc(path[0], "labels") && str_eqc(path[1], "very complex.key/with:all"))
		*value = STR("2");
	else
		return false;
	return true;
}

static bool matches(const char *text)
{
	AUTO(cd_filter) struct cd_filter *f = NULL;
	struct err err = ERR_INIT;

	if (cd_filter_new(&text, 1, &f, &err) < 0)
		fail_msg("%s", err.msg);
	return cd_filter_match(f, field, NULL);
}

static void selectors(void **state)
{
	static const char *const yes[] = {
	    "",
	    "name",
	    "name==foo",
	    " name == foo ",
	    "name!=bar",
	    "absent!=x",
	    "name~=^f",
	    "name~=/o{2}/",
	    "name~=|^f.o$|",
	    "name~=\"o+\"",
	    "name==\"foo\"",
	    "name==\"\\x66\\157\\u006f\"",
	    "other==\"bar,baz x\"",
	    "labels.a.b",
	    "labels.a.b==1",
	    "labels.\"very complex.key/with:all\"==2",
	    "name==foo,labels.a.b==1",
	    "name==foo, labels.a.b",
	    "absent~=^$",
	    "\"name\"==foo",
	};
	static const char *const no[] = {
	    "absent", "name==fo", "name!=foo", "name~=^o",     "name==foo,absent", "name==bar,name==foo",
	    "labels", "labels.a", "name~=(",   "absent==\"\"", "name~=\"[\"",
	};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!matches(yes[i]))
			fail_msg("%s should match", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (matches(no[i]))
			fail_msg("%s should not match", no[i]);
}

static void mistakes(void **state)
{
	static const char *const bad[] = {
	    " ",
	    ",",
	    "name,",
	    ",name",
	    "name==",
	    "name=foo",
	    "name===foo",
	    "name<foo",
	    ".name",
	    "name.",
	    "name..x",
	    "name==foo bar",
	    "name==\"foo",
	    "name==\"\\q\"",
	    "name==\"\\x6\"",
	    "name==\"\\477\"",
	    "name==\"\\U00110000\"",
	    "name==\"a\nb\"",
	    "na-me",
	    "name~=/foo",
	    "name==foo\"bar\",",
	    "name !",
	    "name~=|\\/|",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(cd_filter) struct cd_filter *f = NULL;
		struct err err = ERR_INIT;

		if (cd_filter_new(&bad[i], 1, &f, &err) != -ERR_INVALID)
			fail_msg("%s should be refused", bad[i]);
		assert_non_null(strstr(err.msg, "filter"));
	}
}

static void any_of_several(void **state)
{
	const char *const texts[] = {"name==bar", "labels.a.b==1"}, *const none[] = {"name==bar", "absent"};
	AUTO(cd_filter) struct cd_filter *f = NULL;
	AUTO(cd_filter) struct cd_filter *g = NULL;
	AUTO(cd_filter) struct cd_filter *empty = NULL;

	assert_int_equal(cd_filter_new(texts, 2, &f, NULL), 0);
	assert_true(cd_filter_match(f, field, NULL));
	assert_int_equal(cd_filter_new(none, 2, &g, NULL), 0);
	assert_false(cd_filter_match(g, field, NULL));
	assert_int_equal(cd_filter_new(NULL, 0, &empty, NULL), 0);
	assert_true(cd_filter_match(empty, field, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(selectors),
	    cmocka_unit_test(mistakes),
	    cmocka_unit_test(any_of_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
