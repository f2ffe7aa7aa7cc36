#include "estargz/gzseek/points.h"

#include "base/bytes.h"
#include "base/testing.h"
#include "estargz/gzseek/points_format.h"

#include <isa-l/crc64.h>
#include <zstd.h>

#define MiB (1u << 20)

static const struct esgz_points_info INFO = {
    .blob = {{1, 2}}, .diff_id = {{3}}, .blob_bytes = 5000000, .plain_bytes = 20 * MiB + 5};

/* A point each MiB and some, each third where a member begins; the windows are full of bytes that do not compress. */
static struct esgz_point_collector *collect(unsigned n, bool dense)
{
	struct esgz_point_collector *c = esgz_point_collector_new();
	uint8_t window[ESGZ_DEFLATE_WINDOW] = {0};
	uint32_t seed = 1;

	for (unsigned i = 0; i < n; i++) {
		struct esgz_gzip_place p = {
		    .blob_offset = i * 200000ull, .plain_offset = i * (MiB + 100ull), .inside = i % 3};

		if (p.inside)
			p.bits = (struct esgz_deflate_place){i % 8, (uint8_t)((1u << i % 8) - 1)};
		OK(esgz_point_collect(c, &p, err));
		for (unsigned k = 0; p.inside && k < (dense ? sizeof(window) : 100); k++) {
			seed = seed * 1664525 + 1013904223;
			window[k] = (uint8_t)(seed >> 24);
		}
		if (p.inside)
			OK(esgz_point_collect_window(c, window, err));
	}
	return c;
}

static void written(const struct esgz_point_collector *c, struct buf *out)
{
	struct esgz_points_info info = INFO;

	buf_addc(out, 'x'); /* it appends */
	esgz_points_write(c, &info, out);
	memmove(out->p, out->p + 1, --out->n);
}

/* n of them, each with a window that does not compress. */
static struct esgz_point_collector *collect_bulky(unsigned n)
{
	struct esgz_point_collector *c = esgz_point_collector_new();
	uint8_t window[ESGZ_DEFLATE_WINDOW];
	uint32_t seed = 1;

	for (size_t k = 0; k < sizeof(window); k++) {
		seed = seed * 1664525 + 1013904223;
		window[k] = (uint8_t)(seed >> 24);
	}
	for (unsigned i = 0; i < n; i++) {
		OK(esgz_point_collect(c,
		                      &(struct esgz_gzip_place){.blob_offset = i * 40000ull,
		                                                .plain_offset = i * (MiB + 100ull),
		                                                .inside = i > 0},
		                      err));
		put_le32(window, i);
		if (i > 0)
			OK(esgz_point_collect_window(c, window, err));
	}
	return c;
}

/* More than is held: thinned as they come, into a file that is right; and where that does not do, given up. */
static void test_too_many(void **state)
{
	static const unsigned numbers[] = {2000, 7000, 14000};

	for (size_t t = 0; t < ARRAY_LEN(numbers); t++) {
		AUTO(esgz_point_collector) struct esgz_point_collector *c = collect_bulky(numbers[t]);
		struct esgz_points_info info = {.blob_bytes = numbers[t] * 40000ull,
		                                .plain_bytes = numbers[t] * (MiB + 100ull)};
		AUTO(esgz_points) struct esgz_points *p = NULL;
		AUTO(buf) struct buf file = BUF_INIT;
		struct err why = ERR_INIT;

		if (t == 2) {
			assert_int_equal(esgz_points_thin(c, info.blob_bytes, info.plain_bytes, UINT64_MAX, &why),
			                 -ERR_PRECONDITION);
			assert_non_null(strstr(why.msg, "more than 67108864 bytes"));
			continue;
		}
		OK(esgz_points_thin(c, info.blob_bytes, info.plain_bytes, UINT64_MAX, err));
		esgz_points_write(c, &info, &file);
		OK(esgz_points_open(buf_str(&file), &p, err));
		if (t == 0)
			assert_int_equal(esgz_points_get_info(p)->n, 2000);
		else
			assert_in_range(esgz_points_get_info(p)->n, 7000 / 8, 2100);
		for (uint32_t i = 0; i < esgz_points_get_info(p)->n; i++) {
			char window[ESGZ_DEFLATE_WINDOW];
			struct esgz_point at;

			esgz_points_get(p, i, &at);
			assert_true(esgz_points_span_end(p, i) - at.place.plain_offset <= ESGZ_SPAN_BYTES_THIN);
			if (i == 0)
				continue;
			assert_int_equal(ZSTD_decompress(window, sizeof(window), at.window.p, at.window.n),
			                 sizeof(window));
			assert_int_equal(get_le32(window), at.place.blob_offset / 40000);
		}
	}
}

