/* Layers made by other tools (tests/golden/make.sh; what each is stands in good/blobs.json): what their TOC says must be
 * what their tar says, and what the layer says of which they were made. */
#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "estargz/inflate/inflate.h"
#include "estargz/testing/test_blob.h"
#include "estargz/toc/toc.h"

#include <fcntl.h>

static void slurp(const char *name, struct buf *out)
{
	AUTO_FREE char *path = xasprintf("../tests/golden/good/%s", name);

	OK(file_read(AT_FDCWD, path, 1u << 20, out, err));
}

/* ---- good/blobs.json ---- */

struct known {
	struct digest blob, diff_id;
	struct digest toc; /* of its JSON, or of its compressed bytes */
	bool found;
};

static bool next_key(struct json_reader *r, struct str *key)
{
	int more = 0;

	OK(more = json_object_next(r, key, err));
	return more > 0;
}

static void read_digest(struct json_reader *r, struct digest *out)
{
	struct str text;

	OK(json_string(r, &text, err));
	OK(digest_parse(text, out, err));
}

static void read_annotations(struct json_reader *r, struct known *k)
{
	struct str key;

	OK(json_object_begin(r, err));
	while (next_key(r, &key))
		if (str_eqc(key, "containerd.io/snapshot/stargz/toc.digest") ||
		    str_eqc(key, "io.github.containers.zstd-chunked.manifest-checksum"))
			read_digest(r, &k->toc);
		else
			OK(json_skip(r, err));
}

static void read_blob(struct json_reader *r, struct known *k)
{
	struct str key;

	k->found = true;
	OK(json_object_begin(r, err));
	while (next_key(r, &key))
		if (str_eqc(key, "digest"))
			read_digest(r, &k->blob);
		else if (str_eqc(key, "diff_id"))
			read_digest(r, &k->diff_id);
		else if (str_eqc(key, "annotations"))
			read_annotations(r, k);
		else
			OK(json_skip(r, err));
}

static void look_up(const char *name, struct known *k)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(json_reader) struct json_reader *r = NULL;
	struct str key;

	slurp("blobs.json", &text);
	r = json_reader_new_take(&text);
	OK(json_object_begin(r, err));
	while (next_key(r, &key))
		if (str_eqc(key, name))
			read_blob(r, k);
		else
			OK(json_skip(r, err));
	assert_true(k->found);
}

/* ---- a layer read lazily ---- */

static struct esgz_index *index_of_toc(struct str blob, enum esgz_footer_kind kind, const struct known *k,
                                       struct buf *file)
{
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_index *ix = NULL;
	struct esgz_footer f;

	OK(esgz_footer_parse(str_sub(blob, blob.n - ESGZ_FOOTER_MAX, SIZE_MAX), blob.n, &f, err));
	assert_int_equal(f.kind, kind);
	OK(esgz_toc_extract(&f, str_sub(blob, f.toc_offset, f.toc_bytes), &k->toc, &json, err));
	OK(esgz_toc_to_index(&f, &json, &k->toc, &k->blob, blob.n, file, err));
	OK(esgz_index_open(buf_str(file), &ix, err));
	return ix;
}

/* In whatever order: Go's tar sorts them. */
static void assert_same_xattrs(const struct esgz_index *a, const struct esgz_entry *x, const struct esgz_index *b,
                               const struct esgz_entry *y)
{
	assert_int_equal(x->n_xattrs, y->n_xattrs);
	for (uint32_t i = 0; i < x->n_xattrs; i++) {
		struct str name[2], value[2];
		uint32_t k = 0;

		esgz_index_xattr(a, x->first_xattr + i, &name[0], &value[0]);
		do {
			assert_int_not_equal(k, y->n_xattrs);
			esgz_index_xattr(b, y->first_xattr + k++, &name[1], &value[1]);
		} while (!str_eq(name[0], name[1]));
		assert_true(str_eq(value[0], value[1]));
	}
}

