#include "contentd/meta/kv_rocks.h"

#include "base/file.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

/* RocksDB and what it stands on are not built for ThreadSanitizer, which sees what they copy, but not their atomics. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:librocksdb.so\ncalled_from_lib:libstdc++.so\n";
}

/* ---- what the disk is told ---- */

static atomic_uint syncs_begun, syncs_done; /* numbers of the last ones */
static atomic_bool stall;

/* RocksDB's, too: this program's comes before the library's. */
__attribute__((visibility("default"))) int fdatasync(int fd)
{
	unsigned number = ++syncs_begun, before = syncs_done;
	int r;

	while (stall)
		sched_yield();
	r = (int)syscall(SYS_fdatasync, fd);
	while (before < number && !atomic_compare_exchange_weak(&syncs_done, &before, number))
		;
	return r;
}

struct world {
	char dir[64];
	char db[80];
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "/tmp/kv_rocks_test.XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	snprintf(w->db, sizeof(w->db), "%s/db", w->dir);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	int tmp_fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	int r = dir_remove(tmp_fd, w->dir + strlen("/tmp/"), NULL);

	close(tmp_fd);
	free(w);
	return r;
}

static struct kv_rocks *open_db(struct world *w)
{
	struct kv_rocks *k = NULL;
	struct err err = ERR_INIT;

	if (kv_rocks_open(w->db, &k, &err) < 0)
		fail_msg("%s", err.msg);
	return k;
}

static void put(const struct kv *kv, struct str key, const char *value)
{
	assert_int_equal(kv_write(kv, &(struct kv_op){key, str_of(value), false}, 1, true, NULL), 0);
}

static int collect(void *arg, struct str key, struct str value, struct err *err)
{
	struct buf *out = arg;

	for (size_t i = 0; i < key.n; i++)
		buf_addf(out, "%02x", (uint8_t)key.p[i]);
	buf_addf(out, "=" STR_FMT " ", STR_ARG(value));
	return str_eqc(value, "stop") ? 1 : str_eqc(value, "bad") ? err_set(err, ERR_ABORTED, "told so") : 0;
}

static void expect(const struct kv *kv, struct str prefix, const char *want)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(kv_scan(kv, prefix, collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), want);
}

static void expect_after(const struct kv *kv, struct str prefix, struct str after, const char *want)
{
	AUTO(buf) struct buf b = BUF_INIT;

	assert_int_equal(kv_scan_after(kv, prefix, after, collect, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), want);
}

static void get_put_remove_scan(void **state)
{
	AUTO(kv_rocks) struct kv_rocks *k = open_db(*state);
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_rocks_kv(k);
	struct kv_op ops[] = {{STR("a"), STR_NONE, true}, {STR("b"), STR("2"), false}, {STR("none"), STR_NONE, true}};

	put(kv, STR("a"), "1");
	put(kv, STR("a\0x"), "nul");
	put(kv, STR("a\xff"), "high");
	put(kv, STR("\xff\xff"), "last");
	put(kv, STR("empty"), "");
	assert_int_equal(kv_get(kv, STR("a\0x"), &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "nul");
	assert_int_equal(kv_get(kv, STR("a\0"), &b, NULL), -ERR_NOT_FOUND);
	assert_int_equal(kv_get(kv, STR("empty"), &b, NULL), 0);
	expect(kv, STR("a"), "61=1 610078=nul 61ff=high ");
	expect(kv, STR("a\xff"), "61ff=high ");
	expect(kv, STR("\xff"), "ffff=last ");
	expect(kv, STR("b"), "");
	expect_after(kv, STR("a"), STR("a"), "610078=nul 61ff=high ");
	expect_after(kv, STR("a"), STR("a\0w"), "610078=nul 61ff=high ");
	expect_after(kv, STR("a"), STR("a\xff"), "");
	expect_after(kv, STR("empty"), STR("a"), "656d707479= ");
	assert_int_equal(kv_write(kv, ops, ARRAY_LEN(ops), true, NULL), 0);
	expect(kv, STR_NONE, "610078=nul 61ff=high 62=2 656d707479= ffff=last ");
}

/* What is in tables comes through the cache. */
static void calm_keeps_everything(void **state)
{
	struct kv_rocks *k = open_db(*state);

	put(kv_rocks_kv(k), STR("a"), "1");
	kv_rocks_close(k);
	k = open_db(*state); /* what the log had is in a table now */
	expect(kv_rocks_kv(k), STR_NONE, "61=1 ");
	kv_rocks_calm(k);
	expect(kv_rocks_kv(k), STR_NONE, "61=1 ");
	kv_rocks_close(k);
}

static void scans_end_as_told(void **state)
{
	AUTO(kv_rocks) struct kv_rocks *k = open_db(*state);
	AUTO(buf) struct buf b = BUF_INIT;
	const struct kv *kv = kv_rocks_kv(k);

	put(kv, STR("a"), "stop");
	put(kv, STR("b"), "x");
	expect(kv, STR_NONE, "61=stop ");
	put(kv, STR("a"), "bad");
	assert_int_equal(kv_scan(kv, STR_NONE, collect, &b, NULL), -ERR_ABORTED);
}

static void one_process_at_a_time(void **state)
{
	AUTO(kv_rocks) struct kv_rocks *k = open_db(*state);
	struct world *w = *state;
	int status;
	pid_t pid;

	/* The lock is per process: ask from another one. */
	put(kv_rocks_kv(k), STR("a"), "1");
	pid = fork();
	if (pid == 0) {
		char *const argv[] = {(char *)"kv_rocks_test", w->db, NULL};

		execv("/proc/self/exe", argv);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), ERR_UNAVAILABLE);
}

