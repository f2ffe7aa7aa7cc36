/* Input: one byte (0 = at once, else pieces of so many bytes), then a compressed stream. The way it is cut must not
 * change what comes out. */
#include "estargz/inflate/inflate.h"

/* More output than this is no news, and bombs take the fuzzer's time. */
#define PLAIN_MAX (4u << 20)

struct out {
	struct hasher *h;
	uint64_t n;
};

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct out *o = arg;

	o->n += plain.n;
	hasher_add(o->h, plain.p, plain.n);
	return o->n > PLAIN_MAX ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static int run(struct str in, size_t step, struct digest *d)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
	AUTO(hasher) struct hasher *h = hasher_new();
	struct out o = {.h = h};
	struct err err = ERR_INIT;

	for (; in.n > 0; in = str_sub(in, step, in.n))
		TRY(esgz_stream_feed(s, str_sub(in, 0, step), on_plain, &o, &err));
	TRY(esgz_stream_finish(s, &err));
	hasher_done(h, d);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct digest a, b;

	if (n == 0)
		return 0;
	if (run(str_make(data + 1, n - 1), SIZE_MAX, &a) == 0 && data[0] > 0)
		if (run(str_make(data + 1, n - 1), data[0], &b) < 0 || !digest_eq(&a, &b))
			abort();
	return 0;
}
