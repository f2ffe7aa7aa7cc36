/* What becomes of the entries of a layer: the file that they make is index_file_test.c's. */
#include "estargz/index/test_index.h"
#include "estargz/testing/test_blob.h"

#include "base/testing.h"

#include <stdio.h>
#include <time.h>

static void assert_paths(const struct esgz_index *ix, const char *const *want, size_t n)
{
	assert_int_equal(esgz_index_get_info(ix)->n_entries, n);
	for (uint32_t i = 0; i < n; i++) {
		struct esgz_entry e;
		AUTO_FREE char *path = NULL;

		esgz_index_entry(ix, i, &e);
		path = str_dup(e.path);
		assert_string_equal(path, want[i]);
		assert_true(str_ends(e.path, e.name));
		if (i > 0) {
			struct esgz_entry parent;

			assert_true(e.parent < i);
			esgz_index_entry(ix, e.parent, &parent);
			assert_int_equal(parent.path.n + (parent.path.n > 0) + e.name.n, e.path.n);
		}
	}
}

static void test_empty(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = finish(b, &file);
	struct esgz_entry e;

	assert_int_equal(esgz_index_get_info(ix)->n_entries, 1);
	esgz_index_entry(ix, 0, &e);
	assert_int_equal(e.type, ESGZ_DIR);
	assert_int_equal(e.flags, ESGZ_IMPLIED);
	assert_int_equal(e.mode, 0755);
	assert_int_equal(e.path.n, 0);
}

/* '/' sorts before every other byte: what is below a directory comes before its longer-named neighbours. */
static void test_order_and_implied_parents(void **state)
{
	static const char *const want[] = {"",     "a",  "a/b", "a/b/c", "a/b/c/d", "a/b!",
	                                   "a/b-", "a!", "a-b", "a-b/x", "ab"};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e;

	add(b, ESGZ_FIFO, "ab");
	add(b, ESGZ_FIFO, "a-b/x");
	add(b, ESGZ_FIFO, "./a!");
	add(b, ESGZ_FIFO, "/a/b/c/d");
	add(b, ESGZ_FIFO, "a/b-");
	add(b, ESGZ_FIFO, "a//b!");
	add(b, ESGZ_DIR, "a/b/");
	ix = finish(b, &file);
	assert_paths(ix, want, ARRAY_LEN(want));
	e = find(ix, "a/b/c");
	assert_int_equal(e.flags, ESGZ_IMPLIED);
	assert_int_equal(e.mode, 0755);
	e = find(ix, "a/b");
	assert_int_equal(e.flags, 0);
}

static void test_attributes(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_xattr x[] = {{STR("security.capability"), STR("\1\0\0\2")},
	                         {STR("trusted.overlay.redirect"), STR("/x")},
	                         {STR("user.overlay.opaque"), STR("y")},
	                         {STR("user.empty"), STR("")}};
	struct esgz_entry e = {.type = ESGZ_DIR,
	                       .mode = 0177755,
	                       .uid = 70000,
	                       .gid = UINT32_MAX,
	                       .mtime_s = -1234567890123,
	                       .mtime_ns = 999999999,
	                       .path = STR("d")};
	struct str name, value;

	assert_int_equal(esgz_index_add(b, &e, x, 4, NULL, 0, NULL, NULL), 0);
	e.path = STR("d2");
	assert_int_equal(esgz_index_add(b, &e, x, 4, NULL, 0, NULL, NULL), 0);
	e = (struct esgz_entry){.type = ESGZ_CHAR, .path = STR("null"), .dev_major = 1, .dev_minor = 3};
	assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL), 0);
	assert_int_equal(add_link(b, ESGZ_SYMLINK, "l", "../..//x"), 0);
	ix = finish(b, &file);
	e = find(ix, "d");
	assert_int_equal(e.mode, 07755);
	assert_int_equal(e.uid, 70000);
	assert_int_equal(e.gid, UINT32_MAX);
	assert_int_equal(e.mtime_s, -1234567890123);
	assert_int_equal(e.mtime_ns, 999999999);
	assert_int_equal(e.n_xattrs, 2);
	esgz_index_xattr(ix, e.first_xattr, &name, &value);
	assert_true(str_eqc(name, "security.capability") && str_eq(value, STR("\1\0\0\2")));
	esgz_index_xattr(ix, e.first_xattr + 1, &name, &value);
	assert_true(str_eqc(name, "user.empty") && value.n == 0);
	assert_int_equal(esgz_index_get_info(ix)->n_xattrs, 2); /* the same set is stored once */
	e = find(ix, "null");
	assert_int_equal(e.dev_major, 1);
	assert_int_equal(e.dev_minor, 3);
	assert_int_equal(e.mtime_ns, 0);
	e = find(ix, "l");
	assert_true(str_eqc(e.link, "../..//x"));
}

