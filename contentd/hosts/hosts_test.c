#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/testing.h"
#include "contentd/hosts/hosts.h"
#include "registry/client.h"

static void everything(void **state)
{
	AUTO(cd_hosts) struct cd_hosts h = {0};
	const struct cd_hosts_server *m;

	OK(cd_hosts_parse("/etc/d/x/hosts.toml",
	                  STR("server = \"https://registry.example\"\n"
	                      "capabilities = [\"pull\", \"resolve\"]\n"
	                      "header = { x-top = \"t\" }\n"
	                      "[host.\"https://b.example:5000/p\"]\n"
	                      "capabilities = [\"pull\"]\n"
	                      "ca = \"ca.pem\"\n"
	                      "client = [[\"/abs/c.pem\", \"k.pem\"]]\n"
	                      "skip_verify = true\n"
	                      "override_path = true\n"
	                      "[host.\"https://b.example:5000/p\".header]\n"
	                      "x-a = \"1\"\n"
	                      "x-b = [\"2\", \"3\"]\n"
	                      "[host.\"http://a.example\"]\n"
	                      "ca = [\"/one.pem\"]\n"
	                      "client = \"both.pem\"\n"),
	                  &h, err));
	assert_string_equal(h.server.url, "https://registry.example");
	assert_int_equal(h.server.can, REG_CAN_PULL | REG_CAN_RESOLVE);
	assert_int_equal(h.server.headers.n, 1);
	assert_string_equal(h.server.headers.p[0], "x-top: t");
	assert_int_equal(h.mirrors.n, 2);
	m = &h.mirrors.p[0]; /* in the file's order, not the alphabet's */
	assert_string_equal(m->url, "https://b.example:5000/p");
	assert_int_equal(m->can, REG_CAN_PULL);
	assert_string_equal(m->ca, "/etc/d/x/ca.pem");
	assert_string_equal(m->cert, "/abs/c.pem");
	assert_string_equal(m->key, "/etc/d/x/k.pem");
	assert_true(m->skip_verify && m->override_path);
	assert_int_equal(m->headers.n, 3);
	assert_string_equal(m->headers.p[2], "x-b: 3");
	m = &h.mirrors.p[1];
	assert_int_equal(m->can, REG_CAN_PULL | REG_CAN_RESOLVE | REG_CAN_PUSH);
	assert_string_equal(m->ca, "/one.pem");
	assert_string_equal(m->cert, "/etc/d/x/both.pem");
	assert_null(m->key);
	assert_false(m->skip_verify || m->override_path);
}

static void nothing(void **state)
{
	AUTO(cd_hosts) struct cd_hosts h = {0};

	OK(cd_hosts_parse("", STR(""), &h, err));
	assert_null(h.server.url);
	assert_int_equal(h.server.can, REG_CAN_PULL | REG_CAN_RESOLVE | REG_CAN_PUSH);
	assert_int_equal(h.mirrors.n, 0);
}

static void mistakes_have_a_line(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
	    {"server = \"https://a\"\nservre = 1\n", "h.toml:2: servre: unknown key"},
	    {"[host.\"https://a\"]\ndial_timeout = \"1s\"\n", "h.toml:2: host.https://a.dial_timeout: unknown key"},
	    {"[host.\"https://a\".header.x]\ny = \"1\"\n", "h.toml:"},
	    {"[host.\"ftp://a\"]\n", "h.toml:1:"},
	    {"[host.\"https://a b\"]\n", "h.toml:1:"},
	    {"[host.\"https://u:p@a\"]\n", "h.toml:1:"},
	    {"[host.\"https://a?q\"]\n", "h.toml:1:"},
	    {"\n\nserver = 1\n", "h.toml:3:"},
	    {"capabilities = [\"pull\", \"fly\"]\n", "h.toml:1:"},
	    {"capabilities = \"pull\"\n", "h.toml:1:"},
	    {"ca = [\"a\", \"b\"]\n", "h.toml:1:"},
	    {"client = [\"a\", \"b\"]\n", "h.toml:1:"},
	    {"client = [[\"a\", \"b\"], [\"c\", \"d\"]]\n", "h.toml:1:"},
	    {"skip_verify = \"yes\"\n", "h.toml:1:"},
	    {"[header]\nx = \"a\\r\\nb: c\"\n", "h.toml:2:"},
	    {"[header]\n\"x y\" = \"a\"\n", "h.toml:2:"},
	    {"[header]\nx = 1\n", "h.toml:2:"},
	    {"host = 1\n", "h.toml:1:"},
	    {"server = \n", "h.toml:1:"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(cd_hosts) struct cd_hosts h = {0};
		struct err err = ERR_INIT;

		assert_int_equal(cd_hosts_parse("h.toml", str_of(cases[i].text), &h, &err), -(int)ERR_INVALID);
		if (!str_starts(str_of(err.msg), str_of(cases[i].want)))
			fail_msg("%s: %s", cases[i].text, err.msg);
	}
}

static void bases(void **state)
{
	static const struct {
		const char *url;
		bool override_path;
		const char *want;
	} cases[] = {
	    {"https://a", false, "https://a/v2"},
	    {"a:5000", false, "https://a:5000/v2"},
	    {"http://127.0.0.1:1/", false, "http://127.0.0.1:1/v2"},
	    {"https://a/v2", false, "https://a/v2"},
	    {"https://a/x/", false, "https://a/x/v2"},
	    {"https://a/x", true, "https://a/x"},
	    {"https://[::1]:5000", true, "https://[::1]:5000"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_FREE char *base = NULL;

		OK(cd_hosts_base(cases[i].url, cases[i].override_path, &base, err));
		assert_string_equal(base, cases[i].want);
	}
}

static void servers(void **state)
{
	assert_true(cd_hosts_same_server("https://A.example/v2", "https://a.example:443/x"));
	assert_true(cd_hosts_same_server("http://[::1]/v2", "http://[::1]:80"));
	assert_false(cd_hosts_same_server("https://a.example/v2", "http://a.example/v2"));
	assert_false(cd_hosts_same_server("https://a.example:80/v2", "http://a.example/v2"));
	assert_false(cd_hosts_same_server("https://a.example/v2", "https://a.example:444/v2"));
	assert_false(cd_hosts_same_server("https://a.example/v2", "https://a.example.org/v2"));
	assert_false(cd_hosts_same_server("http://[::1]:80", "http://[::1]:81"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(everything), cmocka_unit_test(nothing), cmocka_unit_test(mistakes_have_a_line),
	    cmocka_unit_test(bases),      cmocka_unit_test(servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
