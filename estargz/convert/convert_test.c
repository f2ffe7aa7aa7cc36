#include "estargz/convert/convert.h"

#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar_write.h"
#include "estargz/testing/test_blob.h"
#include "estargz/testing/test_stack.h"
#include "estargz/toc/footer.h"
#include "estargz/toc/toc.h"

#include "base/file.h"
#include "base/unix.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

/* ---- sources ---- */

/* A layer of a stack as tar. */
static void make_tar(const struct stack_layer *l, struct buf *out)
{
	vec_each(&l->entries, se) {
		struct esgz_entry e = stack_as_entry(se);
		struct esgz_xattr xattrs[STACK_XATTRS_MAX];

		for (uint32_t i = 0; i < se->n_xattrs; i++)
			xattrs[i] = (struct esgz_xattr){str_of(se->xattrs[i].name), buf_str(&se->xattrs[i].value)};
		assert_int_equal(tar_write_header(&e, xattrs, se->n_xattrs, out, NULL), 0);
		if (se->type == ESGZ_REG) {
			stack_content(&se->content, se->size, out);
			tar_write_padding(se->size, out);
		}
	}
	buf_addz(out, 1024);
}

/* ---- conversion ---- */

struct memory_io {
	struct str source;
	size_t piece; /* bytes a read */
	struct buf blob;
	size_t room; /* writes beyond it fail */
};

static int memory_read(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct memory_io *io = arg;

	*n = io->source.n < io->piece ? io->source.n : io->piece;
	assert_true(*n <= dst_bytes);
	memcpy(dst, io->source.p, *n);
	io->source = str_sub(io->source, *n, io->source.n);
	return 0;
}

static int memory_write(void *arg, struct str bytes, struct err *err)
{
	struct memory_io *io = arg;

	if (io->blob.n + bytes.n > io->room)
		return err_set(err, ERR_EXHAUSTED, "the disk is full");
	buf_addstr(&io->blob, bytes);
	return 0;
}

static int convert(struct str source, const struct esgz_convert_opts *opts, struct buf *blob,
                   struct esgz_convert_result *r, struct err *err)
{
	struct memory_io io = {.source = source, .piece = 5000, .room = SIZE_MAX};
	struct esgz_convert_io fns = {.read = memory_read, .write = memory_write, .arg = &io};
	int res = esgz_convert(opts, &fns, r, err);

	*blob = io.blob;
	return res;
}

/* ---- what readers see ---- */

struct opened {
	struct buf bytes;
	struct esgz_index *ix;
};

static void opened_fini(struct opened *o)
{
	esgz_index_free(o->ix);
	buf_fini(&o->bytes);
}
DEFINE_AUTO_FINI(opened);

static void open_lazily(struct str blob, const struct esgz_convert_result *r, struct opened *o)
{
	const struct esgz_anchor anchor = {.has_plain = true, .plain = r->toc};

	o->ix = index_of_lazy(blob, &anchor, ESGZ_FOOTER_ESTARGZ, &o->bytes);
}

static void open_plainly(struct str blob, struct esgz_layer_result *r, struct opened *o)
{
	o->ix = index_of_tar(blob, r, &o->bytes);
}

/* Inflates every chunk: the bytes it must have, within the bytes it says. */
static void check_chunks(struct str blob, const struct esgz_index *ix, uint32_t chunk_bytes)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO_FREE uint8_t *bytes = xmalloc(chunk_bytes);
	AUTO(hasher) struct hasher *h = hasher_new();

	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		struct esgz_entry e;
		struct digest got;
		struct err err = ERR_INIT;

		esgz_index_entry(ix, i, &e);
		for (uint32_t j = e.first_chunk; j < e.first_chunk + e.n_chunks; j++) {
			struct esgz_chunk c;

			esgz_index_chunk(ix, j, &c);
			assert_true(c.bytes <= chunk_bytes);
			assert_true(c.bytes == chunk_bytes || j + 1 == e.first_chunk + e.n_chunks);
			if (esgz_inflate_chunk(z, ESGZ_GZIP, str_sub(blob, c.blob_offset, c.blob_bytes), &c, bytes,
			                       &err) < 0)
				fail_msg("%s", err.msg);
			hasher_add(h, bytes, c.bytes);
		}
		hasher_done(h, &got);
		if (e.type == ESGZ_REG)
			assert_true(digest_eq(&got, &e.content));
	}
}