/* Of every file with chunks: their writer makes several keys at a time. */
static void assert_claims(const struct esgz_index *ix)
{
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_chunk chunks[3];
		struct digest claim;
		struct esgz_entry e;

		esgz_index_entry(ix, i, &e);
		assert_true(e.n_chunks <= ARRAY_LEN(chunks));
		for (uint32_t k = 0; k < e.n_chunks; k++)
			esgz_index_chunk(ix, e.first_chunk + k, &chunks[k]);
		esgz_claim_key(&e.content, e.size, chunks, e.n_chunks, &claim);
		if (e.n_chunks > 0)
			assert_true(digest_eq(&e.claim, &claim));
	}
}

static void test_claims(void **state)
{
	for (unsigned n = 0; n < 8; n++) {
		AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
		AUTO(buf) struct buf file = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = NULL;
		char name[10];

		for (unsigned i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "one%u", i);
			assert_int_equal(add_file(b, name, 1, 10 + i, (uint8_t)(10 + i)), 0);
			snprintf(name, sizeof(name), "some%u", i);
			assert_int_equal(add_file(b, name, 2 + i % 2, 100 + i, (uint8_t)(20 + 4 * i)), 0);
		}
		ix = finish(b, &file);
		assert_claims(ix);
	}
}

static void test_files_and_chunks(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_chunk c, all[3];
	struct esgz_entry e;

	assert_int_equal(add_file(b, "z", 1, 10, 7), 0);
	assert_int_equal(add_file(b, "m", 3, 1000, 20), 0);
	assert_int_equal(add_file(b, "a", 1, 11, 8), 0);
	assert_int_equal(add_file(b, "empty", 0, 0, 0), 0);
	assert_int_equal(add_file(b, "n", 2, 500, 30), 0);
	ix = finish(b, &file);
	assert_int_equal(esgz_index_get_info(ix)->n_chunks, 7);
	assert_int_equal(esgz_index_get_info(ix)->content_bytes, 10 + 3000 + 11 + 1000);
	assert_true(digest_eq(&esgz_index_get_info(ix)->blob, &BLOB));

	e = find(ix, "z");
	assert_int_equal(e.n_chunks, 1);
	esgz_index_chunk(ix, e.first_chunk, &c);
	assert_int_equal(c.blob_offset, 700);
	assert_int_equal(c.blob_bytes, 100);
	assert_int_equal(c.file_offset, 0);
	assert_int_equal(c.bytes, 10);
	assert_true(digest_eq(&c.digest, &e.content));

	e = find(ix, "m");
	assert_int_equal(e.n_chunks, 3);
	for (uint32_t k = 0; k < 3; k++) {
		esgz_index_chunk(ix, e.first_chunk + k, &all[k]);
		assert_int_equal(all[k].blob_offset, 2000 + k);
		assert_int_equal(all[k].file_offset, 1000 * k);
		assert_int_equal(all[k].bytes, 1000);
		assert_int_equal(all[k].digest.b[0], 20 + k);
	}

	e = find(ix, "empty");
	assert_int_equal(e.n_chunks, 0);
	assert_true(digest_eq(&e.content, &DIGEST_EMPTY));
}

