#include "estargz/inflate/inflate.h"

#include "estargz/testing/test_blob.h"
#include "estargz/toc/footer.h"

#include "base/testing.h"

#include <zstd.h>

/* Appends one zstd frame, with a checksum and without its size, as streaming writers make them. */
static void zstd(struct buf *out, struct str plain)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(plain.n), n;

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
	n = ZSTD_compress2(c, buf_reserve(out, room), room, plain.p, plain.n);
	assert_false(ZSTD_isError(n));
	out->n += n;
	ZSTD_freeCCtx(c);
}

static void skippable(struct buf *out, size_t n)
{
	buf_le32(out, 0x184d2a50 + (uint32_t)(n % 16));
	buf_le32(out, (uint32_t)n);
	buf_addz(out, n);
}

/* Bytes that compress somewhat; the same for the same seed. */
static void noise(struct buf *out, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		buf_addc(out, (char)(seed >> 28 | (i & 0x30)));
	}
}

/* ---- single chunks ---- */

static int inflate_copy(enum esgz_compression comp, struct str in, const struct esgz_chunk *c, struct str want)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	/* Exact copies: what is read or written beside them is seen. */
	AUTO_FREE char *copy = xmalloc(in.n ? in.n : 1);
	AUTO_FREE uint8_t *dst = xmalloc(c->bytes);
	struct err err = ERR_INIT;
	int r;

	if (in.n > 0)
		memcpy(copy, in.p, in.n);
	/* Twice: a used decoder is as good as a new one. */
	esgz_inflate_chunk(z, comp, str_make(copy, in.n), c, dst, NULL);
	memset(dst, 0, c->bytes);
	r = esgz_inflate_chunk(z, comp, str_make(copy, in.n), c, dst, &err);
	if (r == 0)
		assert_memory_equal(dst, want.p, want.n);
	return r;
}

static struct esgz_chunk chunk_of(struct str plain, size_t from, size_t n, size_t blob_bytes)
{
	struct esgz_chunk c = {.blob_offset = 77, .blob_bytes = blob_bytes, .inner_offset = from, .bytes = (uint32_t)n};

	digest_of(plain.p + from, n, &c.digest);
	return c;
}

static const size_t SIZES[] = {1, 511, 4096, 32767, 32768, 262144};

static void test_chunks(void **state)
{
	/* What follows the chunk in its member: nothing, padding, headers, more than the decoder has room for. */
	static const size_t behind[] = {0, 511, 2560, 20000};
	static const size_t before[] = {0, 1, 8192, 70000};
	AUTO(buf) struct buf plain = BUF_INIT;

	noise(&plain, 400000, 1);
	for (size_t s = 0; s < ARRAY_LEN(SIZES); s++)
		for (size_t k = 0; k < ARRAY_LEN(behind); k++)
			for (size_t j = 0; j < ARRAY_LEN(before); j += s % 2 + 1) {
				struct str member = str_sub(buf_str(&plain), 0, before[j] + SIZES[s] + behind[k]);
				struct str want = str_sub(member, before[j], SIZES[s]);
				AUTO(buf) struct buf gz = BUF_INIT;
				AUTO(buf) struct buf zs = BUF_INIT;
				struct esgz_chunk c;

				gzip(&gz, member);
				buf_adds(&gz, "the next member, not to be looked at");
				c = chunk_of(member, before[j], SIZES[s], gz.n);
				assert_int_equal(inflate_copy(ESGZ_GZIP, buf_str(&gz), &c, want), 0);
				zstd(&zs, member);
				buf_adds(&zs, "the next frame");
				c.blob_bytes = zs.n;
				assert_int_equal(inflate_copy(ESGZ_ZSTD, buf_str(&zs), &c, want), 0);
				c.blob_bytes = member.n;
				assert_int_equal(inflate_copy(ESGZ_PLAIN, member, &c, want), 0);
			}
}