static void test_round(void **state)
{
	AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(20, true);
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(buf) struct buf file = BUF_INIT;
	const struct esgz_points_info *info;
	uint32_t found;

	OK(esgz_points_thin(c, INFO.blob_bytes, INFO.plain_bytes, UINT64_MAX, err));
	written(c, &file);
	OK(esgz_points_open(buf_str(&file), &p, err));
	info = esgz_points_get_info(p);
	assert_memory_equal(&info->blob, &INFO.blob, DIGEST_BYTES);
	assert_memory_equal(&info->diff_id, &INFO.diff_id, DIGEST_BYTES);
	assert_int_equal(info->blob_bytes, INFO.blob_bytes);
	assert_int_equal(info->plain_bytes, INFO.plain_bytes);
	assert_int_equal(info->n, 20);
	for (uint32_t i = 0; i < 20; i++) {
		struct esgz_point at;
		char window[ESGZ_DEFLATE_WINDOW];

		esgz_points_get(p, i, &at);
		assert_int_equal(at.place.blob_offset, i * 200000);
		assert_int_equal(at.place.plain_offset, i * (MiB + 100));
		assert_int_equal(at.place.inside, i % 3 != 0);
		assert_int_equal(at.place.bits.n_bits, i % 3 ? i % 8 : 0);
		assert_int_equal(at.place.bits.bits, i % 3 ? (1u << i % 8) - 1 : 0);
		assert_int_equal(esgz_points_span_end(p, i), i < 19 ? (i + 1) * (MiB + 100) : INFO.plain_bytes);
		if (i % 3)
			assert_int_equal(ZSTD_decompress(window, sizeof(window), at.window.p, at.window.n),
			                 sizeof(window));
		else
			assert_int_equal(at.window.n, 0);
		assert_true(esgz_points_find(p, i * 200000, &found) && found == i);
		assert_false(esgz_points_find(p, i * 200000 + 1, &found));
	}
}

static void test_thin(void **state)
{
	size_t all;

	for (uint64_t budget = 700000; budget > 100; budget = budget * 3 / 4) {
		AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(20, true);
		AUTO(esgz_points) struct esgz_points *p = NULL;
		AUTO(buf) struct buf file = BUF_INIT;
		struct esgz_span span;
		uint32_t n, found;

		OK(esgz_points_thin(c, INFO.blob_bytes, INFO.plain_bytes, budget, err));
		written(c, &file);
		OK(esgz_points_open(buf_str(&file), &p, err));
		n = esgz_points_get_info(p)->n;
		/* Three at least: 20 MiB in spans of 8. */
		assert_true(file.n <= budget || n <= 4);
		for (uint32_t i = 0; i < n; i++) {
			struct esgz_point at;

			esgz_points_get(p, i, &at);
			assert_in_range(esgz_points_span_end(p, i) - at.place.plain_offset, 0, ESGZ_SPAN_BYTES_THIN);
		}
		for (uint64_t plain = 0; plain < INFO.plain_bytes; plain += 777777) {
			esgz_points_span(c, plain, INFO.blob_bytes, INFO.plain_bytes, &span);
			assert_true(span.plain_offset <= plain && plain < span.plain_end);
			assert_true(esgz_points_find(p, span.blob_offset, &found));
			assert_int_equal(span.plain_end, esgz_points_span_end(p, found));
			assert_true(span.blob_end > span.blob_offset && span.blob_end <= INFO.blob_bytes);
		}
		all = budget == 700000 ? file.n : all;
		assert_true(file.n <= all);
		if (budget == 700000)
			assert_int_equal(n, 20);
	}
}

static void test_endless_block(void **state)
{
	AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(2, false);

	OK(esgz_points_thin(c, INFO.blob_bytes, MiB + 100 + ESGZ_SPAN_BYTES_MAX, 10000, err));
	FAILS(esgz_points_thin(c, INFO.blob_bytes, MiB + 100 + ESGZ_SPAN_BYTES_MAX + 1, 10000, err), ERR_PRECONDITION);
}

