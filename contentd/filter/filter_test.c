#include "contentd/filter/filter.h"

#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
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
	    " name == foo",
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

/* ---- a table made by a real containerd: tests/golden/filters.txt ---- */

static bool container_field(const void *object, const struct str *path, size_t n, struct str *value)
{
	static const struct {
		const char *key, *value;
	} labels[] = {{"foo", "bar"},
	              {"very complex.key/with:all", "1"},
	              {"a.b", "1"},
	              {"slash", "/x/y"},
	              {"quoted", "a\"b"},
	              {"comma", "a,b c"},
	              {"under_score", "1"},
	              {"0digit", "1"},
	              {"unicode", "\xc3\xbc"},
	              {"foo-bar", "1"}};
	AUTO(buf) struct buf key = BUF_INIT;

	if (n == 1 && str_eqc(path[0], "id")) {
		*value = STR("c1");
		return true;
	}
	if (n < 2 || !str_eqc(path[0], "labels"))
		return false;
	for (size_t i = 1; i < n; i++)
		buf_addf(&key, "%s" STR_FMT, i > 1 ? "." : "", STR_ARG(path[i]));
	for (size_t i = 0; i < ARRAY_LEN(labels); i++)
		if (!strcmp(buf_cstr(&key), labels[i].key)) {
			*value = str_of(labels[i].value);
			return true;
		}
	return false;
}

static void as_containerd(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line, verdict;
	unsigned n = 0, wrong = 0;

	assert_int_equal(file_read(AT_FDCWD, "../../tests/golden/filters.txt", 1u << 20, &text, NULL), 0);
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		AUTO(cd_filter) struct cd_filter *f = NULL;
		AUTO_FREE char *filter = NULL;
		const char *got = "bad";

		if (!line.n || line.p[0] == '#' || !str_split(&line, '\t', &verdict))
			continue;
		filter = str_dup(line);
		if (cd_filter_new((const char *const *)&filter, 1, &f, NULL) >= 0)
			got = cd_filter_match(f, container_field, NULL) ? "yes" : "no";
		n++;
		if (str_eqc(verdict, got))
			continue;
		wrong++;
		print_error("%s: %s, but containerd says " STR_FMT "\n", filter, got, STR_ARG(verdict));
	}
	assert_true(n > 100);
	assert_int_equal(wrong, 0);
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
	    cmocka_unit_test(as_containerd),
	    cmocka_unit_test(any_of_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