/* The blob, read as a lazy layer and as an ordinary one, has the tree of the source; so says its result. */
static void check_blob(struct str source, struct str blob, const struct esgz_convert_result *r, uint32_t chunk_bytes)
{
	AUTO(opened) struct opened lazy = {0};
	AUTO(opened) struct opened plain = {0};
	AUTO(opened) struct opened original = {0};
	struct esgz_layer_result plain_r, original_r;

	open_plainly(source, &original_r, &original);
	open_plainly(blob, &plain_r, &plain);
	open_lazily(blob, r, &lazy);
	assert_same_tree(plain.ix, original.ix, 0);
	assert_same_tree(lazy.ix, original.ix, 0);
	check_chunks(blob, lazy.ix, chunk_bytes);

	assert_true(digest_eq(&r->source_blob, &original_r.blob));
	assert_true(digest_eq(&r->source_diff_id, &original_r.diff_id));
	assert_true(digest_eq(&r->blob, &plain_r.blob));
	assert_true(digest_eq(&r->diff_id, &plain_r.diff_id));
	assert_int_equal(r->blob_bytes, blob.n);
	assert_int_equal(r->plain_bytes, plain_r.plain_bytes);
}

static void test_random_layers(void **state)
{
	static const unsigned threads[] = {1, 2, 7};

	for (uint32_t seed = 0; seed < 24; seed++) {
		AUTO(stack) struct stack s = {0};

		stack_random(&s, seed);
		vec_each(&s.layers, l) {
			AUTO(buf) struct buf tar = BUF_INIT;
			AUTO(buf) struct buf source = BUF_INIT;
			AUTO(buf) struct buf first = BUF_INIT;

			make_tar(l, &tar);
			if (seed % 2)
				gzip(&source, buf_str(&tar));
			else
				buf_addstr(&source, buf_str(&tar));
			for (size_t t = 0; t < ARRAY_LEN(threads); t++) {
				struct esgz_convert_opts opts = {.chunk_bytes = 8192, .threads = threads[t]};
				AUTO(buf) struct buf blob = BUF_INIT;
				struct esgz_convert_result r;
				struct err err = ERR_INIT;

				if (convert(buf_str(&source), &opts, &blob, &r, &err) < 0)
					fail_msg("layer of stack %u: %s", seed, err.msg);
				if (t == 0) {
					check_blob(buf_str(&source), buf_str(&blob), &r, 8192);
					first = blob;
					blob = BUF_INIT;
				} else {
					assert_true(str_eq(buf_str(&blob), buf_str(&first)));
				}
			}
		}
	}
}

/* A layer that has been converted before is converted again: no entry of the first time is left. */
static void test_again(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf once = BUF_INIT;
	AUTO(buf) struct buf twice = BUF_INIT;
	struct esgz_convert_opts opts = {.threads = 1};
	struct esgz_convert_result r;

	stack_random(&s, 5);
	make_tar(&s.layers.p[0], &tar);
	assert_int_equal(convert(buf_str(&tar), &opts, &once, &r, NULL), 0);
	assert_int_equal(convert(buf_str(&once), &opts, &twice, &r, NULL), 0);
	assert_true(str_eq(buf_str(&once), buf_str(&twice)));
}

