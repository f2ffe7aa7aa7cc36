#include "estargz/toc/toc.h"

#include "estargz/testing/test_blob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zstd.h>

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C64 "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define DA "\"sha256:" A64 "\""
#define DB "\"sha256:" B64 "\""
#define DC "\"sha256:" C64 "\""

#define ZEROS_3000 "\"sha256:c81ca5eda5947c7826ad046fdbdc2a25a846b835a6c34c237cc8b3afbe9ec6cc\""

#define BLOB_BYTES 100000u
#define TOC_OFFSET 90000u

static const struct digest BLOB = {{1}}, TOC = {{2}};

static struct esgz_footer footer_of(enum esgz_footer_kind kind)
{
	return (struct esgz_footer){.kind = kind, .footer_bytes = 51, .toc_offset = TOC_OFFSET, .toc_bytes = 9949};
}

/* ---- JSON to index ---- */

/* Builds and opens; *ix may be NULL when the code alone counts. */
static int index_of_kind(enum esgz_footer_kind kind, const char *json, struct buf *file, struct esgz_index **ix,
                         struct err *err)
{
	const struct esgz_footer footer = footer_of(kind);
	const struct esgz_toc_source src = {.footer = &footer, .key = TOC, .blob = BLOB, .blob_bytes = BLOB_BYTES};
	AUTO(buf) struct buf text = BUF_INIT;

	buf_adds(&text, json);
	TRY(esgz_toc_to_index(&src, &text, file, NULL, err));
	return ix ? esgz_index_open(buf_str(file), ix, err) : 0;
}

static struct esgz_index *index_of(const char *entries, struct buf *file)
{
	AUTO_FREE char *json = xasprintf("{\"version\":1,\"entries\":[%s]}", entries);
	struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	if (index_of_kind(ESGZ_FOOTER_ESTARGZ, json, file, &ix, &err) < 0)
		fail_msg("%s", err.msg);
	return ix;
}

/* The entries are refused, and the message holds `says`. */
static void refused(const char *entries, const char *says)
{
	AUTO_FREE char *json = xasprintf("{\"version\":1,\"entries\":[%s]}", entries);
	AUTO(buf) struct buf file = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(index_of_kind(ESGZ_FOOTER_ESTARGZ, json, &file, NULL, &err), -ERR_INVALID);
	if (!strstr(err.msg, says))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
}

static void assert_chunk(const struct esgz_index *ix, uint32_t j, uint64_t blob_offset, uint64_t blob_bytes,
                         uint64_t inner, uint64_t file_offset, uint64_t bytes, uint8_t digest)
{
	struct esgz_chunk c;

	esgz_index_chunk(ix, j, &c);
	assert_int_equal(c.blob_offset, blob_offset);
	assert_int_equal(c.blob_bytes, blob_bytes);
	assert_int_equal(c.inner_offset, inner);
	assert_int_equal(c.file_offset, file_offset);
	assert_int_equal(c.bytes, bytes);
	assert_int_equal(c.digest.b[0], digest);
}

static void assert_hole(const struct esgz_index *ix, uint32_t j, uint64_t file_offset, uint64_t bytes)
{
	struct esgz_chunk c;

	esgz_index_chunk(ix, j, &c);
	assert_true(c.hole);
	assert_chunk(ix, j, 0, 0, 0, file_offset, bytes, c.digest.b[0]);
}

