#include "estargz/tar/split.h"

#include "base/map.h"
#include "base/testing.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <zstd.h>

static void slurp(const char *name, struct buf *out)
{
	AUTO_FREE char *path = xasprintf("../tests/golden/good/%s", name);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		fail_msg("%s is missing", path);
	while ((got = read(fd, buf_reserve(out, 65536), 65536)) > 0)
		out->n += (size_t)got;
	assert_int_equal(got, 0);
}

/* The tar-split of a blob of containers/storage: the footer says where it is. */
struct golden {
	struct buf blob;
	struct str packed;
	struct digest digest;
	uint64_t plain_bytes;
};

static uint64_t le64(const char *p)
{
	uint64_t v = 0;

	for (int i = 8; i-- > 0;)
		v = v << 8 | (uint8_t)p[i];
	return v;
}

static void golden_read(struct golden *g, const char *name)
{
	const char *footer;

	slurp(name, &g->blob);
	footer = g->blob.p + g->blob.n - 64;
	g->packed = str_sub(buf_str(&g->blob), le64(footer + 32), le64(footer + 40));
	g->plain_bytes = le64(footer + 48);
	digest_of(g->packed.p, g->packed.n, &g->digest);
}

static void golden_fini(struct golden *g)
{
	buf_fini(&g->blob);
}
DEFINE_AUTO_FINI(golden);

static int append(void *arg, struct str bytes, struct err *err)
{
	buf_addstr(arg, bytes);
	return 0;
}

static void inflate(struct str packed, struct buf *out)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();

	OK(esgz_stream_feed(s, packed, append, out, err));
	OK(esgz_stream_finish(s, err));
}

static void deflate(struct str plain, struct buf *packed)
{
	char *dst = buf_reserve(packed, ZSTD_compressBound(plain.n));
	size_t n = ZSTD_compress(dst, ZSTD_compressBound(plain.n), plain.p, plain.n, 3);

	assert_false(ZSTD_isError(n));
	packed->n += n;
}

/* ---- a tar taken apart ---- */

struct apart {
	struct esgz_split_writer *w;
	struct map contents; /* name -> struct buf, where there is any */
	struct str name;
	struct buf *content;
};

static void apart_fini(struct apart *a)
{
	void *content;

	for (size_t at = 0; map_next(&a->contents, &at, NULL, &content); free(content))
		buf_fini(content);
	map_fini(&a->contents);
	esgz_split_writer_free(a->w);
}
DEFINE_AUTO_FINI(apart);

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	return esgz_split_segment(((struct apart *)arg)->w, bytes, err);
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct apart *a = arg;

	if (t->e.type != ESGZ_REG)
		return esgz_split_file(a->w, t->e.path, 0, 0, err);
	a->name = t->e.path;
	a->content = xcalloc(1, sizeof(*a->content));
	assert_null(map_put(&a->contents, a->name, a->content));
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	return append(((struct apart *)arg)->content, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
	struct apart *a = arg;

	return esgz_split_file(a->w, a->name, a->content->n, esgz_split_crc64(0, buf_str(a->content)), err);
}

static int take_apart(struct apart *a, struct str tar, size_t step, struct buf *packed, uint64_t *plain_bytes,
                      struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry, .data = on_data, .end = on_end, .raw = on_raw, .arg = a};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);

	a->contents = MAP_INIT;
	a->w = esgz_split_writer_new(9);
	for (; tar.n > 0; tar = str_sub(tar, step, tar.n))
		TRY(esgz_tar_feed(t, str_sub(tar, 0, step), err));
	TRY(esgz_tar_finish(t, err));
	return esgz_split_finish(a->w, packed, plain_bytes, err);
}

