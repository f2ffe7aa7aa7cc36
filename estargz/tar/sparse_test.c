/* Sparse files in tars: GNU tar's four forms. */
#include "estargz/tar/test_tar.h"

#include "base/testing.h"

#include <locale.h>
#include <stdlib.h>

/* ---- against libarchive, over archives made by GNU tar ---- */

/* Holes in front, between, at the end, nothing else; more extents than a header has, and than a block behind one. */
static void make_sparse_files(const char *dir)
{
	RUN("mkdir %s/t && cd %s/t && truncate -s 1M hole front end && printf x >> front && "
	    "printf start | dd of=end conv=notrunc status=none && printf plain > plain && : > empty && "
	    "for n in 3 5 30 60; do "
	    "for i in $(seq $n); do printf $i | dd of=many$n bs=1 seek=$((i * 16384)) conv=notrunc status=none; done; "
	    "truncate -s 1500000 many$n; done && "
	    "L=$(printf 'n%%.0s' $(seq 150)) && truncate -s 300K $L && printf x >> $L",
	    dir, dir);
}

static void test_sparse_against_libarchive(void **state)
{
	static const char *const options[] = {
	    "--format=gnu",
	    "--format=oldgnu",
	    "--format=pax --sparse-version=0.0",
	    "--format=pax --sparse-version=0.1",
	    "--format=pax --sparse-version=1.0",
	};
	char dir[] = "/tmp/esgz-sparse-test.XXXXXX";

	assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
	assert_non_null(mkdtemp(dir));
	make_sparse_files(dir);
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		AUTO_FREE char *file = xasprintf("%s/%zu.tar", dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;
		AUTO(buf) struct buf want = BUF_INIT;

		RUN("cd %s && tar -cS --hole-detection=raw --sort=name -f %s %s t", dir, file, options[i]);
		slurp(file, &tar);
		assert_true(tar.n < 2 << 20); /* they are sparse in it */
		read_by_libarchive(file, &want);
		assert_true(want.n > 1000);
		assert_reads(&tar, buf_cstr(&want));
	}
	RUN("rm -rf %s", dir);
}

/* ---- maps put together by hand ---- */

struct gnu_map {
	const char *fields[4][2]; /* octal */
	const char *size;
	bool more;
};

static void add_gnu_sparse(struct buf *tar, struct gnu_map m, struct str stored)
{
	struct header h = {.type = 'S', .name = "holes", .magic = "ustar  ", .size = (int64_t)stored.n};
	char *b;

	add_header(tar, h);
	b = tar->p + tar->n - 512;
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 2; j++)
			put(b, (size_t)(386 + 24 * i + 12 * j), 12, m.fields[i][j]);
	b[482] = m.more;
	put(b, 483, 12, m.size);
	seal(b);
	if (!m.more)
		add_content(tar, stored);
}

static void add_pax_sparse(struct buf *tar, const char *const (*records)[2], struct str stored)
{
	AUTO(buf) struct buf pax = BUF_INIT;

	for (; (*records)[0]; records++)
		add_record(&pax, (*records)[0], str_of((*records)[1]));
	add_meta(tar, 'x', buf_str(&pax));
	add_file(tar, "GNUSparseFile.1/holes", stored);
}

static int note_extents(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	buf_addf(arg, STR_FMT " %d %llu @%llu:", STR_ARG(t->e.path), t->sparse, (unsigned long long)t->e.size,
	         (unsigned long long)t->payload_offset);
	for (uint32_t i = 0; i < t->n_extents; i++)
		buf_addf(arg, " %llu+%llu", (unsigned long long)t->extents[i].offset,
		         (unsigned long long)t->extents[i].bytes);
	return 0;
}

static int note_data(void *arg, struct str bytes, struct err *err)
{
	buf_addf(arg, " '" STR_FMT "'", STR_ARG(bytes));
	return 0;
}

static int note_hole(void *arg, uint64_t bytes, struct err *err)
{
	buf_addf(arg, " -%llu", (unsigned long long)bytes);
	return 0;
}

static int note_end(void *arg, struct err *err)
{
	buf_adds(arg, ".\n");
	return 0;
}

static void assert_notes(const struct buf *tar, const char *want)
{
	AUTO(buf) struct buf got = BUF_INIT;
	const struct esgz_tar_sink sink = {
	    .entry = note_extents, .data = note_data, .hole = note_hole, .end = note_end, .arg = &got};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);
	struct err err = ERR_INIT;

	if (esgz_tar_feed(t, buf_str(tar), &err) < 0 || esgz_tar_finish(t, &err) < 0)
		fail_msg("%s", err.msg);
	assert_same_lines(buf_str(&got), str_of(want));
}

