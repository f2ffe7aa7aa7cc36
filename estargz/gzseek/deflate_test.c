#include "estargz/gzseek/deflate.h"

#include "base/buf.h"
#include "base/testing.h"
#include "estargz/gzseek/test_gzip.h"

#include <zlib.h>

/* ---- streams ---- */

/* Bits as deflate packs them: from the lowest of each byte on. */
struct bits {
	struct buf bytes;
	unsigned n; /* of the last byte */
};

static void put(struct bits *b, unsigned value, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (b->n % 8 == 0)
			buf_addc(&b->bytes, 0);
		b->bytes.p[b->bytes.n - 1] |= (char)((value >> i & 1) << b->n % 8);
		b->n = b->n % 8 + 1;
	}
}

/* Huffman codes begin with their highest bit. */
static void put_code(struct bits *b, unsigned code, unsigned n)
{
	while (n-- > 0)
		put(b, code >> n & 1, 1);
}

static void put_text(struct bits *b, const char *zeros_and_ones)
{
	for (; *zeros_and_ones; zeros_and_ones++)
		if (*zeros_and_ones != ' ')
			put(b, (unsigned)(*zeros_and_ones - '0'), 1);
}

/* A literal, the end of the block, or a length of the fixed code. */
static void put_fixed(struct bits *b, unsigned symbol)
{
	if (symbol < 144)
		put_code(b, 0x30 + symbol, 8);
	else if (symbol < 256)
		put_code(b, 0x190 + symbol - 144, 9);
	else if (symbol < 280)
		put_code(b, symbol - 256, 7);
	else
		put_code(b, 0xc0 + symbol - 280, 8);
}

/* ---- decoders ---- */

/* Pieces of `step` bytes, each an allocation of its own, so that reading beside it is seen. */
static int run(struct esgz_deflate *d, struct str in, size_t step, struct buf *out, size_t *end, struct err *err)
{
	size_t at = 0, given = 0;
	int r;

	for (;;) {
		AUTO_FREE char *copy = NULL;
		size_t used;
		struct str s;

		copy = xmalloc(given ? given : 1);
		if (given)
			memcpy(copy, in.p + at, given);
		r = esgz_deflate_run(d, str_make(copy, given), &used, err);
		s = esgz_deflate_take(d);
		buf_addstr(out, s);
		at += used;
		given -= used;
		if (r < 0 || r == ESGZ_DEFLATE_END || r == ESGZ_DEFLATE_BLOCK)
			break;
		if (r == ESGZ_DEFLATE_FULL)
			continue;
		assert_true(given < ESGZ_DEFLATE_UNIT_MAX);
		if (at + given == in.n)
			return err_set(err, ERR_DATA_LOSS, "data ends");
		given += in.n - at - given < step ? in.n - at - given : step;
	}
	*end = at;
	return r < 0 ? r : r == ESGZ_DEFLATE_BLOCK ? 1 : 0;
}

static int decode(struct str in, size_t step, struct buf *out, struct err *err)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = esgz_deflate_new();
	size_t end;

	return run(d, in, step, out, &end, err);
}

static bool zlib_decodes(struct str in, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)in.p, .avail_in = (uInt)in.n};
	int r;

	assert_int_equal(inflateInit2(&z, -15), Z_OK);
	do {
		z.next_out = (Bytef *)buf_reserve(out, 1 << 16);
		z.avail_out = 1 << 16;
		r = inflate(&z, Z_NO_FLUSH);
		out->n += (1 << 16) - z.avail_out;
	} while (r == Z_OK);
	inflateEnd(&z);
	return r == Z_STREAM_END;
}

/* Both take it and make the same of it, or neither takes it; returns whether they do. */
static bool agreed(const struct bits *b)
{
	AUTO(buf) struct buf ours = BUF_INIT;
	AUTO(buf) struct buf theirs = BUF_INIT;
	bool legal = zlib_decodes(buf_str(&b->bytes), &theirs);

	assert_int_equal(decode(buf_str(&b->bytes), SIZE_MAX, &ours, NULL) == 0, legal);
	if (legal)
		assert_true(str_eq(buf_str(&ours), buf_str(&theirs)));
	return legal;
}

/* A stream that ends anywhere before its end is not taken. */
static void assert_whole(const struct bits *b)
{
	for (size_t n = 0; n < b->bytes.n; n++) {
		AUTO(buf) struct buf out = BUF_INIT;

		FAILS(decode(str_make(b->bytes.p, n), SIZE_MAX, &out, err), ERR_DATA_LOSS);
		FAILS(decode(str_make(b->bytes.p, n), 1, &out, err), ERR_DATA_LOSS);
	}
}

