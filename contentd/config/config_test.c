#include "contentd/config/config.h"

#include "base/file.h"

#include <fcntl.h>
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
	assert_string_equal(c.content_sharing, "shared");
	assert_int_equal(c.snapshotter_names.n, 3);
	assert_string_equal(c.snapshotter_names.p[0], "overlayfs");
	assert_string_equal(c.snapshotter_names.p[1], "native");
	assert_string_equal(c.snapshotter_names.p[2], "stargz");
}

static void a_file(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};

	cd_config_init(&c);
	assert_int_equal(cd_config_parse(&c, "f",
	                                 STR("state = '/tmp/s/'\n[log]\nlevel = \"debug\"\n"
	                                     "[snapshotter]\nlevel = 'tree'\nnames = ['one']\n"
	                                     "[fetch]\nread_timeout_ms = 7\n[content]\nkeep_layer_blobs = false\n"
	                                     "[gc]\nmutation_threshold = 0\npause_threshold = 0.5\n"),
	                                 NULL, NULL),
	                 0);
	assert_int_equal(cd_config_finish(&c, NULL), 0);
	assert_string_equal(c.state, "/tmp/s");
	assert_string_equal(c.address, "/tmp/s/contentd.sock");
	assert_string_equal(c.snapshotter_level, "tree");
	assert_int_equal(c.snapshotter_names.n, 1);
	assert_string_equal(c.snapshotter_names.p[0], "one");
	assert_int_equal(c.fetch_read_timeout_ms, 7);
	assert_false(c.keep_layer_blobs);
	assert_int_equal(c.gc_mutation_threshold, 0);
	assert_true(c.gc_pause_threshold == 0.5);
}

static void mistakes_are_told_with_their_line(void **state)
{
	static const struct {
		const char *text, *where;
	} cases[] = {
	    {"\nroto = '/x'", "f:2: unknown key roto"},
	    {"[fetch]\nback = 1", "f:2: unknown key fetch.back"},
	    {"[log]\nlevel = 'loud'", "f:2: log.level is \"loud\", it must be one of error|warn|info|debug"},
	    {"[gcc]", "f:1: unknown table [gcc]"},
	    {"root = \"/r\"\n\n[*]\n", "f:3: this is no key"},
	    {"[fetch.!]\n", "f:1: "},
	    {"fetch = 3", "f:1: fetch is a table: [fetch]"},
	    {"[[fetch]]", "f:1: fetch is a table: [fetch]"},
	    {"root = 'here'", "f:1: root is \"here\", it must be an absolute path"},
	    {"root = 5", "f:1: root must be a string"},
	    {"[fetch]\n\nread_timeout_ms = 0", "f:3: fetch.read_timeout_ms must be an integer"},
	    {"[content]\nkeep_layer_blobs = 'yes'", "f:2: content.keep_layer_blobs must be true or false"},
	    {"[content]\nsharing = 'some'", "f:2: content.sharing is \"some\", it must be one of shared|isolated"},
	    {"[snapshotter]\nnames = []", "f:2: snapshotter.names must be a list"},
	    {"[snapshotter]\nnames = ['a b']", "f:2: snapshotter.names: \"a b\" is no identifier"},
	    {"[snapshotter]\nnames = ['a', 1]", "f:2: snapshotter.names must be"},
	    {"[gc]\nmutation_threshold = -1", "f:2: gc.mutation_threshold must be"},
	    {"[gc]\npause_threshold = 0.6", "f:2: gc.pause_threshold must be"},
	    {"root = 1.5", "f:1: root must be a string"},
	    {"root = 1979-05-27", "f:1: root must be a string"},
	    {"root = '/a'\nroot = '/b'", "f:2: "},
	    {"x", "f:1: "},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(cd_config) struct cd_config c = {0};
		struct err err = ERR_INIT;

		cd_config_init(&c);
		assert_int_equal(cd_config_parse(&c, "f", str_of(cases[i].text), NULL, &err), -ERR_INVALID);
		if (strncmp(err.msg, cases[i].where, strlen(cases[i].where)))
			fail_msg("%s: %s", cases[i].text, err.msg);
	}
}

static void places_that_cannot_be(void **state)
{
	static const char *const bad[] = {
	    "root = '/a,b'", "state = '/a:b'", "root = ''",
	    "grpc.address = '/tmp/0123456789012345678901234567890123456789012345678901234567890123"
	    "4567890123456789012345678901234567'"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(cd_config) struct cd_config c = {0};

		cd_config_init(&c);
		assert_int_equal(cd_config_parse(&c, "f", str_of(bad[i]), NULL, NULL), 0);
		assert_int_equal(cd_config_finish(&c, NULL), -ERR_INVALID);
	}
}