/* blob_bytes may end before the member does: what the chunk needs is enough. */
static void test_member_cut_behind_the_chunk(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf zs = BUF_INIT;
	struct esgz_chunk c;

	noise(&plain, 1 << 20, 2);
	gzip(&gz, buf_str(&plain));
	zstd(&zs, buf_str(&plain));
	for (size_t n = 1000; n <= 100000; n *= 10) {
		struct str want = str_sub(buf_str(&plain), 5000, n);

		c = chunk_of(buf_str(&plain), 5000, n, 0);
		c.blob_bytes = gz.n - gz.n / 4;
		assert_int_equal(inflate_copy(ESGZ_GZIP, buf_str(&gz), &c, want), 0);
		/* zstd gives a block at a time, 128 KiB. */
		c.blob_bytes = zs.n - zs.n / 4;
		assert_int_equal(inflate_copy(ESGZ_ZSTD, buf_str(&zs), &c, want), 0);
	}
}

static void test_short_input(void **state)
{
	static const size_t sizes[] = {300, 40000};
	AUTO(buf) struct buf plain = BUF_INIT;

	noise(&plain, 40000, 3);
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
		for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
			struct str want = str_sub(buf_str(&plain), 0, sizes[s]);
			AUTO(buf) struct buf in = BUF_INIT;
			struct esgz_chunk c;

			if (comp == ESGZ_GZIP)
				gzip(&in, want);
			else if (comp == ESGZ_ZSTD)
				zstd(&in, want);
			else
				buf_addstr(&in, want);
			c = chunk_of(want, 0, want.n, in.n);
			/* The trailer is not needed (gzip: 8 bytes and some end-of-block bits, zstd: 4). */
			for (size_t n = 0; n + 12 < in.n; n += 1 + in.n / 400)
				assert_int_equal(inflate_copy(comp, str_sub(buf_str(&in), 0, n), &c, want),
				                 -ERR_DATA_LOSS);
			c.blob_bytes = in.n / 2;
			assert_int_equal(inflate_copy(comp, buf_str(&in), &c, want), -ERR_DATA_LOSS);
			/* A member that ends, with another one behind it, is no longer chunk. */
			buf_reserve(&in, in.n); /* its own bytes again: they must not move */
			buf_addstr(&in, buf_str(&in));
			c.blob_bytes = in.n;
			c.bytes += 10;
			if (comp != ESGZ_PLAIN)
				assert_int_equal(inflate_copy(comp, buf_str(&in), &c, want), -ERR_DATA_LOSS);
		}
}

static void test_damaged_input(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;

	noise(&plain, 40000, 4);
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
		AUTO(buf) struct buf in = BUF_INIT;
		struct esgz_chunk c;

		if (comp == ESGZ_GZIP)
			gzip(&in, buf_str(&plain));
		else if (comp == ESGZ_ZSTD)
			zstd(&in, buf_str(&plain));
		else
			buf_addstr(&in, buf_str(&plain));
		c = chunk_of(buf_str(&plain), 0, plain.n, in.n);
		for (size_t at = 0; at < in.n; at += 1 + in.n / 300) {
			int r;

			in.p[at] ^= 0x10;
			/* Right bytes (a flip in a header field without meaning), or an error: never wrong bytes. */
			r = inflate_copy(comp, buf_str(&in), &c, buf_str(&plain));
			assert_true(r == 0 || r == -ERR_DATA_LOSS);
			in.p[at] ^= 0x10;
		}
		c.digest.b[5] ^= 1;
		assert_int_equal(inflate_copy(comp, buf_str(&in), &c, buf_str(&plain)), -ERR_DATA_LOSS);
	}
}

static void test_chunk_beyond_the_bounds(void **state)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	struct esgz_chunk c = {.blob_bytes = 10, .bytes = ESGZ_CHUNK_BYTES_MAX + 1};
	struct err err = ERR_INIT;
	uint8_t dst[1];

	assert_int_equal(esgz_inflate_chunk(z, ESGZ_GZIP, STR("0123456789"), &c, dst, &err), -ERR_INVALID);
	c = (struct esgz_chunk){.blob_bytes = 10, .bytes = 1, .inner_offset = UINT64_MAX};
	assert_int_equal(esgz_inflate_chunk(z, ESGZ_GZIP, STR("0123456789"), &c, dst, &err), -ERR_INVALID);
}

/* ---- streams ---- */

struct collected {
	struct buf bytes;
	size_t fail_at; /* 0 = never */
};

