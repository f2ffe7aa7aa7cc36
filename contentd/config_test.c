#include "contentd/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void defaults(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};

	cd_config_init(&c);
	assert_int_equal(cd_config_finish(&c, NULL), 0);
	assert_string_equal(c.root, "/var/lib/contentd");
	assert_string_equal(c.address, "/run/contentd/contentd.sock");
	assert_string_equal(c.fetch_background, "on");
	assert_int_equal(c.fetch_background_quiet_ms, 500);
	assert_true(c.keep_layer_blobs);
	assert_int_equal(c.snapshotter_names.n, 2);
	assert_string_equal(c.snapshotter_names.p[0], "overlayfs");
}

static void a_file(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};

	cd_config_init(&c);
	assert_int_equal(cd_config_parse(&c, "f",
	                                 STR("state = '/tmp/s/'\nlog_level = \"debug\"\n"
	                                     "[snapshotter]\nlevel = 'tree'\nnames = ['one']\n"
	                                     "[fetch]\nread_timeout_ms = 7\n[content]\nkeep_layer_blobs = false\n"),
	                                 NULL),
	                 0);
	assert_int_equal(cd_config_finish(&c, NULL), 0);
	assert_string_equal(c.state, "/tmp/s");
	assert_string_equal(c.address, "/tmp/s/contentd.sock");
	assert_string_equal(c.snapshotter_level, "tree");
	assert_int_equal(c.snapshotter_names.n, 1);
	assert_string_equal(c.snapshotter_names.p[0], "one");
	assert_int_equal(c.fetch_read_timeout_ms, 7);
	assert_false(c.keep_layer_blobs);
}

static void mistakes_are_told_with_their_line(void **state)
{
	static const struct {
		const char *text, *where;
	} cases[] = {
	    {"\nroto = '/x'", "f:2: unknown key roto"},
	    {"[fetch]\nback = 1", "f:2: unknown key fetch.back"},
	    {"log_level = 'loud'", "f:1: log_level is \"loud\", it must be one of error|warn|info|debug"},
	    {"root = 'here'", "f:1: root is \"here\", it must be an absolute path"},
	    {"root = 5", "f:1: root must be a string"},
	    {"[fetch]\n\nread_timeout_ms = 0", "f:3: fetch.read_timeout_ms must be an integer"},
	    {"[content]\nkeep_layer_blobs = 'yes'", "f:2: content.keep_layer_blobs must be true or false"},
	    {"[snapshotter]\nnames = []", "f:2: snapshotter.names must be a list"},
	    {"[snapshotter]\nnames = ['a b']", "f:2: snapshotter.names: \"a b\" is no identifier"},
	    {"[snapshotter]\nnames = ['a', 1]", "f:2: snapshotter.names must be"},
	    {"root = 1.5", "f:1: root must be"},
	    {"root = '/a'\nroot = '/b'", "f:2: "},
	    {"x", "f:1: "},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(cd_config) struct cd_config c = {0};
		struct err err = ERR_INIT;

		cd_config_init(&c);
		assert_int_equal(cd_config_parse(&c, "f", str_of(cases[i].text), &err), -ERR_INVALID);
		if (strncmp(err.msg, cases[i].where, strlen(cases[i].where)))
			fail_msg("%s: %s", cases[i].text, err.msg);
	}
}

static void places_that_cannot_be(void **state)
{
	static const char *const bad[] = {
	    "root = '/a,b'", "state = '/a:b'", "root = ''",
	    "address = '/tmp/0123456789012345678901234567890123456789012345678901234567890123"
	    "4567890123456789012345678901234567'"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(cd_config) struct cd_config c = {0};

		cd_config_init(&c);
		assert_int_equal(cd_config_parse(&c, "f", str_of(bad[i]), NULL), 0);
		assert_int_equal(cd_config_finish(&c, NULL), -ERR_INVALID);
	}
}

static void the_printed_file_is_the_defaults(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};
	AUTO(buf) struct buf b = BUF_INIT;

	cd_config_init(&c);
	free(c.runtime_default);
	c.runtime_default = xstrdup("other");
	cd_config_print_default(&b);
	assert_int_equal(cd_config_parse(&c, "f", buf_str(&b), NULL), 0);
	assert_string_equal(c.runtime_default, "io.containerd.runc.v2");
	assert_int_equal(c.snapshotter_names.n, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(defaults),
	    cmocka_unit_test(a_file),
	    cmocka_unit_test(mistakes_are_told_with_their_line),
	    cmocka_unit_test(places_that_cannot_be),
	    cmocka_unit_test(the_printed_file_is_the_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