static int give_content(void *arg, const struct esgz_split_file *f, esgz_put_fn put, void *to, struct err *err)
{
	const struct buf *content = map_get(arg, f->name);

	if (!content)
		return err_set(err, ERR_NOT_FOUND, "no such file");
	/* In two pieces, as who reads a file gives it. */
	TRY(put(to, str_sub(buf_str(content), 0, content->n / 2), err));
	return put(to, str_sub(buf_str(content), content->n / 2, SIZE_MAX), err);
}

static int assemble(struct str packed, uint64_t plain_bytes, struct map *contents, struct buf *out, struct err *err)
{
	const struct esgz_split_contents from = {.content = give_content, .arg = contents};
	struct digest d;

	digest_of(packed.p, packed.n, &d);
	return esgz_split_assemble(packed, &d, plain_bytes, &from, append, out, err);
}

/* Go's encoder writes three characters as if the JSON was to stand in a web page. */
static void unescape(struct buf *json)
{
	static const char *const escapes[] = {"\\u003c", "\\u003e", "\\u0026"};

	for (size_t i = 0; i < ARRAY_LEN(escapes); i++)
		for (char *at; (at = memmem(json->p, json->n, escapes[i], 6)); json->n -= 5) {
			*at = "<>&"[i];
			memmove(at + 1, at + 6, json->n - (size_t)(at + 6 - json->p));
		}
}

/* Theirs gives the tar again, and ours says the same in the same words. */
static void test_made_by_others(void **state)
{
	static const char *const blobs[] = {"zstd-chunked.blob", "zstd-chunked-podman.blob"};
	AUTO(buf) struct buf gz = BUF_INIT;
	AUTO(buf) struct buf tar = BUF_INIT;

	slurp("layer.tar.gz", &gz);
	inflate(buf_str(&gz), &tar);
	for (size_t i = 0; i < ARRAY_LEN(blobs); i++) {
		AUTO(golden) struct golden theirs = {0};
		AUTO(apart) struct apart a = {0};
		AUTO(buf) struct buf again = BUF_INIT;
		AUTO(buf) struct buf ours = BUF_INIT;
		AUTO(buf) struct buf plain = BUF_INIT;
		AUTO(buf) struct buf their_plain = BUF_INIT;
		uint64_t plain_bytes;

		golden_read(&theirs, blobs[i]);
		OK(take_apart(&a, buf_str(&tar), SIZE_MAX, &ours, &plain_bytes, err));
		OK(assemble(theirs.packed, theirs.plain_bytes, &a.contents, &again, err));
		assert_true(str_eq(buf_str(&again), buf_str(&tar)));
		inflate(theirs.packed, &their_plain);
		unescape(&their_plain);
		inflate(buf_str(&ours), &plain);
		assert_int_equal(plain.n, plain_bytes);
		assert_true(str_eq(buf_str(&plain), buf_str(&their_plain)));
	}
}

/* ---- archives put together by hand ---- */

static void add_entry(struct buf *tar, char type, const char *name, struct str content)
{
	char *b = buf_reserve(tar, 512);
	unsigned sum = 0;

	memset(b, 0, 512);
	memcpy(b, name, strlen(name));
	memcpy(b + 100, "0000644", 7);
	snprintf(b + 124, 12, "%011zo", content.n);
	b[156] = type;
	memcpy(b + 257, "ustar\00000", 8);
	memset(b + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (uint8_t)b[i];
	snprintf(b + 148, 8, "%06o", sum);
	tar->n += 512;
	buf_addstr(tar, content);
	buf_addz(tar, -content.n & 511);
}

static void assert_round_trip(struct str tar)
{
	static const size_t steps[] = {SIZE_MAX, 1, 511, 513};

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		AUTO(apart) struct apart a = {0};
		AUTO(buf) struct buf packed = BUF_INIT;
		AUTO(buf) struct buf again = BUF_INIT;
		uint64_t plain_bytes;

		OK(take_apart(&a, tar, steps[i], &packed, &plain_bytes, err));
		OK(assemble(buf_str(&packed), plain_bytes, &a.contents, &again, err));
		assert_true(str_eq(buf_str(&again), tar));
	}
}