static int collect(void *arg, struct str plain, struct err *err)
{
	struct collected *c = arg;

	assert_true(plain.n > 0);
	buf_addstr(&c->bytes, plain);
	if (c->fail_at > 0 && c->bytes.n >= c->fail_at)
		return err_set(err, ERR_CANCELLED, "enough");
	return 0;
}

static int run(struct str in, size_t step, struct collected *c, enum esgz_compression *kind, struct err *err)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();

	while (in.n > 0) {
		struct str piece = str_sub(in, 0, step);
		AUTO_FREE char *copy = xmalloc(piece.n);

		memcpy(copy, piece.p, piece.n);
		TRY(esgz_stream_feed(s, str_make(copy, piece.n), collect, c, err));
		in = str_sub(in, piece.n, in.n);
	}
	*kind = esgz_stream_kind(s);
	return esgz_stream_finish(s, err);
}

static void assert_streams(struct str in, struct str want, enum esgz_compression want_kind)
{
	static const size_t steps[] = {SIZE_MAX, 1, 3, 1000, 65536};

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct collected c = {.bytes = BUF_INIT};
		enum esgz_compression kind = ESGZ_PLAIN;
		struct err err = ERR_INIT;

		if (run(in, steps[i], &c, &kind, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(kind, want_kind);
		assert_true(str_eq(buf_str(&c.bytes), want));
		buf_fini(&c.bytes);
	}
}

static int stream_code(struct str in, size_t step)
{
	struct collected c = {.bytes = BUF_INIT};
	enum esgz_compression kind;
	struct err err = ERR_INIT;
	int r = run(in, step, &c, &kind, &err);

	buf_fini(&c.bytes);
	return r;
}

static void test_streams(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf zs = BUF_INIT;
	uint8_t footer[ESGZ_FOOTER_BYTES];
	size_t at = 0;

	noise(&plain, 40000, 5);
	/* Members of all sizes, empty ones too, and a footer, which is an empty member with an extra field. */
	for (size_t n = 0; n < 150; n++, at += n) {
		gzip(&gz, str_sub(buf_str(&plain), at, n + 1));
		zstd(&zs, str_sub(buf_str(&plain), at, n + 1));
		if (n % 50 == 0)
			skippable(&zs, n);
	}
	gzip(&gz, STR_NONE);
	gzip(&gz, str_sub(buf_str(&plain), at, plain.n));
	zstd(&zs, STR_NONE);
	zstd(&zs, str_sub(buf_str(&plain), at, plain.n));
	esgz_footer_write(12345, footer);
	buf_add(&gz, footer, sizeof(footer));
	assert_streams(buf_str(&plain), buf_str(&plain), ESGZ_PLAIN);
	assert_streams(buf_str(&gz), buf_str(&plain), ESGZ_GZIP);
	assert_streams(buf_str(&zs), buf_str(&plain), ESGZ_ZSTD);
	assert_streams(STR_NONE, STR_NONE, ESGZ_PLAIN);
}

static int check_vectors(void *arg, struct str bytes, struct err *err)
{
	bool *seen = arg;

	assert_false(vectors_in_use());
	*seen = true;
	return 0;
}

static void test_vectors_are_left(void **state)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	bool seen = false;

	noise(&plain, 400000, 6);
	gzip(&gz, buf_str(&plain));
	OK(esgz_stream_feed(s, buf_str(&gz), check_vectors, &seen, err));
	assert_true(seen);
}

/* Exactly what the output buffer holds, and its neighbours. */
static void test_full_buffers(void **state)
{
	AUTO(buf) struct buf zeros = BUF_INIT;

	buf_addz(&zeros, (128u << 10) * 3 + 1);
	for (size_t n = (128u << 10) - 1; n <= zeros.n; n += n % 2 ? 1 : (128u << 10) - 1) {
		struct str plain = str_sub(buf_str(&zeros), 0, n);
		AUTO(buf) struct buf gz = BUF_INIT;
		AUTO(buf) struct buf zs = BUF_INIT;

		gzip(&gz, plain);
		zstd(&zs, plain);
		assert_streams(buf_str(&gz), plain, ESGZ_GZIP);
		assert_streams(buf_str(&zs), plain, ESGZ_ZSTD);
	}
}

