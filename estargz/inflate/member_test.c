#include "estargz/inflate/inflate.h"

#include "estargz/testing/test_blob.h"
#include "estargz/toc/footer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zstd.h>

#define CHUNKS 6

/* A member on its way: what came of it, and in which order. */
struct got {
	const struct esgz_chunk *chunks;
	uint8_t *bytes[CHUNKS]; /* exactly as long as the chunk */
	int result[CHUNKS];
	unsigned told[CHUNKS];
	unsigned unwanted; /* a bit for each */
	struct buf gaps;
	size_t gaps_max; /* 0: no bound */
	struct buf all;  /* chunks and gaps as they came */
};

static uint8_t *on_begin(void *arg, uint32_t i)
{
	struct got *g = arg;

	if (g->unwanted & 1u << i)
		return NULL;
	return g->bytes[i] = xmalloc(g->chunks[i].bytes);
}

static void on_chunk(void *arg, uint32_t i, int result, const struct err *err)
{
	struct got *g = arg;

	g->told[i]++;
	g->result[i] = result;
	if (result == 0)
		buf_add(&g->all, g->bytes[i], g->chunks[i].bytes);
	else
		assert_int_equal(-(int)err->code, result);
}

static bool on_gap(void *arg, struct str plain)
{
	struct got *g = arg;

	assert_true(plain.n > 0);
	buf_addstr(&g->gaps, plain);
	buf_addstr(&g->all, plain);
	return !g->gaps_max || g->gaps.n < g->gaps_max;
}

static bool run(struct got *g, enum esgz_compression comp, struct str in, const struct esgz_chunk *chunks, uint32_t n,
                size_t tail_max)
{
	const struct esgz_member_sink sink = {.begin = on_begin, .chunk = on_chunk, .gap = on_gap, .arg = g};
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	/* An exact copy: what is read beside it is seen. */
	AUTO_FREE char *copy = xmalloc(in.n ? in.n : 1);
	bool whole;

	if (in.n > 0)
		memcpy(copy, in.p, in.n);
	g->chunks = chunks;
	whole = esgz_inflate_member(z, comp, str_make(copy, in.n), chunks, n, tail_max, &sink);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(g->told[i], g->unwanted & 1u << i ? 0 : 1);
	return whole;
}

static void got_fini(struct got *g)
{
	for (unsigned i = 0; i < CHUNKS; i++)
		free(g->bytes[i]);
	buf_fini(&g->gaps);
	buf_fini(&g->all);
	*g = (struct got){0};
}

/* ---- what is inflated ---- */

static const uint32_t SIZES[CHUNKS] = {1, 700, 70000, 200000, 3, 5000};
static const uint32_t BEFORE[CHUNKS] = {0, 511, 0, 70000, 1, 2560}; /* between a chunk and the one before */

static struct esgz_chunk chunks[CHUNKS];
static struct buf plain, gaps; /* of the member, 3 KiB longer than its chunks; what of it is no chunk */
static struct buf packed[3];   /* by compression: the member, and two more: an empty one, and one without chunks */

static void zstd(struct buf *out, struct str in)
{
	size_t room = ZSTD_compressBound(in.n), n = ZSTD_compress(buf_reserve(out, room), room, in.p, in.n, 3);

	assert_false(ZSTD_isError(n));
	out->n += n;
}

static int set_up(void **state)
{
	uint8_t footer[ESGZ_FOOTER_BYTES];
	uint32_t seed = 1;

	for (unsigned i = 0; i < CHUNKS; i++) {
		for (uint32_t n = BEFORE[i] + SIZES[i]; n > 0; n--) {
			seed = seed * 1664525 + 1013904223;
			buf_addc(&plain, (char)(seed >> 28 | (n & 0x30)));
		}
		chunks[i] = (struct esgz_chunk){
		    .blob_offset = 77, .blob_bytes = UINT32_MAX, .inner_offset = plain.n - SIZES[i], .bytes = SIZES[i]};
		digest_of(plain.p + plain.n - SIZES[i], SIZES[i], &chunks[i].digest);
		buf_add(&gaps, plain.p + plain.n - SIZES[i] - BEFORE[i], BEFORE[i]);
	}
	buf_addz(&plain, 3072);
	buf_addz(&gaps, 3072);
	esgz_footer_write(12345, footer);
	gzip(&packed[ESGZ_GZIP], buf_str(&plain));
	buf_add(&packed[ESGZ_GZIP], footer, sizeof(footer));
	gzip(&packed[ESGZ_GZIP], STR("another one"));
	zstd(&packed[ESGZ_ZSTD], buf_str(&plain));
	buf_le32(&packed[ESGZ_ZSTD], 0x184d2a50);
	buf_le32(&packed[ESGZ_ZSTD], 100);
	buf_addz(&packed[ESGZ_ZSTD], 100);
	zstd(&packed[ESGZ_ZSTD], STR("another one"));
	buf_addstr(&packed[ESGZ_PLAIN], buf_str(&plain));
	buf_adds(&packed[ESGZ_PLAIN], "another one");
	buf_adds(&plain, "another one");
	buf_adds(&gaps, "another one");
	return 0;
}