/* All but the chunks. rounded: the times of `a` are whole seconds, the nearest. */
static void assert_same_tree(const struct esgz_index *a, const struct esgz_index *b, bool rounded)
{
	assert_int_equal(esgz_index_get_info(a)->n_entries, esgz_index_get_info(b)->n_entries);
	assert_int_equal(esgz_index_get_info(a)->content_bytes, esgz_index_get_info(b)->content_bytes);
	for (uint32_t i = 0; i < esgz_index_get_info(a)->n_entries; i++) {
		struct esgz_entry x, y;

		esgz_index_entry(a, i, &x);
		esgz_index_entry(b, i, &y);
		assert_true(str_eq(x.path, y.path));
		assert_int_equal(x.type, y.type);
		assert_int_equal(x.flags, y.flags);
		if (x.type == ESGZ_WHITEOUT)
			continue;
		assert_int_equal(x.mode, y.mode);
		assert_int_equal(x.uid, y.uid);
		assert_int_equal(x.gid, y.gid);
		assert_int_equal(x.mtime_s, y.mtime_s + (rounded && y.mtime_ns >= 500000000));
		assert_int_equal(x.mtime_ns, rounded ? 0 : y.mtime_ns);
		assert_int_equal(x.dev_major, y.dev_major);
		assert_int_equal(x.dev_minor, y.dev_minor);
		assert_int_equal(x.size, y.size);
		assert_true(str_eq(x.link, y.link));
		assert_int_equal(x.target, y.target);
		assert_true(digest_eq(&x.content, &y.content));
		assert_same_xattrs(a, &x, b, &y);
	}
}

/* Each chunk inflates to what it should, and the chunks of a file to the file. Returns the number of chunks. */
static unsigned read_chunks(const struct esgz_index *ix, struct str blob)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(hasher) struct hasher *h = hasher_new();
	unsigned n = 0;

	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_entry e;
		struct digest got;

		esgz_index_entry(ix, i, &e);
		for (uint32_t k = 0; k < e.n_chunks; k++, n++) {
			AUTO_FREE uint8_t *dst = NULL;
			AUTO_FREE char *in = NULL;
			struct esgz_chunk c;

			esgz_index_chunk(ix, e.first_chunk + k, &c);
			assert_true(c.blob_offset + c.blob_bytes <= blob.n);
			dst = xmalloc(c.bytes);
			in = xmalloc(c.blob_bytes);
			memcpy(in, blob.p + c.blob_offset, c.blob_bytes);
			OK(esgz_inflate_chunk(z, esgz_index_get_info(ix)->compression, str_make(in, c.blob_bytes), &c,
			                      dst, err));
			hasher_add(h, dst, c.bytes);
		}
		if (e.n_chunks > 0) {
			hasher_done(h, &got);
			assert_true(digest_eq(&got, &e.content));
		}
	}
	return n;
}

static void check(const char *name, enum esgz_footer_kind kind, unsigned n_chunks)
{
	AUTO_FREE char *file = xasprintf("%s.blob", name);
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf original = BUF_INIT;
	AUTO(buf) struct buf lazy_file = BUF_INIT;
	AUTO(buf) struct buf tar_file = BUF_INIT;
	AUTO(buf) struct buf original_file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *lazy = NULL;
	AUTO(esgz_index) struct esgz_index *tar = NULL;
	AUTO(esgz_index) struct esgz_index *source = NULL;
	const bool rounded = kind != ESGZ_FOOTER_ZSTD_STORAGE;
	struct esgz_layer_result result;
	struct known known = {.found = false};

	look_up(name, &known);
	slurp(file, &blob);
	slurp("layer.tar.gz", &original);
	lazy = index_of_toc(buf_str(&blob), kind, &known, &lazy_file);
	tar = index_of_tar(buf_str(&blob), &result, &tar_file);
	source = index_of_tar(buf_str(&original), NULL, &original_file);
	assert_true(digest_eq(&result.blob, &known.blob));
	assert_true(digest_eq(&result.diff_id, &known.diff_id));
	assert_same_tree(tar, source, false);
	assert_same_tree(lazy, source, rounded);
	assert_int_equal(esgz_index_get_info(lazy)->n_entries, 29);
	assert_int_equal(read_chunks(lazy, buf_str(&blob)), n_chunks);
}

static void test_estargz(void **state)
{
	check("estargz", ESGZ_FOOTER_ESTARGZ, 19);
}

static void test_min_chunk(void **state)
{
	check("estargz-min-chunk", ESGZ_FOOTER_ESTARGZ, 19);
}

static void test_prefetch(void **state)
{
	check("estargz-prefetch", ESGZ_FOOTER_ESTARGZ, 13);
}

static void test_zstd_stargz(void **state)
{
	check("zstd-stargz", ESGZ_FOOTER_ZSTD_STARGZ, 19);
}

static void test_zstd_chunked(void **state)
{
	check("zstd-chunked", ESGZ_FOOTER_ZSTD_STORAGE, 20);
}

static void test_podman(void **state)
{
	check("zstd-chunked-podman", ESGZ_FOOTER_ZSTD_STORAGE, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_estargz),     cmocka_unit_test(test_min_chunk),    cmocka_unit_test(test_prefetch),
	    cmocka_unit_test(test_zstd_stargz), cmocka_unit_test(test_zstd_chunked), cmocka_unit_test(test_podman),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