/* Of any size, nowhere in the blob; their digest counts in the claim as that of stored zeros would. */
static void test_holes(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_chunk c[2];
	struct digest claim;
	struct esgz_entry e;

	assert_int_equal(add_hole(b, "alone", 1ull << 40, 0), 0);
	assert_int_equal(add_hole(b, "behind", 1ull << 41, 1000), 0);
	ix = finish(b, &file);
	e = find(ix, "alone");
	assert_int_equal(e.n_chunks, 1);
	esgz_index_chunk(ix, e.first_chunk, &c[0]);
	assert_true(c[0].hole);
	assert_int_equal(c[0].bytes, 1ull << 40);
	assert_int_equal(c[0].blob_offset | c[0].blob_bytes | c[0].inner_offset, 0);
	e = find(ix, "behind");
	assert_int_equal(e.size, (1ull << 41) + 1000);
	esgz_index_chunk(ix, e.first_chunk, &c[0]);
	esgz_index_chunk(ix, e.first_chunk + 1, &c[1]);
	assert_false(c[0].hole);
	assert_true(c[1].hole);
	assert_int_equal(c[1].file_offset, 1000);
	assert_int_equal(c[1].bytes, 1ull << 41);
	c[1].hole = false;
	c[1].blob_offset = 99;
	esgz_claim_key(&e.content, e.size, c, 2, &claim);
	assert_true(digest_eq(&e.claim, &claim));
}

static void test_prefetch_end(void **state)
{
	static const struct {
		uint64_t end;
		int code;
	} cases[] = {{0, 0}, {1, 0}, {BLOB_BYTES, 0}, {BLOB_BYTES + 1, -ERR_INVALID}, {ESGZ_NO_PREFETCH, 0}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
		struct esgz_index_info info = info_of(ESGZ_TRUST_TOC);
		AUTO(buf) struct buf file = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = NULL;
		struct err err = ERR_INIT;

		info.prefetch_end = cases[i].end;
		assert_int_equal(esgz_index_finish(b, &info, &file, &err), cases[i].code);
		if (cases[i].code < 0)
			continue;
		assert_int_equal(esgz_index_open(buf_str(&file), &ix, &err), 0);
		assert_int_equal(esgz_index_get_info(ix)->prefetch_end, cases[i].end);
	}
}

static int add_chunks(const struct esgz_entry *e, const struct esgz_chunk *c, uint32_t n)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	struct err err = ERR_INIT;
	int r = esgz_index_add(b, e, NULL, 0, c, n, NULL, &err);

	if (r < 0 && !strstr(err.msg, "f"))
		fail_msg("the message does not name the path: %s", err.msg);
	return r < 0 ? r : finish_code(b);
}

static void test_bad_chunks(void **state)
{
	const struct esgz_chunk good[2] = {
	    {.blob_offset = 5, .blob_bytes = 9, .bytes = 6, .digest = {{1}}},
	    {.blob_offset = 14, .blob_bytes = 9, .file_offset = 6, .bytes = 4, .digest = {{2}}}};
	const struct esgz_entry e = {.type = ESGZ_REG, .path = STR("f"), .size = 10, .content = {{9}}};
	struct esgz_entry f;
	struct esgz_chunk c[2];

#define BAD(change)                                                                                                    \
	do {                                                                                                           \
		memcpy(c, good, sizeof(c));                                                                            \
		f = e;                                                                                                 \
		change;                                                                                                \
		assert_int_equal(add_chunks(&f, c, 2), -ERR_INVALID);                                                  \
	} while (0)

	assert_int_equal(add_chunks(&e, good, 2), 0);
	BAD(c[1].file_offset = 5); /* overlap */
	BAD(c[1].file_offset = 7); /* gap */
	BAD(c[0].file_offset = 1);
	BAD(c[1].bytes = 3); /* too short */
	BAD(c[1].bytes = 5); /* too long */
	BAD(c[1].bytes = 0);
	BAD(f.size = 6);
	BAD(f.size = UINT64_MAX);
	BAD(f.size = 0);
	BAD((f.size = 100u << 20, c[0].bytes = (100u << 20) - 4, c[1].file_offset = c[0].bytes)); /* too big a chunk */
	BAD(c[1].blob_offset = BLOB_BYTES - 8);                                                   /* outside */
	BAD(c[1].blob_offset = UINT64_MAX);
	BAD(c[1].blob_bytes = 0);
	BAD(c[1].blob_bytes = UINT64_MAX);
	BAD(c[1].inner_offset = ESGZ_INNER_OFFSET_MAX + 1ull);
	BAD(f.type = ESGZ_FIFO);
#undef BAD
	assert_int_equal(add_chunks(&e, good, 1), -ERR_INVALID);
	assert_int_equal(add_chunks(&e, NULL, 0), -ERR_INVALID); /* content, and nowhere to fetch it */
	f = (struct esgz_entry){.type = ESGZ_REG, .path = STR("f"), .size = 6, .content = {{3}}};
	assert_int_equal(add_chunks(&f, good, 1), -ERR_INVALID); /* one chunk, another digest */
	f.content = good[0].digest;
	assert_int_equal(add_chunks(&f, good, 1), 0);
	f.size = 0;
	assert_int_equal(add_chunks(&f, NULL, 0), -ERR_INVALID); /* empty, with the digest of something */
}