#define LEGAL(b)                                                                                                       \
	do {                                                                                                           \
		assert_true(agreed(b));                                                                                \
		assert_whole(b);                                                                                       \
		buf_fini(&(b)->bytes);                                                                                 \
		*(b) = (struct bits){0};                                                                               \
	} while (0)
#define BROKEN(b)                                                                                                      \
	do {                                                                                                           \
		assert_false(agreed(b));                                                                               \
		buf_fini(&(b)->bytes);                                                                                 \
		*(b) = (struct bits){0};                                                                               \
	} while (0)

/* ---- tests ---- */

static void test_stored(void **state)
{
	struct bits b = {0};

	put_text(&b, "1 00 00000"); /* nothing */
	put(&b, 0xffff0000, 32);
	LEGAL(&b);
	put_text(&b, "0 10"); /* not at a byte's beginning */
	put_fixed(&b, 'a');
	put_fixed(&b, 256);
	put_text(&b, "1 00");
	while (b.n % 8)
		put(&b, 0, 1);
	put(&b, 0xfffc0003, 32);
	put(&b, 'b' | 'c' << 8 | 'd' << 16, 24);
	LEGAL(&b);
	put_text(&b, "1 00 00000"); /* the length and its complement */
	put(&b, 0xfffd0003, 32);
	put(&b, 0, 24);
	BROKEN(&b);
	put_text(&b, "1 11 00000"); /* a type that there is not */
	put(&b, 0, 32);
	BROKEN(&b);
}

static void test_fixed(void **state)
{
	struct bits b = {0};

	put_text(&b, "1 10"); /* nothing */
	put_fixed(&b, 256);
	LEGAL(&b);
	put_text(&b,
	         "1 10"); /* all literals, then 258 times the last of them, and each distance symbol but the far ones */
	for (unsigned i = 0; i < 256; i++)
		put_fixed(&b, i);
	put_fixed(&b, 285);
	put_code(&b, 0, 5);
	put_fixed(&b, 257);
	put_code(&b, 4, 5);
	put(&b, 1, 1);
	put_fixed(&b, 284); /* 227 and 31 more: 258 in another way */
	put_text(&b, "11111");
	put_code(&b, 15, 5);
	put(&b, 63, 6);
	put_fixed(&b, 256);
	LEGAL(&b);
	for (unsigned symbol = 286; symbol <= 287; symbol++) {
		put_text(&b, "1 10");
		put_fixed(&b, 'x');
		put_fixed(&b, symbol);
		put(&b, 0, 32);
		BROKEN(&b);
	}
	for (unsigned dist = 29; dist <= 31; dist++) { /* too far back; no symbols at all */
		put_text(&b, "1 10");
		put_fixed(&b, 'x');
		put_fixed(&b, 257);
		put_code(&b, dist, 5);
		put(&b, 0, 32);
		BROKEN(&b);
	}
	put_text(&b, "1 10"); /* one byte too far back */
	put_fixed(&b, 'x');
	put_fixed(&b, 257);
	put_code(&b, 1, 5);
	put_fixed(&b, 256);
	put(&b, 0, 32);
	BROKEN(&b);
}

/* A distance of 32768, with the window not one byte longer. */
static void test_far(void **state)
{
	for (unsigned fill = 32767; fill <= 32769; fill++) {
		struct bits b = {0};

		put_text(&b, "0 10");
		for (unsigned i = 0; i < fill; i++)
			put_fixed(&b, i * 2654435761u >> 24);
		put_fixed(&b, 285);
		put_code(&b, 29, 5);
		put(&b, 8191, 13);
		put_fixed(&b, 256);
		put_text(&b, "1 10");
		put_fixed(&b, 256);
		assert_int_equal(agreed(&b), fill >= 32768);
		buf_fini(&b.bytes);
	}
}

/* The head of a block with dynamic codes: lengths of 256 to 258 literal and length symbols and of 1 or 2 distances, said
 * with a code in which 0, 1, 2 and 18 have two bits each. */
static void dynamic(struct bits *b, const char *lens, unsigned n_litlen, unsigned n_dist)
{
	static const char *const codes[] = {"00", "01", "10"};

	put_text(b, "1 01");
	put(b, n_litlen - 257, 5);
	put(b, n_dist - 1, 5);
	put(b, 18 - 4, 4);
	/* 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1 */
	for (const char *l = "002200000000000202"; *l; l++)
		put(b, (unsigned)(*l - '0'), 3);
	for (; *lens; lens++) {
		if (*lens == ' ') /* 138, and 118 zeros: symbols 0 to 255 */
			put_text(b, "11 1111111 11 1101011");
		else
			put_text(b, codes[*lens - '0']);
	}
}

