#include "contentd/ident.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void identifiers(void **state)
{
	static const char *const good[] = {
	    "a",       "default", "k8s.io",
	    "a-b_c.d", "0",       "a234567890123456789012345678901234567890123456789012345678901234567890123456"};
	static const char *const bad[] = {
	    "",         ".a",
	    "a.",       "a--b",
	    "a._b",     "-",
	    "a b",      "a/b",
	    "\xc3\xa9", "a2345678901234567890123456789012345678901234567890123456789012345678901234567"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(cd_ident_check("id", good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(cd_ident_check("id", bad[i], NULL), -ERR_INVALID);
}

static void topics(void **state)
{
	assert_int_equal(cd_topic_check("/tasks/start", NULL), 0);
	assert_int_equal(cd_topic_check("/a", NULL), 0);
	assert_int_equal(cd_topic_check("nope", NULL), -ERR_INVALID);
	assert_int_equal(cd_topic_check("/", NULL), -ERR_INVALID);
	assert_int_equal(cd_topic_check("", NULL), -ERR_INVALID);
	assert_int_equal(cd_topic_check("/a/", NULL), -ERR_INVALID);
	assert_int_equal(cd_topic_check("/a//b", NULL), -ERR_INVALID);
}

static void digests(void **state)
{
	static const struct {
		const char *prefix;
		size_t hex;
	} good[] = {{"sha256:", 64}, {"sha384:", 96}, {"sha512:", 128}};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		AUTO(buf) struct buf b = BUF_INIT;

		buf_adds(&b, good[i].prefix);
		for (size_t k = 0; k < good[i].hex; k++)
			buf_addc(&b, "0123456789abcdef"[k % 16]);
		assert_int_equal(cd_digest_check(b.p, NULL), 0);
		b.p[b.n - 1] = 'F';
		assert_int_equal(cd_digest_check(b.p, NULL), -ERR_INVALID);
		b.p[b.n - 1] = '\0';
		assert_int_equal(cd_digest_check(b.p, NULL), -ERR_INVALID);
	}
	assert_int_equal(cd_digest_check("", NULL), -ERR_INVALID);
	assert_int_equal(cd_digest_check("md5:d41d8cd98f00b204e9800998ecf8427e", NULL), -ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(identifiers),
	    cmocka_unit_test(topics),
	    cmocka_unit_test(digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
