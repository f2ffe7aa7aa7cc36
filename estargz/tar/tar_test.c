#include "estargz/tar/tar.h"

#include "estargz/tar/tar_pax.h"

#include "base/vec.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

/* ---- archives put together by hand ---- */

struct header {
	char type;
	const char *name, *link, *prefix, *magic;
	int64_t size;
	const char *mtime, *uid; /* raw fields; NULL = 0 */
};

static void put(char *block, size_t at, size_t n, const char *text)
{
	if (text)
		memcpy(block + at, text, strnlen(text, n));
}

static void seal(char *block)
{
	unsigned sum = 0;

	memset(block + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (uint8_t)block[i];
	snprintf(block + 148, 8, "%06o", sum);
}

static void add_header(struct buf *tar, struct header h)
{
	char *b = buf_reserve(tar, 512);

	memset(b, 0, 512);
	put(b, 0, 100, h.name);
	put(b, 100, 8, "0000644");
	if (h.uid)
		memcpy(b + 108, h.uid, 8);
	snprintf(b + 124, 12, "%011llo", (unsigned long long)h.size);
	if (h.mtime)
		memcpy(b + 136, h.mtime, 12);
	b[156] = h.type;
	put(b, 157, 100, h.link);
	memcpy(b + 257, h.magic ? h.magic : "ustar\00000", 8);
	put(b, 345, 155, h.prefix);
	seal(b);
	tar->n += 512;
}

static void add_content(struct buf *tar, struct str content)
{
	buf_addstr(tar, content);
	buf_addz(tar, -content.n & 511);
}

static void add_file(struct buf *tar, const char *name, struct str content)
{
	add_header(tar, (struct header){.type = '0', .name = name, .size = (int64_t)content.n});
	add_content(tar, content);
}

static void add_meta(struct buf *tar, char type, struct str content)
{
	add_header(tar, (struct header){.type = type, .name = "meta", .size = (int64_t)content.n});
	add_content(tar, content);
}

static void add_record(struct buf *pax, const char *key, struct str value)
{
	size_t n = strlen(key) + value.n + 3, digits = 1;

	while (snprintf(NULL, 0, "%zu", n + digits) != (int)digits)
		digits++;
	buf_addf(pax, "%zu %s=", n + digits, key);
	buf_addstr(pax, value);
	buf_addc(pax, '\n');
}

/* ---- what comes out, as one line of text for each entry ---- */

struct seen {
	struct buf text;
	struct str input; /* what of it has not come out again, as raw bytes or content */
	bool filled;      /* holes come as zeros, and then that cannot be */
	struct hasher *h;
	struct esgz_tar_entry last;
	uint64_t bytes;
	unsigned n;
};

static void line(struct buf *out, const struct esgz_entry *e, const struct esgz_xattr *x, uint32_t n_xattrs)
{
	static const char types[] = "?drlcbphw";

	buf_addf(out, "%c %o %u:%u %lld.%09u %llu %u,%u '", types[e->type], e->mode, e->uid, e->gid,
	         (long long)e->mtime_s, e->mtime_ns, (unsigned long long)e->size, e->dev_major, e->dev_minor);
	buf_addstr(out, e->path);
	buf_adds(out, "' '");
	buf_addstr(out, e->link);
	buf_addc(out, '\'');
	for (uint32_t i = 0; i < n_xattrs; i++)
		buf_addf(out, " " STR_FMT "=%zu", STR_ARG(x[i].name), x[i].value.n);
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct seen *s = arg;

	line(&s->text, &t->e, t->xattrs, t->n_xattrs);
	if (t->e.type != ESGZ_REG)
		buf_addc(&s->text, '\n');
	s->last = *t;
	s->bytes = 0;
	s->n++;
	return 0;
}

static void assert_next(struct seen *s, struct str bytes)
{
	assert_true(bytes.n > 0);
	assert_true(str_starts(s->input, bytes));
	s->input = str_sub(s->input, bytes.n, s->input.n);
}

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	assert_next(arg, bytes);
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct seen *s = arg;

	if (!s->filled)
		assert_next(s, bytes);
	hasher_add(s->h, bytes.p, bytes.n);
	s->bytes += bytes.n;
	return 0;
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;
	struct seen *s = arg;

	assert_true(bytes > 0 && bytes <= 64 << 20);
	buf_addz(&zeros, bytes);
	hasher_add(s->h, zeros.p, zeros.n);
	s->bytes += bytes;
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct seen *s = arg;
	struct digest d;
	char text[DIGEST_TEXT_MAX];

	assert_int_equal(s->bytes, s->last.e.size);
	hasher_done(s->h, &d);
	buf_addf(&s->text, " %s\n", digest_text(&d, text));
	return 0;
}

static void seen_fini(struct seen *s)
{
	buf_fini(&s->text);
	hasher_free(s->h);
}
DEFINE_AUTO_FINI(seen);

/* Reads the archive in pieces of `step` bytes. */
static int read_tar(struct str tar, size_t step, struct seen *s, struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry,
	                                   .data = on_data,
	                                   .end = on_end,
	                                   .hole = s->filled ? NULL : on_hole,
	                                   .raw = s->filled ? NULL : on_raw,
	                                   .arg = s};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);

	s->h = hasher_new();
	s->input = tar;
	while (tar.n > 0) {
		/* An exact copy, so that a look past the end is seen. */
		struct str piece = str_sub(tar, 0, step);
		AUTO_FREE char *copy = xmalloc(piece.n);

		memcpy(copy, piece.p, piece.n);
		TRY(esgz_tar_feed(t, str_make(copy, piece.n), err));
		tar = str_sub(tar, piece.n, tar.n);
		assert_true(s->filled || s->input.n == tar.n);
	}
	return esgz_tar_finish(t, err);
}