static void test_dynamic(void **state)
{
	struct bits b = {0};

	dynamic(&b, " 10", 257, 1); /* only an end, of one bit, and no distances */
	put_text(&b, "0");
	LEGAL(&b);
	dynamic(&b, " 10", 257, 1); /* the bit that is no code */
	put_text(&b, "1 0000000");
	BROKEN(&b);
	dynamic(&b, " 1100", 258, 2); /* a length, and no distance for it */
	put_text(&b, "1 0 0000000");
	BROKEN(&b);
	dynamic(&b, " 1100", 258, 2); /* never used: legal */
	put_text(&b, "0");
	LEGAL(&b);
	dynamic(&b, " 1110", 258, 2); /* one distance of one bit */
	put_text(&b, "0");
	LEGAL(&b);
	dynamic(&b, " 1110", 258, 2); /* and its other bit */
	put_text(&b, "1 1 0000000");
	BROKEN(&b);
	dynamic(&b, " 1120", 258, 2); /* one distance, of two bits */
	put_text(&b, "0 0000000");
	BROKEN(&b);
	dynamic(&b, " 20", 257, 1); /* an end of two bits alone */
	put_text(&b, "00 000000");
	BROKEN(&b);
	dynamic(&b, " 00", 257, 1); /* no end */
	put_text(&b, "0 0000000");
	BROKEN(&b);
	dynamic(&b, " 1111", 259, 1); /* three codes of one bit */
	put_text(&b, "0 0000000");
	BROKEN(&b);
	dynamic(&b, "  0", 257, 1); /* more lengths than symbols */
	put(&b, 0, 32);
	BROKEN(&b);
}

static void test_bad_heads(void **state)
{
	struct bits b = {0};

	dynamic(&b, " 1000000000000000000000000000000", 257, 30); /* as many distances as there are */
	put_text(&b, "0");
	LEGAL(&b);
	dynamic(&b, " 10000000000000000000000000000000", 257, 31);
	put_text(&b, "0 0000000");
	BROKEN(&b);
	dynamic(&b, " 1000000000000000000000000000000", 286, 1); /* as many lengths */
	put_text(&b, "0");
	LEGAL(&b);
	dynamic(&b, " 10000000000000000000000000000000", 287, 1);
	put_text(&b, "0 0000000");
	BROKEN(&b);
	put_text(&b, "1 01"); /* repeat what was not */
	put(&b, 0, 5);
	put(&b, 0, 5);
	put(&b, 0, 4);
	put_text(&b, "100 000 000 100"); /* 16 and 0 of one bit */
	put_text(&b, "1 00");
	put(&b, 0, 32);
	BROKEN(&b);
	for (unsigned lens = 0; lens < 4096; lens++) { /* all codes of lengths with four symbols */
		put_text(&b, "1 01");
		put(&b, 0, 14);
		put(&b, lens, 12);
		for (unsigned i = 0; i < 10; i++)
			put(&b, lens * 2654435761u, 32);
		agreed(&b);
		buf_fini(&b.bytes);
		b = (struct bits){0};
	}
}

/* What zlib makes, in every way, comes back however it is cut. */
static void test_zlib(void **state)
{
	static const struct zlib_way ways[] = {{1, Z_DEFAULT_STRATEGY, 9, 1, 0},
	                                       {6, Z_DEFAULT_STRATEGY, 8, 1, 0},
	                                       {9, Z_DEFAULT_STRATEGY, 1, 1, 0},
	                                       {0, Z_DEFAULT_STRATEGY, 8, 1, 0},
	                                       {6, Z_FIXED, 8, 1, 0},
	                                       {6, Z_HUFFMAN_ONLY, 8, 1, 0},
	                                       {6, Z_RLE, 8, 1, 5000},
	                                       {6, Z_FILTERED, 9, 1, 300}};
	AUTO(buf) struct buf plain = BUF_INIT;

	words(&plain, 1 << 20, 5);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		static const size_t steps[] = {1, 7, 333, 70000, SIZE_MAX};
		AUTO(buf) struct buf packed = BUF_INIT;

		zlib_pack(&packed, buf_str(&plain), &ways[i]);
		for (size_t k = 0; k < sizeof(steps) / sizeof(*steps); k++) {
			AUTO(buf) struct buf out = BUF_INIT;

			if (steps[k] < 100 && i > 1)
				continue;
			OK(decode(buf_str(&packed), steps[k], &out, err));
			assert_true(str_eq(buf_str(&out), buf_str(&plain)));
		}
	}
}