static void test_round_trips(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	assert_round_trip(buf_str(&tar));
	add_entry(&tar, '5', "dir/", STR_NONE);
	add_entry(&tar, 'L', "long", STR("a long name\0"));
	add_entry(&tar, '0', "x", STR("abc"));
	add_entry(&tar, '0', "\xff\xfe<&>\"\\\n", STR("name that JSON cannot say"));
	add_entry(&tar, '0', "empty", STR_NONE);
	assert_round_trip(buf_str(&tar)); /* without a trailer */
	buf_addz(&tar, 512);
	assert_round_trip(buf_str(&tar)); /* half of one */
	buf_addz(&tar, 512);
	assert_round_trip(buf_str(&tar));
	buf_adds(&tar, "whatever follows the end");
	buf_addz(&tar, 3 << 20);
	assert_round_trip(buf_str(&tar));
	buf_clear(&tar);
	add_entry(&tar, '0', "x", STR("without its padding"));
	tar.n = 512 + strlen("without its padding");
	assert_round_trip(buf_str(&tar));
}

/* ---- what containers/storage makes of ours: a header in each segment, or the end of the archive ---- */

struct heads {
	uint32_t padding;
	unsigned segments, files, ends;
};

static bool is_zero(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i])
			return false;
	return true;
}

static int check_segment(void *arg, struct str bytes, struct err *err)
{
	struct heads *h = arg;

	assert_true(bytes.n >= h->padding && is_zero(str_sub(bytes, 0, h->padding)));
	bytes = str_sub(bytes, h->padding, bytes.n);
	h->padding = 0;
	assert_int_equal(bytes.n % 512, 0);
	h->segments++;
	h->ends += is_zero(bytes);
	return 0;
}

static int check_file(void *arg, const struct esgz_split_file *f, struct err *err)
{
	struct heads *h = arg;

	h->files++;
	assert_int_equal(h->segments, h->files);
	assert_int_equal(h->ends, 0);
	h->padding = (uint32_t)(-f->size & 511);
	return 0;
}

static void test_a_segment_for_each_header(void **state)
{
	struct heads h = {0};
	const struct esgz_split_sink sink = {.segment = check_segment, .file = check_file, .arg = &h};
	AUTO(apart) struct apart a = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	uint64_t plain_bytes;
	struct digest d;

	add_entry(&tar, '5', "dir/", STR_NONE);
	add_entry(&tar, 'L', "long", STR("a long name\0"));
	add_entry(&tar, '0', "x", STR("abc"));
	add_entry(&tar, '1', "link", STR_NONE);
	add_entry(&tar, '0', "last", STR("abcde"));
	buf_addz(&tar, 3 << 20);
	OK(take_apart(&a, buf_str(&tar), 700, &packed, &plain_bytes, err));
	digest_of(packed.p, packed.n, &d);
	OK(esgz_split_read(buf_str(&packed), &d, plain_bytes, &sink, err));
	assert_int_equal(h.files, 4);
	assert_int_equal(h.ends, 1 + 3);
}

static void test_a_path_twice(void **state)
{
	static const char *const names[] = {"etc/x", "./etc/x", "etc//x/", "/etc/x"};
	AUTO(esgz_split_writer) struct esgz_split_writer *w = esgz_split_writer_new(3);

	OK(esgz_split_file(w, STR("etc/x"), 0, 0, err));
	OK(esgz_split_file(w, STR("etc/y"), 0, 0, err));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct err why = ERR_INIT;

		assert_int_equal(esgz_split_file(w, str_of(names[i]), 0, 0, &why), -ERR_INVALID);
		assert_non_null(strstr(why.msg, "twice"));
	}
}