static void test_real_entries(void **state)
{
	/* As ctr-remote writes them, but for the digests. */
	static const char entries[] =
	    "{\"name\":\".no.prefetch.landmark\",\"type\":\"reg\",\"size\":1,\"offset\":87,\"digest\":" DA "},"
	    "{\"name\":\"etc/\",\"type\":\"dir\",\"modtime\":\"2023-11-14T22:13:20Z\",\"mode\":493,\"NumLink\":0},"
	    "{\"name\":\"etc/"
	    "hello.txt\",\"type\":\"reg\",\"size\":12,\"modtime\":\"2023-11-14T22:13:20Z\",\"mode\":33188,"
	    "\"uid\":1000,\"gid\":70000,\"userName\":\"u\",\"offset\":249,\"digest\":" DA ",\"chunkDigest\":" DA "},"
	    "{\"name\":\"etc/empty\",\"type\":\"reg\",\"mode\":420,"
	    "\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"},"
	    "{\"name\":\"bin/suid\",\"type\":\"reg\",\"size\":5,\"mode\":2541,\"offset\":669,\"digest\":" DC ","
	    "\"chunkDigest\":" DC
	    ",\"xattrs\":{\"security.capability\":\"AQAAAgAgAAAAAAAAAAAAAAAAAAA=\",\"user.e\":\"\"}},"
	    "{\"name\":\"data/big.bin\",\"type\":\"reg\",\"size\":9000,\"mode\":420,\"offset\":782,\"digest\":" DA ","
	    "\"chunkSize\":4000,\"chunkDigest\":" DB "},"
	    "{\"name\":\"data/big.bin\",\"type\":\"chunk\",\"offset\":4800,\"chunkOffset\":4000,\"chunkSize\":4000,"
	    "\"chunkDigest\":" DC "},"
	    "{\"name\":\"data/big.bin\",\"type\":\"chunk\",\"offset\":8900,\"chunkOffset\":8000,\"chunkDigest\":" DA
	    "},"
	    "{\"name\":\"etc/link\",\"type\":\"symlink\",\"linkName\":\"../data\",\"mode\":511},"
	    "{\"name\":\"etc/hard\",\"type\":\"hardlink\",\"linkName\":\"etc/hello.txt\"},"
	    "{\"name\":\"dev/null\",\"type\":\"char\",\"mode\":438,\"devMajor\":1,\"devMinor\":3},"
	    "{\"name\":\"dev/sda\",\"type\":\"block\",\"devMajor\":8},"
	    "{\"name\":\"run/fifo\",\"type\":\"fifo\",\"modtime\":\"1969-12-31T23:59:59.5Z\"},"
	    "{\"name\":\"opt/.wh..wh..opq\",\"type\":\"reg\"},"
	    "{\"name\":\"opt/.wh.gone\",\"type\":\"reg\"}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);
	struct esgz_entry e, to;
	struct str name, value;

	assert_int_equal(esgz_index_get_info(ix)->n_entries, 17);
	assert_int_equal(esgz_index_get_info(ix)->trust, ESGZ_TRUST_TOC);
	assert_int_equal(esgz_index_get_info(ix)->compression, ESGZ_GZIP);
	assert_true(digest_eq(&esgz_index_get_info(ix)->trusted, &TOC));
	e = find(ix, "etc");
	assert_int_equal(e.flags, 0);
	assert_int_equal(e.mtime_s, 1700000000);
	e = find(ix, "etc/hello.txt");
	assert_int_equal(e.mode, 0644);
	assert_int_equal(e.uid, 1000);
	assert_int_equal(e.gid, 70000);
	assert_int_equal(e.size, 12);
	assert_chunk(ix, e.first_chunk, 249, 669 - 249, 0, 0, 12, 0xaa);
	e = find(ix, "bin/suid");
	assert_int_equal(e.mode, 04755);
	assert_int_equal(e.n_xattrs, 2);
	esgz_index_xattr(ix, e.first_xattr, &name, &value);
	assert_true(str_eqc(name, "security.capability"));
	assert_int_equal(value.n, 20);
	assert_memory_equal(value.p, "\1\0\0\2\0\x20\0\0", 8);
	e = find(ix, "data/big.bin");
	assert_int_equal(e.n_chunks, 3);
	assert_chunk(ix, e.first_chunk, 782, 4800 - 782, 0, 0, 4000, 0xbb);
	assert_chunk(ix, e.first_chunk + 1, 4800, 8900 - 4800, 0, 4000, 4000, 0xcc);
	assert_chunk(ix, e.first_chunk + 2, 8900, 1125 + ESGZ_MEMBER_SLACK, 0, 8000, 1000, 0xaa);
	e = find(ix, "etc/link");
	assert_true(str_eqc(e.link, "../data"));
	e = find(ix, "etc/hard");
	esgz_index_entry(ix, e.target, &to);
	assert_true(str_eqc(to.path, "etc/hello.txt"));
	e = find(ix, "dev/null");
	assert_int_equal(e.dev_major, 1);
	assert_int_equal(e.dev_minor, 3);
	e = find(ix, "run/fifo");
	assert_int_equal(e.mtime_s, -1);
	assert_int_equal(e.mtime_ns, 500000000);
	e = find(ix, "opt");
	assert_int_equal(e.flags, ESGZ_OPAQUE | ESGZ_IMPLIED);
	assert_int_equal(find(ix, "opt/gone").type, ESGZ_WHITEOUT);
}

