#include "estargz/convert/convert.h"

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "base/unix.h"
#include "estargz/tar/split.h"
#include "estargz/tar/tar_write.h"
#include "estargz/testing/test_convert.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>

/* ---- every format, every option ---- */

static struct str first_files[] = {{"etc/b", 5}, {"a", 1}, {"dir/c", 5}, {"none", 4}, {"x", 1}, {"b", 1}, {"c", 1}};

static const struct esgz_convert_opts VARIANTS[] = {
    {.format = ESGZ_F_ESTARGZ, .chunk_bytes = 8192},
    {.format = ESGZ_F_ESTARGZ, .chunk_bytes = 4096, .min_chunk_bytes = 20000, .level = 1},
    {.format = ESGZ_F_ESTARGZ, .chunk_bytes = 8192, .level = 12, .priority = first_files, .n_priority = 7},
    {.format = ESGZ_F_ESTARGZ, .min_chunk_bytes = 100000, .level = 1, .priority = first_files, .n_priority = 7},
    {.format = ESGZ_F_ESTARGZ_EXTERNAL, .chunk_bytes = 8192, .level = 1},
    {.format = ESGZ_F_ESTARGZ_EXTERNAL, .chunk_bytes = 8192, .level = 1, .keep_diff_id = true},
    {.format = ESGZ_F_ESTARGZ_EXTERNAL, .min_chunk_bytes = 30000, .level = 1, .keep_diff_id = true},
    {.format = ESGZ_F_ZSTD_STARGZ, .chunk_bytes = 8192, .level = 1},
    {.format = ESGZ_F_ZSTD_STARGZ, .min_chunk_bytes = 30000, .level = 1, .keep_diff_id = true},
    {.format = ESGZ_F_ZSTD_CHUNKED, .level = 3},
    {.format = ESGZ_F_ZSTD_CHUNKED, .chunk_bytes = 4096, .level = 1},
    {.format = ESGZ_F_ZSTD},
    {.format = ESGZ_F_GZIP},
};

static bool keeps(const struct esgz_convert_opts *o)
{
	return o->keep_diff_id || o->format == ESGZ_F_ZSTD_CHUNKED || !esgz_format_is_lazy(o->format);
}

/* One blob, whatever the threads, that is right. */
static void check_variant(struct str source, const struct esgz_convert_opts *variant, const char *what)
{
	static const unsigned threads[] = {1, 2, 7};
	AUTO(made) struct made first = {0};

	for (size_t t = 0; t < ARRAY_LEN(threads); t++) {
		struct esgz_convert_opts opts = *variant;
		AUTO(made) struct made m = {0};
		struct err err = ERR_INIT;

		opts.threads = threads[t];
		if (convert_memory(source, &opts, t ? &m : &first, &err) < 0)
			fail_msg("%s, %s: %s", what, esgz_format_name(opts.format), err.msg);
		if (t > 0) {
			assert_true(str_eq(buf_str(&m.blob), buf_str(&first.blob)));
			assert_true(str_eq(buf_str(&m.r.external_toc), buf_str(&first.r.external_toc)));
		}
	}
	check_made(source, &first);
	assert_int_equal(digest_eq(&first.r.diff_id, &first.r.source_diff_id), keeps(variant));
}

static bool has_twice(const struct stack_layer *l)
{
	for (size_t i = 0; i < l->entries.n; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(l->entries.p[i].path, l->entries.p[j].path) == 0)
				return true;
	return false;
}

static void test_random_layers(void **state)
{
	for (uint32_t seed = 0; seed < 3; seed++) {
		AUTO(stack) struct stack s = {0};

		stack_random(&s, seed);
		vec_each(&s.layers, l) {
			AUTO(buf) struct buf tar = BUF_INIT;
			AUTO(buf) struct buf source = BUF_INIT;
			char what[40];

			stack_tar(l, &tar);
			if (seed % 2)
				gzip(&source, buf_str(&tar));
			else
				buf_addstr(&source, buf_str(&tar));
			snprintf(what, sizeof(what), "a layer of stack %u", seed);
			for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++)
				if (VARIANTS[v].format != ESGZ_F_ZSTD_CHUNKED || !has_twice(l))
					check_variant(buf_str(&source), &VARIANTS[v], what);
		}
	}
}

