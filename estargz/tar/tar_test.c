#include "estargz/tar/test_tar.h"

#include "base/testing.h"
#include "estargz/tar/tar_pax.h"

#include <locale.h>
#include <stdlib.h>

static void test_types(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	add_file(&tar, "f", STR("abc"));
	add_file(&tar, "e", STR_NONE);
	add_header(&tar, (struct header){.type = '1', .name = "h", .link = "f", .size = 3}); /* has no content */
	add_header(&tar, (struct header){.type = '2', .name = "s", .link = "x/../f"});
	add_header(&tar, (struct header){.type = '5', .name = "d/"});
	add_header(&tar, (struct header){.type = '6', .name = "p"});
	add_header(&tar, (struct header){.type = 0, .name = "v7dir/", .magic = "\0\0\0\0\0\0\0"});
	add_header(&tar, (struct header){.type = 0, .name = "v7", .magic = "\0\0\0\0\0\0\0", .size = 3});
	add_content(&tar, STR("abc"));
	add_header(&tar, (struct header){.type = '7', .name = "n", .prefix = "some/dir"});
	add_header(&tar, (struct header){.type = '0', .name = "gnu", .prefix = "junk", .magic = "ustar  "});
	buf_addz(&tar, 1024);
	buf_adds(&tar, "whatever follows the end");
	assert_reads(&tar, "r 644 0:0 0.000000000 3 0,0 'f' '' " ABC "\n"
	                   "r 644 0:0 0.000000000 0 0,0 'e' '' " NOTHING "\n"
	                   "h 644 0:0 0.000000000 0 0,0 'h' 'f'\n"
	                   "l 644 0:0 0.000000000 0 0,0 's' 'x/../f'\n"
	                   "d 644 0:0 0.000000000 0 0,0 'd/' ''\n"
	                   "p 644 0:0 0.000000000 0 0,0 'p' ''\n"
	                   "d 644 0:0 0.000000000 0 0,0 'v7dir/' ''\n"
	                   "r 644 0:0 0.000000000 3 0,0 'v7' '' " ABC "\n"
	                   "r 644 0:0 0.000000000 0 0,0 'some/dir/n' '' " NOTHING "\n"
	                   "r 644 0:0 0.000000000 0 0,0 'gnu' '' " NOTHING "\n");
}

static void test_pax(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;

	add_record(&pax, "path", STR("long/name"));
	add_record(&pax, "size", STR("3"));
	add_record(&pax, "uid", STR("4294967294"));
	add_record(&pax, "gid", STR("70000"));
	add_record(&pax, "mtime", STR("-1.25"));
	add_record(&pax, "SCHILY.xattr.user.a", STR("1\n2\0003"));
	add_record(&pax, "SCHILY.xattr.user.b", STR(""));
	add_record(&pax, "SCHILY.xattr.user.a", STR("again"));
	add_record(&pax, "unknown", STR("?"));
	add_meta(&tar, 'x', buf_str(&pax));
	add_file(&tar, "short", STR("abc"));
	add_file(&tar, "after", STR_NONE);
	buf_clear(&pax);
	add_record(&pax, "linkpath", STR("the/target"));
	add_meta(&tar, 'x', buf_str(&pax));
	add_header(&tar, (struct header){.type = '2', .name = "s", .link = "x"});
	buf_clear(&pax);
	add_record(&pax, "SCHILY.devmajor", STR("300"));
	add_record(&pax, "SCHILY.devminor", STR("70000"));
	add_meta(&tar, 'x', buf_str(&pax));
	add_header(&tar, (struct header){.type = '3', .name = "dev"});
	assert_reads(&tar, "r 644 4294967294:70000 -2.750000000 3 0,0 'long/name' '' user.a=5 user.b=0 " ABC "\n"
	                   "r 644 0:0 0.000000000 0 0,0 'after' '' " NOTHING "\n"
	                   "l 644 0:0 0.000000000 0 0,0 's' 'the/target'\n"
	                   "c 644 0:0 0.000000000 0 300,70000 'dev' ''\n");
}

static void test_global_pax(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;

	add_record(&pax, "uid", STR("7"));
	add_record(&pax, "gid", STR("8"));
	add_meta(&tar, 'g', buf_str(&pax));
	add_file(&tar, "a", STR_NONE);
	buf_clear(&pax);
	add_record(&pax, "uid", STR("")); /* back to the header's */
	add_meta(&tar, 'x', buf_str(&pax));
	add_file(&tar, "b", STR_NONE);
	add_file(&tar, "c", STR_NONE);
	assert_reads(&tar, "r 644 7:8 0.000000000 0 0,0 'a' '' " NOTHING "\n"
	                   "r 644 0:8 0.000000000 0 0,0 'b' '' " NOTHING "\n"
	                   "r 644 7:8 0.000000000 0 0,0 'c' '' " NOTHING "\n");
}