static void test_sparse(void **state)
{
	static const char *const form_0_0[][2] = {{"GNU.sparse.size", "20"},   {"GNU.sparse.numblocks", "2"},
	                                          {"GNU.sparse.offset", "2"},  {"GNU.sparse.numbytes", "3"},
	                                          {"GNU.sparse.offset", "20"}, {"GNU.sparse.numbytes", "0"},
	                                          {"path", "long/holes"},      {NULL, NULL}};
	static const char *const form_0_1[][2] = {{"GNU.sparse.size", "9"},
	                                          {"GNU.sparse.numblocks", "3"},
	                                          {"GNU.sparse.name", "holes"},
	                                          {"GNU.sparse.map", "0,1,1,1,8,1"},
	                                          {NULL, NULL}};
	static const char *const form_1_0[][2] = {{"GNU.sparse.major", "1"},
	                                          {"GNU.sparse.minor", "0"},
	                                          {"GNU.sparse.name", "holes"},
	                                          {"GNU.sparse.realsize", "10"},
	                                          {NULL, NULL}};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf text = BUF_INIT;

	add_gnu_sparse(&tar, (struct gnu_map){{{"5", "3"}, {"20", "0"}}, "20"}, STR("abc"));
	add_pax_sparse(&tar, form_0_0, STR("abc"));
	add_pax_sparse(&tar, form_0_1, STR("abc"));
	buf_adds(&text, "1\n4\n3\n");
	buf_addz(&text, 512 - text.n);
	buf_adds(&text, "abc");
	add_pax_sparse(&tar, form_1_0, buf_str(&text));
	buf_clear(&text);
	buf_adds(&text, "0\n"); /* all hole, and the map's block is not even whole */
	add_pax_sparse(&tar, form_1_0, buf_str(&text));
	add_gnu_sparse(&tar, (struct gnu_map){.size = "7"}, STR_NONE);
	add_file(&tar, "after", STR("abc"));
	buf_addz(&tar, 1024);
	assert_notes(&tar, "holes 1 16 @512: 5+3 -5 'abc' -8.\n"
	                   "long/holes 1 20 @2560: 2+3 -2 'abc' -15.\n"
	                   "holes 1 9 @4608: 0+1 1+1 8+1 'a' 'b' -6 'c'.\n"
	                   "holes 1 10 @7168: 4+3 -4 'abc' -3.\n"
	                   "holes 1 10 @9218: -10.\n"
	                   "holes 1 7 @10240: -7.\n"
	                   "after 0 3 @10752: 'abc'.\n");
}

