#include "estargz/gzseek/build.h"

#include "base/bytes.h"
#include "base/testing.h"
#include "base/vec.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/points_format.h"
#include "estargz/gzseek/test_gzip.h"
#include "estargz/index/index_format.h"
#include "estargz/testing/test_blob.h"

#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

struct built {
	struct buf blob, index, points;
	struct esgz_layer_result result;
	struct esgz_index *ix;
	struct esgz_points *p;
};

static void built_fini(struct built *b)
{
	buf_fini(&b->blob);
	buf_fini(&b->index);
	buf_fini(&b->points);
	esgz_index_free(b->ix);
	esgz_points_free(b->p);
}
DEFINE_AUTO_FINI(built);

static int build(struct built *b, size_t step, struct err *err)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);

	for (struct str in = buf_str(&b->blob); in.n > 0; in = str_sub(in, step, in.n))
		TRY(esgz_gzseek_feed(s, str_sub(in, 0, step), err));
	TRY(esgz_gzseek_blob_end(s, err));
	TRY(esgz_gzseek_finish(s, &b->result, err));
	TRY(esgz_gzseek_write(s, &b->index, &b->points, err));
	TRY(esgz_index_open(buf_str(&b->index), &b->ix, err));
	return esgz_points_open(buf_str(&b->points), &b->p, err);
}

/* Small files, empty ones, one of several chunks, and names without content. */
static void make_tar(struct buf *tar)
{
	AUTO(buf) struct buf content = BUF_INIT;

	buf_reserve(&content, 1);
	tar_entry(tar, '5', "dir/", "", 0, STR(""));
	for (unsigned i = 0; i < 24; i++) {
		char name[40];

		buf_clear(&content);
		words(&content, i % 5 ? 1000 + i * 9000 : 0, i);
		snprintf(name, sizeof(name), "dir/%u", i);
		tar_entry(tar, '0', name, "", content.n, buf_str(&content));
		if (i == 7) {
			buf_clear(&content);
			words(&content, 2500000, 77);
			tar_entry(tar, '0', "large", "", content.n, buf_str(&content));
		}
	}
	tar_entry(tar, '1', "link", "dir/3", 0, STR(""));
	buf_addz(tar, 1024);
}

static void plain_of(const struct built *b, const struct esgz_chunk *c, uint8_t *dst)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO_FREE char *copy = xmalloc((size_t)c->blob_bytes);
	struct esgz_point from;
	uint32_t i;

	memcpy(copy, b->blob.p + c->blob_offset, (size_t)c->blob_bytes);
	assert_true(esgz_points_find(b->p, c->blob_offset, &i));
	esgz_points_get(b->p, i, &from);
	OK(esgz_inflate_chunk_at(z, &from, str_make(copy, (size_t)c->blob_bytes), c, dst, err));
}

/* Each file comes out of its chunks, which are at most 1 MiB or holes. */
static void check_files(const struct built *b)
{
	for (uint32_t i = 0; i < esgz_index_get_info(b->ix)->n_entries; i++) {
		AUTO_FREE uint8_t *content = NULL;
		struct esgz_entry e;
		struct digest got;

		esgz_index_entry(b->ix, i, &e);
		if (e.type != ESGZ_REG || e.size == 0)
			continue;
		assert_true(e.n_chunks > 0);
		content = xcalloc(1, (size_t)e.size);
		for (uint32_t k = 0; k < e.n_chunks; k++) {
			struct esgz_chunk c;

			esgz_index_chunk(b->ix, e.first_chunk + k, &c);
			digest_of(content + c.file_offset, (size_t)c.bytes, &got);
			assert_true(!c.hole || digest_eq(&got, &c.digest));
			assert_true(c.hole || c.bytes <= ESGZ_LAYER_CHUNK_BYTES);
			if (!c.hole)
				plain_of(b, &c, content + c.file_offset);
		}
		digest_of(content, (size_t)e.size, &got);
		assert_true(digest_eq(&got, &e.content));
	}
}

/* ---- spans ---- */

struct span {
	const struct esgz_chunk *chunks;
	uint8_t **bytes;
	uint32_t right;
};

static uint8_t *span_begin(void *arg, uint32_t i)
{
	struct span *s = arg;

	return s->bytes[i] = xmalloc((size_t)s->chunks[i].bytes);
}

static void span_chunk(void *arg, uint32_t i, int result, const struct err *err)
{
	struct span *s = arg;

	if (result < 0)
		fail_msg("chunk %u: %s", i, err->msg);
	free(s->bytes[i]);
	s->right++;
}