static void every_mistake_is_told(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};
	AUTO(buf) struct buf all = BUF_INIT;
	struct err err = ERR_INIT;

	cd_config_init(&c);
	assert_int_equal(cd_config_parse(&c, "f", STR("roto = 1\nroot = 2\n[fetch]\nback = 3\n"), &all, &err),
	                 -ERR_INVALID);
	assert_string_equal(err.msg, "f:1: unknown key roto");
	assert_string_equal(buf_cstr(&all), "f:1: unknown key roto\nf:2: root must be a string\n"
	                                    "f:4: unknown key fetch.back\n");
}

static void the_printed_file_is_the_defaults(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};
	AUTO(buf) struct buf b = BUF_INIT;

	cd_config_init(&c);
	free(c.runtime_default);
	c.runtime_default = xstrdup("other");
	cd_config_print(NULL, &b);
	assert_int_equal(cd_config_parse(&c, "f", buf_str(&b), NULL, NULL), 0);
	assert_string_equal(c.runtime_default, "io.containerd.runc.v2");
	assert_int_equal(c.snapshotter_names.n, 3);
}

static void what_is_printed_is_what_is_in_force(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};
	AUTO(cd_config) struct cd_config again = {0};
	AUTO(buf) struct buf b = BUF_INIT;

	cd_config_init(&c);
	assert_int_equal(
	    cd_config_parse(&c, "f",
	                    STR("root = '/a\"b'\nstate = \"/s\\u0001\"\n[snapshotter]\nnames = ['x', 'y']\n"
	                        "[fetch]\nread_timeout_ms = 7\n[content]\nkeep_layer_blobs = false\n"),
	                    NULL, NULL),
	    0);
	cd_config_print(&c, &b);
	cd_config_init(&again);
	assert_int_equal(cd_config_parse(&again, "f", buf_str(&b), NULL, NULL), 0);
	assert_string_equal(again.root, "/a\"b");
	assert_string_equal(again.state, "/s\001");
	assert_int_equal(again.snapshotter_names.n, 2);
	assert_string_equal(again.snapshotter_names.p[1], "y");
	assert_int_equal(again.fetch_read_timeout_ms, 7);
	assert_false(again.keep_layer_blobs);
}

static void a_reload_takes_what_it_may(void **state)
{
	AUTO(cd_config) struct cd_config c = {0};
	AUTO(cd_config) struct cd_config fresh = {0};
	AUTO(buf) struct buf ignored = BUF_INIT;

	cd_config_init(&c);
	cd_config_init(&fresh);
	assert_int_equal(cd_config_parse(&fresh, "f",
	                                 STR("root = '/other'\n[log]\nlevel = 'debug'\n[snapshotter]\nnames = ['n']\n"),
	                                 NULL, NULL),
	                 0);
	cd_config_reload(&c, &fresh, &ignored);
	assert_string_equal(buf_cstr(&ignored), "root, snapshotter.names");
	assert_string_equal(c.root, "/var/lib/contentd");
	assert_string_equal(c.log_level, "debug");
}

/* docs/config.md has a row "| `key` | `default` | ..." for each key, in their order, and none beside them. */
static void the_documentation_names_the_same_keys(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line;
	size_t n = 0;

	assert_int_equal(file_read(AT_FDCWD, "../../docs/config.md", 1u << 20, &text, NULL), 0);
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line)) {
		AUTO_FREE char *row = NULL;

		if (!str_starts(line, STR("| `")))
			continue;
		if (!cd_config_key(n))
			fail_msg("documented, but unknown: " STR_FMT, STR_ARG(line));
		row = xasprintf("| `%s` | `%s` | ", cd_config_key(n), cd_config_key_default(n));
		if (!str_starts(line, str_of(row)))
			fail_msg("the documentation has\n" STR_FMT "\nwhere this is expected:\n%s", STR_ARG(line), row);
		n++;
	}
	if (cd_config_key(n))
		fail_msg("%s is not documented", cd_config_key(n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(defaults),
	    cmocka_unit_test(a_file),
	    cmocka_unit_test(mistakes_are_told_with_their_line),
	    cmocka_unit_test(places_that_cannot_be),
	    cmocka_unit_test(every_mistake_is_told),
	    cmocka_unit_test(the_printed_file_is_the_defaults),
	    cmocka_unit_test(what_is_printed_is_what_is_in_force),
	    cmocka_unit_test(a_reload_takes_what_it_may),
	    cmocka_unit_test(the_documentation_names_the_same_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