/* Both are lists of lines; names the first that differs. */
static void assert_same_lines(struct str got, struct str want)
{
	struct str g, w;

	while (str_split(&got, '\n', &g) && str_split(&want, '\n', &w))
		if (!str_eq(g, w))
			fail_msg("got  " STR_FMT "\nwant " STR_FMT, STR_ARG(g), STR_ARG(w));
	assert_true(str_eq(got, want));
}

static void assert_reads(const struct buf *tar, const char *want)
{
	static const size_t steps[] = {SIZE_MAX, 1, 511, 513, 1024};

	for (size_t i = 0; i < ARRAY_LEN(steps) + 1; i++) {
		AUTO(seen) struct seen s = {.filled = i == ARRAY_LEN(steps)};
		struct err err = ERR_INIT;

		if (read_tar(buf_str(tar), s.filled ? SIZE_MAX : steps[i], &s, &err) < 0)
			fail_msg("%s", err.msg);
		assert_same_lines(buf_str(&s.text), str_of(want));
	}
}

static int code_of(const struct buf *tar, struct err *err)
{
	AUTO(seen) struct seen s = {0};

	return read_tar(buf_str(tar), 700, &s, err);
}

#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define NOTHING "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

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

/* The same lines from libarchive. */
static void read_by_libarchive(const char *file, struct buf *out)
{
	struct archive *a = archive_read_new();
	struct archive_entry *ae;
	AUTO(hasher) struct hasher *h = hasher_new();
	static char block[65536];
	char text[DIGEST_TEXT_MAX];

	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_filename(a, file, 65536), ARCHIVE_OK);
	while (archive_read_next_header(a, &ae) == ARCHIVE_OK) {
		struct esgz_entry e = {.mode = archive_entry_perm(ae),
		                       .uid = (uint32_t)archive_entry_uid(ae),
		                       .gid = (uint32_t)archive_entry_gid(ae),
		                       .mtime_s = archive_entry_mtime(ae),
		                       .mtime_ns = (uint32_t)archive_entry_mtime_nsec(ae),
		                       .path = str_of(archive_entry_pathname(ae))};
		struct esgz_xattr x[8];
		const char *name;
		const void *value;
		AUTO(buf) struct buf zeros = BUF_INIT;
		uint32_t n = 0;
		uint64_t left;
		struct digest d;
		ssize_t got;

		if (archive_entry_hardlink(ae)) {
			e.type = ESGZ_HARDLINK;
			e.link = str_of(archive_entry_hardlink(ae));
		} else {
			switch (archive_entry_filetype(ae)) {
			case AE_IFREG:
				e.type = ESGZ_REG;
				e.size = (uint64_t)archive_entry_size(ae);
				break;
			case AE_IFDIR:
				e.type = ESGZ_DIR;
				break;
			case AE_IFLNK:
				e.type = ESGZ_SYMLINK;
				e.link = str_of(archive_entry_symlink(ae));
				break;
			case AE_IFIFO:
				e.type = ESGZ_FIFO;
				break;
			case AE_IFCHR:
			case AE_IFBLK:
				e.type = archive_entry_filetype(ae) == AE_IFCHR ? ESGZ_CHAR : ESGZ_BLOCK;
				e.dev_major = (uint32_t)archive_entry_rdevmajor(ae);
				e.dev_minor = (uint32_t)archive_entry_rdevminor(ae);
				break;
			}
		}
		archive_entry_xattr_reset(ae);
		while (n < ARRAY_LEN(x) && archive_entry_xattr_next(ae, &name, &value, &x[n].value.n) == ARCHIVE_OK)
			x[n++].name = str_of(name);
		line(out, &e, x, n);
		for (left = e.size; e.type == ESGZ_REG && (got = archive_read_data(a, block, sizeof(block))) > 0;
		     left -= (uint64_t)got)
			hasher_add(h, block, (size_t)got);
		if (e.type == ESGZ_REG) {
			/* It does not deliver a hole at the end. */
			buf_addz(&zeros, left);
			hasher_add(h, zeros.p, zeros.n);
			hasher_done(h, &d);
			buf_addf(out, " %s", digest_text(&d, text));
		}
		buf_addc(out, '\n');
	}
	archive_read_free(a);
}

static void slurp(const char *file, struct buf *out)
{
	AUTO_FD int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	assert_true(fd >= 0);
	while ((got = read(fd, buf_reserve(out, 65536), 65536)) > 0)
		out->n += (size_t)got;
	assert_int_equal(got, 0);
}

#define RUN(...)                                                                                                       \
	do {                                                                                                           \
		AUTO_FREE char *command = xasprintf(__VA_ARGS__);                                                      \
		assert_int_equal(system(command), 0);                                                                  \
	} while (0)

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
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_pax_times),
	    cmocka_unit_test(test_bad_pax),
	    cmocka_unit_test(test_end_of_archive),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_extended_headers_are_bounded_in_sum),
	    cmocka_unit_test(test_offsets),
	    cmocka_unit_test(test_against_libarchive),
	    cmocka_unit_test(test_sparse_against_libarchive),
	    cmocka_unit_test(test_sparse),
	    cmocka_unit_test(test_sparse_lies),
	    cmocka_unit_test(test_sparse_where_it_cannot_be),
	    cmocka_unit_test(test_fields_of_no_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