static int by_inner(const void *a, const void *b)
{
	const struct esgz_chunk *x = a, *y = b;

	return x->inner_offset < y->inner_offset ? -1 : x->inner_offset > y->inner_offset;
}

/* All chunks behind a point in one pass. */
static void check_span(const struct built *b, uint32_t i)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	VEC(struct esgz_chunk) chunks = VEC_INIT;
	struct esgz_point from;
	struct span s;

	esgz_points_get(b->p, i, &from);
	for (uint32_t k = 0; k < esgz_index_get_info(b->ix)->n_chunks; k++) {
		struct esgz_chunk c;

		esgz_index_chunk(b->ix, k, &c);
		if (!c.hole && c.blob_offset == from.place.blob_offset)
			vec_push(&chunks, c);
	}
	if (chunks.n == 0)
		return;
	qsort(chunks.p, chunks.n, sizeof(*chunks.p), by_inner);
	s = (struct span){.chunks = chunks.p, .bytes = xcalloc(chunks.n, sizeof(*s.bytes))};
	esgz_inflate_span(z, &from, str_make(b->blob.p + from.place.blob_offset, (size_t)chunks.p[0].blob_bytes),
	                  chunks.p, (uint32_t)chunks.n, 0,
	                  &(struct esgz_member_sink){.begin = span_begin, .chunk = span_chunk, .arg = &s});
	assert_int_equal(s.right, chunks.n);
	free(s.bytes);
	vec_fini(&chunks);
}

/* ---- tests ---- */

static void check_built(struct built *b, struct str tar)
{
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *tree = NULL;
	const struct esgz_points_info *info = esgz_points_get_info(b->p);
	struct digest want;

	digest_of(b->blob.p, b->blob.n, &want);
	assert_true(digest_eq(&want, &b->result.blob) && digest_eq(&want, &info->blob));
	digest_of(tar.p, tar.n, &want);
	assert_true(digest_eq(&want, &b->result.diff_id) && digest_eq(&want, &info->diff_id));
	assert_int_equal(b->result.plain_bytes, tar.n);
	assert_int_equal(info->plain_bytes, tar.n);
	assert_int_equal(b->result.blob_bytes, b->blob.n);
	assert_int_equal(esgz_index_get_info(b->ix)->compression, ESGZ_GZIP_SEEK);
	OK(esgz_gzseek_match(b->p, b->ix, err));
	tree = index_of_tar(tar, NULL, &file);
	assert_same_tree(b->ix, tree, 0);
	check_files(b);
	for (uint32_t i = 0; i < info->n; i++)
		check_span(b, i);
}

static void test_writers(void **state)
{
	static const struct zlib_way ways[] = {
	    {.level = 1},          {.level = 6}, {.level = 9, .memory = 9}, {.level = 6, .flush_every = 5000},
	    {.strategy = Z_FIXED}, {.level = 0}};
	AUTO(buf) struct buf tar = BUF_INIT;

	make_tar(&tar);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		AUTO(built) struct built b = {0};

		zlib_pack(&b.blob, buf_str(&tar), &ways[i]);
		OK(build(&b, i ? 100000 : 77, err));
		check_built(&b, buf_str(&tar));
		assert_in_range(esgz_points_get_info(b.p)->n, 2, 5);
	}
}

static void test_members(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	make_tar(&tar);
	for (size_t bytes = 3000; bytes < 4000000; bytes *= 7) {
		AUTO(built) struct built b = {0};

		for (size_t at = 0; at < tar.n; at += bytes)
			zlib_pack(&b.blob, str_sub(buf_str(&tar), at, bytes), &(struct zlib_way){.level = 6});
		OK(build(&b, SIZE_MAX, err));
		check_built(&b, buf_str(&tar));
	}
}

static void test_broken(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf content = BUF_INIT;
	AUTO(built) struct built b = {0};

	words(&content, 5000, 1);
	tar_entry(&tar, '0', "a", "", 5000, buf_str(&content));
	zlib_pack(&b.blob, buf_str(&tar), &(struct zlib_way){.level = 6});
	b.blob.p[b.blob.n / 2] ^= 1;
	FAILS(build(&b, SIZE_MAX, err), ERR_DATA_LOSS);
	b.blob.p[b.blob.n / 2] ^= 1;
	b.blob.n -= 4;
	FAILS(build(&b, SIZE_MAX, err), ERR_DATA_LOSS);
	buf_clear(&b.blob);
	buf_addstr(&b.blob, buf_str(&tar)); /* no gzip at all */
	FAILS(build(&b, SIZE_MAX, err), ERR_DATA_LOSS);
}