/* What the caller knows as the end of a chunk may be far behind: after it come headers only. */
static void test_blob_bytes_are_bounded(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e = {.type = ESGZ_REG, .path = STR("f"), .size = 800, .content = {{1}}};
	struct esgz_chunk c = {.blob_bytes = BLOB_BYTES, .inner_offset = 80, .bytes = 800, .digest = {{1}}};

	assert_int_equal(esgz_index_add(b, &e, NULL, 0, &c, 1, NULL, NULL), 0);
	ix = finish(b, &file);
	esgz_index_chunk(ix, 0, &c);
	assert_int_equal(c.blob_bytes, 880 + 110 + ESGZ_MEMBER_SLACK);
	assert_int_equal(c.inner_offset, 80);
}

static void test_unpacked_layer_has_no_chunks(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e = {.type = ESGZ_REG, .path = STR("f"), .size = 1ull << 40, .content = {{1}}};

	assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL), 0);
	ix = finish_with(b, ESGZ_TRUST_DIFFID, &file);
	e = find(ix, "f");
	assert_int_equal(e.size, 1ull << 40);
	assert_int_equal(e.n_chunks, 0);
	assert_true(digest_eq(&e.claim, &e.content));
}

static void test_last_one_wins(void **state)
{
	static const char *const want[] = {"", "d", "d/x", "f"};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e = {.type = ESGZ_DIR, .mode = 0700, .path = STR("d")};

	add_file(b, "f", 3, 10, 5);
	add(b, ESGZ_FIFO, "d/x");
	add(b, ESGZ_DIR, "d");
	esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL);
	add_link(b, ESGZ_SYMLINK, "./f", "t");
	ix = finish(b, &file);
	assert_paths(ix, want, ARRAY_LEN(want));
	e = find(ix, "d");
	assert_int_equal(e.mode, 0700);
	e = find(ix, "f");
	assert_int_equal(e.type, ESGZ_SYMLINK);
	assert_int_equal(esgz_index_get_info(ix)->n_chunks, 0);
}

static void test_hard_links(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e, to;

	add_link(b, ESGZ_HARDLINK, "a", "./d/b"); /* forward, through a chain */
	add_link(b, ESGZ_HARDLINK, "d/b", "/c");
	add_link(b, ESGZ_HARDLINK, "c", "x/../z");
	add_file(b, "z", 1, 5, 1);
	add_link(b, ESGZ_SYMLINK, "s", "nowhere");
	add_link(b, ESGZ_HARDLINK, "t", "s");
	ix = finish(b, &file);
	for (const char *const *p = (const char *const[]){"a", "d/b", "c", NULL}; *p; p++) {
		e = find(ix, *p);
		assert_int_equal(e.type, ESGZ_HARDLINK);
		esgz_index_entry(ix, e.target, &to);
		assert_true(str_eqc(to.path, "z"));
	}
	e = find(ix, "t");
	esgz_index_entry(ix, e.target, &to);
	assert_int_equal(to.type, ESGZ_SYMLINK);
}

/* Whether one stands before what it means; asked of each file that is made of the same entries. */
static void test_late_hard_links(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();

	add_file(b, "z", 1, 5, 1);
	add_link(b, ESGZ_HARDLINK, "d/a", "z");
	add_link(b, ESGZ_HARDLINK, "b", "d/a");
	assert_int_equal(finish_code(b), 0);
	assert_int_equal(esgz_index_late_link(b).n, 0);
	add_file(b, "z", 1, 5, 1);
	assert_int_equal(finish_code(b), 0);
	assert_true(str_eqc(esgz_index_late_link(b), "d/a"));
	add_link(b, ESGZ_HARDLINK, "d/a", "z");
	assert_int_equal(finish_code(b), 0);
	assert_true(str_eqc(esgz_index_late_link(b), "b")); /* d/a is another one now, too */
	add_link(b, ESGZ_HARDLINK, "b", "d/a");
	assert_int_equal(finish_code(b), 0);
	assert_int_equal(esgz_index_late_link(b).n, 0);
}