static void test_gnu_long_names(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	add_meta(&tar, 'L', STR("a/very/long/name\0"));
	add_meta(&tar, 'K', STR("a/very/long/target\0"));
	add_header(&tar, (struct header){.type = '2', .name = "a/ver", .link = "a/ver", .magic = "ustar  "});
	add_file(&tar, "b", STR_NONE);
	assert_reads(&tar, "l 644 0:0 0.000000000 0 0,0 'a/very/long/name' 'a/very/long/target'\n"
	                   "r 644 0:0 0.000000000 0 0,0 'b' '' " NOTHING "\n");
}

/* A description of nothing describes, too: GNU tar takes an empty name for the root. Global records are no part of what comes
 * next. */
static void test_empty_descriptions(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	add_meta(&tar, 'x', STR_NONE);
	add_file(&tar, "x", STR("abc"));
	add_meta(&tar, 'L', STR_NONE);
	add_header(&tar, (struct header){.type = '5', .name = "long", .magic = "ustar  "});
	add_meta(&tar, 'K', STR_NONE);
	add_header(&tar, (struct header){.type = '2', .name = "link", .link = "target", .magic = "ustar  "});
	add_meta(&tar, 'g', STR_NONE);
	buf_addz(&tar, 1024);
	assert_reads(&tar, "r 644 0:0 0.000000000 3 0,0 'x' '' " ABC "\n"
	                   "d 644 0:0 0.000000000 0 0,0 '' ''\n"
	                   "l 644 0:0 0.000000000 0 0,0 'link' ''\n");
}

/* A time that is taken away takes its fraction along: the header's has none. */
static void test_time_taken_away(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	struct header f = {.type = '0', .name = "f", .mtime = "00000000143"};

	add_record(&pax, "mtime", STR("5.5"));
	add_meta(&tar, 'g', buf_str(&pax));
	add_header(&tar, f);
	buf_clear(&pax);
	add_record(&pax, "mtime", STR(""));
	add_meta(&tar, 'x', buf_str(&pax));
	add_header(&tar, f);
	assert_reads(&tar, "r 644 0:0 5.500000000 0 0,0 'f' '' " NOTHING "\n"
	                   "r 644 0:0 99.000000000 0 0,0 'f' '' " NOTHING "\n");
}