static void test_skippable_frame_first(void **state)
{
	AUTO(buf) struct buf zs = BUF_INIT;

	skippable(&zs, 15);
	zstd(&zs, STR("hello"));
	skippable(&zs, 0);
	assert_streams(buf_str(&zs), STR("hello"), ESGZ_ZSTD);
}

static void test_cut_streams(void **state)
{
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf zs = BUF_INIT;

	gzip(&gz, STR("some text, some more text"));
	zstd(&zs, STR("some text, some more text"));
	for (size_t n = 1; n < gz.n; n++)
		assert_int_equal(stream_code(str_sub(buf_str(&gz), 0, n), 5), -ERR_DATA_LOSS);
	for (size_t n = 1; n < zs.n; n++)
		assert_int_equal(stream_code(str_sub(buf_str(&zs), 0, n), 5), -ERR_DATA_LOSS);
}

static void test_damaged_streams(void **state)
{
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf zs = BUF_INIT;
	size_t end;

	gzip(&gz, STR("some text, some more text"));
	end = gz.n;
	/* The checks at the end: CRC, length. */
	for (size_t back = 1; back <= 8; back++) {
		gz.p[end - back] ^= 1;
		assert_int_equal(stream_code(buf_str(&gz), 7), -ERR_DATA_LOSS);
		gz.p[end - back] ^= 1;
	}
	buf_adds(&gz, "junk behind the member");
	assert_int_equal(stream_code(buf_str(&gz), SIZE_MAX), -ERR_DATA_LOSS);
	zstd(&zs, STR("some text, some more text"));
	zs.p[zs.n - 1] ^= 1;
	assert_int_equal(stream_code(buf_str(&zs), 7), -ERR_DATA_LOSS);
	zs.p[zs.n - 1] ^= 1;
	buf_adds(&zs, "junk");
	assert_int_equal(stream_code(buf_str(&zs), 7), -ERR_DATA_LOSS);
}

/* A frame that wants more memory than a decoder should give. */
static void test_huge_window(void **state)
{
	AUTO(buf) struct buf zs = BUF_INIT;

	/* RFC 8878 3.1.1.1: no single segment, window descriptor exponent 20: 2^30 bytes. */
	buf_add(&zs, "\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00", 9);
	assert_int_equal(stream_code(buf_str(&zs), SIZE_MAX), -ERR_DATA_LOSS);
}

static void test_sink_ends_it(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	struct collected c = {.bytes = BUF_INIT, .fail_at = 1};
	enum esgz_compression kind;
	struct err err = ERR_INIT;

	noise(&plain, 300000, 6);
	gzip(&gz, buf_str(&plain));
	assert_int_equal(run(buf_str(&gz), SIZE_MAX, &c, &kind, &err), -ERR_CANCELLED);
	assert_true(c.bytes.n < plain.n);
	buf_fini(&c.bytes);
}

/* Layers that are read from points have no chunks that stand alone: whoever asks is told, and writes nothing. */
static void test_chunk_of_a_seekable_layer(void **state)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	const struct esgz_chunk c = {.blob_bytes = 4, .bytes = 4};
	uint8_t dst[4] = "abc";
	struct err err = ERR_INIT;

	assert_int_equal(esgz_inflate_chunk(z, ESGZ_GZIP_SEEK, STR("data"), &c, dst, &err), -ERR_INVALID);
	assert_non_null(strstr(err.msg, "read from points"));
	assert_string_equal((char *)dst, "abc");
	esgz_inflater_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_chunks),
	    cmocka_unit_test(test_member_cut_behind_the_chunk),
	    cmocka_unit_test(test_short_input),
	    cmocka_unit_test(test_damaged_input),
	    cmocka_unit_test(test_chunk_beyond_the_bounds),
	    cmocka_unit_test(test_chunk_of_a_seekable_layer),
	    cmocka_unit_test(test_streams),
	    cmocka_unit_test(test_vectors_are_left),
	    cmocka_unit_test(test_full_buffers),
	    cmocka_unit_test(test_skippable_frame_first),
	    cmocka_unit_test(test_cut_streams),
	    cmocka_unit_test(test_damaged_streams),
	    cmocka_unit_test(test_huge_window),
	    cmocka_unit_test(test_sink_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
