#include "estargz/inflate/layer.h"

#include "estargz/testing/test_blob.h"

#include "base/testing.h"

#include <zstd.h>

/* ---- a small tar ---- */

static void add(struct buf *tar, char type, const char *name, const char *link, struct str content)
{
	tar_entry(tar, type, name, link, content.n, content);
}

static void make_tar(struct buf *tar)
{
	AUTO(buf) struct buf big = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;

	for (uint32_t i = 0; i < 300000; i++)
		buf_addc(&big, (char)(i * i >> 7));
	add(tar, '0', ".no.prefetch.landmark", "", STR("\x0f"));
	add(tar, '5', "d/", "", STR_NONE);
	buf_adds(&pax, "23 SCHILY.xattr.a.b=vw\n");
	add(tar, 'x', "pax", "", buf_str(&pax));
	add(tar, '0', "d/big", "", buf_str(&big));
	add(tar, '0', "d/empty", "", STR_NONE);
	add(tar, '1', "hard", "d/big", STR_NONE);
	add(tar, '2', "soft", "d/big", STR_NONE);
	add(tar, '0', "d/.wh.gone", "", STR_NONE);
	add(tar, '0', "abc", "", STR("abc"));
	add(tar, '0', "stargz.index.json", "", STR("{\"version\":1}"));
	buf_addz(tar, 1024);
}

/* ---- what the sink sees ---- */

struct seen {
	struct buf log;
	struct hasher *h;
	uint64_t left;
	bool in_file, fail;
};

static int on_begin(void *arg, uint64_t size, struct err *err)
{
	struct seen *s = arg;

	assert_false(s->in_file);
	assert_true(size > 0);
	s->in_file = true;
	s->left = size;
	return s->fail ? err_set(err, ERR_EXHAUSTED, "disk full") : 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct seen *s = arg;

	assert_true(s->in_file && bytes.n > 0 && bytes.n <= s->left);
	s->left -= bytes.n;
	hasher_add(s->h, bytes.p, bytes.n);
	return 0;
}

static int on_end(void *arg, const struct digest *content, struct err *err)
{
	struct seen *s = arg;
	struct digest got;
	char text[DIGEST_TEXT_MAX];

	assert_true(s->in_file && s->left == 0);
	s->in_file = false;
	hasher_done(s->h, &got);
	assert_true(digest_eq(&got, content));
	buf_addf(&s->log, "%.14s ", digest_text(&got, text));
	return 0;
}

static int read_layer(struct str blob, size_t step, struct seen *s, struct esgz_layer_result *result, struct buf *index,
                      struct err *err)
{
	const struct esgz_layer_sink sink = {.begin = on_begin, .data = on_data, .end = on_end, .arg = s};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);

	while (blob.n > 0) {
		struct str piece = str_sub(blob, 0, step);

		TRY(esgz_layer_feed(l, piece, err));
		blob = str_sub(blob, piece.n, blob.n);
	}
	TRY(esgz_layer_finish(l, result, err));
	return esgz_layer_index(l, index, err);
}