/* From every block on, with nothing of the window but what was marked, and `junk` in the place of the rest. */
static void check_from(struct esgz_deflate_place at, const uint8_t *window, const uint8_t *used, struct str rest,
                       struct str plain)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = esgz_deflate_new();
	AUTO(buf) struct buf out = BUF_INIT;
	uint8_t sparse[ESGZ_DEFLATE_WINDOW];
	size_t end;

	for (size_t i = 0; i < sizeof(sparse); i++)
		sparse[i] = used[i] ? window[i] : 0xa5;
	esgz_deflate_begin_at(d, at, str_make(sparse, sizeof(sparse)));
	OK(run(d, rest, SIZE_MAX, &out, &end, err));
	assert_int_equal(end, rest.n);
	assert_true(str_eq(buf_str(&out), plain));
}

static void check_places(struct str packed, struct str plain, size_t step)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = esgz_deflate_new();
	uint8_t window[ESGZ_DEFLATE_WINDOW], used[ESGZ_DEFLATE_WINDOW];
	size_t at = 0, end, places = 0;
	int r;

	for (uint64_t next = 1;; next += 50000) {
		AUTO(esgz_deflate) struct esgz_deflate *marker = NULL;
		AUTO(buf) struct buf out = BUF_INIT;
		struct esgz_deflate_place place;

		esgz_deflate_stop_at(d, next);
		OK(r = run(d, str_sub(packed, at, packed.n), step, &out, &end, err));
		at += end;
		if (r == 0)
			break;
		assert_true(esgz_deflate_total(d) >= next);
		place = esgz_deflate_where(d);
		esgz_deflate_window(d, window);
		memset(used, 0, sizeof(used));
		marker = esgz_deflate_new();
		esgz_deflate_begin_at(marker, place, str_make(window, sizeof(window)));
		esgz_deflate_mark(marker, used);
		buf_clear(&out);
		OK(run(marker, str_sub(packed, at, packed.n), step, &out, &end, err));
		check_from(place, window, used, str_sub(packed, at, packed.n),
		           str_sub(plain, (size_t)esgz_deflate_total(d), plain.n));
		places++;
	}
	assert_true(places > 5);
}

static void test_places(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;

	words(&plain, 600000, 9);
	zlib_pack(&packed, buf_str(&plain), &(struct zlib_way){.level = 6, .raw = 1});
	check_places(buf_str(&packed), buf_str(&plain), SIZE_MAX);
	check_places(buf_str(&packed), buf_str(&plain), 1000);
	buf_clear(&packed);
	zlib_pack(&packed, buf_str(&plain), &(struct zlib_way){9, Z_FIXED, 3, 1, 7000});
	check_places(buf_str(&packed), buf_str(&plain), 70000);
	buf_clear(&packed);
	zlib_pack(&packed, buf_str(&plain), &(struct zlib_way){.level = 0, .raw = 1});
	check_places(buf_str(&packed), buf_str(&plain), SIZE_MAX);
}

/* Marks say no more than is used: of a stream of literals nothing, of one match its bytes. */
static void test_marks(void **state)
{
	AUTO(esgz_deflate) struct esgz_deflate *d = esgz_deflate_new();
	uint8_t used[ESGZ_DEFLATE_WINDOW] = {0}, want[ESGZ_DEFLATE_WINDOW] = {0};
	AUTO(buf) struct buf window = BUF_INIT;
	AUTO(buf) struct buf out = BUF_INIT;
	struct bits b = {0};
	size_t end;

	words(&window, ESGZ_DEFLATE_WINDOW, 3);
	put_text(&b, "1 10");
	put_fixed(&b, 'x');
	put_fixed(&b, 257); /* 3 from 5 back: 4 of them in the window */
	put_code(&b, 4, 5);
	put(&b, 0, 1);
	put_fixed(&b, 285); /* 258 from 6 back: 2 in the window, the rest is itself */
	put_code(&b, 4, 5);
	put(&b, 1, 1);
	put_fixed(&b, 256);
	memset(want + ESGZ_DEFLATE_WINDOW - 4, 1, 3);
	memset(want + ESGZ_DEFLATE_WINDOW - 2, 1, 2);
	esgz_deflate_begin_at(d, (struct esgz_deflate_place){0}, buf_str(&window));
	esgz_deflate_mark(d, used);
	OK(run(d, buf_str(&b.bytes), SIZE_MAX, &out, &end, err));
	assert_int_equal(out.n, 1 + 3 + 258);
	assert_memory_equal(used, want, sizeof(used));
	buf_fini(&b.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_stored),  cmocka_unit_test(test_fixed),     cmocka_unit_test(test_far),
	    cmocka_unit_test(test_dynamic), cmocka_unit_test(test_bad_heads), cmocka_unit_test(test_zlib),
	    cmocka_unit_test(test_places),  cmocka_unit_test(test_marks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