static void test_numbers(void **state)
{
	static const struct {
		struct str field;
		bool ok;
		int64_t want;
	} cases[] = {
	    {STR("0000644\0"), true, 0644},
	    {STR("   644 \0"), true, 0644},
	    {STR("\0\0\0\0\0\0\0\0"), true, 0},
	    {STR("        "), true, 0},
	    {STR("77777777"), true, 077777777},
	    {STR("0000648\0"), false, 0},
	    {STR("-000644\0"), false, 0},
	    {STR("00 0644\0"), false, 0},
	    {STR("\x80\0\0\0\0\1\0\0"), true, 65536},
	    {STR("\xff\xff\xff\xff\xff\xff\xff\xff"), true, -1},
	    {STR("\xff\xff\xff\xff\xff\xff\xff\x85"), true, -123},
	    {STR("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), true, INT64_MAX},
	    {STR("\xff\xff\xff\xff\x80\0\0\0\0\0\0\0"), true, INT64_MIN},
	    {STR("\x80\0\0\0\x80\0\0\0\0\0\0\0"), false, 0},
	    {STR("\x80\0\0\1\0\0\0\0\0\0\0\0"), false, 0},
	    {STR("\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff"), false, 0},
	    {STR("7777777777777777777777777"), false, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t v = 0;

		assert_int_equal(tar_number((const uint8_t *)cases[i].field.p, cases[i].field.n, &v), cases[i].ok);
		if (cases[i].ok)
			assert_true(v == cases[i].want);
	}
}

static void test_pax_times(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		int64_t s;
		uint32_t ns;
	} cases[] = {{"0", true, 0, 0},
	             {"1350244992.023960108", true, 1350244992, 23960108},
	             {"-0.5", true, -1, 500000000},
	             {"-1", true, -1, 0},
	             {"1.", true, 1, 0},
	             {"1.1234567899", true, 1, 123456789},
	             {"x", false, 0, 0},
	             {"1.2.3", false, 0, 0},
	             {"1e3", false, 0, 0},
	             {"99999999999999999999", false, 0, 0}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(pax) struct pax p = {0};
		AUTO(buf) struct buf rec = BUF_INIT;
		struct err err = ERR_INIT;

		add_record(&rec, "mtime", str_of(cases[i].text));
		assert_int_equal(pax_parse(&p, buf_str(&rec), &err), cases[i].ok ? 0 : -ERR_INVALID);
		if (cases[i].ok) {
			assert_int_equal(p.mtime.s, cases[i].s);
			assert_int_equal(p.mtime.ns, cases[i].ns);
		}
	}
}

static void test_bad_pax(void **state)
{
	static const struct str bad[] = {
	    STR("x"),
	    STR("5 a=b"),
	    STR("6 a=b"),
	    STR("7 a=b\n"),
	    STR("5 a=b\n"),
	    STR("4 =b\n"),
	    STR("5 ab\n"),
	    STR("0 a=b\n"),
	    STR("-6 a=b\n"),
	    STR("2 \n"),
	    STR("3 \n\n"),
	    STR("99999999999999999999 a=b\n"),
	    STR(" 6 a=b\n"),
	    STR("10 size=-1\n"),
	    STR("9 uid=1x\n"),
	    STR("18 uid=4294967296\n"),
	    STR("28 size=9223372036854775808\n"),
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(pax) struct pax p = {0};
		struct err err = ERR_INIT;

		assert_int_equal(pax_parse(&p, bad[i], &err), -ERR_INVALID);
	}
}

static void test_end_of_archive(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(code_of(&tar, &err), 0); /* nothing at all */
	add_file(&tar, "f", STR("abc"));
	assert_int_equal(code_of(&tar, &err), 0);
	tar.n -= 509; /* no padding, no end blocks */
	assert_int_equal(code_of(&tar, &err), 0);
	tar.n -= 1;
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	tar.n = 512;
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	tar.n = 511;
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	buf_clear(&tar);
	add_file(&tar, "f", STR("abc"));
	buf_addz(&tar, 512);
	assert_int_equal(code_of(&tar, &err), 0);
	add_file(&tar, "g", STR("abc"));
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID); /* a lone zero block */
	buf_clear(&tar);
	add_meta(&tar, 'L', STR("name"));
	assert_int_equal(code_of(&tar, &err), -ERR_DATA_LOSS);
	buf_addz(&tar, 1024);
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
}

static void test_refused(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	struct err err = ERR_INIT;

	/* A type that nobody knows; a checksum; a length; a device without numbers. */
	add_header(&tar, (struct header){.type = 'M', .name = "volume"});
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	buf_clear(&tar);
	add_file(&tar, "f", STR("abc"));
	tar.p[5] ^= 1;
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	buf_clear(&tar);
	add_header(&tar, (struct header){.type = 'x', .name = "huge", .size = ESGZ_PAX_BYTES_MAX + 1});
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	buf_clear(&tar);
	add_header(&tar, (struct header){.type = '3', .name = "dev", .magic = "\0\0\0\0\0\0\0"});
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
	buf_clear(&tar);
	add_header(&tar, (struct header){.type = '0', .name = "f", .uid = "\xff\xff\xff\xff\xff\xff\xff\xff"});
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
}

static void test_extended_headers_are_bounded_in_sum(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;
	struct err err = ERR_INIT;

	buf_addz(&value, 1000);
	add_record(&pax, "comment", buf_str(&value));
	for (int i = 0; i < 1100; i++)
		add_meta(&tar, 'x', buf_str(&pax));
	assert_int_equal(code_of(&tar, &err), -ERR_INVALID);
}

static void test_offsets(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(seen) struct seen s = {0};
	struct err err = ERR_INIT;

	add_file(&tar, "first", STR("abc"));
	add_meta(&tar, 'L', STR("second"));
	add_file(&tar, "s", STR("abc"));
	assert_int_equal(read_tar(buf_str(&tar), SIZE_MAX, &s, &err), 0);
	assert_int_equal(s.last.header_offset, 1024);
	assert_int_equal(s.last.payload_offset, 1024 + 1024 + 512);
}

/* ---- against libarchive, over archives made by GNU tar ---- */

/* A tree with what the formats differ in. */
static void make_tree(const char *dir)
{
	RUN("cd %s && mkdir -p t/sub && cd t && printf abc > abc && : > empty && ln abc hard && ln -s abc soft && "
	    "mkfifo pipe && "
	    "head -c 100000 /dev/zero | tr '\\0' x > big && "
	    "L=$(printf 'n%%.0s' $(seq 90)) && mkdir -p $L/$L && printf long > $L/$L/$L && ln -s $L/$L/$L sub/longlink "
	    "&& "
	    "ln $L/$L/$L sub/longhard && "
	    "printf early > early && touch -d '1960-01-01 00:00:00 UTC' early && touch -d '2040-01-02 "
	    "03:04:05.678901234 UTC' abc && "
	    "printf 'u' > \"$(printf 'utf\\303\\244\\tname')\" && chmod 4755 big && chmod 1777 sub",
	    dir);
}

static void test_against_libarchive(void **state)
{
	static const char *const options[] = {
	    "--format=v7 --exclude=n* --exclude=long* --exclude=pipe --exclude=early",
	    "--format=ustar --exclude=n* --exclude=long* --exclude=early",
	    "--format=oldgnu",
	    "--format=gnu",
	    "--format=pax",
	    "--format=posix --pax-option=delete=atime,delete=ctime",
	    "--format=pax --xattrs --xattrs-include=user.*",
	    "--format=gnu --owner=:3000000000 --group=:3000000001",
	    "--format=pax --owner=:3000000000 --group=:3000000001",
	    "--format=gnu --mtime=@-12345",
	    "--format=pax --mtime=@-12345", /* of fractions before 1970 libarchive loses the sign */
	    "--format=gnu -b 1",
	    "--format=gnu -V label",
	};
	char dir[] = "/tmp/esgz-tar-test.XXXXXX";

	/* libarchive converts pax names to the locale's characters. */
	assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
	assert_non_null(mkdtemp(dir));
	make_tree(dir);
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		AUTO_FREE char *file = xasprintf("%s/%zu.tar", dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;
		AUTO(buf) struct buf want = BUF_INIT;

		RUN("cd %s && tar -c --sort=name -f %s %s t", dir, file, options[i]);
		slurp(file, &tar);
		read_by_libarchive(file, &want);
		assert_true(want.n > 200);
		assert_reads(&tar, buf_cstr(&want));
	}
	RUN("rm -rf %s", dir);
}

/* What a description beside the tar repeats. */
static void test_fields_of_no_tree(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf pax = BUF_INIT;
	AUTO(seen) struct seen s = {0};
	struct err err = ERR_INIT;
	char *b;

	add_record(&pax, "atime", STR("5.5"));
	add_meta(&tar, 'x', buf_str(&pax));
	add_header(&tar, (struct header){.type = '0', .name = "f", .magic = "ustar  "});
	b = tar.p + tar.n - 512;
	put(b, 100, 8, "0100644");
	put(b, 345, 12, "00000000007");
	put(b, 357, 12, "00000000010");
	seal(b);
	assert_int_equal(read_tar(buf_str(&tar), SIZE_MAX, &s, &err), 0);
	assert_int_equal(s.last.mode_field, 0100644);
	assert_int_equal(s.last.e.mode, 0644);
	assert_true(s.last.atime.given && s.last.atime.s == 5 && s.last.atime.ns == 500000000);
	assert_true(s.last.ctime.given && s.last.ctime.s == 8);
	assert_false(s.last.extra_headers);
	seen_fini(&s);
	s = (struct seen){0};
	buf_clear(&tar);
	add_meta(&tar, 'g', buf_str(&pax));
	add_header(&tar, (struct header){.type = '1', .name = "l", .size = 7});
	assert_int_equal(read_tar(buf_str(&tar), SIZE_MAX, &s, &err), 0);
	assert_true(s.last.extra_headers);
	assert_int_equal(s.last.header_bytes, 7);
	assert_int_equal(s.last.e.size, 0);
	assert_false(s.last.ctime.given);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_types),
	    cmocka_unit_test(test_pax),
	    cmocka_unit_test(test_global_pax),
	    cmocka_unit_test(test_gnu_long_names),
	    cmocka_unit_test(test_empty_descriptions),
	    cmocka_unit_test(test_time_taken_away),
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_pax_times),
	    cmocka_unit_test(test_bad_pax),
	    cmocka_unit_test(test_end_of_archive),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_extended_headers_are_bounded_in_sum),
	    cmocka_unit_test(test_offsets),
	    cmocka_unit_test(test_against_libarchive),
	    cmocka_unit_test(test_fields_of_no_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