static void run(const char *const *argv)
{
	struct spawn sp = {.argv = argv, .stdio = {0, 2, 2}};
	pid_t pid;
	int status;

	OK(spawn_start(&sp, &pid, err));
	OK(spawn_wait(pid, &status, err));
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

/* The same layers as Python's tarfile writes them: binary pax headers, times to more digits than a clock has, GNU's numbers. */
static void test_tarfile_layers(void **state)
{
	char dir[] = "/var/tmp/formats-test-XXXXXX";
	AUTO_FD int tmp = open("/var/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *const rewrite[] = {"python3", "../tests/merge_tarfile.py", dir, "1", NULL};
	AUTO_FREE char *stack_dir = NULL;
	AUTO(stack) struct stack s = {0};

	assert_non_null(mkdtemp(dir));
	stack_dir = xasprintf("%s/1", dir);
	OK(dir_make(stack_dir, 0700, err));
	stack_random(&s, 6);
	for (size_t i = 0; i < s.layers.n; i++) {
		AUTO_FREE char *path = xasprintf("%s/%zu.tar", stack_dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;

		stack_tar(&s.layers.p[i], &tar);
		OK(file_write_atomic(AT_FDCWD, path, buf_str(&tar), 0600, err));
	}
	run(rewrite);
	for (size_t i = 0; i < s.layers.n; i++) {
		AUTO_FREE char *path = xasprintf("%s/%zu.tar", stack_dir, i);
		AUTO(buf) struct buf tar = BUF_INIT;

		OK(file_read(AT_FDCWD, path, 64 << 20, &tar, err));
		for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++)
			if (VARIANTS[v].format != ESGZ_F_ZSTD_CHUNKED || !has_twice(&s.layers.p[i]))
				check_variant(buf_str(&tar), &VARIANTS[v], path);
	}
	OK(dir_remove(tmp, strrchr(dir, '/') + 1, err));
}

/* Larger than blocks, units and chunks, with holes, and compressed by zstd in one frame. */
static void test_large_files(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf big = BUF_INIT;
	uint32_t seed = 3;

	while (big.n < 3u << 20)
		buf_le32(&big, (seed = seed * 1664525 + 1013904223) >> 9);
	memset(big.p + 100000, 0, 1100000);
	tar_entry(&tar, '0', "big", "", big.n, buf_str(&big));
	tar_entry(&tar, '0', "even", "", 512 << 10, str_sub(buf_str(&big), 0, 512 << 10));
	tar_entry(&tar, '5', "dir/", "", 0, STR_NONE);
	buf_addz(&tar, 1024);
	for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++) {
		struct esgz_convert_opts o = VARIANTS[v];

		o.chunk_bytes = o.chunk_bytes ? 1 << 20 : 0;
		o.level = 1;
		check_variant(buf_str(&tar), &o, "large files");
	}
}

/* ---- what a TOC says ---- */

static void toc_json(const struct made *m, struct buf *json)
{
	const struct esgz_anchor anchor = made_anchor(m);
	struct str blob = buf_str(&m->blob);
	struct esgz_footer f;

	if (m->format == ESGZ_F_ESTARGZ_EXTERNAL) {
		OK(esgz_toc_extract_external(buf_str(&m->r.external_toc), &anchor, json, err));
		return;
	}
	OK(esgz_anchor_locate(&anchor, str_sub(blob, blob.n - ESGZ_FOOTER_MAX, ESGZ_FOOTER_MAX), blob.n, &f, err));
	OK(esgz_toc_extract(&f, str_sub(blob, f.toc_offset, f.toc_bytes), &anchor, json, err));
}

static void slurp(const char *name, struct buf *out)
{
	AUTO_FREE char *path = xasprintf("../tests/golden/good/%s", name);

	OK(file_read(AT_FDCWD, path, 1u << 20, out, err));
}

static int put_plain(void *arg, struct str plain, struct err *err)
{
	buf_addstr(arg, plain);
	return 0;
}

static void inflate_all(struct str packed, struct buf *out)
{
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();

	OK(esgz_stream_feed(s, packed, put_plain, out, err));
	OK(esgz_stream_finish(s, err));
}

static void footer_of(struct str blob, struct esgz_footer *f)
{
	OK(esgz_footer_parse(str_sub(blob, blob.n - ESGZ_FOOTER_MAX, ESGZ_FOOTER_MAX), blob.n, f, err));
}

/* The TOC of a blob that another tool has made: the JSON, or a tar with it. */
static void golden_json(const char *name, struct buf *json)
{
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf plain = BUF_INIT;
	ptrdiff_t first, last;
	struct esgz_footer f = {0};

	slurp(name, &blob);
	f.toc_bytes = blob.n;
	if (!str_ends(str_of(name), STR(".toc")))
		footer_of(buf_str(&blob), &f);
	inflate_all(str_sub(buf_str(&blob), f.toc_offset, f.toc_bytes), &plain);
	first = str_find(buf_str(&plain), '{');
	last = str_rfind(buf_str(&plain), '}');
	buf_addstr(json, str_sub(buf_str(&plain), (size_t)first, (size_t)(last - first) + 1));
}

/* What depends on the encoder or on the order of a hash table (check_made looks at xattrs), and (stargz) what only they
 * write. */
static bool is_compared(struct str key, bool stargz)
{
	static const char *const encoder[] = {"offset", "endOffset", "innerOffset", "xattrs"};
	static const char *const theirs[] = {"userName", "groupName", "modtime"};

	for (size_t i = 0; i < ARRAY_LEN(encoder); i++)
		if (str_eqc(key, encoder[i]))
			return false;
	for (size_t i = 0; i < ARRAY_LEN(theirs) && stargz; i++)
		if (str_eqc(key, theirs[i]))
			return false;
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One entry as a line: its fields in order of their names. */
static void dump_entry(struct json_reader *r, bool stargz, struct buf *out)
{
	VEC(char *) fields = VEC_INIT;
	struct str key, value;
	enum json_type type;

	OK(json_object_begin(r, err));
	for (;;) {
		int more = 0;

		OK(more = json_object_next(r, &key, err));
		if (more == 0)
			break;
		if (!is_compared(key, stargz)) {
			OK(json_skip(r, err));
			continue;
		}
		AUTO_FREE char *name = xstrndup(key.p, key.n);
		OK(json_peek(r, &type, err));
		if (type == JSON_STRING)
			OK(json_string(r, &value, err));
		else
			OK(json_raw(r, &value, err));
		if (stargz && strcmp(name, "name") == 0) {
			str_skip(&value, STR("./"));
			value.n -= str_ends(value, STR("/"));
			if (value.n == 1 && value.p[0] == '.')
				value.n = 0;
		}
		if (stargz && strcmp(name, "linkName") == 0)
			str_skip(&value, STR("./"));
		vec_push(&fields, xasprintf("%s=" STR_FMT, name, STR_ARG(value)));
	}
	qsort(fields.p, fields.n, sizeof(*fields.p), by_text);
	vec_each(&fields, f) {
		buf_addf(out, "%s ", *f);
		free(*f);
	}
	buf_addc(out, '\n');
	vec_fini(&fields);
}

static void dump_toc(const struct buf *json, bool stargz, struct buf *out)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(buf_str(json));
	struct str key;
	int more = 0;

	OK(json_object_begin(r, err));
	for (;;) {
		OK(more = json_object_next(r, &key, err));
		if (more == 0)
			break;
		if (!str_eqc(key, "entries")) {
			OK(json_skip(r, err));
			continue;
		}
		OK(json_array_begin(r, err));
		for (;;) {
			OK(more = json_array_next(r, err));
			if (more == 0)
				break;
			dump_entry(r, stargz, out);
		}
	}
}

/* The layer that the golden blobs were made of, converted by us. */
static void convert_golden(const struct esgz_convert_opts *opts, struct made *m)
{
	AUTO(buf) struct buf source = BUF_INIT;

	slurp("layer.tar.gz", &source);
	OK(convert_memory(buf_str(&source), opts, m, err));
	check_made(buf_str(&source), m);
}

static void same_toc(const char *golden, const struct esgz_convert_opts *opts)
{
	bool stargz = opts->format != ESGZ_F_ZSTD_CHUNKED;
	AUTO(made) struct made m = {0};
	AUTO(buf) struct buf theirs = BUF_INIT;
	AUTO(buf) struct buf ours = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;

	convert_golden(opts, &m);
	golden_json(golden, &theirs);
	toc_json(&m, &ours);
	dump_toc(&theirs, stargz, &want);
	dump_toc(&ours, stargz, &got);
	assert_same_dump(&got, &want, golden);
}

/* Entries, chunks, holes and digests as podman, skopeo and ctr-remote have them for the same layer. */
static void test_golden_tocs(void **state)
{
	struct esgz_convert_opts o = {.format = ESGZ_F_ZSTD_CHUNKED};

	same_toc("zstd-chunked.blob", &o);
	same_toc("zstd-chunked-podman.blob", &o);
	o = (struct esgz_convert_opts){.format = ESGZ_F_ESTARGZ, .chunk_bytes = 8192};
	same_toc("estargz.blob", &o);
	o.format = ESGZ_F_ESTARGZ_EXTERNAL;
	same_toc("estargz-external.toc", &o);
	o.keep_diff_id = true;
	same_toc("estargz-keep-diff-id.toc", &o);
	o = (struct esgz_convert_opts){.format = ESGZ_F_ZSTD_STARGZ, .chunk_bytes = 8192};
	same_toc("zstd-stargz.blob", &o);
}

/* ... and with a priority list. */
static void test_golden_order(void **state)
{
	static const struct str list[] = {{"etc/hello.txt", 13}, {"data/holes.bin", 14}};
	struct esgz_convert_opts o = {
	    .format = ESGZ_F_ESTARGZ, .chunk_bytes = 4 << 20, .priority = list, .n_priority = 2};

	same_toc("estargz-prefetch.blob", &o);
}

/* Go's JSON has other spellings for these. */
static void unescape(struct buf *b)
{
	static const struct {
		const char *theirs;
		char c;
	} spellings[] = {{"\\u003c", '<'}, {"\\u003e", '>'}, {"\\u0026", '&'}};

	for (size_t i = 0; i < ARRAY_LEN(spellings); i++)
		for (char *at; (at = strstr(b->p, spellings[i].theirs)); b->n -= 5) {
			*at = spellings[i].c;
			memmove(at + 1, at + 6, b->n - (size_t)(at + 6 - b->p) + 1);
		}
}

/* The tar-split is theirs, byte by byte. */
static void test_golden_tar_split(void **state)
{
	struct esgz_convert_opts o = {.format = ESGZ_F_ZSTD_CHUNKED};
	AUTO(made) struct made m = {0};
	AUTO(buf) struct buf theirs = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	struct esgz_footer f;

	convert_golden(&o, &m);
	footer_of(buf_str(&m.blob), &f);
	assert_int_equal(f.split_offset, m.r.split_offset);
	inflate_all(str_sub(buf_str(&m.blob), f.split_offset, f.split_bytes), &got);
	assert_int_equal(got.n, f.split_plain_bytes);
	slurp("zstd-chunked.blob", &theirs);
	footer_of(buf_str(&theirs), &f);
	inflate_all(str_sub(buf_str(&theirs), f.split_offset, f.split_bytes), &want);
	unescape(&want);
	assert_true(str_eq(buf_str(&got), buf_str(&want)));
}

/* chunkSize is left out where a chunk goes to the end of the file, but not where that is the size of all others. */
static void test_chunk_sizes(void **state)
{
	struct esgz_convert_opts o = {.format = ESGZ_F_ESTARGZ, .chunk_bytes = 4096, .level = 1};
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(made) struct made m = {0};
	struct str rest;
	unsigned n = 0;

	stack_push(&s);
	stack_file(&s, "even", 8192, 0);
	stack_file(&s, "odd", 5000, 0);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &o, &m, err));
	toc_json(&m, &json);
	rest = buf_str(&json);
	for (const char *p = buf_cstr(&json); (p = strstr(p, "\"chunkSize\"")); p++)
		n++;
	assert_int_equal(n, 3); /* twice for `even`, the first of `odd` */
	assert_int_equal(rest.p[2], '\t');
}