/* Several payloads in one member: same offset, told apart by innerOffset; the bound is the next member. */
static void test_inner_offset(void **state)
{
	static const char entries[] =
	    "{\"name\":\"a\",\"type\":\"reg\",\"size\":12,\"offset\":87,\"innerOffset\":512,\"digest\":" DA
	    ",\"chunkDigest\":" DA "},"
	    "{\"name\":\"b\",\"type\":\"reg\",\"size\":5000,\"offset\":87,\"innerOffset\":2048,\"digest\":" DC
	    ",\"chunkSize\":4000,"
	    "\"chunkDigest\":" DB "},"
	    "{\"name\":\"b\",\"type\":\"chunk\",\"offset\":60000,\"chunkOffset\":4000,\"chunkDigest\":" DC "},"
	    "{\"name\":\"z\",\"type\":\"reg\",\"size\":7,\"offset\":60000,\"innerOffset\":1536,\"digest\":" DB
	    ",\"chunkDigest\":" DB "}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);
	struct esgz_entry e = find(ix, "a");

	assert_chunk(ix, e.first_chunk, 87, 60000 - 87, 512, 0, 12, 0xaa);
	e = find(ix, "b");
	assert_chunk(ix, e.first_chunk, 87, 60000 - 87, 2048, 0, 4000, 0xbb);
	assert_chunk(ix, e.first_chunk + 1, 60000, TOC_OFFSET - 60000, 0, 4000, 1000, 0xcc);
	e = find(ix, "z");
	assert_chunk(ix, e.first_chunk, 60000, TOC_OFFSET - 60000, 1536, 0, 7, 0xbb);
}

/* Prioritised files come first in a blob, but a TOC need not follow the blob's order. */
static void test_offsets_out_of_order(void **state)
{
	static const char entries[] = "{\"name\":\"a\",\"type\":\"reg\",\"size\":12,\"offset\":5000,\"digest\":" DA "},"
				      "{\"name\":\"b\",\"type\":\"reg\",\"size\":12,\"offset\":100,\"digest\":" DB "},"
				      "{\"name\":\"c\",\"type\":\"reg\",\"size\":12,\"offset\":700,\"digest\":" DC "}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);

	assert_chunk(ix, find(ix, "a").first_chunk, 5000, 13 + ESGZ_MEMBER_SLACK, 0, 0, 12, 0xaa);
	assert_chunk(ix, find(ix, "b").first_chunk, 100, 600, 0, 0, 12, 0xbb);
	assert_chunk(ix, find(ix, "c").first_chunk, 700, 4300, 0, 0, 12, 0xcc);
}

/* A file whose size is a multiple of the chunk size says chunkSize everywhere. */
static void test_chunk_size_rules(void **state)
{
	static const char entries[] = "{\"name\":\"m\",\"type\":\"reg\",\"size\":8000,\"offset\":10,\"digest\":" DA
				      ",\"chunkSize\":4000,\"chunkDigest\":" DB "},"
				      "{\"name\":\"m\",\"type\":\"chunk\",\"offset\":20,\"chunkOffset\":4000,"
				      "\"chunkSize\":4000,\"chunkDigest\":" DC "},"
				      "{\"name\":\"one\",\"type\":\"reg\",\"size\":4000,\"offset\":30,\"digest\":" DA
				      ",\"chunkSize\":4000,\"chunkDigest\":" DA "}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);

	assert_int_equal(find(ix, "m").n_chunks, 2);
	assert_int_equal(find(ix, "one").n_chunks, 1);

#define M "{\"name\":\"m\",\"type\":\"reg\",\"size\":8000,\"offset\":10,\"digest\":" DA ","
#define K "{\"name\":\"m\",\"type\":\"chunk\",\"offset\":20,"
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}", "m");
	refused(M "\"chunkSize\":8001,\"chunkDigest\":" DB "}", "m");
	refused(M "\"chunkDigest\":" DB "}", "digest"); /* its only chunk has another digest */
	refused(M "\"chunkDigest\":" DA "}," K "\"chunkOffset\":4000,\"chunkDigest\":" DC "}", "m"); /* overlap */
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}," K "\"chunkOffset\":3999,\"chunkDigest\":" DC "}", "m");
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}," K "\"chunkOffset\":4001,\"chunkDigest\":" DC "}", "m");
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}," K "\"chunkOffset\":8000,\"chunkDigest\":" DC "}", "m");
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}," K "\"chunkOffset\":4000,\"chunkSize\":4001,"
	          "\"chunkDigest\":" DC "}",
	        "m");
	refused(M "\"chunkSize\":4000}," K "\"chunkOffset\":4000,\"chunkDigest\":" DC "}", "m"); /* no digest */
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "}," K "\"chunkOffset\":4000}", "m");
	refused(M "\"chunkSize\":4000,\"chunkDigest\":" DB "},{\"name\":\"n\",\"type\":\"chunk\",\"offset\":20,"
	          "\"chunkOffset\":4000,\"chunkDigest\":" DC "}",
	        "n"); /* chunk of another file */
	refused(K "\"chunkDigest\":" DC "}", "m");
	refused("{\"name\":\"d\",\"type\":\"dir\"}," K "\"chunkDigest\":" DC "}", "m");