static void check_layer(struct str blob, struct str tar, enum esgz_compression kind, size_t step)
{
	struct seen s = {.log = BUF_INIT, .h = hasher_new()};
	struct esgz_layer_result r;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	const struct esgz_index_info *info;
	struct err err = ERR_INIT;
	struct digest want;
	struct esgz_entry e, to;

	if (read_layer(blob, step, &s, &r, &file, &err) < 0 || esgz_index_open(buf_str(&file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	info = esgz_index_get_info(ix);
	/* Two files have content; the landmark and the TOC are none of the tree's. */
	assert_int_equal(s.log.n, 2 * 15);
	assert_true(str_ends(buf_str(&s.log), STR("sha256:ba7816b ")));
	assert_int_equal(r.compression, kind);
	assert_int_equal(r.blob_bytes, blob.n);
	assert_int_equal(r.plain_bytes, tar.n);
	digest_of(blob.p, blob.n, &want);
	assert_true(digest_eq(&r.blob, &want) && digest_eq(&info->blob, &want));
	digest_of(tar.p, tar.n, &want);
	assert_true(digest_eq(&r.diff_id, &want) && digest_eq(&info->trusted, &want));
	assert_int_equal(info->trust, ESGZ_TRUST_DIFFID);
	assert_int_equal(info->compression, kind);
	assert_int_equal(info->blob_bytes, blob.n);
	assert_int_equal(info->n_entries, 8);
	assert_int_equal(info->content_bytes, 300003);
	e = find(ix, "d/big");
	assert_int_equal(e.size, 300000);
	assert_int_equal(e.mode, 0640);
	assert_int_equal(e.n_chunks, 0);
	assert_int_equal(e.n_xattrs, 1);
	assert_int_equal(e.content.b[0], strtol((char[]){s.log.p[7], s.log.p[8], 0}, NULL, 16));
	e = find(ix, "hard");
	esgz_index_entry(ix, e.target, &to);
	assert_true(str_eqc(to.path, "d/big"));
	assert_int_equal(find(ix, "d/gone").type, ESGZ_WHITEOUT);
	e = find(ix, "d/empty");
	assert_true(digest_eq(&e.content, &DIGEST_EMPTY));
	buf_fini(&s.log);
	hasher_free(s.h);
}

static void test_compressions(void **state)
{
	static const size_t steps[] = {SIZE_MAX, 777, 65536};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf zs = BUF_INIT;

	make_tar(&tar);
	gzip(&gz, buf_str(&tar));
	buf_reserve(&zs, ZSTD_compressBound(tar.n));
	zs.n = ZSTD_compress(zs.p, zs.cap, tar.p, tar.n, 1);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		check_layer(buf_str(&tar), buf_str(&tar), ESGZ_PLAIN, steps[i]);
		check_layer(buf_str(&gz), buf_str(&tar), ESGZ_GZIP, steps[i]);
		check_layer(buf_str(&zs), buf_str(&tar), ESGZ_ZSTD, steps[i]);
	}
}

static void test_cut_layers(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;

	make_tar(&tar);
	gzip(&gz, buf_str(&tar));
	for (size_t n = 1; n < gz.n; n += 1 + gz.n / 50) {
		struct seen s = {.log = BUF_INIT, .h = hasher_new()};
		AUTO(buf) struct buf file = BUF_INIT;
		struct esgz_layer_result r;
		struct err err = ERR_INIT;

		assert_int_equal(read_layer(str_sub(buf_str(&gz), 0, n), SIZE_MAX, &s, &r, &file, &err),
		                 -ERR_DATA_LOSS);
		buf_fini(&s.log);
		hasher_free(s.h);
	}
}

static void test_sink_fails(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	struct seen s = {.log = BUF_INIT, .h = hasher_new(), .fail = true};
	struct esgz_layer_result r;
	struct err err = ERR_INIT;

	make_tar(&tar);
	assert_int_equal(read_layer(buf_str(&tar), SIZE_MAX, &s, &r, &file, &err), -ERR_EXHAUSTED);
	assert_non_null(strstr(err.msg, "disk full"));
	hasher_free(s.h);
}

/* Inflated elsewhere, the layer comes out the same. */
static void test_plain_half(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	struct seen s = {.log = BUF_INIT, .h = hasher_new()};
	const struct esgz_layer_sink sink = {.begin = on_begin, .data = on_data, .end = on_end, .arg = &s};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	struct esgz_layer_result r, again;
	struct err err = ERR_INIT;

	make_tar(&tar);
	gzip(&gz, buf_str(&tar));
	assert_int_equal(read_layer(buf_str(&gz), 777, &s, &r, &want, &err), 0);
	buf_clear(&s.log);
	for (size_t at = 0; at < tar.n; at += 1000)
		assert_int_equal(esgz_layer_feed_plain(l, str_sub(buf_str(&tar), at, 1000), &err), 0);
	assert_int_equal(esgz_layer_finish_plain(l, &r.blob, gz.n, ESGZ_GZIP, &again, &err), 0);
	assert_memory_equal(&again, &r, sizeof(r));
	assert_int_equal(esgz_layer_index(l, &got, &err), 0);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p, want.p, want.n);
	buf_fini(&s.log);
	hasher_free(s.h);
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	struct seen *s = arg;

	assert_true(s->in_file && bytes > 0 && bytes <= s->left);
	s->left -= bytes;
	for (; bytes > 0; bytes--)
		hasher_add(s->h, "", 1);
	return 0;
}

/* Whoever takes holes and who wants zeros: the index is the same, and has the file as it is when it is read. */
static void test_sparse(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf whole = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	struct seen s = {.log = BUF_INIT, .h = hasher_new()};
	const struct esgz_layer_sink sink = {
	    .begin = on_begin, .data = on_data, .end = on_end, .hole = on_hole, .arg = &s};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf filled = BUF_INIT;
	struct esgz_layer_result r;
	struct err err = ERR_INIT;
	struct esgz_entry e;
	struct digest want;

	add(&tar, 'x', "pax", "", STR("23 GNU.sparse.size=100\n26 GNU.sparse.numblocks=1\n23 GNU.sparse.map=70,3\n"));
	add(&tar, '0', "holes", "", STR("abc"));
	buf_addz(&tar, 1024);
	buf_addz(&whole, 70);
	buf_adds(&whole, "abc");
	buf_addz(&whole, 27);
	digest_of(whole.p, whole.n, &want);
	if (esgz_layer_feed(l, buf_str(&tar), &err) < 0 || esgz_layer_finish(l, &r, &err) < 0 ||
	    esgz_layer_index(l, &file, &err) < 0 || esgz_index_open(buf_str(&file), &ix, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(find(ix, "holes").size, 100);
	e = find(ix, "holes");
	assert_true(digest_eq(&e.content, &want));
	assert_int_equal(read_layer(buf_str(&tar), 100, &s, &r, &filled, &err), 0);
	assert_true(str_eq(buf_str(&filled), buf_str(&file)));
	buf_fini(&s.log);
	hasher_free(s.h);
}

static int on_third_hole(void *arg, uint64_t bytes, struct err *err)
{
	unsigned *n = arg;

	assert_true(bytes <= ESGZ_LAYER_HOLE_BYTES);
	return ++*n < 3 ? 0 : err_set(err, ERR_CANCELLED, "enough");
}

static int any_begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

/* Whoever gives up does so within a hole, and not when half a minute of zeros has been hashed. */
static void test_large_hole_is_left(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	unsigned n = 0;
	const struct esgz_layer_sink sink = {.begin = any_begin, .hole = on_third_hole, .arg = &n};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);

	add(&tar, 'x', "pax", "",
	    STR("31 GNU.sparse.size=64000000000\n26 GNU.sparse.numblocks=1\n"
	        "32 GNU.sparse.map=64000000000,0\n"));
	add(&tar, '0', "holes", "", STR_NONE);
	FAILS(esgz_layer_feed(l, buf_str(&tar), err), ERR_CANCELLED);
	assert_int_equal(n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_compressions), cmocka_unit_test(test_cut_layers),
	    cmocka_unit_test(test_sink_fails),   cmocka_unit_test(test_plain_half),
	    cmocka_unit_test(test_sparse),       cmocka_unit_test(test_large_hole_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