/* ---- members ---- */

/* min_chunk_bytes: chunks share members, a landmark never shares that of one before it. */
static void test_packing(void **state)
{
	static const struct str list[] = {{"f1", 2}, {"f2", 2}, {"f3", 2}};
	struct esgz_convert_opts o = {
	    .format = ESGZ_F_ESTARGZ, .min_chunk_bytes = 50000, .level = 1, .priority = list, .n_priority = 3};
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(made) struct made m = {0};
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	unsigned inner = 0;
	uint64_t end;
	char name[16];

	stack_push(&s);
	for (unsigned i = 0; i < 100; i++)
		stack_file(&s, (snprintf(name, sizeof(name), "f%u", i), name), 3000, 0);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &o, &m, err));
	check_made(buf_str(&tar), &m);
	ix = made_index(&m, &file);
	end = esgz_index_get_info(ix)->prefetch_end;
	assert_true(end > 0 && end != ESGZ_NO_PREFETCH);
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(ix, i, &c);
		assert_true(c.inner_offset < 50000 + 4096);
		inner += c.inner_offset > 0;
	}
	assert_in_range(inner, 90, 99);
	for (unsigned i = 1; i <= 3; i++) {
		struct esgz_chunk c;
		struct esgz_entry e = find(ix, (snprintf(name, sizeof(name), "f%u", i), name));

		esgz_index_chunk(ix, e.first_chunk, &c);
		assert_true(c.blob_offset < end);
	}
}

