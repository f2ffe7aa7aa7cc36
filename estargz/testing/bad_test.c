/* Blobs with one thing wrong in each (tests/golden/bad.py; what it is stands in bad/blobs.json): each is found out, and
 * nothing of it is taken for right. */
#include "base/testing.h"
#include "estargz/testing/golden.h"
#include "estargz/testing/test_blob.h"

#include <glob.h>

/* What finds it, the first of these. */
enum found_by {
	OPENING,    /* annotations, footer, TOC: there is no index */
	READING,    /* a chunk, or the file that chunks make */
	COMPARING,  /* the TOC's tree is not the tar's */
	ASSEMBLING, /* the tar-split, with the contents */
	DIFF_ID,    /* ... the tar that it makes is another */
};

static const struct {
	const char *name;
	enum found_by by;
	const char *says;
} BAD[] = {
    {"gzip-before", OPENING, "TOC: etc/passwd: offset is negative"},
    {"gzip-beyond", OPENING, "TOC: etc/passwd: chunk at 1099511627776 of the blob, whose data end at 1560"},
    {"gzip-chunk-digest", READING, "etc/big: chunk at 596 of the blob: digest is sha256:"},
    {"gzip-file-digest", READING, "etc/big: chunks are right, the file is not"},
    {"gzip-flipped-content", READING, "etc/big: chunk at 215 of the blob: digest is sha256:"},
    {"gzip-flipped-member", READING, "bin/su: chunk at 94 of the blob: gzip: broken data (-4) after 0 bytes"},
    {"gzip-flipped-toc", OPENING, "TOC: gzip: checksum mismatch"},
    {"gzip-footer-only", OPENING, "lies outside of the blob"},
    {"gzip-gap", OPENING, "TOC: etc/big: chunk 1 is at 1100, not at 1024"},
    {"gzip-huge", OPENING, "TOC: etc/passwd: chunk of 1125899906842624 bytes, at most 67108864 can be read"},
    {"gzip-inner", READING, "etc/passwd: chunk at 1409 of the blob: gzip: data ends after 1024 of 1073741854 bytes"},
    {"gzip-inner-huge", OPENING, "TOC: etc/passwd: chunk 0 lies 4611686018427387904 bytes deep in its member"},
    {"gzip-longer", READING, "etc/passwd: chunk at 1409 of the blob: gzip: data ends after 1024 of 100000 bytes"},
    {"gzip-middle", READING, "bin/su: chunk at 94 of the blob: gzip: data ends after 0 of 18 bytes"},
    {"gzip-no-digest", OPENING, "TOC: etc/big: 1 of 3 chunks without a digest"},
    {"gzip-other-toc", OPENING, "TOC: digest is sha256:"},
    {"gzip-toc-elsewhere", OPENING, "TOC: tar at 512: header with a wrong checksum"},
    {"gzip-toc-offset", OPENING, "footer: TOC at 1099511627776 lies outside of the blob's 2255 bytes"},
    {"gzip-toc-trailing", OPENING, "TOC: JSON: '{' at byte 1932 where the end is expected"},
    {"gzip-truncated", OPENING, "the manifest names a TOC, but the blob ends without one"},
    {"gzip-two-views-content", COMPARING, "etc/shadow: size 30 in the TOC, 22 in the tar"},
    {"gzip-two-views-less", COMPARING, "etc/shadow: only in the tar"},
    {"gzip-two-views-mode", COMPARING, "bin/su: mode 4755 in the TOC, 0755 in the tar"},
    {"gzip-two-views-name", COMPARING, "etc/cron: only in the TOC"},
    {"gzip-two-views-owner", COMPARING, "etc/shadow: gid 0 in the TOC, 42 in the tar"},
    {"zstd-bomb", OPENING, "TOC: inflates to more than it may"},
    {"zstd-bomb-said", OPENING, "TOC: 167772160 bytes of JSON, at most 157286400 are read"},
    {"zstd-both", OPENING, "TOC: digest is sha256:"},
    {"zstd-disagree", OPENING,
     "the annotation places the TOC at 1530 (452 bytes, 1075 plain), the footer at 1538 (452, 1075)"},
    {"zstd-end", OPENING, "TOC: etc/passwd: chunk at 1336 of the blob ends at 1"},
    {"zstd-flipped-toc", OPENING, "TOC: compressed: digest is sha256:"},
    {"zstd-hole", OPENING, "TOC: etc/big: 3000 zeros with another digest than theirs"},
    {"zstd-position", OPENING,
     "annotation io.github.containers.zstd-chunked.manifest-position: \"1000000:100:100:1\" lies outside of the blob's "
     "2612 bytes"},
    {"zstd-position-words", OPENING,
     "annotation io.github.containers.zstd-chunked.manifest-position: \"here\" is not four numbers"},
    {"zstd-split-less", DIFF_ID, ""},
    {"zstd-split-name", ASSEMBLING, "tar-split: line 10: etc/shells: not in the TOC"},
    {"zstd-split-size", ASSEMBLING, "tar-split: line 10: etc/passwd: its content is shorter"},
    {"zstd-truncated", OPENING, "the manifest names a TOC, but the blob ends without one"},
    {"zstd-two-views", COMPARING, "bin/su: mode 4755 in the TOC, 0755 in the tar"},
    {"zstd-type", OPENING, "footer: TOC of unknown type 2"},
};

static enum found_by find_out(const char *name, struct buf *said)
{
	AUTO(golden) struct golden g;
	AUTO(golden_layer) struct golden_layer l;
	AUTO(esgz_index) struct esgz_index *tar = NULL;
	AUTO(buf) struct buf tar_file = BUF_INIT;
	struct err err = ERR_INIT;
	struct digest diff_id;
	unsigned n = 0;
	int r;

	golden_read("bad", name, &g);
	if (golden_open(&g, &l, &err) < 0) {
		buf_adds(said, err.msg);
		return OPENING;
	}
	if (golden_read_chunks(&g, &l, &n, &err) < 0) {
		buf_adds(said, err.msg);
		return READING;
	}
	tar = index_of_tar(buf_str(&g.blob), NULL, &tar_file);
	if (esgz_index_compare(l.index, "TOC", tar, "tar", ESGZ_SAME_TOC_TIMES, said))
		return COMPARING;
	r = golden_assemble(&g, &l, &diff_id, &err);
	if (r < 0) {
		buf_adds(said, err.msg);
		return ASSEMBLING;
	}
	assert_false(digest_eq(&diff_id, &g.diff_id));
	return DIFF_ID;
}

static void test_table_has_all(void **state)
{
	glob_t blobs = {0};

	assert_int_equal(glob("../tests/golden/bad/*.blob", 0, NULL, &blobs), 0);
	assert_int_equal(blobs.gl_pathc, ARRAY_LEN(BAD));
	globfree(&blobs);
}

static void test_all(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
		AUTO(buf) struct buf said = BUF_INIT;
		enum found_by by = find_out(BAD[i].name, &said);

		if (by != BAD[i].by || !strstr(buf_cstr(&said), BAD[i].says))
			fail_msg("%s: found by %d: %s", BAD[i].name, by, buf_cstr(&said));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table_has_all),
	    cmocka_unit_test(test_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