/* Names, owners, sizes and times that ustar cannot say. */
static void test_pax(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	struct esgz_convert_opts opts = {.chunk_bytes = 4096, .threads = 2};
	static const int64_t times[] = {0, -1, -5, 077777777777, 0100000000000, 253402300799};
	struct esgz_convert_result r;
	struct stack_entry *e;
	char name[1500], path[300];

	stack_push(&s);
	for (unsigned n = 90; n < 300; n++) { /* around what name and prefix hold, with and without a slash to cut at */
		memset(path, 'p', n);
		path[n] = 0;
		if (n > 255) {
			path[0] = 's';
			path[n / 2] = '/';
		}
		stack_file(&s, path, n % 3, 0);
		path[n / 3] = path[n / 2] = path[n - 20] = '/';
		path[0] = 'q';
		stack_add(&s, ESGZ_DIR, path);
		path[0] = 'r';
		stack_link(&s, ESGZ_SYMLINK, path, path);
	}
	for (unsigned i = 0; i < ARRAY_LEN(times); i++)
		for (unsigned ns = 0; ns < 3; ns++) {
			snprintf(name, sizeof(name), "time%u.%u", i, ns);
			e = stack_file(&s, name, 1, 0);
			e->mtime_s = times[i];
			e->mtime_ns = ns * 250000001;
			e->uid = 07777777 + ns;
			e->gid = UINT32_MAX - ns;
		}
	memset(name, 'x', sizeof(name));
	for (size_t n = 1; n < 1200; n += 7) /* pax records of every length, so around 99 -> 100 and 999 -> 1000 */
		stack_xattr(stack_file(&s, (snprintf(path, sizeof(path), "x%zu", n), path), 0, 0), "user.x", name, n);
	make_tar(&s.layers.p[0], &tar);
	assert_int_equal(convert(buf_str(&tar), &opts, &blob, &r, NULL), 0);
	check_blob(buf_str(&tar), buf_str(&blob), &r, 4096);
}

/* Of two entries with one path the last counts, for every kind of reader. */
static void test_repeated_paths(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	struct esgz_convert_opts opts = {.threads = 1};
	struct esgz_convert_result r;

	stack_push(&s);
	stack_file(&s, "a", 100, 0);
	stack_add(&s, ESGZ_DIR, "d")->mode = 0700;
	stack_file(&s, "d/in", 7, 0);
	stack_file(&s, "./a", 50, 0);
	stack_add(&s, ESGZ_DIR, "/d/")->mode = 0711;
	stack_file(&s, "../a", 20, 0);
	make_tar(&s.layers.p[0], &tar);
	assert_int_equal(convert(buf_str(&tar), &opts, &blob, &r, NULL), 0);
	check_blob(buf_str(&tar), buf_str(&blob), &r, ESGZ_CONVERT_CHUNK_BYTES);
}

/* No member may grow without bound, however many entries without content follow each other. */
static void test_many_headers(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	struct esgz_convert_opts opts = {.threads = 2};
	struct esgz_convert_result r;

	stack_push(&s);
	for (unsigned i = 0; i < 6000; i++) {
		char path[16];

		snprintf(path, sizeof(path), "d%u", i);
		stack_add(&s, ESGZ_DIR, path);
	}
	make_tar(&s.layers.p[0], &tar);
	assert_int_equal(convert(buf_str(&tar), &opts, &blob, &r, NULL), 0);
	check_blob(buf_str(&tar), buf_str(&blob), &r, ESGZ_CONVERT_CHUNK_BYTES);
}

static void test_errors(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf bad = BUF_INIT;
	struct esgz_convert_opts opts = {.threads = 2};
	struct esgz_convert_result r;
	struct err err = ERR_INIT;

	stack_push(&s);
	stack_file(&s, "file", 5000000, 0);
	make_tar(&s.layers.p[0], &tar);
	for (size_t n = 100; n < tar.n; n += 1000003) { /* cut short */
		AUTO(buf) struct buf blob = BUF_INIT;

		assert_int_equal(convert(str_sub(buf_str(&tar), 0, n), &opts, &blob, &r, &err), -ERR_DATA_LOSS);
	}
	for (size_t room = 0; room < 4000; room += 999) { /* a sink that fails */
		struct memory_io io = {.source = buf_str(&tar), .piece = 200000, .room = room};
		struct esgz_convert_io fns = {.read = memory_read, .write = memory_write, .arg = &io};

		assert_int_equal(esgz_convert(&opts, &fns, &r, &err), -ERR_EXHAUSTED);
		buf_fini(&io.blob);
	}
	stack_push(&s);
	stack_file(&s, "latin1-\xe9", 5, 0);
	make_tar(&s.layers.p[1], &bad);
	AUTO(buf) struct buf blob = BUF_INIT;
	assert_int_equal(convert(buf_str(&bad), &opts, &blob, &r, &err), -ERR_INVALID);
	opts.chunk_bytes = 1000;
	AUTO(buf) struct buf none = BUF_INIT;
	assert_int_equal(convert(buf_str(&tar), &opts, &none, &r, &err), -ERR_INVALID);
}