static void test_writer_is_bounded(void **state)
{
	AUTO(esgz_split_writer) struct esgz_split_writer *w = esgz_split_writer_new(1);
	AUTO(buf) struct buf zeros = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	struct err why = ERR_INIT;
	uint64_t plain_bytes;
	int r = 0;

	buf_addz(&zeros, 16 << 20);
	for (int i = 0; i < 9 && r == 0; i++)
		r = esgz_split_segment(w, buf_str(&zeros), &why);
	assert_int_equal(r, 0);
	assert_int_equal(esgz_split_segment(w, buf_str(&zeros), &why), -ERR_EXHAUSTED);
	assert_int_equal(esgz_split_finish(w, &packed, &plain_bytes, &why), -ERR_EXHAUSTED); /* as text it is longer */
}

/* ---- damage and lies ---- */

static int ignore_segment(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int ignore_file(void *arg, const struct esgz_split_file *f, struct err *err)
{
	return 0;
}

static int read_text(struct str text, uint64_t plain_bytes, struct err *err)
{
	const struct esgz_split_sink sink = {.segment = ignore_segment, .file = ignore_file};
	AUTO(buf) struct buf packed = BUF_INIT;
	struct digest d;

	deflate(text, &packed);
	digest_of(packed.p, packed.n, &d);
	return esgz_split_read(buf_str(&packed), &d, plain_bytes, &sink, err);
}

#define LINE "{\"type\":1,\"name\":\"a\",\"payload\":null,\"position\":0}\n"

static void test_lines(void **state)
{
	static const struct {
		const char *text, *why; /* NULL: it can be read */
	} cases[] = {
	    {"", NULL},
	    {LINE, NULL},
	    {"\n" LINE " \r\n" LINE "\n", NULL},
	    {"{\"type\":2,\"payload\":\"YWJj\"}", NULL}, /* no end of line */
	    {"{\"type\":2}\n", NULL},
	    {"{\"type\":1,\"name_raw\":\"/w==\",\"size\":1,\"payload\":\"AAAAAAAAAAA=\",\"new\":{}}\n", NULL},
	    {LINE "{\"type\":3}\n", "line 2: entry of type 3"},
	    {"{}\n", "entry of type 0"},
	    {"{\"type\":1,\"name\":\"a\",\"size\":1,\"payload\":null}\n", "without a checksum"},
	    {"{\"type\":1,\"name\":\"a\",\"size\":1,\"payload\":\"AAAA\"}\n", "without a checksum"},
	    {"{\"type\":1,\"name\":\"a\",\"size\":-1,\"payload\":\"AAAAAAAAAAA=\"}\n", "file of -1 bytes"},
	    {"{\"type\":1,\"name\":\"a\",\"size\":9223372036854775808}\n", "line 1"},
	    {"{\"type\":2,\"payload\":\"Y*Jj\"}\n", "base64"},
	    {"{\"type\":2,\"payload\":[1]}\n", "line 1"},
	    {"{\"type\":2}{\"type\":2}\n", "line 1"},
	    {"{\"type\":\n2}\n", "line 1"}, /* an object is a line */
	    {"[]\n", "line 1"},
	    {"x", "line 1"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err why = ERR_INIT;

		if (!cases[i].why) {
			OK(read_text(str_of(cases[i].text), strlen(cases[i].text), err));
			continue;
		}
		assert_int_equal(read_text(str_of(cases[i].text), strlen(cases[i].text), &why), -ERR_INVALID);
		if (!strstr(why.msg, cases[i].why))
			fail_msg("'%s' instead of '%s'", why.msg, cases[i].why);
	}
}

/* Zeros compress to nothing. */
static void test_long_lines(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct err why = ERR_INIT;

	buf_adds(&text, "{\"type\":2,\"payload\":\"");
	buf_reserve(&text, 20u << 20);
	memset(text.p + text.n, 'A', 20u << 20);
	text.n += 20u << 20;
	buf_adds(&text, "\"}\n");
	assert_int_equal(read_text(buf_str(&text), text.n, &why), -ERR_EXHAUSTED);
	assert_non_null(strstr(why.msg, "line 1 has more than"));
}

static void test_damage(void **state)
{
	const struct esgz_split_sink sink = {.segment = ignore_segment, .file = ignore_file};
	AUTO(golden) struct golden g = {0};
	AUTO(buf) struct buf zeros = BUF_INIT;
	struct err why = ERR_INIT;
	char *bytes;

	golden_read(&g, "zstd-chunked.blob");
	OK(esgz_split_read(g.packed, &g.digest, g.plain_bytes, &sink, err));
	assert_int_equal(esgz_split_read(g.packed, &g.digest, g.plain_bytes - 1, &sink, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "to more"));
	assert_int_equal(esgz_split_read(g.packed, &g.digest, g.plain_bytes + 1, &sink, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "to less"));
	assert_int_equal(esgz_split_read(g.packed, &g.digest, ESGZ_SPLIT_BYTES_MAX + 1, &sink, &why), -ERR_INVALID);
	for (size_t n = 0; n < g.packed.n; n++) {
		struct str part = str_sub(g.packed, 0, n);
		struct digest d;

		digest_of(part.p, part.n, &d);
		if (esgz_split_read(part, &d, g.plain_bytes, &sink, &why) >= 0)
			fail_msg("%zu bytes of %zu are taken for all", n, g.packed.n);
	}
	bytes = g.blob.p + (g.packed.p - g.blob.p);
	for (size_t i = 0; i < g.packed.n * 8; i += 61) {
		bytes[i / 8] ^= (char)(1 << i % 8);
		assert_int_equal(esgz_split_read(g.packed, &g.digest, g.plain_bytes, &sink, &why), -ERR_DATA_LOSS);
		bytes[i / 8] ^= (char)(1 << i % 8);
	}
	/* Nothing is inflated that was not announced, however small it came. */
	buf_addz(&zeros, 16 << 20);
	assert_int_equal(read_text(buf_str(&zeros), 1 << 20, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "to more"));
}

static void test_contents_that_do_not_fit(void **state)
{
	AUTO(apart) struct apart a = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf out = BUF_INIT;
	struct err why = ERR_INIT;
	struct buf *content;
	uint64_t plain_bytes;

	add_entry(&tar, '0', "etc/x", STR("content"));
	OK(take_apart(&a, buf_str(&tar), SIZE_MAX, &packed, &plain_bytes, err));
	content = map_get(&a.contents, STR("etc/x"));
	content->p[3] ^= 1;
	assert_int_equal(assemble(buf_str(&packed), plain_bytes, &a.contents, &out, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "etc/x: its content has another checksum"));
	content->p[3] ^= 1;
	content->n--;
	assert_int_equal(assemble(buf_str(&packed), plain_bytes, &a.contents, &out, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "shorter"));
	buf_adds(content, "ts");
	assert_int_equal(assemble(buf_str(&packed), plain_bytes, &a.contents, &out, &why), -ERR_DATA_LOSS);
	assert_non_null(strstr(why.msg, "longer"));
	buf_fini(content);
	free(map_del(&a.contents, STR("etc/x")));
	assert_int_equal(assemble(buf_str(&packed), plain_bytes, &a.contents, &out, &why), -ERR_NOT_FOUND);
}

static void test_checksum(void **state)
{
	/* CRC-64/GO-ISO's check value. */
	assert_true(esgz_split_crc64(0, STR("123456789")) == 0xb90956c775a41001);
	assert_true(esgz_split_crc64(esgz_split_crc64(0, STR("1234")), STR("56789")) == 0xb90956c775a41001);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_made_by_others),
	    cmocka_unit_test(test_round_trips),
	    cmocka_unit_test(test_a_path_twice),
	    cmocka_unit_test(test_a_segment_for_each_header),
	    cmocka_unit_test(test_writer_is_bounded),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_long_lines),
	    cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_contents_that_do_not_fit),
	    cmocka_unit_test(test_checksum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