/* ---- order ---- */

/* Names of a blob's tar, one a line. */
static int add_name(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	buf_addstr(arg, t->e.path);
	buf_addc(arg, '\n');
	return 0;
}

static int no_data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int no_end(void *arg, struct err *err)
{
	return 0;
}

static void names_of(const struct buf *blob, struct buf *out)
{
	const struct esgz_tar_sink sink = {.entry = add_name, .data = no_data, .end = no_end, .arg = out};
	AUTO(esgz_tar) struct esgz_tar *t = esgz_tar_new(&sink);
	AUTO(buf) struct buf tar = BUF_INIT;

	inflate_all(buf_str(blob), &tar);
	OK(esgz_tar_feed(t, buf_str(&tar), err));
	OK(esgz_tar_finish(t, err));
}

/* A layer whose listed files need others: directories, the targets of hard links, twice over, in a circle; of several
 * entries with one path the last. */
static void test_order(void **state)
{
	static const struct str list[] = {
	    {"/d/e/third", 10}, {"first", 5}, {"far", 3}, {"d/e/third", 9}, {"absent", 6}};
	struct esgz_convert_opts o = {.format = ESGZ_F_ESTARGZ, .level = 1, .priority = list, .n_priority = 5};
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf names = BUF_INIT;
	AUTO(made) struct made m = {0};

	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "");
	stack_file(&s, "a", 10, 0);
	stack_add(&s, ESGZ_DIR, "d")->mode = 0700;
	stack_add(&s, ESGZ_DIR, "d/e");
	stack_file(&s, "first", 77, 0);
	stack_file(&s, "d/e/third", 100000, 0);
	stack_add(&s, ESGZ_DIR, "t");
	stack_file(&s, "t/target", 20, 0);
	stack_link(&s, ESGZ_HARDLINK, "near", "t/target");
	stack_link(&s, ESGZ_HARDLINK, "far", "near");
	stack_file(&s, "first", 88, 0);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &o, &m, err));
	check_made(buf_str(&tar), &m);
	names_of(&m.blob, &names);
	assert_string_equal(buf_cstr(&names), "./\nd/\nd/e/\nd/e/third\nfirst\nt/\nt/target\nnear\nfar\n"
	                                      ".prefetch.landmark\na\nstargz.index.json\n");
}