/* Bytes of the blob that come to nothing. */
static void test_endless_nothing(void **state)
{
	AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(2, false);
	struct esgz_points_info info = INFO;
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(buf) struct buf file = BUF_INIT;

	info.blob_bytes = 200000 + ESGZ_SPAN_BLOB_BYTES_MAX;
	info.plain_bytes = 2 * MiB;
	OK(esgz_points_thin(c, info.blob_bytes, info.plain_bytes, 10000, err));
	esgz_points_write(c, &info, &file);
	OK(esgz_points_open(buf_str(&file), &p, err));
	assert_int_equal(esgz_points_blob_end(p, 0), 200000);
	assert_int_equal(esgz_points_blob_end(p, 1), info.blob_bytes);
	FAILS(esgz_points_thin(c, ++info.blob_bytes, info.plain_bytes, 10000, err), ERR_PRECONDITION);
	/* Who writes it all the same is not believed. */
	buf_clear(&file);
	esgz_points_free(STEAL(p));
	esgz_points_write(c, &info, &file);
	FAILS(esgz_points_open(buf_str(&file), &p, err), ERR_DATA_LOSS);
}

static void seal(struct buf *file)
{
	put_le64(file->p + P_CRC, crc64_ecma_refl(0, (uint8_t *)file->p + P_CRC + 8, file->n - P_CRC - 8));
}

static int opens(const struct buf *file, struct err *err)
{
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO_FREE char *copy = xmalloc(file->n + 1);

	if (file->n)
		memcpy(copy, file->p, file->n);
	return esgz_points_open(str_make(copy, file->n), &p, err);
}

static void test_damage(void **state)
{
	AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(4, false);
	AUTO(buf) struct buf file = BUF_INIT;

	written(c, &file);
	OK(opens(&file, err));
	for (size_t i = 0; i < file.n; i++) {
		struct buf cut = {file.p, i, 0};

		FAILS(opens(&cut, err), ERR_DATA_LOSS);
		file.p[i] ^= 4;
		FAILS(opens(&file, err), i >= P_VERSION && i < P_VERSION + 4 ? ERR_UNIMPLEMENTED : ERR_DATA_LOSS);
		file.p[i] ^= 4;
	}
}

/* Sealed again, so that only the checks of the values are left. */
static void test_lies(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
	} lies[] = {
	    {P_N, 4, 0},
	    {P_N, 4, 3},
	    {P_N, 4, 5},
	    {P_N, 4, UINT32_MAX},
	    {P_ZERO, 4, 1},
	    {P_WINDOW_BYTES, 8, 1},
	    {P_BLOB_BYTES, 8, 600000},                                        /* the last point is at its end */
	    {P_PLAIN_BYTES, 8, 3},                                            /* before the last point */
	    {P_PLAIN_BYTES, 8, 3ull * (MiB + 100) + ESGZ_SPAN_BYTES_MAX + 1}, /* a span that is too long */
	    {P_END + R_BLOB, 8, 1},                                           /* does not begin at the beginning */
	    {P_END + R_PLAIN, 8, 1},
	    {P_END + R_N_BITS, 1, 1},         /* bits before a member */
	    {P_END + R_END + R_N_BITS, 1, 8}, /* more bits than a byte has */
	    {P_END + R_END + R_BITS, 1, 2},   /* higher than n_bits says */
	    {P_END + R_END + R_WINDOW, 4, 1}, /* gaps and overlaps of windows */
	    {P_END + R_END + R_WINDOW_BYTES, 2, 1},
	    {P_END + R_END + R_WINDOW_BYTES, 2, UINT16_MAX},
	    {P_END + 3 * R_END + R_WINDOW_BYTES, 2, 1},
	    {P_END + R_END + R_BLOB, 8, 0}, /* not ascending */
	    {P_END + R_END + R_PLAIN, 8, UINT64_MAX},
	};
	AUTO(esgz_point_collector) struct esgz_point_collector *c = collect(4, false);

	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		AUTO(buf) struct buf file = BUF_INIT;
		struct err err = ERR_INIT;

		written(c, &file);
		for (unsigned k = 0; k < lies[i].bytes; k++)
			file.p[lies[i].at + k] = (char)(lies[i].value >> 8 * k);
		seal(&file);
		if (opens(&file, &err) != -(int)ERR_DATA_LOSS)
			fail_msg("lie %zu is believed", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_too_many),      cmocka_unit_test(test_round),           cmocka_unit_test(test_thin),
	    cmocka_unit_test(test_endless_block), cmocka_unit_test(test_endless_nothing), cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