/* A window of which bytes are wrong is seen in the chunk; one that is no frame, at once. */
static void test_bad_window(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(built) struct built b = {0};
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO_FREE uint8_t *dst = xmalloc(ESGZ_LAYER_CHUNK_BYTES);
	char frame[1000], zeros[ESGZ_DEFLATE_WINDOW] = {0};
	struct esgz_point from;
	struct esgz_chunk c;
	uint32_t n, i = 0, wrong = 0;

	make_tar(&tar);
	zlib_pack(&b.blob, buf_str(&tar), &(struct zlib_way){.level = 6});
	OK(build(&b, SIZE_MAX, err));
	n = (uint32_t)ZSTD_compress(frame, sizeof(frame), zeros, sizeof(zeros), 3);
	for (uint32_t k = 0; k < esgz_index_get_info(b.ix)->n_chunks; k++) {
		esgz_index_chunk(b.ix, k, &c);
		if (c.hole || c.blob_offset == 0)
			continue;
		assert_true(esgz_points_find(b.p, c.blob_offset, &i));
		esgz_points_get(b.p, i, &from);
		from.window.n--;
		FAILS(esgz_inflate_chunk_at(z, &from, str_sub(buf_str(&b.blob), (size_t)c.blob_offset, b.blob.n), &c,
		                            dst, err),
		      ERR_DATA_LOSS);
		from.window = str_make(frame, n);
		wrong += esgz_inflate_chunk_at(z, &from, str_sub(buf_str(&b.blob), (size_t)c.blob_offset, b.blob.n), &c,
		                               dst, NULL) < 0;
	}
	assert_true(wrong > 0);
}

/* ---- artifacts ---- */

static int unpack(struct str packed, const struct esgz_gzseek_of *of, struct err *err)
{
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;

	return esgz_gzseek_unpack(packed, of, &points, &index, err);
}

static void test_artifact(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(built) struct built b = {0};
	AUTO(built) struct built got = {0};
	struct esgz_gzseek_of of;
	struct digest trusted;
	size_t room;

	make_tar(&tar);
	zlib_pack(&b.blob, buf_str(&tar), &(struct zlib_way){.level = 6});
	OK(build(&b, SIZE_MAX, err));
	OK(esgz_gzseek_pack(buf_str(&b.points), buf_str(&b.index), &packed, err));
	assert_true(packed.n < b.points.n + b.index.n);
	digest_of(packed.p, packed.n, &trusted);
	of = (struct esgz_gzseek_of){b.result.blob, b.blob.n, b.result.diff_id};

	OK(esgz_gzseek_unpack(buf_str(&packed), &of, &got.points, &got.index, err));
	assert_true(str_eq(buf_str(&got.points), buf_str(&b.points)));
	OK(esgz_index_open(buf_str(&got.index), &got.ix, err));
	OK(esgz_points_open(buf_str(&got.points), &got.p, err));
	assert_int_equal(esgz_index_get_info(got.ix)->trust, ESGZ_TRUST_TOC);
	assert_true(digest_eq(&esgz_index_get_info(got.ix)->trusted, &trusted));
	buf_addstr(&got.blob, buf_str(&b.blob));
	got.result = b.result;
	check_built(&got, buf_str(&tar));
	/* The claim keys are those that the builder had made. */
	for (uint32_t i = 0; i < esgz_index_get_info(b.ix)->n_entries; i++) {
		struct esgz_entry x, y;

		esgz_index_entry(b.ix, i, &x);
		esgz_index_entry(got.ix, i, &y);
		assert_true(x.type != ESGZ_REG || digest_eq(&x.claim, &y.claim));
	}

	of.blob.b[0] ^= 1;
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	of.blob.b[0] ^= 1;
	of.diff_id.b[0] ^= 1;
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	of.diff_id = (struct digest){{0}};
	OK(unpack(buf_str(&packed), &of, err));
	of.blob_bytes++;
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	of.blob_bytes--;
	for (size_t n = 0; n < packed.n; n += n < 300 ? 1 : 251)
		FAILS(unpack(str_make(packed.p, n), &of, err), ERR_DATA_LOSS);
	buf_addc(&packed, 0);
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	packed.n--;
	OK(unpack(buf_str(&packed), &of, err));
	/* Another frame; one that nobody reads. */
	room = packed.n;
	buf_reserve(&packed, ZSTD_compressBound(0));
	packed.n += ZSTD_compress(packed.p + room, ZSTD_compressBound(0), NULL, 0, 1);
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	packed.n = room;
	buf_add(&packed, "\x50\x2a\x4d\x18\x00\x00\x00\x00", 8);
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
}

