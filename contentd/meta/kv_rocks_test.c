#include "contentd/meta/kv_rocks.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

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
	    TEST(scans_end_as_told),
	    TEST(one_process_at_a_time),
	    TEST(a_place_that_cannot_be),
	};

	if (argc == 2) { /* the other process of one_process_at_a_time */
		struct kv_rocks *k = NULL;

		return -kv_rocks_open(argv[1], &k, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