static void test_order_of_nothing(void **state)
{
	static const struct str list[] = {{"absent", 6}, {"stargz.index.json", 17}};
	struct esgz_convert_opts o = {.format = ESGZ_F_ESTARGZ_EXTERNAL, .priority = list, .n_priority = 2};
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf names = BUF_INIT;
	AUTO(made) struct made m = {0};

	stack_push(&s);
	stack_file(&s, "a", 10, 0);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &o, &m, err));
	names_of(&m.blob, &names);
	assert_string_equal(buf_cstr(&names), ".no.prefetch.landmark\na\n");
}

/* Nobody has vouched for what the first reading kept, but the digest of the second. */
static void test_source_that_changes(void **state)
{
	static const struct str list[] = {{"a", 1}};
	struct esgz_convert_opts o = {.format = ESGZ_F_ESTARGZ, .priority = list, .n_priority = 1};
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf other = BUF_INIT;
	struct esgz_convert_result r;

	stack_push(&s);
	stack_file(&s, "a", 10, 0);
	stack_tar(&s.layers.p[0], &tar);
	stack_push(&s);
	stack_file(&s, "a", 11, 0);
	stack_tar(&s.layers.p[1], &other);
	struct memory_io io = MEMORY_IO(buf_str(&tar));
	struct esgz_convert_io fns = memory_fns(&io);
	io.second = buf_str(&other);
	FAILS(esgz_convert(&o, &fns, &r, err), ERR_DATA_LOSS);
	fns.rewind = NULL;
	io.rest = io.source;
	FAILS(esgz_convert(&o, &fns, &r, err), ERR_INVALID);
	buf_fini(&io.blob);
}