#undef M
#undef K
	refused("{\"name\":\"big\",\"type\":\"reg\",\"size\":67108865,\"offset\":10,\"digest\":" DA "}", "big");
	refused("{\"name\":\"e\",\"type\":\"reg\"},{\"name\":\"e\",\"type\":\"chunk\",\"offset\":5,\"chunkDigest\":" DA
	        "}",
	        "e");
}

static void test_bad_files(void **state)
{
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"digest\":" DA "}", "f"); /* no data */
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":10}", "f");     /* no digest */
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":10,\"chunkDigest\":" DA "}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":10,\"digest\":\"sha256:12\"}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":10,\"digest\":\"md5:" A64 "\"}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":90000,\"digest\":" DA "}",
	        "f"); /* in the TOC */
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":9223372036854775807,\"digest\":" DA "}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":-5,\"offset\":10,\"digest\":" DA "}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":-1,\"digest\":" DA "}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":0,\"digest\":" DA "}",
	        "f"); /* empty, with a digest of something */
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5,\"offset\":10,\"innerOffset\":2000000000,\"digest\":" DA
	        "}",
	        "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"size\":5.5,\"offset\":10,\"digest\":" DA "}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"uid\":4294967296}", "f");
	refused("{\"name\":\"f\",\"type\":\"reg\",\"modtime\":\"yesterday\"}", "f");
	refused("{\"name\":\"f\",\"type\":\"socket\"}", "f");
	refused("{\"name\":\"f\"}", "f");
	refused("{\"name\":\"f\",\"type\":\"dir\",\"xattrs\":{\"user.x\":\"!\"}}", "f");
	refused("{\"name\":\"f\",\"type\":\"dir\",\"xattrs\":[]}", "f");
	refused("{\"name\":\"a\\u0000b\",\"type\":\"dir\"}", "NUL");
	refused("{\"name\":\"l\",\"type\":\"symlink\"}", "l");
	refused("{\"name\":\"l\",\"type\":\"hardlink\",\"linkName\":\"nowhere\"}", "l");
	refused("{\"name\":\"a\",\"type\":\"hardlink\",\"linkName\":\"b\"},{\"name\":\"b\",\"type\":\"hardlink\","
	        "\"linkName\":\"a\"}",
	        "a");
	refused("[]", "");
	refused("1", "");
}

static void test_names_are_cleaned(void **state)
{
	static const char entries[] =
	    "{\"name\":\"./\",\"type\":\"dir\",\"mode\":448},"
	    "{\"name\":\"../../etc/passwd\",\"type\":\"fifo\"},"
	    "{\"name\":\"/a/./b/../c\",\"type\":\"fifo\"},"
	    "{\"name\":\"./stargz.index.json\",\"type\":\"reg\",\"size\":5,\"offset\":10,\"digest\":" DA "},"
	    "{\"name\":\"/.prefetch.landmark\",\"type\":\"reg\",\"size\":1,\"offset\":10,\"digest\":" DA "},"
	    "{\"name\":\"d/stargz.index.json\",\"type\":\"fifo\"},"
	    "{\"name\":\"\\u00e4\\ud83d\\ude00\",\"type\":\"fifo\"},"
	    "{\"name\":\"a/c\",\"type\":\"dir\",\"mode\":493}"; /* the last one wins */
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);

	assert_int_equal(esgz_index_get_info(ix)->n_entries, 8);
	assert_int_equal(find(ix, "").mode, 0700);
	assert_int_equal(find(ix, "etc/passwd").type, ESGZ_FIFO);
	assert_int_equal(find(ix, "a/c").type, ESGZ_DIR);
	assert_int_equal(find(ix, "d/stargz.index.json").type, ESGZ_FIFO);
	assert_int_equal(find(ix, "\xc3\xa4\xf0\x9f\x98\x80").type, ESGZ_FIFO);
}

static void test_hostile_attributes_are_left_out(void **state)
{
	static const char entries[] = "{\"name\":\"d\",\"type\":\"dir\",\"xattrs\":{\"trusted.overlay.redirect\":\"L3g="
				      "\",\"user.overlay.opaque\":\"eQ==\","
				      "\"user.a\":\"eA==\",\"user.a\":\"eXk=\"}},"
				      "{\"name\":\"white\",\"type\":\"char\"},"
				      "{\"name\":\"n\",\"type\":\"dir\",\"xattrs\":null}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);
	struct esgz_entry e = find(ix, "d");
	struct str name, value;

	assert_int_equal(esgz_index_get_info(ix)->n_entries, 3);
	assert_int_equal(e.n_xattrs, 1);
	esgz_index_xattr(ix, e.first_xattr, &name, &value);
	assert_true(str_eqc(name, "user.a") && str_eqc(value, "yy"));
}

