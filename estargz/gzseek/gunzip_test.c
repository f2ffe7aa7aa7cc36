#include "estargz/gzseek/gunzip.h"

#include "base/testing.h"
#include "base/vec.h"
#include "estargz/gzseek/test_gzip.h"
#include "estargz/inflate/inflate.h"

#include <zlib.h>

static int collect(void *arg, struct str plain, struct err *err)
{
	buf_addstr(arg, plain);
	return 0;
}

/* Pieces are allocations of their own, so that reading beside them is seen. */
static int feed(struct esgz_gunzip *g, struct str in, size_t step, struct buf *out, struct err *err)
{
	for (; in.n > 0; in = str_sub(in, step, in.n)) {
		struct str part = str_sub(in, 0, step);
		AUTO_FREE char *copy = xmalloc(part.n);

		memcpy(copy, part.p, part.n);
		TRY(esgz_gunzip_feed(g, str_make(copy, part.n), collect, out, err));
	}
	return esgz_gunzip_finish(g, err);
}

static int gunzip(struct str in, size_t step, struct buf *out, struct err *err)
{
	AUTO(esgz_gunzip) struct esgz_gunzip *g = esgz_gunzip_new();

	esgz_gunzip_begin(g);
	return feed(g, in, step, out, err);
}

static void assert_gunzips(const struct buf *blob, struct str plain)
{
	static const size_t steps[] = {1, 2, 17, 1000, SIZE_MAX};

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		if (steps[i] < 17 && blob->n > 100000)
			continue;
		OK(gunzip(buf_str(blob), steps[i], &out, err));
		assert_true(str_eq(buf_str(&out), plain));
	}
}

/* A member with every field that a header can have; `wrong` makes its checksum false. */
static void full_header(struct buf *out, struct str plain, bool wrong)
{
	AUTO(buf) struct buf member = BUF_INIT;
	size_t begin = out->n;

	zlib_pack(&member, plain, &(struct zlib_way){.level = 6});
	buf_add(out, "\x1f\x8b\x08\x1f\0\0\0\0\0\xff", 10);
	buf_le16(out, 300);
	for (unsigned i = 0; i < 300; i++)
		buf_addc(out, (char)(i % 3));
	buf_add(out, "layer.tar\0and more\0", 19);
	buf_le16(out, (uint16_t)(crc32(0, (Bytef *)out->p + begin, (uInt)(out->n - begin)) + wrong));
	buf_add(out, member.p + 10, member.n - 10);
}

static void test_headers(void **state)
{
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf out = BUF_INIT;

	full_header(&blob, STR("with everything"), false);
	assert_gunzips(&blob, STR("with everything"));
	for (size_t n = 0; n < blob.n; n++)
		FAILS(gunzip(str_make(blob.p, n), SIZE_MAX, &out, err), ERR_DATA_LOSS);
	buf_clear(&blob);
	full_header(&blob, STR("with everything"), true);
	FAILS(gunzip(buf_str(&blob), SIZE_MAX, &out, err), ERR_DATA_LOSS);
	for (size_t i = 0; i < 3; i++) {
		buf_clear(&blob);
		full_header(&blob, STR("with everything"), false);
		blob.p[i] ^= 1;
		FAILS(gunzip(buf_str(&blob), SIZE_MAX, &out, err), ERR_DATA_LOSS);
	}
}

static void test_members(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;

	words(&plain, 40000, 2);
	for (size_t at = 0, n = 0; at < plain.n; at += n, n = n * 3 + 1)
		if (n % 2)
			zlib_pack(&blob, str_sub(buf_str(&plain), at, n), &(struct zlib_way){.level = (int)n % 10});
		else
			full_header(&blob, str_sub(buf_str(&plain), at, n), false);
	assert_gunzips(&blob, buf_str(&plain));
}

/* What every other layer goes through. */
static int stream(struct str in, size_t step, struct buf *out, struct err *err)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();

	for (; in.n > 0; in = str_sub(in, step, in.n))
		TRY(esgz_stream_feed(s, str_sub(in, 0, step), collect, out, err));
	return esgz_stream_finish(s, err);
}

/* A layer is good or bad whichever of the two decoders reads it. */
static void test_what_follows(void **state)
{
	static const struct {
		size_t zeros;
		struct str bytes;  /* behind them */
		bool member;       /* and one behind those */
		const char *plain; /* NULL: refused */
	} tails[] = {
	    {0, STR_NONE, false, "x"},       {0, STR_NONE, true, "xx"},
	    {1, STR_NONE, false, NULL},      {9, STR_NONE, false, NULL},
	    {10, STR_NONE, false, NULL},     {512, STR_NONE, false, NULL},
	    {700, STR_NONE, false, NULL},    {2048, STR_NONE, false, NULL},
	    {100000, STR_NONE, false, NULL}, {1, STR_NONE, true, NULL},
	    {512, STR_NONE, true, NULL},     {0, STR("x"), false, NULL},
	    {0, STR("\x1f"), false, NULL},   {0, STR("\x1f\x8b\x08"), false, NULL},
	    {700, STR("\1"), false, NULL},
	};
	static const size_t steps[] = {1, 17, SIZE_MAX};

	for (size_t i = 0; i < ARRAY_LEN(tails) * ARRAY_LEN(steps); i++) {
		size_t t = i / ARRAY_LEN(steps), step = steps[i % ARRAY_LEN(steps)];
		AUTO(buf) struct buf blob = BUF_INIT;
		AUTO(buf) struct buf ours = BUF_INIT;
		AUTO(buf) struct buf theirs = BUF_INIT;
		int want = tails[t].plain ? 0 : -ERR_DATA_LOSS;

		zlib_pack(&blob, STR("x"), &(struct zlib_way){.level = 6});
		buf_addz(&blob, tails[t].zeros);
		buf_addstr(&blob, tails[t].bytes);
		if (tails[t].member)
			zlib_pack(&blob, STR("x"), &(struct zlib_way){.level = 6});
		if (gunzip(buf_str(&blob), step, &ours, NULL) != want)
			fail_msg("tail %zu by %zu is taken otherwise than it should be", t, step);
		if (stream(buf_str(&blob), step, &theirs, NULL) != want)
			fail_msg("tail %zu by %zu is taken otherwise by the other decoder", t, step);
		if (want == 0)
			assert_true(str_eqc(buf_str(&ours), tails[t].plain) &&
			            str_eqc(buf_str(&theirs), tails[t].plain));
	}
}

