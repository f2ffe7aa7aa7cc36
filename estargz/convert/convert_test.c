/* eStargz, from layers that are hard to say: the formats together are in formats_test.c. */
#include "estargz/convert/convert.h"

#include "base/file.h"
#include "base/testing.h"
#include "base/unix.h"
#include "estargz/testing/test_convert.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* A layer that has been converted before is converted again: no entry of the first time is left. */
static void test_again(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made once = {0};
	AUTO(made) struct made twice = {0};
	struct esgz_convert_opts opts = {.threads = 1};

	stack_random(&s, 5);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &opts, &once, err));
	OK(convert_memory(buf_str(&once.blob), &opts, &twice, err));
	assert_true(str_eq(buf_str(&once.blob), buf_str(&twice.blob)));
}

/* Names, owners, sizes and times that ustar cannot say. */
static void test_pax(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made m = {0};
	struct esgz_convert_opts opts = {.chunk_bytes = 4096, .threads = 2};
	static const int64_t times[] = {0, -1, -5, 077777777777, 0100000000000, 253402300799};
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
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &opts, &m, err));
	check_made(buf_str(&tar), &m);
}

/* Of two entries with one path the last counts, for every kind of reader. */
static void test_repeated_paths(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made m = {0};
	struct esgz_convert_opts opts = {.threads = 1};

	stack_push(&s);
	stack_file(&s, "a", 100, 0);
	stack_add(&s, ESGZ_DIR, "d")->mode = 0700;
	stack_file(&s, "d/in", 7, 0);
	stack_file(&s, "./a", 50, 0);
	stack_add(&s, ESGZ_DIR, "/d/")->mode = 0711;
	stack_file(&s, "../a", 20, 0);
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &opts, &m, err));
	check_made(buf_str(&tar), &m);
}

/* No member may grow without bound, however many entries without content follow each other. */
static void test_many_headers(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made m = {0};
	struct esgz_convert_opts opts = {.threads = 2};

	stack_push(&s);
	for (unsigned i = 0; i < 6000; i++) {
		char path[16];

		snprintf(path, sizeof(path), "d%u", i);
		stack_add(&s, ESGZ_DIR, path);
	}
	stack_tar(&s.layers.p[0], &tar);
	OK(convert_memory(buf_str(&tar), &opts, &m, err));
	check_made(buf_str(&tar), &m);
}

static void test_errors(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(buf) struct buf bad = BUF_INIT;
	AUTO(made) struct made latin1 = {0};
	struct esgz_convert_opts opts = {.threads = 2};
	struct esgz_convert_result r;

	stack_push(&s);
	stack_file(&s, "file", 5000000, 0);
	stack_tar(&s.layers.p[0], &tar);
	for (size_t n = 100; n < tar.n; n += 1000003) { /* cut short */
		AUTO(made) struct made m = {0};

		FAILS(convert_memory(str_sub(buf_str(&tar), 0, n), &opts, &m, err), ERR_DATA_LOSS);
	}
	for (size_t room = 0; room < 4000; room += 999) { /* a sink that fails */
		struct memory_io io = MEMORY_IO(buf_str(&tar));
		struct esgz_convert_io fns = memory_fns(&io);

		io.room = room;
		FAILS(esgz_convert(&opts, &fns, &r, err), ERR_EXHAUSTED);
		buf_fini(&io.blob);
	}
	stack_push(&s);
	stack_file(&s, "latin1-\xe9", 5, 0);
	stack_tar(&s.layers.p[1], &bad);
	FAILS(convert_memory(buf_str(&bad), &opts, &latin1, err), ERR_INVALID);
}

/* ---- what no reader takes ---- */

/* A regular file without content for each name that ends in a dot, a directory for the rest. */
static void names_tar(struct buf *tar, const char *const *names)
{
	for (; *names; names++) {
		struct str name = str_of(*names);
		bool file = str_ends(name, STR("."));
		char path[32];

		assert_true(str_copy(str_sub(name, 0, name.n - file), path, sizeof(path)));
		tar_entry(tar, file ? '0' : '5', path, "", 0, STR_NONE);
	}
	buf_addz(tar, 1024);
}

/* Of lazy formats; as layers to be unpacked they are not looked into. */
static void refused_lazily(struct str tar, const char *says)
{
	for (enum esgz_format f = ESGZ_F_ESTARGZ; f <= ESGZ_F_GZIP; f++) {
		const struct esgz_convert_opts o = {.format = f, .threads = 1};
		AUTO(made) struct made m = {0};
		struct err err = ERR_INIT;
		int r = convert_memory(tar, &o, &m, &err);

		if (!esgz_format_is_lazy(f))
			assert_int_equal(r, 0);
		else if (r != -ERR_INVALID || !strstr(err.msg, says))
			fail_msg("%s: %d: %s, not: %s", esgz_format_name(f), r, err.msg, says);
	}
}

/* The reader of ordinary layers, GNU tar and the converter agree. */
static void test_below_a_file(void **state)
{
	static const char *const below[] = {"x.", "x/y.", NULL}, *const above[] = {"x/y.", "./x.", NULL},
				 *const replaced[] = {"x.", "x/", "x/y.", NULL};
	AUTO(buf) struct buf tar = BUF_INIT;
	AUTO(made) struct made m = {0};
	const struct esgz_convert_opts o = {.threads = 1};

	names_tar(&tar, below);
	refused_lazily(buf_str(&tar), "x: has entries below it and is not a directory");
	buf_clear(&tar);
	names_tar(&tar, above);
	refused_lazily(buf_str(&tar), "x: has entries below it and is not a directory");
	buf_clear(&tar);
	names_tar(&tar, replaced);
	OK(convert_memory(buf_str(&tar), &o, &m, err));
	check_made(buf_str(&tar), &m);
}