static void test_whole_documents(void **state)
{
	static const struct {
		const char *json;
		int code;
	} cases[] = {
	    {"{\"version\":1,\"entries\":[]}", 0},
	    {" {\"Entries\":[],\"VERSION\":1,\"more\":{\"x\":[1]}}\n", 0},
	    {"{\"version\":1,\"entries\":[]}x", -ERR_INVALID},
	    {"{\"version\":1,\"entries\":[]}{}", -ERR_INVALID},
	    {"{\"version\":2,\"entries\":[]}", -ERR_INVALID},
	    {"{\"entries\":[]}", -ERR_INVALID},
	    {"{\"version\":1}", -ERR_INVALID},
	    {"{\"version\":1,\"entries\":[],\"entries\":[]}", -ERR_INVALID},
	    {"{\"version\":1,\"entries\":[}", -ERR_INVALID},
	    {"{\"version\":1,\"entries\":[]", -ERR_INVALID},
	    {"{\"version\":1,\"entries\":{}}", -ERR_INVALID},
	    {"[]", -ERR_INVALID},
	    {"", -ERR_INVALID},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(buf) struct buf file = BUF_INIT;
		struct err err = ERR_INIT;

		assert_int_equal(index_of_kind(ESGZ_FOOTER_ESTARGZ, cases[i].json, &file, NULL, &err), cases[i].code);
	}
}

