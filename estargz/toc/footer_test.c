#include "estargz/toc/footer.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Footers of blobs made by the reference tools (ctr-remote 0.14, skopeo 1.22), with the sizes of those blobs. */
#define GZIP_HEAD "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff"
#define GZIP_EMPTY "\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00"

static const struct golden {
	const char *name;
	struct str bytes;
	uint64_t blob_bytes;
	struct esgz_footer want;
	size_t free_from, free_to; /* bytes without meaning, as positions in `bytes` */
} GOLDEN[] = {
    {"eStargz",
     STR(GZIP_HEAD "\x1a\x00SG\x16\x00"
                   "00000000009257e5"
                   "STARGZ" GZIP_EMPTY),
     9591883,
     {.kind = ESGZ_FOOTER_ESTARGZ, .footer_bytes = 51, .toc_offset = 9590757, .toc_bytes = 1075},
     4,
     10},
    {"legacy",
     STR(GZIP_HEAD "\x16\x00"
                   "00000000009257e5"
                   "STARGZ" GZIP_EMPTY),
     9591879,
     {.kind = ESGZ_FOOTER_LEGACY, .footer_bytes = 47, .toc_offset = 9590757, .toc_bytes = 1075},
     4,
     10},
    {"external TOC",
     STR(GZIP_HEAD "\x15\x00SG\x11\x00"
                   "STARGZEXTERNALTOC" GZIP_EMPTY),
     9590803,
     {.kind = ESGZ_FOOTER_EXTERNAL_TOC, .footer_bytes = 46, .toc_offset = 9590757},
     4,
     10},
    {"zstd, stargz",
     STR("\x50\x2a\x4d\x18\x28\0\0\0"
         "\xa2\x50\x92\0\0\0\0\0"
         "\x38\x04\0\0\0\0\0\0"
         "\x6b\x0f\0\0\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "GnUlInUx"),
     9590026,
     {.kind = ESGZ_FOOTER_ZSTD_STARGZ,
      .footer_bytes = 48,
      .toc_offset = 9588898,
      .toc_bytes = 1080,
      .toc_plain_bytes = 3947},
     0,
     0},
    {"zstd, storage",
     STR("\x50\x2a\x4d\x18\x40\0\0\0"
         "\x9f\x56\x92\0\0\0\0\0"
         "\xaa\x20\0\0\0\0\0\0"
         "\x2a\x75\0\0\0\0\0\0"
         "\1\0\0\0\0\0\0\0"
         "\x51\x77\x92\0\0\0\0\0"
         "\x08\x05\0\0\0\0\0\0"
         "\x6e\x6d\0\0\0\0\0\0"
         "GNUlInUx"),
     9600161,
     {.kind = ESGZ_FOOTER_ZSTD_STORAGE,
      .footer_bytes = 72,
      .toc_offset = 9590431,
      .toc_bytes = 8362,
      .toc_plain_bytes = 29994},
     0,
     0},
};

/* The last ESGZ_FOOTER_MAX bytes of a blob that ends in `footer`. */
static struct str tail_of(struct buf *b, struct str footer)
{
	buf_clear(b);
	for (size_t i = footer.n; i < ESGZ_FOOTER_MAX; i++)
		buf_addc(b, (char)('a' + i % 26));
	buf_addstr(b, footer);
	return buf_str(b);
}

static void assert_same(const struct esgz_footer *a, const struct esgz_footer *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->footer_bytes, b->footer_bytes);
	assert_int_equal(a->toc_offset, b->toc_offset);
	assert_int_equal(a->toc_bytes, b->toc_bytes);
	assert_int_equal(a->toc_plain_bytes, b->toc_plain_bytes);
}

static void test_all_layouts(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(GOLDEN); i++) {
		struct esgz_footer f;

		assert_int_equal(esgz_footer_parse(tail_of(&b, GOLDEN[i].bytes), GOLDEN[i].blob_bytes, &f, NULL), 0);
		assert_same(&f, &GOLDEN[i].want);
	}
}