static void test_bad_hard_links(void **state)
{
	static const struct {
		const char *path, *link;
	} bad[][3] = {
	    {{"a", "a"}},       {{"a", "b"}, {"b", "a"}}, {{"a", "b"}, {"b", "c"}, {"c", "b"}},
	    {{"a", "missing"}}, {{"a", "missing/b"}},     {{"a", "file/b"}},
	    {{"a", ""}}, /* the root */
	    {{"a", "dir"}},     {{"a", "implied"}},       {{"a", "gone"}},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();

		add(b, ESGZ_DIR, "dir");
		add_file(b, "implied/x", 1, 5, 1);
		add_file(b, "file", 1, 5, 1);
		add(b, ESGZ_REG, ".wh.gone");
		for (size_t k = 0; k < 3 && bad[i][k].path; k++)
			assert_int_equal(add_link(b, ESGZ_HARDLINK, bad[i][k].path, bad[i][k].link), 0);
		assert_int_equal(finish_code(b), -ERR_INVALID);
	}
}

/* A long chain must not take a time that grows with its square. */
static void test_long_chain_of_links(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	char path[32], link[32];

	for (int i = 0; i < 50000; i++) {
		snprintf(path, sizeof(path), "l%d", i);
		snprintf(link, sizeof(link), "l%d", i + 1);
		assert_int_equal(add_link(b, ESGZ_HARDLINK, path, link), 0);
	}
	add(b, ESGZ_FIFO, "l50000");
	ix = finish(b, &file);
	assert_int_equal(esgz_index_get_info(ix)->n_entries, 50002);
}

static void test_whiteouts(void **state)
{
	static const char *const want[] = {"", "d", "d/gone", "d/kept", "d/over", "d/over/x", "e", "o", "o/f"};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	const char *dropped = NULL;
	struct esgz_entry e = {.type = ESGZ_REG};

	add(b, ESGZ_REG, "d/.wh.gone");
	add(b, ESGZ_REG, "d/.wh.kept");
	add(b, ESGZ_FIFO, "d/kept");
	add(b, ESGZ_FIFO, "d/over/x");
	add(b, ESGZ_REG, "d/.wh.over");
	add(b, ESGZ_REG, "o/.wh..wh..opq");
	add(b, ESGZ_FIFO, "o/f");
	add(b, ESGZ_REG, "e/.wh..wh..opq");
	for (const char *const *p =
	         (const char *const[]){".wh..wh.aufs", "d/.wh..wh.plnk", ".wh..wh.orph/y", ".wh.z/y", NULL};
	     *p; p++) {
		e.path = str_of(*p);
		assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, &dropped, NULL), 0);
		assert_non_null(dropped);
	}
	ix = finish(b, &file);
	assert_paths(ix, want, ARRAY_LEN(want));
	assert_int_equal(find(ix, "d/gone").type, ESGZ_WHITEOUT);
	assert_int_equal(find(ix, "d/kept").type, ESGZ_FIFO);
	assert_int_equal(find(ix, "d/kept").flags, ESGZ_REPLACE);
	assert_int_equal(find(ix, "d/over").flags, ESGZ_REPLACE | ESGZ_IMPLIED);
	assert_int_equal(find(ix, "o").flags, ESGZ_OPAQUE | ESGZ_IMPLIED);
	assert_int_equal(find(ix, "e").flags, ESGZ_OPAQUE | ESGZ_IMPLIED);
	assert_int_equal(find(ix, "d").flags, ESGZ_IMPLIED);
}

static void test_opaque_root(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_entry e = {.type = ESGZ_DIR, .mode = 01777, .uid = 5, .path = STR("./")};

	add(b, ESGZ_REG, ".wh..wh..opq");
	esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL);
	ix = finish(b, &file);
	e = find(ix, "");
	assert_int_equal(e.flags, ESGZ_OPAQUE);
	assert_int_equal(e.mode, 01777);
	assert_int_equal(e.uid, 5);
}

/* A constant in the hash would be a word that hides all before it: then each name is held against all others, 100 000 of
 * them for half a minute. */