/* containers/storage: digests alone on files of one chunk, holes as chunks, nanoseconds, fields of its own. */
static void test_storage_dialect(void **state)
{
	static const char json[] =
	    "{\"version\":1,\"entries\":["
	    "{\"type\":\"reg\",\"name\":\"etc/"
	    "hello.txt\",\"mode\":420,\"size\":12,\"modtime\":\"2023-11-14T22:13:20.25Z\","
	    "\"accesstime\":\"2023-11-14T22:13:20Z\",\"digest\":" DA ",\"offset\":137,\"endOffset\":162},"
	    "{\"type\":\"reg\",\"name\":\"sparse\",\"size\":6000,\"digest\":" DC ",\"offset\":1000,\"endOffset\":2000,"
	    "\"chunkSize\":3000,\"chunkDigest\":" DB "},"
	    "{\"type\":\"chunk\",\"name\":\"sparse\",\"offset\":1500,\"chunkSize\":3000,\"chunkOffset\":3000,"
	    "\"chunkDigest\":" ZEROS_3000 ",\"chunkType\":\"zeros\"},"
	    "{\"type\":\"reg\",\"name\":\"empty\"}],\"tarSplitDigest\":" DA "}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;
	struct esgz_entry e;

	if (index_of_kind(ESGZ_FOOTER_ZSTD_STORAGE, json, &file, &ix, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(esgz_index_get_info(ix)->compression, ESGZ_ZSTD);
	e = find(ix, "etc/hello.txt");
	assert_int_equal(e.mtime_ns, 250000000);
	assert_chunk(ix, e.first_chunk, 137, 162 - 137, 0, 0, 12, 0xaa);
	e = find(ix, "sparse");
	assert_chunk(ix, e.first_chunk, 1000, 1500 - 1000, 0, 0, 3000, 0xbb);
	assert_hole(ix, e.first_chunk + 1, 3000, 3000);
}

#define REG(name, size, rest) "{\"type\":\"reg\",\"name\":\"" name "\",\"size\":" size "," rest "}"
#define ZEROS(at, size, digest)                                                                                        \
	"{\"type\":\"chunk\",\"chunkOffset\":" at ",\"chunkSize\":" size                                               \
	",\"chunkType\":\"zeros\",\"chunkDigest\":" digest "}"

/* 60 GiB, and 5. */
#define TWO_HOLES                                                                                                      \
	REG("a", "64424509440", "\"chunkType\":\"zeros\",\"digest\":" DA)                                              \
	"," REG("b", "5368709120", "\"chunkType\":\"zeros\",\"digest\":" DB)

static void test_holes(void **state)
{
	struct err err = ERR_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index)
	struct esgz_index *ix = index_of(REG("huge", "64424510440",
	                                     "\"offset\":100,\"endOffset\":300,\"chunkSize\":1000,\"chunkDigest\":" DA
	                                     ",\"digest\":" DB) "," ZEROS("1000", "64424509440", DC),
	                                 &file);
	struct esgz_entry e = find(ix, "huge");

	/* A hole without an offset does not end the chunk before it. */
	assert_chunk(ix, e.first_chunk, 100, 200, 0, 0, 1000, 0xaa);
	assert_hole(ix, e.first_chunk + 1, 1000, 60ull << 30);
	refused(REG("f", "4000", "\"offset\":100,\"chunkSize\":1000,\"chunkDigest\":" DA ",\"digest\":" DB) "," ZEROS(
		    "1000", "3000", DC),
	        "f: 3000 zeros with another digest than theirs");
	/* Whoever hashes the files has to end some day. */
	buf_clear(&file);
	assert_int_equal(
	    index_of_kind(ESGZ_FOOTER_ESTARGZ, "{\"version\":1,\"entries\":[" TWO_HOLES "]}", &file, NULL, &err),
	    -ERR_EXHAUSTED);
	assert_non_null(strstr(err.msg, "b: files with more than 68719476736 bytes of holes"));
	refused(REG("f", "4000", "\"offset\":100,\"chunkSize\":1000,\"chunkType\":\"ones\",\"digest\":" DB),
	        "f: chunk of unknown type ones");
	refused(REG("f", "4000", "\"offset\":100,\"endOffset\":90001,\"digest\":" DB),
	        "f: ends at 90001 of the blob, whose data end at 90000");
	refused(REG("f", "4000", "\"offset\":100,\"endOffset\":100,\"digest\":" DB),
	        "f: chunk at 100 of the blob ends at 100");
}

/* containers/storage does not mark a file that is zeros as a whole; it can be read nevertheless. */
static void test_unmarked_hole(void **state)
{
	AUTO_FREE char *zeros = xcalloc(1, 70 << 20);
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO_FREE char *entry = NULL;
	char text[DIGEST_TEXT_MAX];
	struct digest d;

	digest_of(zeros, 70 << 20, &d);
	entry = xasprintf(REG("zeros", "73400320", "\"offset\":100,\"endOffset\":2000,\"digest\":\"%s\""),
	                  digest_text(&d, text));
	ix = index_of(entry, &file);
	assert_hole(ix, find(ix, "zeros").first_chunk, 0, 70 << 20);
	refused(REG("f", "73400320", "\"offset\":100,\"digest\":" DA),
	        "f: chunk of 73400320 bytes, at most 67108864 can be read");
}

/* Legacy stargz: chunks without digests are one. */
static void test_undigested_chunks(void **state)
{
	static const char chunk[] = ",{\"type\":\"chunk\",\"offset\":500,\"chunkOffset\":1000}";
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO_FREE char *entries =
	    xasprintf("%s%s,%s", REG("f", "2500", "\"offset\":100,\"chunkSize\":1000,\"digest\":" DA), chunk,
	              REG("g", "7", "\"offset\":900,\"digest\":" DB));
	AUTO_FREE char *large =
	    xasprintf("%s%s", REG("opt/big", "90177536", "\"offset\":100,\"chunkSize\":1000,\"digest\":" DA), chunk);
	AUTO_FREE char *mixed = xasprintf(
	    "%s%s", REG("f", "2500", "\"offset\":100,\"chunkSize\":1000,\"chunkDigest\":" DB ",\"digest\":" DA), chunk);
	AUTO(esgz_index) struct esgz_index *ix = index_of(entries, &file);
	struct esgz_entry e = find(ix, "f");

	assert_int_equal(e.n_chunks, 1);
	assert_chunk(ix, e.first_chunk, 100, 800, 0, 0, 2500, 0xaa);
	refused(large, "opt/big: 90177536 bytes without chunk digests");
	refused(mixed, "f: 1 of 2 chunks without a digest");
}

static void test_landmarks(void **state)
{
	static const struct {
		const char *entries;
		uint64_t end;
	} cases[] = {
	    {REG("f", "7", "\"offset\":900,\"digest\":" DB), 0},
	    {REG("./.prefetch.landmark", "1", "\"offset\":700,\"digest\":" DB), 700},
	    {REG(".no.prefetch.landmark", "1", "\"offset\":700,\"digest\":" DB), ESGZ_NO_PREFETCH},
	    {REG(".prefetch.landmark", "1", "\"offset\":700") "," REG(".no.prefetch.landmark", "1", "\"offset\":8"),
	     ESGZ_NO_PREFETCH},
	    {REG("d/.prefetch.landmark", "1", "\"offset\":700,\"digest\":" DB), 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(buf) struct buf file = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = index_of(cases[i].entries, &file);

		assert_int_equal(esgz_index_get_info(ix)->prefetch_end, cases[i].end);
	}
	refused(REG(".prefetch.landmark", "1", "\"offset\":90000"), ".prefetch.landmark: at 90000 of the blob");
}

static void test_tar_split_and_times(void **state)
{
	const struct esgz_footer footer = footer_of(ESGZ_FOOTER_ZSTD_STORAGE);
	const struct esgz_toc_source src = {.footer = &footer, .key = TOC, .blob = BLOB, .blob_bytes = BLOB_BYTES};
	struct esgz_toc_found found = {.has_tar_split = true};
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct err err = ERR_INIT;

	buf_adds(&text, "{\"version\":1,\"tarSplitDigest\":" DC ",\"entries\":[{\"type\":\"fifo\",\"name\":\"p\","
	                "\"modtime\":\"0001-01-01T00:00:00Z\"}]}");
	assert_int_equal(esgz_toc_to_index(&src, &text, &file, &found, &err), 0);
	assert_true(found.has_tar_split);
	assert_int_equal(found.tar_split.b[31], 0xcc);
	assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), 0);
	assert_int_equal(find(ix, "p").mtime_s, 0); /* Go's way to say that nobody knows */
	refused("{\"type\":\"socket\",\"name\":\"run/x\"}", "run/x: a socket, which no layer can hold");
}