/* A frame that says, or takes, more than it can have. */
static void test_bombs(void **state)
{
	AUTO(buf) struct buf zeros = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	const struct esgz_gzseek_of of = {.blob_bytes = 1};

	buf_addz(&zeros, 4u << 20);
	buf_reserve(&packed, ZSTD_compressBound(zeros.n));
	packed.n = ZSTD_compress(packed.p, packed.cap, zeros.p, zeros.n, 9);
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
	packed.n = ZSTD_compress(packed.p, packed.cap, zeros.p, 200000, 9);
	FAILS(unpack(buf_str(&packed), &of, err), ERR_DATA_LOSS);
}

/* The first file becomes a hole of so many bytes. */
static void make_hole(struct buf *index, size_t file, char *single, uint64_t bytes)
{
	char *sum = index->p + H_CONTENT_BYTES;

	put_le64(sum, get_le64(sum) - get_le64(index->p + file) + bytes);
	put_le64(index->p + file, bytes);
	put_le64(single, INDEX_HOLE);
	put_le64(single + 8, 0);
}

/* An index that is right in itself, and lies about where chunks are, or about what zeros are. */
static void test_lies(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(built) struct built b = {0};
	static const char *const says[] = {
	    NULL,
	    "lies behind no point",
	    "goes beyond the span",
	    "index and points are of different layers",
	    "3000 zeros with another digest",
	    NULL, /* such a digest is checked with its file */
	    "more than 68719476736 bytes of holes",
	};
	static const uint64_t holes[] = {3000, 60ull << 30, 65ull << 30};
	uint32_t n_entries, n_single;
	size_t files, singles;

	make_tar(&tar);
	zlib_pack(&b.blob, buf_str(&tar), &(struct zlib_way){.level = 6});
	OK(build(&b, SIZE_MAX, err));
	n_entries = get_le32(b.index.p + H_COUNTS);
	n_single = get_le32(b.index.p + H_N_SINGLE);
	assert_true(n_single > 5);
	singles = H_END + (size_t)n_entries * ENTRY_BYTES;
	for (int s = S_NSEC; s < S_SINGLES; s++)
		singles += (size_t)get_le32(b.index.p + H_COUNTS + 4 * s) * SECTION_RECORD_BYTES[s];
	files = singles - (size_t)get_le32(b.index.p + H_COUNTS + 4 * S_FILES) * FILE_BYTES;
	for (unsigned lie = 0; lie < ARRAY_LEN(says); lie++) {
		AUTO(buf) struct buf index = BUF_INIT;
		AUTO(buf) struct buf packed = BUF_INIT;
		const struct esgz_gzseek_of of = {b.result.blob, b.blob.n, b.result.diff_id};
		struct err why = ERR_INIT;
		char *first;

		buf_addstr(&index, buf_str(&b.index));
		first = index.p + singles;
		if (lie == 1) {
			/* One byte shorter than to the end of the blob, where the place of the first file might be. */
			put_le64(first, get_le64(first) + 1);
			put_le32(first + 8, get_le32(first + 8) - 1);
		}
		if (lie == 2)
			put_le32(first + 12, 9u << 20);
		if (lie == 3)
			index.p[H_BLOB] ^= 1;
		if (lie >= 4)
			make_hole(&index, files, first, holes[lie - 4]);
		OK(esgz_gzseek_pack(buf_str(&b.points), buf_str(&index), &packed, err));
		if (!says[lie]) {
			OK(unpack(buf_str(&packed), &of, err));
			continue;
		}
		assert_int_equal(unpack(buf_str(&packed), &of, &why), -ERR_DATA_LOSS);
		if (!strstr(why.msg, says[lie]))
			fail_msg("\"%s\" does not say \"%s\"", why.msg, says[lie]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_writers),    cmocka_unit_test(test_members),  cmocka_unit_test(test_broken),
	    cmocka_unit_test(test_bad_window), cmocka_unit_test(test_artifact), cmocka_unit_test(test_bombs),
	    cmocka_unit_test(test_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