static void test_names_that_end_alike(void **state)
{
	static const uint64_t constants[] = {0xe7037ed1a0b428db, 0x9e3779b97f4a7c15};
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	struct timespec begin, end;
	char name[17];

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (unsigned k = 0; k < ARRAY_LEN(constants); k++)
		for (unsigned i = 0; i < 100000; i++) {
			const struct esgz_entry e = {.type = ESGZ_FIFO, .path = str_make(name, 16)};

			snprintf(name, sizeof(name), "%08x", i);
			memcpy(name + 8, &constants[k], 8);
			OK(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, err));
		}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	assert_true(end.tv_sec - begin.tv_sec < 10);
}

/* Names of 2000 directories each: a short TOC, and megabytes of paths. */
static void test_deep_names(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	char path[4001];

	for (unsigned k = 0; k < 26; k++) {
		const struct esgz_entry e = {.type = ESGZ_FIFO, .path = str_make(path, 4000)};

		for (unsigned i = 0; i < 4000; i += 2) {
			path[i] = (char)('a' + k);
			path[i + 1] = '/';
		}
		path[3999] = 'x';
		OK(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, err));
	}
	assert_int_equal(finish_code(b), -ERR_INVALID);
}

/* The same xattrs of another owner are another set. */
static void test_xattrs_of_a_layer_are_bounded(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	struct esgz_xattr xattrs[ESGZ_XATTRS_MAX];
	char names[ESGZ_XATTRS_MAX][12], path[12];
	struct err why = ERR_INIT;
	uint32_t i = 0;
	int r;

	for (unsigned k = 0; k < ESGZ_XATTRS_MAX; k++) {
		snprintf(names[k], sizeof(names[k]), "user.%04u", k);
		xattrs[k] = (struct esgz_xattr){str_of(names[k]), STR("")};
	}
	do {
		snprintf(path, sizeof(path), "%u", i);
		r = esgz_index_add(b, &(struct esgz_entry){.type = ESGZ_FIFO, .path = str_of(path), .uid = i}, xattrs,
		                   ESGZ_XATTRS_MAX, NULL, 0, NULL, &why);
	} while (r == 0 && ++i < 10000);
	assert_int_equal(r, -ERR_EXHAUSTED);
	assert_int_equal(i, ESGZ_LAYER_XATTRS_MAX / ESGZ_XATTRS_MAX);
}

static void test_refused_entries(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(buf) struct buf longpath = BUF_INIT;
	struct esgz_entry e = {.type = ESGZ_REG, .path = STR("a\0b")};
	struct esgz_xattr x = {STR(""), STR("v")};
	const char *dropped = NULL;

	assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL), -ERR_INVALID);
	assert_int_equal(add(b, ESGZ_REG, "d/.wh."), -ERR_INVALID);
	assert_int_equal(add(b, ESGZ_REG, "d/.wh.."), -ERR_INVALID);
	assert_int_equal(add(b, ESGZ_REG, ".wh..."), -ERR_INVALID);
	assert_int_equal(add(b, ESGZ_REG, ".."), -ERR_INVALID); /* the root */
	assert_int_equal(add(b, ESGZ_WHITEOUT, "w"), -ERR_INVALID);
	assert_int_equal(add(b, (enum esgz_type)0, "w"), -ERR_INVALID);
	assert_int_equal(add(b, (enum esgz_type)99, "w"), -ERR_INVALID);
	assert_int_equal(add_link(b, ESGZ_SYMLINK, "l", ""), -ERR_INVALID);
	e = (struct esgz_entry){.type = ESGZ_DIR, .path = STR("x")};
	assert_int_equal(esgz_index_add(b, &e, &x, 1, NULL, 0, NULL, NULL), -ERR_INVALID);
	e = (struct esgz_entry){.type = ESGZ_DIR, .path = STR("x"), .mtime_ns = 1000000000};
	assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, NULL, NULL), -ERR_INVALID);
	for (int i = 0; i < 256; i++)
		buf_addc(&longpath, 'n');
	assert_int_equal(add(b, ESGZ_REG, buf_cstr(&longpath)), -ERR_INVALID);
	e = (struct esgz_entry){.type = ESGZ_CHAR, .path = STR("dev0")};
	assert_int_equal(esgz_index_add(b, &e, NULL, 0, NULL, 0, &dropped, NULL), 0);
	assert_non_null(dropped);
}