static void test_longer_tail(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct esgz_footer f;

	buf_addz(&b, 100000);
	buf_addstr(&b, GOLDEN[0].bytes);
	assert_int_equal(esgz_footer_parse(buf_str(&b), GOLDEN[0].blob_bytes, &f, NULL), 0);
	assert_same(&f, &GOLDEN[0].want);
}

static void test_ordinary_blobs(void **state)
{
	static const char zeros[ESGZ_FOOTER_MAX];
	struct esgz_footer f = {.kind = ESGZ_FOOTER_ESTARGZ};

	assert_int_equal(esgz_footer_parse(STR_NONE, 0, &f, NULL), 0);
	assert_int_equal(f.kind, ESGZ_FOOTER_NONE);
	for (size_t n = 0; n <= sizeof(zeros); n++) {
		assert_int_equal(esgz_footer_parse(str_make(zeros, n), n, &f, NULL), 0);
		assert_int_equal(f.kind, ESGZ_FOOTER_NONE);
	}
}

static void test_tail_must_be_long_enough(void **state)
{
	struct esgz_footer f;
	struct err err = ERR_INIT;

	/* The 51 bytes alone would do, but from a longer blob the caller must bring what any layout needs. */
	assert_int_equal(esgz_footer_parse(GOLDEN[0].bytes, GOLDEN[0].blob_bytes, &f, &err), -ERR_INVALID);
	assert_int_equal(esgz_footer_parse(GOLDEN[0].bytes, GOLDEN[0].bytes.n - 1, &f, &err), -ERR_INVALID);
}

/* A footer cut at either end is no footer. */
static void test_truncated(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct esgz_footer f;

	for (size_t i = 0; i < ARRAY_LEN(GOLDEN); i++)
		for (size_t cut = 1; cut < GOLDEN[i].bytes.n; cut++) {
			struct str head = str_sub(GOLDEN[i].bytes, 0, GOLDEN[i].bytes.n - cut);
			struct str end = str_sub(GOLDEN[i].bytes, cut, SIZE_MAX);

			assert_int_equal(esgz_footer_parse(tail_of(&b, head), GOLDEN[i].blob_bytes, &f, NULL), 0);
			assert_int_equal(f.kind, ESGZ_FOOTER_NONE);
			assert_int_equal(esgz_footer_parse(tail_of(&b, end), GOLDEN[i].blob_bytes, &f, NULL), 0);
			assert_int_equal(f.kind, ESGZ_FOOTER_NONE);
		}
}

/* Bits that may change without another result: hex digits may be upper case, and the place of the tar-split is checked
 * but not reported. */
static bool means_the_same(const struct golden *g, size_t bit)
{
	if (g->want.kind == ESGZ_FOOTER_ZSTD_STORAGE)
		return bit / 8 >= 8 + 32;
	return bit % 8 == 5 && g->bytes.p[bit / 8] >= 'a' && g->bytes.p[bit / 8] <= 'f';
}

/* Every bit counts, but for time and system in a gzip header: with one flipped a footer is none, or refused, or says
 * something else that lies inside the blob. */
static void test_bit_flips(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(GOLDEN); i++)
		for (size_t bit = 0; bit < 8 * GOLDEN[i].bytes.n; bit++) {
			const struct golden *g = &GOLDEN[i];
			struct esgz_footer f;
			struct err err = ERR_INIT;
			int r;

			tail_of(&b, g->bytes);
			b.p[b.n - g->bytes.n + bit / 8] ^= (char)(1 << bit % 8);
			r = esgz_footer_parse(buf_str(&b), g->blob_bytes, &f, &err);
			if (bit / 8 >= g->free_from && bit / 8 < g->free_to) {
				assert_int_equal(r, 0);
				assert_same(&f, &g->want);
			} else if (r < 0) {
				assert_int_equal(r, -ERR_INVALID);
				assert_int_equal(f.kind, ESGZ_FOOTER_NONE);
			} else if (f.kind != ESGZ_FOOTER_NONE) {
				assert_int_equal(f.kind, g->want.kind);
				assert_true(f.toc_offset + f.toc_bytes <= g->blob_bytes - f.footer_bytes);
				if (!means_the_same(g, bit))
					assert_true(memcmp(&f, &g->want, sizeof(f)) != 0);
			}
		}
}

