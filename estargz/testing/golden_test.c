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

#define ANNOTATIONS_MAX 8

struct known {
	struct digest blob, diff_id;
	struct {
		char *name, *value;
	} annotations[ANNOTATIONS_MAX];
	unsigned n_annotations;
	bool found;
};

static void known_fini(struct known *k)
{
	for (unsigned i = 0; i < k->n_annotations; i++) {
		free(k->annotations[i].name);
		free(k->annotations[i].value);
	}
}
DEFINE_AUTO_FINI(known);

static struct str annotation(void *arg, const char *name)
{
	const struct known *k = arg;

	for (unsigned i = 0; i < k->n_annotations; i++)
		if (!strcmp(k->annotations[i].name, name))
			return str_of(k->annotations[i].value);
	return STR_NONE;
}

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
	struct str key, value;

	OK(json_object_begin(r, err));
	while (next_key(r, &key)) {
		OK(json_string(r, &value, err));
		assert_true(k->n_annotations < ANNOTATIONS_MAX);
		k->annotations[k->n_annotations].name = str_dup(key);
		k->annotations[k->n_annotations++].value = str_dup(value);
	}
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

/* name.toc: the TOC of a layer that has none of its own. */
static struct esgz_index *index_of_external(const char *name, struct str blob, const struct esgz_anchor *anchor,
                                            struct buf *file)
{
	AUTO_FREE char *toc_name = xasprintf("%s.toc", name);
	struct esgz_footer f;
	struct esgz_toc_source src = {.footer = &f, .key = *esgz_anchor_key(anchor), .blob_bytes = blob.n};
	AUTO(buf) struct buf toc = BUF_INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_index *ix = NULL;

	slurp(toc_name, &toc);
	digest_of(blob.p, blob.n, &src.blob);
	OK(esgz_anchor_locate(anchor, str_sub(blob, blob.n - ESGZ_FOOTER_MAX, SIZE_MAX), blob.n, &f, err));
	assert_int_equal(f.kind, ESGZ_FOOTER_EXTERNAL_TOC);
	OK(esgz_toc_extract_external(buf_str(&toc), anchor, &json, err));
	OK(esgz_toc_to_index(&src, &json, file, NULL, err));
	OK(esgz_index_open(buf_str(file), &ix, err));
	return ix;
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
			dst = xcalloc(1, c.bytes);
			if (c.hole) {
				hasher_add(h, dst, c.bytes);
				continue;
			}
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

/* What is to be found of a layer beside its tree. */
struct expected {
	enum esgz_footer_kind kind;
	unsigned n_chunks;
	uint64_t prefetch_end; /* 1: somewhere */
	unsigned flags;        /* esgz_index_compare */
	bool cut;              /* its tar has lost its end, and so is not that of the DiffID */
	const char *differs;   /* how the tree in its TOC differs from that in its tar */
};

static void check(const char *name, struct expected want)
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
	AUTO(buf) struct buf where = BUF_INIT;
	AUTO(known) struct known known = {.found = false};
	struct esgz_layer_result result;
	struct esgz_anchor anchor;
	uint64_t prefetch_end;

	look_up(name, &known);
	slurp(file, &blob);
	slurp("layer.tar.gz", &original);
	OK(esgz_anchor_read(annotation, &known, blob.n, &anchor, err));
	lazy = want.kind == ESGZ_FOOTER_EXTERNAL_TOC ? index_of_external(name, buf_str(&blob), &anchor, &lazy_file)
	                                             : index_of_lazy(buf_str(&blob), &anchor, want.kind, &lazy_file);
	tar = index_of_tar(buf_str(&blob), &result, &tar_file);
	source = index_of_tar(buf_str(&original), NULL, &original_file);
	assert_true(digest_eq(&result.blob, &known.blob));
	assert_int_equal(digest_eq(&result.diff_id, &known.diff_id), !want.cut);
	assert_same_tree(tar, source, 0);
	if (want.differs) {
		assert_int_equal(esgz_index_compare(lazy, "TOC", source, "tar", want.flags, &where), ESGZ_DIFFERS);
		assert_string_equal(where.p, want.differs);
	} else {
		assert_same_tree(lazy, source, want.flags);
	}
	assert_int_equal(esgz_index_get_info(lazy)->n_entries, 29);
	assert_int_equal(read_chunks(lazy, buf_str(&blob)), want.n_chunks);
	prefetch_end = esgz_index_get_info(lazy)->prefetch_end;
	if (want.prefetch_end == 1)
		assert_in_range(prefetch_end, 2, blob.n - 1);
	else
		assert_int_equal(prefetch_end, want.prefetch_end);
}

#define TIMES ESGZ_SAME_TOC_TIMES

static void test_estargz(void **state)
{
	check("estargz", (struct expected){ESGZ_FOOTER_ESTARGZ, 19, ESGZ_NO_PREFETCH, TIMES});
	check("estargz-min-chunk", (struct expected){ESGZ_FOOTER_ESTARGZ, 19, ESGZ_NO_PREFETCH, TIMES});
	check("estargz-prefetch", (struct expected){ESGZ_FOOTER_ESTARGZ, 13, 1, TIMES});
}

static void test_external_toc(void **state)
{
	check("estargz-external", (struct expected){ESGZ_FOOTER_EXTERNAL_TOC, 19, ESGZ_NO_PREFETCH, TIMES});
	check("estargz-keep-diff-id", (struct expected){ESGZ_FOOTER_EXTERNAL_TOC, 19, 0, TIMES});
}

static void test_legacy(void **state)
{
	check("by-hand-legacy", (struct expected){ESGZ_FOOTER_LEGACY, 13, 0, TIMES});
}

static void test_zstd_stargz(void **state)
{
	check("zstd-stargz", (struct expected){ESGZ_FOOTER_ZSTD_STARGZ, 19, ESGZ_NO_PREFETCH, TIMES});
}

static void test_zstd_chunked(void **state)
{
	check("zstd-chunked", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0});
	check("zstd-chunked-podman", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0});
}

/* What containers/storage wrote before. In 2022 it left out the end of the tar, though skopeo kept the DiffID, and xattrs
 * without a value; the annotation alone places the TOC where the footer has 56 bytes. */
static void test_zstd_chunked_history(void **state)
{
	check("zstd-chunked-2022", (struct expected){ESGZ_FOOTER_ZSTD_STARGZ, 20, 0, 0, .cut = true,
	                                             .differs = "bin/suid: xattr user.empty in the tar only"});
	check("by-hand-zstd-2022-11", (struct expected){ESGZ_FOOTER_ZSTD_STARGZ, 20, 0, 0});
	check("by-hand-zstd-2023-06", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0});
	check("by-hand-zstd-2023-08", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_estargz),      cmocka_unit_test(test_external_toc),
	    cmocka_unit_test(test_legacy),       cmocka_unit_test(test_zstd_stargz),
	    cmocka_unit_test(test_zstd_chunked), cmocka_unit_test(test_zstd_chunked_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
