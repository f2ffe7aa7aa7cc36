/*
 * Input: one byte (the size of the pieces; 0: at once), then a raw deflate stream. zlib says whether it is legal; ours
 * must agree and make the same bytes, however the input is cut, and from any block on with nothing but the marked bytes
 * of the window. isa-l and libdeflate, where they take it too, must have made the same.
 */
#include "base/buf.h"
#include "base/vec.h"
#include "estargz/gzseek/deflate.h"

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <zlib.h>

/* More output than this is no news, and bombs take the fuzzer's time. */
#define PLAIN_MAX (1u << 20)

static void must(bool what)
{
	if (!what)
		abort();
}

/* Legal, whole, and not more than PLAIN_MAX. */
static bool zlib_decode(struct str in, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)in.p, .avail_in = (uInt)in.n};
	int r;

	inflateInit2(&z, -15);
	z.next_out = (Bytef *)buf_reserve(out, PLAIN_MAX);
	z.avail_out = PLAIN_MAX;
	r = inflate(&z, Z_NO_FLUSH);
	out->n = z.total_out;
	inflateEnd(&z);
	return r == Z_STREAM_END;
}

/* 1: to the end; 2: to a block's end that was asked for; 0: the input ends, or more than PLAIN_MAX; -1: broken. */
static int run(struct esgz_deflate *d, struct str in, size_t step, struct buf *out, size_t *used_all)
{
	size_t at = 0, given = 0;

	for (;;) {
		struct str s;
		size_t used;
		int r = esgz_deflate_run(d, str_make(in.p + at, given), &used, NULL);

		s = esgz_deflate_take(d);
		at += used;
		given -= used;
		if (out->n + s.n > PLAIN_MAX)
			return 0;
		buf_addstr(out, s);
		*used_all = at;
		if (r < 0)
			return -1;
		if (r == ESGZ_DEFLATE_END)
			return 1;
		if (r == ESGZ_DEFLATE_BLOCK)
			return 2;
		if (r == ESGZ_DEFLATE_FULL)
			continue;
		must(given < ESGZ_DEFLATE_UNIT_MAX);
		if (at + given == in.n)
			return 0;
		given += in.n - at - given < step ? in.n - at - given : step;
	}
}

static void check_middle(struct str in, struct str plain)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = esgz_deflate_new();
	AUTO(buf) struct buf head = BUF_INIT;
	AUTO(buf) struct buf tail = BUF_INIT;
	uint8_t window[ESGZ_DEFLATE_WINDOW], used[ESGZ_DEFLATE_WINDOW] = {0};
	struct esgz_deflate_place place;
	size_t at, end;

	esgz_deflate_stop_at(d, plain.n / 2);
	if (run(d, in, SIZE_MAX, &head, &at) != 2)
		return;
	place = esgz_deflate_where(d);
	esgz_deflate_window(d, window);
	esgz_deflate_mark(d, used);
	must(run(d, str_sub(in, at, in.n), SIZE_MAX, &tail, &end) == 1);
	must(head.n + tail.n == plain.n);
	for (size_t i = 0; i < sizeof(window); i++)
		if (!used[i])
			window[i] = 0x5a;
	esgz_deflate_begin_at(d, place, str_make(window, sizeof(window)));
	buf_clear(&tail);
	must(run(d, str_sub(in, at, in.n), SIZE_MAX, &tail, &end) == 1);
	must(str_eq(buf_str(&tail), str_sub(plain, head.n, plain.n)));
}

static void check_others(struct str in, struct str plain)
{
	AUTO_FREE uint8_t *out = xmalloc(plain.n + 1);
	AUTO_FREE struct inflate_state *z = xmalloc(sizeof(*z));
	struct libdeflate_decompressor *ld = libdeflate_alloc_decompressor();
	size_t n;

	isal_inflate_init(z);
	z->next_in = (uint8_t *)in.p;
	z->avail_in = (uint32_t)in.n;
	z->next_out = out;
	z->avail_out = (uint32_t)plain.n + 1;
	if (isal_inflate(z) == ISAL_DECOMP_OK && z->block_state == ISAL_BLOCK_FINISH)
		must(z->total_out == plain.n && memcmp(out, plain.p, plain.n) == 0);
	if (libdeflate_deflate_decompress(ld, in.p, in.n, out, plain.n + 1, &n) == LIBDEFLATE_SUCCESS)
		must(n == plain.n && memcmp(out, plain.p, n) == 0);
	libdeflate_free_decompressor(ld);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = NULL;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf whole = BUF_INIT;
	AUTO(buf) struct buf pieces = BUF_INIT;
	struct str in = str_make(data + 1, n - 1);
	size_t end, end2;
	bool legal;

	if (n == 0)
		return 0;
	legal = zlib_decode(in, &want);
	d = esgz_deflate_new();
	must((run(d, in, SIZE_MAX, &whole, &end) == 1) == legal);
	if (legal)
		must(str_eq(buf_str(&whole), buf_str(&want)));
	if (data[0]) {
		esgz_deflate_begin(d);
		must((run(d, in, data[0], &pieces, &end2) == 1) == legal);
		must(!legal || (end == end2 && str_eq(buf_str(&whole), buf_str(&pieces))));
	}
	if (legal) {
		check_middle(in, buf_str(&want));
		check_others(in, buf_str(&want));
	}
	return 0;
}