static void test_fields_outside_of_the_blob(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct esgz_footer f;
	struct err err = ERR_INIT;
	uint8_t footer[ESGZ_FOOTER_BYTES];

	/* Blobs that end right after, or before, the TOC's first byte. */
	for (size_t i = 0; i < ARRAY_LEN(GOLDEN); i++) {
		if (GOLDEN[i].want.kind == ESGZ_FOOTER_EXTERNAL_TOC)
			continue;
		uint64_t bytes = GOLDEN[i].want.toc_offset + GOLDEN[i].want.footer_bytes;

		assert_int_equal(esgz_footer_parse(tail_of(&b, GOLDEN[i].bytes), bytes, &f, &err), -ERR_INVALID);
		assert_int_equal(esgz_footer_parse(tail_of(&b, GOLDEN[i].bytes), ESGZ_FOOTER_MAX, &f, &err),
		                 -ERR_INVALID);
	}
	esgz_footer_write(UINT64_MAX, footer);
	assert_int_equal(esgz_footer_parse(tail_of(&b, str_make(footer, sizeof(footer))), 1 << 20, &f, &err),
	                 -ERR_INVALID);
	/* Lengths whose sum with the offset wraps around; no length; another type. */
	tail_of(&b, GOLDEN[4].bytes);
	memset(b.p + 16, 0xff, 8);
	assert_int_equal(esgz_footer_parse(buf_str(&b), 9600161, &f, &err), -ERR_INVALID);
	memset(b.p + 16, 0, 8);
	assert_int_equal(esgz_footer_parse(buf_str(&b), 9600161, &f, &err), -ERR_INVALID);
	tail_of(&b, GOLDEN[4].bytes);
	b.p[32] = 2;
	assert_int_equal(esgz_footer_parse(buf_str(&b), 9600161, &f, &err), -ERR_INVALID);
	tail_of(&b, GOLDEN[4].bytes);
	memset(b.p + 48, 0xff, 8);
	assert_int_equal(esgz_footer_parse(buf_str(&b), 9600161, &f, &err), -ERR_INVALID);
}

static void test_hex_digits(void **state)
{
	static const char *const bad[] = {"000000000000 010",
	                                  "+000000000000010",
	                                  "0x00000000000010",
	                                  "-000000000000001",
	                                  "000000000000001g",
	                                  "\0"
	                                  "000000000000001"};
	AUTO(buf) struct buf b = BUF_INIT;
	struct esgz_footer f;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		tail_of(&b, GOLDEN[0].bytes);
		memcpy(b.p + b.n - 51 + 16, bad[i], 16);
		assert_int_equal(esgz_footer_parse(buf_str(&b), 1 << 20, &f, &err), -ERR_INVALID);
	}
}

static void test_write(void **state)
{
	static const uint64_t offsets[] = {0, 1, 9590757, (uint64_t)1 << 40, INT64_MAX};
	uint8_t footer[ESGZ_FOOTER_BYTES];
	struct esgz_footer f;
	AUTO(buf) struct buf b = BUF_INIT;

	esgz_footer_write(9590757, footer);
	assert_memory_equal(footer, GOLDEN[0].bytes.p, sizeof(footer));
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
		uint64_t bytes = offsets[i] + 1000 + ESGZ_FOOTER_BYTES;

		esgz_footer_write(offsets[i], footer);
		assert_int_equal(esgz_footer_parse(tail_of(&b, str_make(footer, 51)), bytes, &f, NULL), 0);
		assert_int_equal(f.toc_offset, offsets[i]);
		assert_int_equal(f.toc_bytes, 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_all_layouts),
	    cmocka_unit_test(test_longer_tail),
	    cmocka_unit_test(test_ordinary_blobs),
	    cmocka_unit_test(test_tail_must_be_long_enough),
	    cmocka_unit_test(test_truncated),
	    cmocka_unit_test(test_bit_flips),
	    cmocka_unit_test(test_fields_outside_of_the_blob),
	    cmocka_unit_test(test_hex_digits),
	    cmocka_unit_test(test_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
