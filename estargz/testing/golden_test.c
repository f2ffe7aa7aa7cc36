/* Layers made by other tools (tests/golden/make.sh; what each is stands in good/blobs.json): what their TOC says must be
 * what their tar says, and what the layer says of which they were made. */
#include "base/testing.h"
#include "estargz/testing/golden.h"
#include "estargz/testing/test_blob.h"

/* What is to be found of a layer beside its tree. */
struct expected {
	enum esgz_footer_kind kind;
	unsigned n_chunks;
	uint64_t prefetch_end; /* 1: somewhere */
	unsigned flags;        /* esgz_index_compare */
	bool split;            /* it has a tar-split that the TOC vouches for */
	bool old_split;        /* ... that its image vouches for */
	bool cut;              /* its tar has lost its end, and so is not that of the DiffID */
	const char *differs;   /* how the tree in its TOC differs from that in its tar */
};

/* The tar that a tar-split stands for is the source's. */
static void check_split(const struct golden *g, const struct golden_layer *l)
{
	const struct esgz_place *at = &l->anchor.split;
	struct digest diff_id, packed;

	if (l->anchor.has_split) {
		digest_of(g->blob.p + at->offset, at->packed_bytes, &packed);
		assert_true(digest_eq(&packed, &l->anchor.split_digest));
	}
	if (l->found.has_tar_split) {
		OK(golden_assemble(g, l, &diff_id, err));
		assert_true(digest_eq(&diff_id, &g->diff_id));
	}
}

static void check(const char *name, struct expected want)
{
	AUTO(golden) struct golden g;
	AUTO(golden_layer) struct golden_layer lazy;
	AUTO(buf) struct buf original = BUF_INIT;
	AUTO(buf) struct buf tar_file = BUF_INIT;
	AUTO(buf) struct buf original_file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *tar = NULL;
	AUTO(esgz_index) struct esgz_index *source = NULL;
	AUTO(buf) struct buf where = BUF_INIT;
	struct esgz_layer_result result;
	uint64_t prefetch_end;
	unsigned n_chunks = 0;

	golden_read("good", name, &g);
	golden_source(&original);
	OK(golden_open(&g, &lazy, err));
	assert_int_equal(lazy.footer.kind, want.kind);
	assert_int_equal(lazy.found.has_tar_split, want.split);
	assert_int_equal(lazy.anchor.has_split, want.old_split);
	tar = index_of_tar(buf_str(&g.blob), &result, &tar_file);
	source = index_of_tar(buf_str(&original), NULL, &original_file);
	assert_true(digest_eq(&result.blob, &g.digest));
	assert_int_equal(digest_eq(&result.diff_id, &g.diff_id), !want.cut);
	assert_same_tree(tar, source, 0);
	if (want.differs) {
		assert_int_equal(esgz_index_compare(lazy.index, "TOC", source, "tar", want.flags, &where),
		                 ESGZ_DIFFERS);
		assert_string_equal(buf_cstr(&where), want.differs);
		assert_same_tree(lazy.index, source, want.flags | ESGZ_SAME_EMPTY_XATTRS);
	} else {
		assert_same_tree(lazy.index, source, want.flags);
	}
	assert_int_equal(esgz_index_get_info(lazy.index)->n_entries, 29);
	OK(golden_read_chunks(&g, &lazy, &n_chunks, err));
	assert_int_equal(n_chunks, want.n_chunks);
	check_split(&g, &lazy);
	prefetch_end = esgz_index_get_info(lazy.index)->prefetch_end;
	if (want.prefetch_end == 1)
		assert_in_range(prefetch_end, 2, g.blob.n - 1);
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
	check("zstd-chunked", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0, .split = true});
	check("zstd-chunked-podman", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0, .split = true});
}

/* What containers/storage wrote before. In 2022 it left out the end of the tar, though skopeo kept the DiffID, and xattrs
 * without a value; the annotation alone places the TOC where the footer has 56 bytes. */
static void test_zstd_chunked_history(void **state)
{
	check("zstd-chunked-2022", (struct expected){ESGZ_FOOTER_ZSTD_STARGZ, 20, 0, 0, .cut = true,
	                                             .differs = "bin/suid: xattr user.empty in the tar only"});
	check("by-hand-zstd-2022-11", (struct expected){ESGZ_FOOTER_ZSTD_STARGZ, 20, 0, 0});
	check("by-hand-zstd-2023-06", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0, .old_split = true});
	check("by-hand-zstd-2023-08", (struct expected){ESGZ_FOOTER_ZSTD_STORAGE, 20, 0, 0, .old_split = true});
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
