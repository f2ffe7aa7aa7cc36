/*
 * Parses the input as one direction of a connection, in steps whose size the first byte says, and checks that every
 * byte comes out again in order. The lowest bit of the second byte chooses requests or responses.
 */
#include "bench/netproxy/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void take(struct http *h, struct str *rest, struct buf *out)
{
	enum http_what what;
	struct str piece;

	while ((what = http_next(h, rest, &piece)) != HTTP_MORE)
		buf_addstr(out, piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf out = BUF_INIT;
	AUTO(http) struct http h = {0};
	struct str text;
	size_t step;

	if (n < 2)
		return 0;
	step = data[0] ? data[0] : 1;
	http_init(&h, data[1] & 1 ? HTTP_RESPONSE : HTTP_REQUEST);
	text = str_make(data + 2, n - 2);
	for (size_t at = 0; at < text.n; at += step) {
		struct str rest = str_sub(text, at, step);

		take(&h, &rest, &out);
	}
	/* What is missing at the end can only be an unfinished head. */
	if (out.n > text.n || memcmp(out.p ? out.p : "", text.p, out.n))
		abort();
	if (out.n < text.n && (h.state != HS_HEAD || out.n + h.head.n != text.n))
		abort();
	return 0;
}