static void test_file_with_entries_below(void **state)
{
	AUTO(esgz_index_builder) struct esgz_index_builder *b = esgz_index_builder_new();
	AUTO(esgz_index_builder) struct esgz_index_builder *b2 = esgz_index_builder_new();

	add_link(b, ESGZ_SYMLINK, "lib", "usr/lib");
	add(b, ESGZ_FIFO, "lib/x");
	assert_int_equal(finish_code(b), -ERR_INVALID);
	add(b2, ESGZ_FIFO, "f");
	add(b2, ESGZ_REG, "f/.wh..wh..opq");
	assert_int_equal(finish_code(b2), -ERR_INVALID);
}

static void test_path_clean(void **state)
{
	static const struct {
		const char *raw, *want;
	} cases[] = {{"", ""},
	             {"/", ""},
	             {".", ""},
	             {"./", ""},
	             {"..", ""},
	             {"../../etc", "etc"},
	             {"a/../../b", "b"},
	             {"a/b/../c", "a/c"},
	             {"//a///b//", "a/b"},
	             {"./a/./b/.", "a/b"},
	             {"a/...", "a/..."},
	             {"a/..b", "a/..b"},
	             {"a/b/../..", ""},
	             {" a", " a"}};
	AUTO(buf) struct buf out = BUF_INIT;
	AUTO(buf) struct buf raw = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(esgz_path_clean(str_of(cases[i].raw), &out, NULL), 0);
		assert_string_equal(buf_cstr(&out), cases[i].want);
	}
	assert_int_equal(esgz_path_clean(STR("a\0"), &out, NULL), -ERR_INVALID);
	for (int i = 0; i < ESGZ_PATH_MAX / 2; i++)
		buf_adds(&raw, "x/");
	assert_int_equal(esgz_path_clean(buf_str(&raw), &out, NULL), 0);
	assert_int_equal(out.n, ESGZ_PATH_MAX - 1);
	buf_adds(&raw, "x/");
	assert_int_equal(esgz_path_clean(buf_str(&raw), &out, NULL), -ERR_INVALID);
}

static void test_keys(void **state)
{
	const struct esgz_chunk c = {.blob_offset = 1, .blob_bytes = 2, .inner_offset = 3, .bytes = 3, .digest = {{7}}};
	AUTO(buf) struct buf in = BUF_INIT;
	struct digest want, got, content = {{9}};

	buf_add(&in, "contentd-index-1\0\1", 18);
	buf_add(&in, BLOB.b, 32);
	buf_add(&in, TOC.b, 32);
	digest_of(in.p, in.n, &want);
	esgz_index_key(ESGZ_TRUST_TOC, &BLOB, &TOC, &got);
	assert_true(digest_eq(&want, &got));
	buf_clear(&in);
	buf_add(&in, "contentd-claim-1", 17);
	buf_add(&in, content.b, 32);
	buf_le64(&in, 3);
	buf_le32(&in, 1);
	buf_le64(&in, 0);
	buf_le64(&in, 3);
	buf_add(&in, c.digest.b, 32);
	digest_of(in.p, in.n, &want);
	esgz_claim_key(&content, 3, &c, 1, &got);
	assert_true(digest_eq(&want, &got));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_order_and_implied_parents),
	    cmocka_unit_test(test_attributes),
	    cmocka_unit_test(test_files_and_chunks),
	    cmocka_unit_test(test_claims),
	    cmocka_unit_test(test_bad_chunks),
	    cmocka_unit_test(test_blob_bytes_are_bounded),
	    cmocka_unit_test(test_unpacked_layer_has_no_chunks),
	    cmocka_unit_test(test_last_one_wins),
	    cmocka_unit_test(test_hard_links),
	    cmocka_unit_test(test_late_hard_links),
	    cmocka_unit_test(test_bad_hard_links),
	    cmocka_unit_test(test_long_chain_of_links),
	    cmocka_unit_test(test_whiteouts),
	    cmocka_unit_test(test_opaque_root),
	    cmocka_unit_test(test_names_that_end_alike),
	    cmocka_unit_test(test_deep_names),
	    cmocka_unit_test(test_xattrs_of_a_layer_are_bounded),
	    cmocka_unit_test(test_refused_entries),
	    cmocka_unit_test(test_file_with_entries_below),
	    cmocka_unit_test(test_path_clean),
	    cmocka_unit_test(test_keys),
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_prefetch_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
