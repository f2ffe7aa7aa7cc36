#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/reference.h"

#include <cmocka.h>

#define D "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void normalised(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
	    {"alpine", "docker.io/library/alpine:latest"},
	    {"alpine:3.19", "docker.io/library/alpine:3.19"},
	    {"user/app", "docker.io/user/app:latest"},
	    {"docker.io/alpine", "docker.io/library/alpine:latest"},
	    {"index.docker.io/alpine:1", "docker.io/library/alpine:1"},
	    {"registry-1.docker.io/user/app", "docker.io/user/app:latest"},
	    {"Docker.IO/user/app", "docker.io/user/app:latest"},
	    {"localhost/app", "localhost/app:latest"},
	    {"localhost:5000/app:v1", "localhost:5000/app:v1"},
	    {"127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"},
	    {"[::1]:5000/app", "[::1]:5000/app:latest"},
	    {"quay.io/a/b@" D, "quay.io/a/b@" D},
	    {"quay.io/a/b:t@" D, "quay.io/a/b:t@" D},
	    {"ghcr.io/a__b/c.d-e---f_g:T_.-x", "ghcr.io/a__b/c.d-e---f_g:T_.-x"},
	    {"MYHOST/app", "myhost/app:latest"}, /* upper case cannot be a path, so it is a host */
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[REG_REF_TEXT_MAX];
		struct reg_ref ref, again;
		struct err err = ERR_INIT;

		if (reg_ref_parse(str_of(cases[i].in), &ref, &err) < 0)
			fail_msg("%s: %s", cases[i].in, err.msg);
		assert_string_equal(reg_ref_text(&ref, text), cases[i].out);
		if (strcmp(cases[i].in, "MYHOST/app")) { /* whose canonical form says docker.io/myhost/app */
			assert_int_equal(reg_ref_parse(str_of(text), &again, &err), 0);
			assert_memory_equal(&again, &ref, sizeof(ref));
		}
	}
}

static void refused(void **state)
{
	static const char *const cases[] = {
	    "",
	    "Alpine",
	    "a//b",
	    "a/",
	    "/a",
	    "a:",
	    "a:b:c",
	    "a@",
	    "a@sha256:abc",
	    "a@md5:d41d8cd98f00b204e9800998ecf8427e",
	    "a@" D "@" D,
	    "a b",
	    "a\n",
	    "a/../b",
	    "a___b",
	    "a-",
	    ".a",
	    "a:-tag",
	    "host.example:99999/a",
	    "host.example:0/a",
	    "host..example/a",
	    "-host.example/a",
	    "user@host.example/a",
	    "https://host.example/a",
	    "[::1/a",
	    "[zz]:1/a",
	};
	char longest[400];
	struct reg_ref ref;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (reg_ref_parse(str_of(cases[i]), &ref, NULL) >= 0)
			fail_msg("accepted \"%s\"", cases[i]);
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(reg_ref_parse(str_make(longest, REG_REPOSITORY_MAX + 1), &ref, NULL), -ERR_INVALID);
	longest[1] = ':';
	assert_int_equal(reg_ref_parse(str_make(longest, 2 + REG_TAG_MAX), &ref, NULL), 0);
	assert_int_equal(reg_ref_parse(str_make(longest, 3 + REG_TAG_MAX), &ref, NULL), -ERR_INVALID);
}

static void pieces(void **state)
{
	struct reg_ref ref;

	assert_int_equal(reg_ref_make(STR("docker.io"), STR("alpine"), &ref, NULL), 0);
	assert_string_equal(ref.repository, "library/alpine");
	assert_int_equal(reg_ref_make(STR("nodots"), STR("alpine"), &ref, NULL), -ERR_INVALID);
	assert_int_equal(reg_ref_make(STR("a.b"), STR("x:tag"), &ref, NULL), -ERR_INVALID);
	assert_string_equal(reg_host_api("docker.io"), "registry-1.docker.io");
	assert_string_equal(reg_host_api("quay.io"), "quay.io");
}

static void loopback(void **state)
{
	static const char *const yes[] = {"localhost",      "LOCALHOST:80", "127.0.0.1",
	                                  "127.1.2.3:5000", "[::1]",        "[::1]:5000"};
	static const char *const no[] = {
	    "localhost.example", "127.0.0.1.example", "127.0.0", "128.0.0.1", "[::2]", "[::1]x",
	    "127.0.0.256",       "example.com:127",   "",        "10.0.0.1"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!reg_host_is_loopback(str_of(yes[i])))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (reg_host_is_loopback(str_of(no[i])))
			fail_msg("%s", no[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(normalised),
	    cmocka_unit_test(refused),
	    cmocka_unit_test(pieces),
	    cmocka_unit_test(loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