static void what_was_synced_is_there_after_a_kill(void **state)
{
	struct world *w = *state;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct kv_rocks *k = open_db(w);

		put(kv_rocks_kv(k), STR("a"), "kept");
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	{
		AUTO(kv_rocks) struct kv_rocks *k = open_db(w);

		expect(kv_rocks_kv(k), STR("a"), "61=kept ");
	}
}

/* Somebody waits for the disk: others can write meanwhile. */
static void *sync_one(void *arg)
{
	return (void *)(intptr_t)kv_sync(arg, NULL);
}

static void nobody_waits_for_the_sync_of_another(void **state)
{
	AUTO(kv_rocks) struct kv_rocks *k = open_db(*state);
	const struct kv *kv = kv_rocks_kv(k);
	unsigned before = syncs_begun;
	pthread_t thread;
	void *result;

	alarm(60);
	stall = true;
	assert_int_equal(pthread_create(&thread, NULL, sync_one, (void *)kv), 0);
	while (syncs_begun == before)
		sched_yield();
	assert_int_equal(kv_write(kv, &(struct kv_op){STR("a"), STR("1"), false}, 1, false, NULL), 0);
	expect(kv, STR("a"), "61=1 ");
	stall = false;
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	alarm(0);
}

/* What a call is answered is on disk: a sync that began after the write has ended. Everybody's, however shared. */
static void *write_and_sync(void *arg)
{
	const struct kv *kv = arg;
	intptr_t missed = 0;

	for (int i = 0; i < 50; i++) {
		AUTO_FREE char *key = xasprintf("%lx-%d", (unsigned long)pthread_self(), i);
		unsigned begun;

		missed += kv_write(kv, &(struct kv_op){str_of(key), STR("x"), false}, 1, false, NULL) < 0;
		begun = syncs_begun;
		missed += kv_sync(kv, NULL) < 0 || syncs_done <= begun;
		missed += kv_write(kv, &(struct kv_op){str_of(key), STR("y"), false}, 1, i % 2, NULL) < 0;
	}
	return (void *)missed;
}

static void a_sync_is_for_all_that_was_written_before(void **state)
{
	AUTO(kv_rocks) struct kv_rocks *k = open_db(*state);
	pthread_t threads[8];

	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_sync, (void *)kv_rocks_kv(k)), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *missed;

		assert_int_equal(pthread_join(threads[i], &missed), 0);
		assert_null(missed);
	}
}

static void a_place_that_cannot_be(void **state)
{
	struct world *w = *state;
	struct kv_rocks *k = NULL;
	struct err err = ERR_INIT;
	AUTO_FREE char *path = xasprintf("%s/none/db", w->dir);
	AUTO_FREE char *file = xasprintf("%s/db", w->dir);

	assert_true(kv_rocks_open(path, &k, &err) < 0);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(file_write_atomic(AT_FDCWD, file, STR("x"), 0600, NULL), 0);
	assert_true(kv_rocks_open(file, &k, &err) < 0);
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(what_was_synced_is_there_after_a_kill), /* forks: before RocksDB has threads here */
	    TEST(get_put_remove_scan),
	    TEST(calm_keeps_everything),
	    TEST(scans_end_as_told),
	    TEST(one_process_at_a_time),
	    TEST(nobody_waits_for_the_sync_of_another),
	    TEST(a_sync_is_for_all_that_was_written_before),
	    TEST(a_place_that_cannot_be),
	};

	if (argc == 2) { /* the other process of one_process_at_a_time */
		struct kv_rocks *k = NULL;

		return -kv_rocks_open(argv[1], &k, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
