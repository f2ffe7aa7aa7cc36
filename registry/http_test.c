#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/http.h"
#include "registry/url.h"

#include <cmocka.h>

static void content_range(void **state)
{
	static const char *const bad[] = {"",
	                                  "bytes",
	                                  "bytes 1-0/5",
	                                  "bytes 0-5/5",
	                                  "items 0-1/5",
	                                  "bytes 0-1",
	                                  "bytes -1/5",
	                                  "bytes */*",
	                                  "bytes 0-1-2/5",
	                                  "bytes 0-1/x",
	                                  "bytes 0-18446744073709551615/*",
	                                  "bytes 0-1/18446744073709551615"};
	struct http_content_range r;

	assert_true(http_content_range_parse(STR("bytes 0-9/100"), &r));
	assert_true(r.has_range && r.has_size && r.first == 0 && r.last == 9 && r.size == 100);
	assert_true(http_content_range_parse(STR(" Bytes 5-9/* "), &r));
	assert_true(r.has_range && !r.has_size);
	assert_true(http_content_range_parse(STR("bytes */100"), &r));
	assert_true(!r.has_range && r.size == 100);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (http_content_range_parse(str_of(bad[i]), &r))
			fail_msg("%s", bad[i]);
}

static void retry_after(void **state)
{
	assert_int_equal(http_retry_after_s(STR("7"), 0), 7);
	assert_int_equal(http_retry_after_s(STR("999999999999"), 0), 3600);
	assert_int_equal(http_retry_after_s(STR("Wed, 21 Oct 2015 07:28:00 GMT"), 1445412470), 10);
	assert_int_equal(http_retry_after_s(STR("Wed, 21 Oct 2015 07:28:00 GMT"), 1445412490), 0);
	assert_int_equal(http_retry_after_s(STR("soon"), 0), 0);
	assert_int_equal(http_retry_after_s(STR("-1"), 0), 0);
}

static void assert_text(const char *body, const char *expected)
{
	AUTO(buf) struct buf b = BUF_INIT;

	http_error_text(str_of(body), &b);
	assert_string_equal(buf_cstr(&b), expected);
}

static void error_texts(void **state)
{
	AUTO(buf) struct buf longest = BUF_INIT, b = BUF_INIT;

	assert_text("{\"errors\":[{\"code\":\"A\",\"message\":\"x\",\"detail\":{}},{\"code\":\"B\"}]}", "A: x; B");
	assert_text("{\"details\":\"incorrect username or password\"}", "incorrect username or password");
	assert_text("{\"error\":\"invalid_grant\",\"error_description\":\"old\"}", "invalid_grant: old");
	assert_text("{\"errors\":[{\"code\":\"A\",\"message\":\"x\"},", "A: x");
	assert_text("{\"errors\":[{\"co", "{\"errors\":[{\"co");
	assert_text("<html><body>", "");
	assert_text("", "");
	assert_text("plain\r\n  text\x1b[31m \xc2\x9b \xff \xe2\x80\xae!", "plain text [31m ? ? ?!");
	buf_addz(&longest, 5000);
	memset(longest.p, 'x', longest.n);
	http_error_text(buf_str(&longest), &b);
	assert_true(b.n <= HTTP_ERROR_TEXT_MAX + 3);
}

static void urls(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FREE char *relative = NULL, *absolute = NULL, *none = NULL;
	static const char *const bad[] = {
	    "", "ftp://x/", "file:///etc/passwd", "http://user:pass@x/", "http://x/\r\nA: b", "http://x/ y", "http://"};

	http_printable_url(STR("https://u:p@h.example:1/a?X-Amz-Signature=s#f"), &b);
	assert_string_equal(buf_cstr(&b), "https://h.example:1/a");
	assert_int_equal(url_resolve("http://a.b:1/v2/x/blobs/uploads/", STR("/up/1?s=t#f"), &relative, NULL), 0);
	assert_string_equal(relative, "http://a.b:1/up/1?s=t");
	assert_int_equal(url_resolve("http://a.b:1/x", STR("https://c.d/e"), &absolute, NULL), 0);
	assert_string_equal(absolute, "https://c.d/e");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (url_resolve("http://a.b/", str_of(bad[i]), &none, NULL) == 0)
			fail_msg("%s", bad[i]);
	assert_true(url_same_origin("https://A.b/x", "https://a.b:443/y"));
	assert_false(url_same_origin("https://a.b/", "http://a.b/"));
	assert_false(url_same_origin("https://a.b/", "https://a.b:444/"));
	assert_false(url_same_origin("https://a.b/", "https://a.b.c/"));
	assert_false(url_same_origin("junk", "junk"));
}

static void tokens(void **state)
{
	static const char *const bad[] = {"",
	                                  "{}",
	                                  "{\"token\":\"\"}",
	                                  "{\"token\":\"a\\nb\"}",
	                                  "{\"token\":\"a b\"}",
	                                  "{\"token\":5}",
	                                  "{\"token\":\"a\"} x"};
	struct http_token t;

	assert_int_equal(http_token_parse(STR("{\"token\":\"abc\",\"expires_in\":300}"), &t, NULL), 0);
	assert_string_equal(t.value, "abc");
	assert_int_equal(t.expires_in_s, 300);
	free(t.value);
	assert_int_equal(http_token_parse(STR("{\"access_token\":\"abc\"}"), &t, NULL), 0);
	assert_int_equal(t.expires_in_s, 60);
	free(t.value);
	assert_int_equal(
	    http_token_parse(STR("{\"token\":\"a\",\"access_token\":\"b\",\"expires_in\":1e99}"), &t, NULL), 0);
	assert_string_equal(t.value, "a");
	assert_int_equal(t.expires_in_s, 86400);
	free(t.value);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(http_token_parse(str_of(bad[i]), &t, NULL) < 0);
		assert_null(t.value);
	}
}

static void links(void **state)
{
	static const struct {
		const char *value, *next; /* NULL: none */
	} cases[] = {
	    {"</v2/x?n=1&last=2>; rel=\"next\"", "/v2/x?n=1&last=2"},
	    {"<a>; rel=next", "a"},
	    {"<a>; rel=prev, <b,c>; title=\"x, \\\"y;rel=next\" ; REL=\"last Next\"", "b,c"},
	    {"<>;rel=next", ""},
	    {"<a>; rel=nextish", NULL},
	    {"<a>", NULL},
	    {"a; rel=next", NULL},
	    {"<a; rel=next", NULL},
	    {"", NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct str url;

		assert_int_equal(http_link_next(str_of(cases[i].value), &url), cases[i].next != NULL);
		if (cases[i].next)
			assert_true(str_eqc(url, cases[i].next));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(content_range), cmocka_unit_test(retry_after), cmocka_unit_test(error_texts),
	    cmocka_unit_test(urls),          cmocka_unit_test(tokens),      cmocka_unit_test(links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