static void test_link_to_nothing(void **state)
{
	AUTO(buf) struct buf tar = BUF_INIT;

	tar_entry(&tar, '1', "link", "nothing", 0, STR_NONE);
	buf_addz(&tar, 1024);
	refused_lazily(buf_str(&tar), "link: hard link to a file that the layer does not have");
}

/* The last one counts, as for GNU tar and our reader; a tar-split has a path once, however it is spelt. */
static void test_two_spellings(void **state)
{
	static const char *const files[] = {"./a.", "a.", NULL}, *const dirs[] = {"./d/", "d", NULL};

	for (enum esgz_format f = ESGZ_F_ESTARGZ; f <= ESGZ_F_GZIP; f++)
		for (unsigned kind = 0; kind < 2; kind++) {
			const struct esgz_convert_opts o = {.format = f, .threads = 1};
			AUTO(buf) struct buf tar = BUF_INIT;
			AUTO(made) struct made m = {0};

			names_tar(&tar, kind ? dirs : files);
			if (f == ESGZ_F_ZSTD_CHUNKED) {
				FAILS(convert_memory(buf_str(&tar), &o, &m, err), ERR_INVALID);
				continue;
			}
			OK(convert_memory(buf_str(&tar), &o, &m, err));
			check_made(buf_str(&tar), &m);
		}
}

/* ---- given up ---- */

/* Gives the first piece of a tar, and then nothing until it is stopped. */
struct slow_source {
	struct str first;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool waits, stopped, was_stopped; /* lock */
};

static int slow_read(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct slow_source *s = arg;
	struct timespec until;

	*n = s->first.n < dst_bytes ? s->first.n : dst_bytes;
	if (*n > 0) {
		memcpy(dst, s->first.p, *n);
		s->first = str_sub(s->first, *n, s->first.n);
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20; /* the test has failed then */
	pthread_mutex_lock(&s->lock);
	s->waits = true;
	pthread_cond_signal(&s->changed);
	while (!s->stopped && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
		;
	s->was_stopped = s->stopped;
	pthread_mutex_unlock(&s->lock);
	return err_set(err, ERR_UNAVAILABLE, "stopped");
}

static void slow_stop(void *arg)
{
	struct slow_source *s = arg;

	pthread_mutex_lock(&s->lock);
	s->stopped = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* Fails once the reader waits. */
static int full_write(void *arg, struct str bytes, struct err *err)
{
	struct slow_source *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->waits)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return err_set(err, ERR_EXHAUSTED, "the disk is full");
}

/* A conversion that fails does not wait for its source, and says why it failed. */
static void test_slow_source(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	const struct esgz_convert_opts o = {.format = ESGZ_F_GZIP, .threads = 1};
	struct slow_source slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	const struct esgz_convert_io io = {.read = slow_read, .write = full_write, .stop = slow_stop, .arg = &slow};
	struct esgz_convert_result r;

	stack_push(&s);
	stack_file(&s, "a", 5u << 20, 0);
	stack_tar(&s.layers.p[0], &tar);
	slow.first = str_sub(buf_str(&tar), 0, tar.n - 2000);
	FAILS(esgz_convert(&o, &io, &r, err), ERR_EXHAUSTED);
	assert_true(slow.was_stopped);
}

static int give_up(void *arg, struct err *err)
{
	return err_set(err, ERR_CANCELLED, "enough");
}

/* ... and one that is not to go on is left by the threads that compress. */
static void test_given_up(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(buf) struct buf tar = BUF_INIT;
	struct esgz_convert_result r;

	stack_push(&s);
	stack_file(&s, "a", 100000, 0);
	stack_tar(&s.layers.p[0], &tar);
	for (enum esgz_format f = ESGZ_F_ESTARGZ; f <= ESGZ_F_GZIP; f++) {
		const struct esgz_convert_opts o = {.format = f, .threads = 2};
		struct memory_io io = MEMORY_IO(buf_str(&tar));
		struct esgz_convert_io fns = memory_fns(&io);

		fns.go_on = give_up;
		FAILS(esgz_convert(&o, &fns, &r, err), ERR_CANCELLED);
		assert_int_equal(io.blob.n, 0);
		buf_fini(&io.blob);
	}
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
	AUTO(made) struct made m = {0};
	AUTO(buf) struct buf want = BUF_INIT;
	AUTO(buf) struct buf got = BUF_INIT;
	struct esgz_convert_opts opts = {.chunk_bytes = 65536};
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
	stack_tar(&s.layers.p[0], &tar);
	extract(dir, "source", buf_str(&tar), &want);
	OK(convert_memory(buf_str(&tar), &opts, &m, err));
	extract(dir, "converted", buf_str(&m.blob), &got);
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
	    cmocka_unit_test(test_again),          cmocka_unit_test(test_pax),
	    cmocka_unit_test(test_repeated_paths), cmocka_unit_test(test_many_headers),
	    cmocka_unit_test(test_errors),         cmocka_unit_test(test_gnu_tar),
	    cmocka_unit_test(test_below_a_file),   cmocka_unit_test(test_link_to_nothing),
	    cmocka_unit_test(test_two_spellings),  cmocka_unit_test(test_slow_source),
	    cmocka_unit_test(test_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