/* ---- what is refused ---- */

static void test_options(void **state)
{
	static const struct str path[] = {{"a", 1}};
	static const struct {
		struct esgz_convert_opts o;
		const char *says;
	} bad[] = {
	    {{.format = ESGZ_F_ESTARGZ, .level = 13}, "level 13: estargz has 1 to 12"},
	    {{.format = ESGZ_F_ZSTD, .level = 20}, "level 20: zstd has 1 to 19"},
	    {{.format = ESGZ_F_GZIP, .level = -1}, "level -1: gzip has 1 to 12"},
	    {{.format = ESGZ_F_GZIP, .threads = 257}, "257 threads: 1 to 256 are possible"},
	    {{.format = ESGZ_F_GZIP, .chunk_bytes = 8192}, "a layer of format gzip has no chunks"},
	    {{.format = ESGZ_F_ESTARGZ, .chunk_bytes = 1000}, "chunks of 1000 bytes: 4096 to 67108864 are possible"},
	    {{.format = ESGZ_F_ZSTD_CHUNKED, .min_chunk_bytes = 1},
	     "format zstd:chunked has one chunk in a frame: min-chunk-size says nothing there"},
	    {{.format = ESGZ_F_ESTARGZ, .keep_diff_id = true},
	     "format estargz puts its TOC into the tar: the DiffID cannot be kept"},
	    {{.format = ESGZ_F_ZSTD_CHUNKED, .priority = path, .n_priority = 1},
	     "format zstd:chunked has no landmark: a priority list says nothing there"},
	    {{.format = ESGZ_F_ZSTD_STARGZ, .keep_diff_id = true, .priority = path, .n_priority = 1},
	     "a priority list changes the order of the tar, and so the DiffID"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct memory_io io = MEMORY_IO(STR_NONE);
		struct esgz_convert_io fns = memory_fns(&io);
		struct esgz_convert_result r;
		struct err err = ERR_INIT;

		assert_int_equal(esgz_convert_check(&bad[i].o, &err), -ERR_INVALID);
		assert_string_equal(err.msg, bad[i].says);
		assert_int_equal(esgz_convert(&bad[i].o, &fns, &r, &err), -ERR_INVALID);
		assert_int_equal(io.blob.n, 0);
	}
}

static void refuses(struct str tar, const struct esgz_convert_opts *o, const char *says)
{
	AUTO(made) struct made m = {0};
	struct err err = ERR_INIT;

	assert_int_equal(convert_memory(tar, o, &m, &err), -ERR_INVALID);
	if (!strstr(err.msg, says))
		fail_msg("%s: not: %s", err.msg, says);
}

/* What a format cannot say of a tar that it keeps. */
static void test_layers_that_cannot_be_kept(void **state)
{
	const struct esgz_convert_opts storage = {.format = ESGZ_F_ZSTD_CHUNKED};
	const struct esgz_convert_opts kept = {.format = ESGZ_F_ESTARGZ_EXTERNAL, .keep_diff_id = true};
	static const char global[] = "19 comment=nothing\n";
	AUTO(buf) struct buf toc = BUF_INIT;
	AUTO(buf) struct buf twice = BUF_INIT;
	AUTO(buf) struct buf latin1 = BUF_INIT;
	AUTO(buf) struct buf behind_global = BUF_INIT;
	AUTO(made) struct made m = {0};

	tar_entry(&toc, '0', "./stargz.index.json", "", 2, STR("{}"));
	refuses(buf_str(&toc), &kept, "stargz.index.json: it cannot be kept as it is");
	OK(convert_memory(buf_str(&toc), &storage, &m, err)); /* a file like any other */

	tar_entry(&twice, '0', "a", "", 1, STR("1"));
	tar_entry(&twice, '0', "a", "", 1, STR("2"));
	refuses(buf_str(&twice), &storage, "a stands in the layer twice");

	tar_entry(&latin1, '0', "\xe9", "", 0, STR_NONE);
	refuses(buf_str(&latin1), &storage, "is not UTF-8");
	refuses(buf_str(&latin1), &kept, "is not UTF-8");

	tar_entry(&behind_global, 'g', "pax_global_header", "", sizeof(global) - 1,
	          str_make(global, sizeof(global) - 1));
	tar_entry(&behind_global, '0', "a", "", 1, STR("1"));
	refuses(buf_str(&behind_global), &storage, "a: behind a header for all");
}

/* A sparse file (pax, GNU's format 0.1): written anew with its holes as zeros, or refused. */
static void test_sparse(void **state)
{
	static const char records[] = "25 GNU.sparse.size=20000\n26 GNU.sparse.numblocks=2\n"
				      "25 GNU.sparse.name=holes\n30 GNU.sparse.map=0,3,10000,4\n";
	const struct esgz_convert_opts storage = {.format = ESGZ_F_ZSTD_CHUNKED};
	const struct esgz_convert_opts kept = {.format = ESGZ_F_ZSTD_STARGZ, .keep_diff_id = true};
	static const struct str list[] = {{"holes", 5}};
	struct esgz_convert_opts anew = {.format = ESGZ_F_ESTARGZ, .chunk_bytes = 8192};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made m = {0};
	AUTO(made) struct made first = {0};

	tar_entry(&tar, 'x', "pax", "", sizeof(records) - 1, str_make(records, sizeof(records) - 1));
	tar_entry(&tar, '0', "GNUSparseFile.0/holes", "", 7, STR("abcdefg"));
	refuses(buf_str(&tar), &storage, "holes: a sparse file");
	refuses(buf_str(&tar), &kept, "holes: a sparse file");
	OK(convert_memory(buf_str(&tar), &anew, &m, err));
	check_made(buf_str(&tar), &m);
	assert_true(m.r.plain_bytes > 20000);
	anew.priority = list;
	anew.n_priority = 1;
	OK(convert_memory(buf_str(&tar), &anew, &first, err));
	check_made(buf_str(&tar), &first);
}

/* containers/storage compares the times of each entry with those in its headers. */
static void test_all_times(void **state)
{
	static const char records[] = "20 atime=1600000001\n22 ctime=1600000002.5\n";
	const struct esgz_convert_opts storage = {.format = ESGZ_F_ZSTD_CHUNKED};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(made) struct made m = {0};

	tar_entry(&tar, 'x', "pax", "", sizeof(records) - 1, str_make(records, sizeof(records) - 1));
	tar_entry(&tar, '0', "a", "", 1, STR("1"));
	OK(convert_memory(buf_str(&tar), &storage, &m, err));
	toc_json(&m, &json);
	assert_non_null(strstr(buf_cstr(&json), "\"accesstime\":\"2020-09-13T12:26:41Z\""));
	assert_non_null(strstr(buf_cstr(&json), "\"changetime\":\"2020-09-13T12:26:42.5Z\""));
}

/* ---- programs that read ordinary layers ---- */

static void test_ordinary_readers(void **state)
{
	char dir[] = "/var/tmp/formats-test-XXXXXX";
	AUTO_FD int tmp = open("/var/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(buf) struct buf source = BUF_INIT;

	assert_non_null(mkdtemp(dir));
	slurp("layer.tar.gz", &source);
	for (size_t v = 0; v < ARRAY_LEN(VARIANTS); v++) {
		bool zstd = esgz_format_compression(VARIANTS[v].format) == ESGZ_ZSTD;
		AUTO_FREE char *file = xasprintf("%s/%zu%s", dir, v, zstd ? ".zst" : ".gz");
		AUTO_FD int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		const char *const test[] = {zstd ? "zstd" : "gzip", "-tq", file, NULL};
		const char *const list[] = {"tar",          zstd ? "--zstd" : "--gzip", "--file", file, "--list",
		                            "--occurrence", "./etc/hello.txt",          NULL};
		const char *const list_clean[] = {
		    "tar", zstd ? "--zstd" : "--gzip", "--file", file, "--list", "--occurrence", "etc/hello.txt", NULL};
		AUTO(made) struct made m = {0};

		OK(convert_memory(buf_str(&source), &VARIANTS[v], &m, err));
		OK(fd_write_all(fd, buf_str(&m.blob), err));
		run(test);
		run(keeps(&VARIANTS[v]) ? list : list_clean);
	}
	OK(dir_remove(tmp, strrchr(dir, '/') + 1, err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_layers),
	    cmocka_unit_test(test_tarfile_layers),
	    cmocka_unit_test(test_large_files),
	    cmocka_unit_test(test_golden_tocs),
	    cmocka_unit_test(test_golden_order),
	    cmocka_unit_test(test_golden_tar_split),
	    cmocka_unit_test(test_chunk_sizes),
	    cmocka_unit_test(test_packing),
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_order_of_nothing),
	    cmocka_unit_test(test_source_that_changes),
	    cmocka_unit_test(test_options),
	    cmocka_unit_test(test_layers_that_cannot_be_kept),
	    cmocka_unit_test(test_sparse),
	    cmocka_unit_test(test_all_times),
	    cmocka_unit_test(test_ordinary_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