static int tear_down(void **state)
{
	buf_fini(&plain);
	buf_fini(&gaps);
	for (unsigned i = 0; i < 3; i++)
		buf_fini(&packed[i]);
	return 0;
}

/* ---- tests ---- */

static void test_whole(void **state)
{
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
		struct got g = {0};

		assert_true(run(&g, comp, buf_str(&packed[comp]), chunks, CHUNKS, SIZE_MAX));
		assert_true(str_eq(buf_str(&g.all), buf_str(&plain)));
		assert_true(str_eq(buf_str(&g.gaps), buf_str(&gaps)));
		got_fini(&g);
		/* Nothing but gaps. */
		assert_true(run(&g, comp, buf_str(&packed[comp]), chunks, 0, SIZE_MAX));
		assert_true(str_eq(buf_str(&g.gaps), buf_str(&plain)));
		got_fini(&g);
	}
}

static void test_some_are_not_wanted(void **state)
{
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++)
		for (unsigned unwanted = 1; unwanted < 1u << CHUNKS; unwanted += 5) {
			struct got g = {.unwanted = unwanted};

			assert_true(run(&g, comp, buf_str(&packed[comp]), chunks, CHUNKS, SIZE_MAX));
			assert_true(str_eq(buf_str(&g.gaps), buf_str(&gaps)));
			for (unsigned i = 0; i < CHUNKS; i++)
				assert_int_equal(g.result[i], 0);
			got_fini(&g);
		}
}

/* Cut anywhere: what comes before the cut is delivered, what not is told of, and it is whole only where a member ends. */
static void test_cut(void **state)
{
	for (int comp = ESGZ_GZIP; comp <= ESGZ_ZSTD; comp++)
		for (size_t n = 0; n < packed[comp].n; n += 1 + packed[comp].n / 150) {
			struct got g = {0};
			unsigned right = 0;

			assert_false(run(&g, comp, str_sub(buf_str(&packed[comp]), 0, n), chunks, CHUNKS, SIZE_MAX));
			while (right < CHUNKS && g.result[right] == 0)
				right++;
			for (unsigned i = right; i < CHUNKS; i++)
				assert_int_equal(g.result[i], -ERR_DATA_LOSS);
			if (right == CHUNKS)
				assert_true(str_starts(buf_str(&plain), buf_str(&g.all)));
			got_fini(&g);
		}
}

static void test_wrong_chunk(void **state)
{
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
		struct esgz_chunk bad[CHUNKS];
		struct got g = {0};

		memcpy(bad, chunks, sizeof(bad));
		bad[2].digest.b[0] ^= 1;
		assert_false(run(&g, comp, buf_str(&packed[comp]), bad, CHUNKS, SIZE_MAX));
		for (unsigned i = 0; i < CHUNKS; i++)
			assert_int_equal(g.result[i], i == 2 ? -ERR_DATA_LOSS : 0);
		got_fini(&g);
	}
}

/* Two files share bytes, or one lies inside the other: both are right, but nobody can tell what is between them. */
static void test_overlap(void **state)
{
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
		struct esgz_chunk over[3] = {chunks[2], chunks[2], chunks[3]};
		struct got g = {0};

		over[1].bytes = 100;
		digest_of(plain.p + over[1].inner_offset, 100, &over[1].digest);
		assert_false(run(&g, comp, buf_str(&packed[comp]), over, 3, SIZE_MAX));
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(g.result[i], 0);
		got_fini(&g);
	}
}

static void test_chunk_beyond_the_bounds(void **state)
{
	struct esgz_chunk bad[2] = {chunks[0], chunks[1]};
	struct got g = {.unwanted = 2};

	bad[1].inner_offset = UINT64_MAX;
	assert_false(run(&g, ESGZ_GZIP, buf_str(&packed[ESGZ_GZIP]), bad, 2, SIZE_MAX));
	assert_int_equal(g.result[0], 0);
	got_fini(&g);
}

/* Who waits for a chunk does not pay for a long tail, and who has heard enough of gaps is left alone. */
static void test_tail(void **state)
{
	for (int comp = ESGZ_PLAIN; comp <= ESGZ_ZSTD; comp++) {
		struct got g = {0};

		assert_false(run(&g, comp, buf_str(&packed[comp]), chunks, 3, 100));
		assert_int_equal(g.gaps.n, BEFORE[1]);
		got_fini(&g);
		g.gaps_max = 600;
		assert_false(run(&g, comp, buf_str(&packed[comp]), chunks, CHUNKS, SIZE_MAX));
		assert_true(g.gaps.n < 600 + (64u << 10));
		for (unsigned i = 0; i < CHUNKS; i++)
			assert_int_equal(g.result[i], 0);
		got_fini(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),   cmocka_unit_test(test_some_are_not_wanted),
	    cmocka_unit_test(test_cut),     cmocka_unit_test(test_wrong_chunk),
	    cmocka_unit_test(test_overlap), cmocka_unit_test(test_chunk_beyond_the_bounds),
	    cmocka_unit_test(test_tail),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