/* ---- GNU tar ---- */

static void run(const char *const *argv)
{
	struct spawn sp = {.argv = argv, .stdio = {0, 2, 2}};
	struct err err = ERR_INIT;
	pid_t pid;
	int status;

	if (spawn_start(&sp, &pid, &err) < 0 || spawn_wait(pid, &status, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

/* Extracts a tar, compressed or not, with GNU tar, and dumps the tree. */
static void extract(const char *dir, const char *name, struct str bytes, struct buf *out)
{
	AUTO_FREE char *file = xasprintf("%s/%s.tar", dir, name);
	AUTO_FREE char *tree = xasprintf("%s/%s", dir, name);
	const char *const argv[] = {"tar",
	                            "-xpf",
	                            file,
	                            "--xattrs",
	                            "--xattrs-include=*",
	                            "--numeric-owner",
	                            "--exclude=stargz.index.json",
	                            "--exclude=.no.prefetch.landmark",
	                            "-C",
	                            tree,
	                            NULL};
	AUTO_FD int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, NULL), 0);
	assert_int_equal(mkdir(tree, 0755), 0);
	run(argv);
	mount_dump(tree, DUMP_DIR_NLINK | DUMP_CONTENT, out);
}

static void test_gnu_tar(void **state)
{
	char dir[] = "/var/tmp/convert-test-XXXXXX";
	AUTO_FD int tmp = open("/var/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	struct esgz_convert_opts opts = {.chunk_bytes = 65536};
	struct esgz_convert_result r;
	char name[200];

	assert_non_null(mkdtemp(dir));
	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "")->mtime_s = 1600000000;
	stack_add(&s, ESGZ_DIR, "d")->mode = 01777;
	stack_xattr(stack_file(&s, "d/file", 300000, 0), "user.x", "\0\1\xff\n", 4);
	stack_file(&s, "d/setuid", 10, 0)->mode = 04755;
	stack_link(&s, ESGZ_HARDLINK, "d/link", "d/file");
	stack_link(&s, ESGZ_SYMLINK, "d/symlink", "../nowhere")->mode = 0777;
	stack_add(&s, ESGZ_FIFO, "fifo")->uid = 3000000;
	stack_add(&s, ESGZ_CHAR, "null")->dev_major = 1;
	stack_file(&s, "empty", 0, 0)->mtime_ns = 123456789;
	stack_file(&s, "before 1970", 3, 0)->mtime_s = -1000;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	stack_file(&s, name, 65536, 0);
	stack_link(&s, ESGZ_SYMLINK, "long link", name)->mode = 0777;
	make_tar(&s.layers.p[0], &tar);
	extract(dir, "source", buf_str(&tar), &want);
	assert_int_equal(convert(buf_str(&tar), &opts, &blob, &r, NULL), 0);
	extract(dir, "converted", buf_str(&blob), &got);
	assert_same_dump(&got, &want, "extracted by GNU tar");
	buf_clear(&got);
	stack_dump(&s, 0, &got);
	buf_clear(&want);
	AUTO_FREE char *tree = xasprintf("%s/source", dir);
	mount_dump(tree, 0, &want);
	assert_same_dump(&want, &got, "what GNU tar makes of our headers");
	assert_int_equal(dir_remove(tmp, strrchr(dir, '/') + 1, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_layers),  cmocka_unit_test(test_again),        cmocka_unit_test(test_pax),
	    cmocka_unit_test(test_repeated_paths), cmocka_unit_test(test_many_headers), cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_gnu_tar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