static void test_no_member(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;

	FAILS(gunzip(STR("\0\0\0\0\0\0\0\0\0\0\0\0"), SIZE_MAX, &out, err), ERR_DATA_LOSS);
	FAILS(gunzip(STR_NONE, SIZE_MAX, &out, err), ERR_DATA_LOSS);
}

static void test_checksums(void **state)
{
	for (size_t i = 1; i <= 8; i++) {
		AUTO(buf) struct buf blob = BUF_INIT;
		AUTO(buf) struct buf out = BUF_INIT;

		zlib_pack(&blob, STR("some bytes"), &(struct zlib_way){.level = 6});
		blob.p[blob.n - i] ^= 0x20;
		FAILS(gunzip(buf_str(&blob), SIZE_MAX, &out, err), ERR_DATA_LOSS);
	}
}

/* ---- places ---- */

struct kept {
	struct esgz_gzip_place place;
	struct buf window;
};

struct places {
	VEC(struct kept) all;
	struct buf *out;
};

static int on_place(void *arg, const struct esgz_gzip_place *p, struct err *err)
{
	struct places *all = arg;

	assert_int_equal(p->plain_offset, all->out->n); /* in order with the bytes */
	vec_push(&all->all, (struct kept){.place = *p});
	return 0;
}

static int on_window(void *arg, const uint8_t *window, struct err *err)
{
	struct places *all = arg;
	struct kept *last = vec_last(&all->all);

	assert_true(last->place.inside && last->window.n == 0);
	buf_add(&last->window, window, ESGZ_DEFLATE_WINDOW);
	return 0;
}

/* From each place on the rest of the blob gives the rest of the bytes; returns how many there are. */
static size_t check_places(const struct buf *blob, const struct buf *plain, uint64_t every, size_t step)
{
	AUTO(esgz_gunzip) struct esgz_gunzip *g = esgz_gunzip_new();
	AUTO(buf) struct buf out = BUF_INIT;
	struct places all = {.out = &out};
	size_t n = all.all.n;

	esgz_gunzip_begin(g);
	esgz_gunzip_places(g, every, &(struct esgz_gzip_place_sink){on_place, on_window, &all});
	OK(feed(g, buf_str(blob), step, &out, err));
	assert_true(str_eq(buf_str(&out), buf_str(plain)));
	vec_each(&all.all, k) {
		AUTO(buf) struct buf rest = BUF_INIT;

		if (k > all.all.p)
			assert_true(k->place.plain_offset - k[-1].place.plain_offset >= every);
		assert_int_equal(k->window.n, k->place.inside ? ESGZ_DEFLATE_WINDOW : 0);
		esgz_gunzip_begin_at(g, &k->place, buf_str(&k->window));
		OK(feed(g, str_sub(buf_str(blob), (size_t)k->place.blob_offset, blob->n), step, &rest, err));
		assert_true(str_eq(buf_str(&rest), str_sub(buf_str(plain), (size_t)k->place.plain_offset, plain->n)));
		assert_int_equal(esgz_gunzip_total(g), plain->n);
		buf_fini(&k->window);
	}
	n = all.all.n;
	assert_true(n > 0 && all.all.p[0].place.blob_offset == 0);
	vec_fini(&all.all);
	return n;
}

static void test_places(void **state)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;

	words(&plain, 1200000, 4);
	zlib_pack(&blob, buf_str(&plain), &(struct zlib_way){.level = 6, .memory = 4});
	assert_in_range(check_places(&blob, &plain, 32768, SIZE_MAX), 20, 37);
	assert_in_range(check_places(&blob, &plain, 100000, 777), 8, 12);
	assert_in_range(check_places(&blob, &plain, 1 << 30, SIZE_MAX), 1, 1);
	buf_clear(&blob);
	for (size_t at = 0; at < plain.n; at += 60000) /* members: some of their beginnings, some in their middle */
		full_header(&blob, str_sub(buf_str(&plain), at, 60000), false);
	assert_in_range(check_places(&blob, &plain, 32768, SIZE_MAX), 20, 37);
	assert_in_range(check_places(&blob, &plain, 50000, 5), 20, 20);
	buf_clear(&blob);
	zlib_pack(&blob, buf_str(&plain), &(struct zlib_way){.level = 0}); /* nothing of the windows is used */
	assert_in_range(check_places(&blob, &plain, 32768, 4096), 10, 37);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_headers),   cmocka_unit_test(test_members),   cmocka_unit_test(test_what_follows),
	    cmocka_unit_test(test_no_member), cmocka_unit_test(test_checksums), cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
