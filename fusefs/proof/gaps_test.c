#include "fusefs/proof/gaps.h"

#include "base/testing.h"
#include "fusefs/testlayer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct world {
	char root[40];
	struct ffs_store *store;
	struct digest key;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	strcpy(w->root, "/tmp/ffs-gaps-XXXXXX");
	assert_non_null(mkdtemp(w->root));
	OK(ffs_store_open(w->root, &w->store, err));
	digest_of("key", 3, &w->key);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	ffs_store_close(w->store);
	test_remove_tmp(w->root);
	free(w);
	return 0;
}

/* Piece i: of [100 i, 100 i + 50), with i chunks. */
static struct str text_of(unsigned i, char dst[static 64])
{
	return str_make(dst, (size_t)snprintf(dst, 64, "what is no chunk of %u", i));
}

static void add(struct gaps *g, unsigned i)
{
	char text[64];

	gaps_add(g, 100 * i, 100 * i + 50, i, text_of(i, text));
}

static unsigned check(struct world *w, unsigned n)
{
	AUTO(gaps_log) struct gaps_log *log = NULL;
	const struct gaps_piece *p;
	unsigned found = 0;

	OK(gaps_log_open(w->store, &w->key, &log, err));
	for (uint64_t at = 0; (p = gaps_log_find(log, at)); at = p->from + 1, found++) {
		unsigned i = (unsigned)(p->from / 100);
		struct str plain;
		char text[64];

		assert_true(p->from == 100 * i && p->until == p->from + 50 && p->n_chunks == i && i < n);
		OK(gaps_log_read(log, p, &plain, err));
		assert_true(str_eq(plain, text_of(i, text)));
	}
	return found;
}

static int open_log(struct world *w, int flags)
{
	char hex[65];
	AUTO_FREE char *name = xasprintf("%s.gaps", digest_hex(&w->key, hex));

	return openat(ffs_store_dir(w->store, FFS_DIR_INDEX), name, flags | O_CLOEXEC);
}

static off_t log_size(struct world *w)
{
	AUTO_FD int fd = open_log(w, O_RDONLY);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
}

static void test_written_and_read(void **state)
{
	struct world *w = *state;
	struct gaps *g = gaps_new(w->store, &w->key, 1u << 20);

	assert_int_equal(check(w, 0), 0);
	/* More batches than the reader keeps, in no order. */
	for (unsigned i = 0; i < 400; i++) {
		add(g, i * 7 % 400);
		if (i % 10 == 9)
			gaps_flush(g);
	}
	assert_int_equal(check(w, 400), 400);
	gaps_forget(g);
	assert_int_equal(check(w, 400), 0);
	/* One who comes late brings no log back. */
	add(g, 0);
	gaps_flush(g);
	assert_int_equal(open_log(w, O_RDONLY), -1);
	gaps_free(g);
}

static void test_later_ones_count(void **state)
{
	struct world *w = *state;
	AUTO(gaps_log) struct gaps_log *log = NULL;
	struct gaps *g = gaps_new(w->store, &w->key, 1u << 20);
	struct str plain;

	for (unsigned i = 0; i < 4; i++) {
		gaps_add(g, 5, 10, 1, str_of(i == 3 ? "new" : "old"));
		if (i % 2)
			gaps_flush(g);
	}
	OK(gaps_log_open(w->store, &w->key, &log, err));
	OK(gaps_log_read(log, gaps_log_find(log, 0), &plain, err));
	assert_true(str_eqc(plain, "new"));
	gaps_free(g);
}

/* Cut or damaged anywhere: what comes before is there, nothing wrong ever, and a writer goes on behind what checks. */
static void test_torn(void **state)
{
	struct world *w = *state;
	off_t ends[4] = {0};

	for (int damage = 0; damage < 2; damage++)
		for (unsigned cut = 1; cut < 40; cut++) {
			struct gaps *g = gaps_new(w->store, &w->key, 1u << 20);
			off_t at;
			int fd;

			gaps_forget(g);
			gaps_free(g);
			g = gaps_new(w->store, &w->key, 1u << 20);
			for (unsigned i = 0; i < 3; i++) {
				add(g, i);
				gaps_flush(g);
				ends[i + 1] = log_size(w);
			}
			gaps_free(g);
			at = ends[3] - 1 - (ends[3] - 1) * cut / 40;
			fd = open_log(w, O_RDWR);
			if (damage)
				assert_int_equal(pwrite(fd, "\xa5", 1, at), 1);
			else
				assert_int_equal(ftruncate(fd, at), 0);
			close(fd);
			/* A byte may have been that one before. */
			if (damage && check(w, 3) == 3)
				continue;
			assert_int_equal(check(w, 3), at >= ends[2] ? 2 : at >= ends[1] ? 1 : 0);
			g = gaps_new(w->store, &w->key, 1u << 20);
			add(g, 3);
			gaps_flush(g);
			assert_int_equal(check(w, 4), at >= ends[2] ? 3 : at >= ends[1] ? 2 : 1);
			gaps_free(g);
		}
}

static void test_bounds(void **state)
{
	struct world *w = *state;
	struct gaps *g = gaps_new(w->store, &w->key, 1u << 20);
	AUTO(buf) struct buf long_one = BUF_INIT;
	unsigned due = 0;

	buf_addz(&long_one, GAPS_PIECE_MAX + 1);
	assert_false(gaps_add(g, 0, 1, 0, buf_str(&long_one)));
	gaps_flush(g);
	assert_int_equal(log_size(w), 0);
	/* Said once, and what nobody flushes does not grow for ever. */
	long_one.n = GAPS_PIECE_MAX;
	for (unsigned i = 0; i < 100; i++)
		due += gaps_add(g, i, i + 1, 0, buf_str(&long_one));
	assert_int_equal(due, 1);
	gaps_flush(g);
	assert_true(gaps_add(g, 200, 201, 0, buf_str(&long_one)));
	gaps_free(g);
}

/* About as much as the blob has, and no more once it cannot be written. */
static void test_log_bound(void **state)
{
	struct world *w = *state;
	struct gaps *g = gaps_new(w->store, &w->key, 3u << 20);
	AUTO(buf) struct buf noise = BUF_INIT;
	struct rlimit before, none;
	off_t size;

	for (uint32_t x = 1; noise.n < GAPS_PIECE_MAX; x = x * 1664525 + 1013904223)
		buf_addc(&noise, (char)(x >> 24));
	for (unsigned i = 0; i < 10; i++) {
		gaps_add(g, i, i + 1, 0, buf_str(&noise));
		gaps_flush(g);
	}
	size = log_size(w);
	assert_in_range(size, 3u << 20, 4u << 20);
	gaps_free(g);
	g = gaps_new(w->store, &w->key, 100u << 20);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){.rlim_cur = 1, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	add(g, 0);
	gaps_flush(g);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	add(g, 1);
	gaps_flush(g);
	assert_int_equal(log_size(w), size);
	gaps_free(g);
}

/* One that is left of a deleted layer goes when the store is opened. */
static void test_left_over(void **state)
{
	struct world *w = *state;
	struct gaps *g = gaps_new(w->store, &w->key, 1u << 20);

	add(g, 0);
	gaps_flush(g);
	gaps_free(g);
	ffs_store_close(w->store);
	OK(ffs_store_open(w->root, &w->store, err));
	assert_int_equal(open_log(w, O_RDONLY), -1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_written_and_read), T(test_later_ones_count), T(test_torn),
	    T(test_bounds),           T(test_log_bound),        T(test_left_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
