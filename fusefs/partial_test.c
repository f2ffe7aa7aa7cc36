#include "fusefs/core.h"
#include "fusefs/testlayer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SIZE 1000003u
#define CHUNKS 130u

struct opened {
	int fd;
	uint64_t present[3], unsure[3];
	bool any_unsure;
};

static char root[32];
static int dir_fd;
static const struct digest KEY = {{0xab, 1, 2}};

static int set_up(void **state)
{
	strcpy(root, "/tmp/ffs-partial-XXXXXX");
	assert_non_null(mkdtemp(root));
	dir_fd = open(root, O_DIRECTORY);
	return dir_fd < 0;
}

static int tear_down(void **state)
{
	close(dir_fd);
	test_remove_tmp(root);
	return 0;
}

static struct opened open_one(uint64_t size, uint32_t n_chunks)
{
	struct opened o = {.fd = -1};
	struct err err = ERR_INIT;

	if (partial_open(dir_fd, &KEY, size, n_chunks, &o.fd, o.present, o.unsure, &o.any_unsure, &err) < 0)
		fail_msg("%s", err.msg);
	return o;
}

/* Writes chunk i's place and marks it. */
static void put(struct opened *o, uint32_t i)
{
	struct err err;

	assert_int_equal(partial_write(o->fd, "chunk", 5, i * 7000, &err), 0);
	bit_set(o->present, i);
	assert_int_equal(partial_mark(o->fd, SIZE, i, &err), 0);
}

static void test_marks_survive(void **state)
{
	struct opened o, again;
	char text[5];
	struct err err;

	assert_false(partial_exists(dir_fd, &KEY));
	o = open_one(SIZE, CHUNKS);
	assert_true(partial_exists(dir_fd, &KEY));
	for (uint32_t i = 0; i < CHUNKS; i += 3)
		put(&o, i);
	close(o.fd);
	again = open_one(SIZE, CHUNKS);
	assert_false(again.any_unsure);
	assert_memory_equal(o.present, again.present, sizeof(o.present));
	assert_int_equal(partial_read(again.fd, text, 5, 3 * 7000, &err), 0);
	assert_memory_equal(text, "chunk", 5);
	/* Whole: the map goes, the content stays. */
	assert_int_equal(partial_seal(again.fd, SIZE, &err), 0);
	assert_int_equal(lseek(again.fd, 0, SEEK_END), SIZE);
	close(again.fd);
	partial_remove(dir_fd, &KEY);
	assert_false(partial_exists(dir_fd, &KEY));
}

/* A map of another boot promises nothing, and is not believed the next time either. */
static void test_another_boot(void **state)
{
	struct opened o = open_one(SIZE, CHUNKS);
	struct opened again;

	put(&o, 5);
	put(&o, 129);
	assert_int_equal(pwrite(o.fd, "not of this boot", 16, 245 * 4096 + 24), 16);
	close(o.fd);
	again = open_one(SIZE, CHUNKS);
	assert_true(again.any_unsure);
	assert_true(bit_get(again.unsure, 5) && bit_get(again.unsure, 129));
	assert_false(bit_get(again.unsure, 6) || bit_get(again.present, 5));
	close(again.fd);
	again = open_one(SIZE, CHUNKS);
	assert_false(again.any_unsure);
	assert_int_equal(again.present[0] | again.present[1] | again.present[2], 0);
	close(again.fd);
}

static void check_nothing_known(struct opened o)
{
	assert_false(o.any_unsure);
	assert_int_equal(o.present[0] | o.present[1] | o.present[2], 0);
	close(o.fd);
}

static void test_foreign_maps(void **state)
{
	struct opened o = open_one(SIZE, CHUNKS);

	put(&o, 5);
	close(o.fd);
	check_nothing_known(open_one(SIZE, CHUNKS - 1));
	o = open_one(SIZE, CHUNKS);
	put(&o, 5);
	assert_int_equal(pwrite(o.fd, "X", 1, 245 * 4096), 1); /* magic */
	close(o.fd);
	check_nothing_known(open_one(SIZE, CHUNKS));
	o = open_one(SIZE, CHUNKS);
	put(&o, 5);
	assert_int_equal(ftruncate(o.fd, SIZE), 0); /* ended while it was published */
	close(o.fd);
	check_nothing_known(open_one(SIZE, CHUNKS));
}

/* Threads mark side by side, and no mark is lost. */
static void *marker(void *arg)
{
	struct err err;
	int *fd = arg;

	for (uint32_t i = *fd & 1; i < CHUNKS; i += 2)
		if (partial_mark(*fd, SIZE, i, &err) < 0)
			return NULL;
	return arg;
}

static void test_two_threads(void **state)
{
	struct opened o = open_one(SIZE, CHUNKS);
	int fds[2] = {fcntl(o.fd, F_DUPFD, 100), -1};
	pthread_t threads[2];
	void *done;

	fds[1] = fcntl(o.fd, F_DUPFD, fds[0] + 1);
	if (!((fds[0] ^ fds[1]) & 1))
		fds[1] = fcntl(o.fd, F_DUPFD, fds[1] + 1);
	assert_true((fds[0] ^ fds[1]) & 1); /* one marks the even ones, one the odd */
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, marker, &fds[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &done), 0);
		assert_non_null(done);
		close(fds[i]);
	}
	close(o.fd);
	o = open_one(SIZE, CHUNKS);
	for (uint32_t i = 0; i < CHUNKS; i++)
		assert_true(bit_get(o.present, i));
	close(o.fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_marks_survive),
	    T(test_another_boot),
	    T(test_foreign_maps),
	    T(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