/* ---- blob to JSON ---- */

static int extract_by(struct esgz_footer f, struct str toc, const struct esgz_anchor *anchor, struct str want)
{
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO_FREE char *copy = xmalloc(toc.n + 1);
	struct err err = ERR_INIT;
	int r;

	memcpy(copy, toc.p, toc.n);
	buf_adds(&json, "before");
	r = f.kind == ESGZ_FOOTER_EXTERNAL_TOC ? esgz_toc_extract_external(str_make(copy, toc.n), anchor, &json, &err)
	                                       : esgz_toc_extract(&f, str_make(copy, toc.n), anchor, &json, &err);
	if (r == 0) {
		assert_int_equal(json.n, want.n + 6);
		assert_memory_equal(json.p + 6, want.p, want.n);
	}
	return r;
}

static struct esgz_anchor plain_anchor(struct str json)
{
	struct esgz_anchor a = {.has_plain = true};

	digest_of(json.p, json.n, &a.plain);
	return a;
}

static struct esgz_anchor packed_anchor(struct str toc)
{
	struct esgz_anchor a = {.has_packed = true};

	digest_of(toc.p, toc.n, &a.packed);
	return a;
}

static int extract(struct esgz_footer f, struct str toc, struct str json_for_digest, struct str want)
{
	struct esgz_anchor a = plain_anchor(json_for_digest);

	return extract_by(f, toc, &a, want);
}

static void test_extract_gzip(void **state)
{
	const struct str json = STR("{\n\t\"version\": 1,\n\t\"entries\": []\n}");
	const struct esgz_footer f = footer_of(ESGZ_FOOTER_ESTARGZ);
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf toc = BUF_INIT;
	unsigned refusals = 0;

	tar_entry(&tar, '0', "stargz.index.json", "", json.n, json);
	buf_addz(&tar, 1024);
	gzip(&toc, buf_str(&tar));

	assert_int_equal(extract(f, buf_str(&toc), json, json), 0);
	/* The digest is that of the exact bytes. */
	assert_int_equal(extract(f, buf_str(&toc), STR("{\"version\":1,\"entries\":[]}"), json), -ERR_DATA_LOSS);
	for (size_t n = 0; n < toc.n; n++)
		assert_true(extract(f, str_sub(buf_str(&toc), 0, n), json, json) < 0);
	for (size_t i = 0; i < toc.n; i++) {
		int r;

		toc.p[i] ^= 4;
		r = extract(f, buf_str(&toc), json, json);
		/* An error, or the right bytes after all: from a flip in the time, or in the distance of a match in
		 * the zeros of the tar header. */
		assert_true(r == -ERR_DATA_LOSS || r == -ERR_INVALID || r == 0);
		refusals += r < 0;
		toc.p[i] ^= 4;
	}
	assert_true(refusals > toc.n - 20);
}

static void test_extract_other_tars(void **state)
{
	const struct str json = STR("{}");
	const struct esgz_footer f = footer_of(ESGZ_FOOTER_EXTERNAL_TOC);
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf toc = BUF_INIT;

	tar_entry(&tar, '0', "other.json", "", json.n, json);
	gzip(&toc, buf_str(&tar));
	assert_int_equal(extract(f, buf_str(&toc), json, json), -ERR_INVALID);
	buf_clear(&tar);
	buf_clear(&toc);
	gzip(&toc, buf_str(&tar)); /* an empty tar */
	assert_int_equal(extract(f, buf_str(&toc), json, json), -ERR_INVALID);
	tar_entry(&tar, '0', "stargz.index.json", "", json.n, json);
	tar_entry(&tar, '0', "stargz.index.json", "", json.n, json); /* which of them? */
	buf_clear(&toc);
	gzip(&toc, buf_str(&tar));
	assert_int_equal(extract(f, buf_str(&toc), json, json), -ERR_INVALID);
	buf_clear(&tar);
	buf_clear(&toc);
	tar_entry(&tar, '0', "stargz.index.json", "", ESGZ_TOC_BYTES_MAX + 1ull, json);
	gzip(&toc, buf_str(&tar));
	assert_int_equal(extract(f, buf_str(&toc), json, json), -ERR_INVALID);
}

