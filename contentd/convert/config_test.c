#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "contentd/convert/convert.h"

static void only_the_diff_ids_change(void **state)
{
	struct str in = STR("{\"architecture\":\"amd64\",\"config\":{\"Cmd\":[\"a\"],\"Env\":[\"X=\\u00e9\"]},"
	                    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:old\"]},\"history\":[{\"x\": "
	                    "1.50}],\"os\":\"linux\"}");
	AUTO(buf) struct buf out = BUF_INIT;
	struct digest d[2];
	char one[DIGEST_TEXT_MAX], two[DIGEST_TEXT_MAX];
	struct err err = ERR_INIT;

	digest_of("1", 1, &d[0]);
	digest_of("2", 1, &d[1]);
	assert_int_equal(convert_config(in, d, 2, &out, &err), 0);
	AUTO_FREE char *want =
	    xasprintf("{\"architecture\":\"amd64\",\"config\":{\"Cmd\":[\"a\"],\"Env\":[\"X=\\u00e9\"]},"
	              "\"history\":[{\"x\": 1.50}],\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
	              "\"diff_ids\":[\"%s\",\"%s\"]}}",
	              digest_text(&d[0], one), digest_text(&d[1], two));
	assert_string_equal(buf_cstr(&out), want);
}

static void junk_is_refused(void **state)
{
	static const char *const bad[] = {"", "[]", "{\"a\":1", "{\"a\":1} x"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		assert_true(convert_config(str_of(bad[i]), NULL, 0, &out, NULL) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_the_diff_ids_change),
	    cmocka_unit_test(junk_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