/* Of each map that must not be believed: what is said about it. */
static void test_sparse_lies(void **state)
{
	static const struct {
		struct gnu_map map;
		const char *why;
	} gnu[] = {
	    {{{{"0", "2"}}, "20"}, "its map has 2"},
	    {{{{"0", "4"}}, "20"}, "its map has 4"},
	    {{{{"16", "3"}}, "20"}, "extents up to 17 of 16"},
	    {{{{"4", "1"}, {"3", "2"}}, "20"}, "extent of 2 bytes at 3 after 5"},
	    {{{{"0", "3"}, {"777777777777", "0"}}, "20"}, "extents up to"},
	    {{{{"x", "3"}}, "20"}, "without numbers"},
	    {{{{"0", "3"}}, "8"}, "bad size of a sparse file"},
	};
#define PAX(...)                                                                                                       \
	{                                                                                                              \
		__VA_ARGS__,                                                                                           \
		{                                                                                                      \
			NULL, NULL                                                                                     \
		}                                                                                                      \
	}
#define SIZE                                                                                                           \
	{                                                                                                              \
		"GNU.sparse.size", "20"                                                                                \
	}
#define COUNT(n)                                                                                                       \
	{                                                                                                              \
		"GNU.sparse.numblocks", n                                                                              \
	}
#define V(major, minor)                                                                                                \
	{"GNU.sparse.major", major},                                                                                   \
	{                                                                                                              \
		"GNU.sparse.minor", minor                                                                              \
	}
	static const struct {
		const char *const records[8][2];
		struct str stored;
		const char *why;
	} pax[] = {
	    {PAX(SIZE), STR("abc"), "without a size or a map"},
	    {PAX(COUNT("1"), {"GNU.sparse.map", "0,3"}), STR("abc"), "without a size or a map"},
	    {PAX(SIZE, COUNT("2"), {"GNU.sparse.map", "0,3"}), STR("abc"), "map of 1 extents"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0"}), STR("abc"), "without numbers"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,-3"}), STR("abc"), "without numbers"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,18446744073709551615"}), STR("abc"), "extent of"},
	    {PAX(SIZE, COUNT("1")), STR("abc"), "map of 0 extents"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.numbytes", "3"}), STR("abc"), "numbytes=3"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.offset", "0"}, {"GNU.sparse.offset", "0"}), STR("abc"), "offset=0"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,3"}, V("2", "0")), STR("abc"), "of form 2.0"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,3"}, V("0", "2")), STR("abc"), "of form 0.2"},
	    {PAX(SIZE, V("1", "0")), STR_NONE, "without a map"},
	    {PAX(SIZE, V("1", "0")), STR("1\n0\n"), "its map has no end"},
	    {PAX(SIZE, V("1", "0")), STR("\n"), "without numbers"},
	    {PAX(SIZE, V("1", "0")), STR("1 0 3\n"), "without numbers"},
	    {PAX(SIZE, V("1", "0")), STR("99999999999999999999\n"), "without numbers"},
	    {PAX(SIZE, V("1", "0")), STR("1048577\n"), "of 1048577 extents"},
	    {PAX(SIZE, V("1", "0")), STR("1\n0\n21\n"), "extents up to 21 of 20"},
	    {PAX({"GNU.sparse.realsize", "9223372036854775808"}, V("1", "0")), STR("0\n"), "extents up to 0 of"},
	    {PAX({"GNU.sparse.realsize", "9223372036854775807"}, V("1", "0")), STR("0\n"), "bytes of holes"},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", ""}), STR("abc"), "GNU.sparse.map="},
	    {PAX(SIZE, COUNT(""), {"GNU.sparse.map", "0,3"}), STR("abc"), "GNU.sparse.numblocks="},
	    {PAX({"GNU.sparse.size", ""}), STR("abc"), "GNU.sparse.size="},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,3"}, {"GNU.sparse.name", ""}), STR("abc"), "GNU.sparse.name="},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,3"}, V("", "1")), STR("abc"), "GNU.sparse.major="},
	    {PAX(SIZE, COUNT("1"), {"GNU.sparse.map", "0,3"}, V("0", "")), STR("abc"), "GNU.sparse.minor="},
	    {PAX({"GNU.sparse.name", "renamed"}), STR("abc"), "renamed: sparse file without a size"},
	};
	AUTO(buf) struct buf tar = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(gnu) + ARRAY_LEN(pax); i++) {
		bool is_gnu = i < ARRAY_LEN(gnu);
		const char *why = is_gnu ? gnu[i].why : pax[i - ARRAY_LEN(gnu)].why;
		struct err err = ERR_INIT;

		buf_clear(&tar);
		if (is_gnu)
			add_gnu_sparse(&tar, gnu[i].map, STR("abc"));
		else
			add_pax_sparse(&tar, pax[i - ARRAY_LEN(gnu)].records, pax[i - ARRAY_LEN(gnu)].stored);
		buf_addz(&tar, 1024);
		assert_true(code_of(&tar, &err) < 0);
		if (!strstr(err.msg, why))
			fail_msg("%zu: '%s' instead of '%s'", i, err.msg, why);
	}
}

static void test_sparse_where_it_cannot_be(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	struct err err = ERR_INIT;

	/* Star's files of type S are laid out otherwise. */
	add_header(&tar, (struct header){.type = 'S', .name = "holes"});
	assert_int_equal(code_of(&tar, &err), -ERR_UNIMPLEMENTED);
	assert_non_null(strstr(err.msg, "holes: sparse file that is not GNU's"));
	buf_clear(&tar);
	add_record(&pax, "GNU.sparse.size", STR("20"));
	add_meta(&tar, 'x', buf_str(&pax));
	add_header(&tar, (struct header){.type = '5', .name = "dir"});
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	buf_clear(&tar);
	add_meta(&tar, 'x', buf_str(&pax));
	add_gnu_sparse(&tar, (struct gnu_map){{{"0", "3"}}, "20"}, STR("abc"));
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	assert_non_null(strstr(err.msg, "two forms"));
	/* In the middle of a map. */
	buf_clear(&tar);
	add_gnu_sparse(&tar, (struct gnu_map){.size = "20", .more = true}, STR_NONE);
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	buf_addz(&tar, 511);
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	buf_addz(&tar, 1);
	assert_int_equal(code_of(&tar, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sparse_against_libarchive),
	    cmocka_unit_test(test_sparse),
	    cmocka_unit_test(test_sparse_lies),
	    cmocka_unit_test(test_sparse_where_it_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