/* A member of some kilobytes that inflates to more than any TOC has: given up at the bound. */
static void test_bomb(void **state)
{
	const struct str json = STR("{}");
	const struct esgz_footer f = footer_of(ESGZ_FOOTER_ESTARGZ);
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf zeros = BUF_INIT;
	AUTO(buf) struct buf member = BUF_INIT;
	AUTO(buf) struct buf toc = BUF_INIT;

	tar_entry(&tar, '0', "stargz.index.json", "", json.n, json);
	gzip(&toc, buf_str(&tar));
	buf_addz(&zeros, 32u << 20);
	gzip(&member, buf_str(&zeros));
	for (int i = 0; i < 5; i++)
		buf_addstr(&toc, buf_str(&member));
	assert_true(toc.n < 300000);
	assert_int_equal(extract(f, buf_str(&toc), json, json), -ERR_INVALID);
}

static void test_extract_zstd(void **state)
{
	const struct str json = STR("{\"version\":1,\"entries\":[]}");
	struct esgz_footer f = footer_of(ESGZ_FOOTER_ZSTD_STARGZ);
	char toc[200];
	size_t n = ZSTD_compress(toc, sizeof(toc), json.p, json.n, 3);

	f.toc_plain_bytes = json.n;
	assert_int_equal(extract(f, str_make(toc, n), json, json), 0);
	assert_int_equal(extract(f, str_make(toc, n), str_make(toc, n), json), -ERR_DATA_LOSS);
	f.toc_plain_bytes = json.n - 1;
	assert_int_equal(extract(f, str_make(toc, n), json, json), -ERR_INVALID);
	f.toc_plain_bytes = json.n + 1;
	assert_int_equal(extract(f, str_make(toc, n), json, json), -ERR_INVALID);
	f.toc_plain_bytes = UINT64_MAX;
	assert_int_equal(extract(f, str_make(toc, n), json, json), -ERR_INVALID);
}

/* The annotations say which bytes are hashed, not the footer; both digests hold where both are given. */
static void test_extract_by_anchor(void **state)
{
	static const enum esgz_footer_kind kinds[] = {ESGZ_FOOTER_ZSTD_STARGZ, ESGZ_FOOTER_ZSTD_STORAGE};
	const struct str json = STR("{\"version\":1,\"entries\":[]}");
	char bytes[200];
	struct str toc = str_make(bytes, ZSTD_compress(bytes, sizeof(bytes), json.p, json.n, 3));
	struct esgz_anchor plain = plain_anchor(json), packed = packed_anchor(toc), both = plain, wrong, none = {0};

	both.has_packed = true;
	both.packed = packed.packed;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct esgz_footer f = footer_of(kinds[i]);

		f.toc_plain_bytes = json.n;
		assert_int_equal(extract_by(f, toc, &plain, json), 0);
		assert_int_equal(extract_by(f, toc, &packed, json), 0);
		assert_int_equal(extract_by(f, toc, &both, json), 0);
		wrong = both;
		wrong.packed.b[0] ^= 1;
		assert_int_equal(extract_by(f, toc, &wrong, json), -ERR_DATA_LOSS);
		wrong = both;
		wrong.plain.b[31] ^= 1;
		assert_int_equal(extract_by(f, toc, &wrong, json), -ERR_DATA_LOSS);
		wrong = plain_anchor(toc);
		assert_int_equal(extract_by(f, toc, &wrong, json), -ERR_DATA_LOSS);
		assert_int_equal(extract_by(f, toc, &none, json), -ERR_INVALID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_real_entries),
	    cmocka_unit_test(test_inner_offset),
	    cmocka_unit_test(test_offsets_out_of_order),
	    cmocka_unit_test(test_chunk_size_rules),
	    cmocka_unit_test(test_bad_files),
	    cmocka_unit_test(test_names_are_cleaned),
	    cmocka_unit_test(test_hostile_attributes_are_left_out),
	    cmocka_unit_test(test_whole_documents),
	    cmocka_unit_test(test_storage_dialect),
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_unmarked_hole),
	    cmocka_unit_test(test_undigested_chunks),
	    cmocka_unit_test(test_landmarks),
	    cmocka_unit_test(test_tar_split_and_times),
	    cmocka_unit_test(test_extract_gzip),
	    cmocka_unit_test(test_extract_other_tars),
	    cmocka_unit_test(test_bomb),
	    cmocka_unit_test(test_extract_zstd),
	    cmocka_unit_test(test_extract_by_anchor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
