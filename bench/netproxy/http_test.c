#include "bench/netproxy/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* What the parser says of a text that arrives in steps of `step` bytes: H<head>, B<payload>, F<framing>, ., O<bytes>. */
static char *parse(enum http_kind kind, struct str text, size_t step, bool no_body)
{
	AUTO(http) struct http h = {0};
	struct buf out = BUF_INIT;
	char last = 0;

	http_init(&h, kind);
	for (size_t at = 0; at < text.n; at += step) {
		struct str rest = str_sub(text, at, step);
		enum http_what what;
		struct str piece;

		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) {
			char c = "?HFB.O"[what];

			/* Pieces of the same kind are one, however they were cut; heads and ends stand alone. */
			if (c != last || c == 'H' || c == '.')
				buf_addc(&out, c);
			buf_addstr(&out, piece);
			last = c;
			if (what == HTTP_HEAD && no_body)
				http_no_body(&h);
		}
	}
	return buf_steal(&out);
}

static void expect(enum http_kind kind, const char *text, bool no_body, const char *want)
{
	for (size_t step = 1; step <= strlen(text); step++) {
		AUTO_FREE char *got = parse(kind, str_of(text), step, no_body);

		assert_string_equal(got, want);
	}
}

static void test_requests(void **state)
{
	expect(HTTP_REQUEST, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", false, "HGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n.");
	expect(HTTP_REQUEST, "GET /a HTTP/1.1\n\nGET /b HTTP/1.1\n\n", false,
	       "HGET /a HTTP/1.1\n\n.HGET /b HTTP/1.1\n\n.");
	expect(HTTP_REQUEST, "PUT /a HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n", false,
	       "HPUT /a HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nBhello.HGET / HTTP/1.0\r\n\r\n.");
}

static void test_chunked(void **state)
{
	expect(HTTP_RESPONSE,
	       "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\n"
	       "Trailer: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
	       false,
	       "HHTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, "
	       "chunked\r\n\r\nF5;ext=1\r\nBhelloF\r\nA\r\nB0123456789F\r\n0\r\n"
	       "Trailer: x\r\n\r\n.HHTTP/1.1 204 No\r\n\r\n.");
}

static void test_responses(void **state)
{
	expect(
	    HTTP_RESPONSE,
	    "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nHTTP/1.1 404 N\r\nContent-Length: 1\r\n\r\nx", false,
	    "HHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n.HHTTP/1.1 404 N\r\nContent-Length: 1\r\n\r\nBx.");
	/* Without a length the body ends with the connection. */
	expect(HTTP_RESPONSE, "HTTP/1.0 200 OK\r\n\r\nall of this", false, "HHTTP/1.0 200 OK\r\n\r\nBall of this");
	expect(HTTP_RESPONSE, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n", false,
	       "HHTTP/1.1 100 Continue\r\n\r\n.HHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n.");
	/* To HEAD. */
	expect(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true,
	       "HHTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n.HHTTP/1.1 200 OK\r\n\r\n.");
}

static void test_opaque(void **state)
{
	expect(HTTP_REQUEST, "\x16\x03\x01 tls", false, "O\x16\x03\x01 tls");
	expect(HTTP_REQUEST, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, "OPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
	expect(HTTP_REQUEST, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\nx", false,
	       "OGET / HTTP/1.1\r\nContent-Length: -1\r\n\r\nx");
	expect(HTTP_RESPONSE, "HTTP/1.1 101 Switching\r\n\r\nfree form", false,
	       "HHTTP/1.1 101 Switching\r\n\r\nOfree form");
}

static void test_opaque_head_too_long(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *got = NULL;

	buf_adds(&text, "GET / HTTP/1.1\r\nX: ");
	while (text.n < HTTP_HEAD_MAX_BYTES + 1000)
		buf_addc(&text, 'x');
	buf_adds(&text, "\r\n\r\n");
	got = parse(HTTP_REQUEST, buf_str(&text), 1000, false);
	assert_int_equal(got[0], 'O');
	assert_string_equal(got + 1, text.p);
}

static void test_message_fields(void **state)
{
	AUTO(http) struct http h = {0};
	struct str rest = STR("GET /v2/a/blobs/b HTTP/1.1\r\nhost: h\r\nRANGE:  bytes=1-2 \r\n\r\n");
	struct str piece;

	http_init(&h, HTTP_REQUEST);
	assert_int_equal(http_next(&h, &rest, &piece), HTTP_HEAD);
	assert_true(str_eqc(h.msg.method, "GET"));
	assert_true(str_eqc(h.msg.target, "/v2/a/blobs/b"));
	assert_true(str_eqc(h.msg.range, "bytes=1-2"));
	assert_int_equal(h.msg.length, -1);
	assert_true(str_eqc(http_header(piece, "Host"), "h"));
	assert_int_equal(http_header(piece, "absent").n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests),
	    cmocka_unit_test(test_chunked),
	    cmocka_unit_test(test_responses),
	    cmocka_unit_test(test_opaque),
	    cmocka_unit_test(test_opaque_head_too_long),
	    cmocka_unit_test(test_message_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
