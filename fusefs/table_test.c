#include "fusefs/table.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#define N 5000

static struct digest key_of(unsigned i)
{
	struct digest d;

	digest_of(&i, sizeof(i), &d);
	return d;
}

static int create(struct str init)
{
	struct err err = ERR_INIT;
	int fd = -1;

	if (ffs_table_create(init, &fd, &err) < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static struct ffs_table *open_table(int fd)
{
	struct ffs_table *t = NULL;
	struct err err = ERR_INIT;

	if (ffs_table_open(fd, &t, &err) < 0)
		fail_msg("%s", err.msg);
	return t;
}

static void add_all(struct ffs_table *t)
{
	for (unsigned i = 0; i < N; i++) {
		struct digest k = key_of(i);
		uint32_t number;

		assert_int_equal(ffs_table_find(t, &k), -1);
		assert_int_equal(ffs_table_add(t, &k, i * 3, &number, NULL), 0);
		assert_int_equal(number, i);
		assert_int_equal(ffs_table_add(t, &k, i * 3, &number, NULL), 0);
		assert_int_equal(number, i);
	}
}

static void check_all(struct ffs_table *t)
{
	struct digest k, same;
	uint64_t size;

	for (unsigned i = 0; i < N; i++) {
		k = key_of(i);
		assert_int_equal(ffs_table_find(t, &k), i);
		assert_true(ffs_table_object(t, i, &same, &size));
		assert_true(digest_eq(&k, &same));
		assert_int_equal(size, i * 3);
	}
	assert_false(ffs_table_object(t, N, &same, &size));
	assert_false(ffs_table_object(t, UINT64_MAX, &same, &size));
	k = key_of(N);
	assert_int_equal(ffs_table_find(t, &k), -1);
}

/* What one worker gave out, the next one knows. */
static void test_survives_workers(void **state)
{
	int fd = create(STR("INIT of the kernel"));
	struct ffs_table *t = open_table(fd);

	assert_true(str_eqc(ffs_table_init_request(t), "INIT of the kernel"));
	assert_int_equal(ffs_table_next_generation(t), 1);
	add_all(t);
	check_all(t);
	ffs_table_count(t, FFS_COUNT_READS);
	ffs_table_close(t);

	t = open_table(fd);
	assert_true(str_eqc(ffs_table_init_request(t), "INIT of the kernel"));
	assert_int_equal(ffs_table_next_generation(t), 2);
	assert_int_equal(ffs_table_counter(t, FFS_COUNT_READS), 1);
	assert_int_equal(ffs_table_counter(t, FFS_COUNT_LOOKUPS), 0);
	check_all(t);
	ffs_table_close(t);
	close(fd);
}

static void test_trees(void **state)
{
	int fd = create(STR("i"));
	struct ffs_table *t = open_table(fd);
	struct digest k, same;
	uint32_t slot;
	struct err err;

	for (unsigned i = 0; i < TABLE_TREE_MAX; i++) {
		k = key_of(i);
		assert_int_equal(ffs_table_add_tree(t, &k, &slot, &err), 0);
		assert_int_equal(slot, i);
	}
	k = key_of(TABLE_TREE_MAX);
	assert_int_equal(ffs_table_add_tree(t, &k, &slot, &err), -ERR_EXHAUSTED);
	k = key_of(77);
	assert_int_equal(ffs_table_add_tree(t, &k, &slot, &err), 0);
	assert_int_equal(slot, 77);
	/* Objects and trees have numbers of their own. */
	assert_int_equal(ffs_table_find(t, &k), -1);
	ffs_table_close(t);
	t = open_table(fd);
	assert_int_equal(ffs_table_find_tree(t, &k), 77);
	assert_true(ffs_table_tree(t, 77, &same));
	assert_true(digest_eq(&k, &same));
	assert_false(ffs_table_tree(t, TABLE_TREE_MAX, &same));
	ffs_table_close(t);
	close(fd);
}

static void test_foreign_files(void **state)
{
	int fd = create(STR("i"));
	struct ffs_table *t = NULL;
	struct err err;

	assert_int_equal(pwrite(fd, "CFSTATE2", 8, 0), 8);
	assert_int_equal(ffs_table_open(fd, &t, &err), -ERR_DATA_LOSS);
	assert_int_equal(pwrite(fd, "CFSTATE1", 8, 0), 8);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(ffs_table_open(fd, &t, &err), -ERR_DATA_LOSS);
	close(fd);
}

/* The same keys from several threads: each gets one number. */
struct adder {
	struct ffs_table *t;
	uint32_t numbers[N];
};

static void *adder_main(void *arg)
{
	struct adder *a = arg;

	for (unsigned i = 0; i < N; i++) {
		struct digest k = key_of(i);

		if (ffs_table_add(a->t, &k, i * 3, &a->numbers[i], NULL) < 0)
			return NULL;
	}
	return a;
}

static void test_threads(void **state)
{
	static struct adder a[4];
	int fd = create(STR("i"));
	pthread_t threads[4];
	void *done;

	for (unsigned i = 0; i < 4; i++) {
		a[i].t = i ? a[0].t : open_table(fd);
		assert_int_equal(pthread_create(&threads[i], NULL, adder_main, &a[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &done), 0);
		assert_non_null(done);
		assert_memory_equal(a[i].numbers, a[0].numbers, sizeof(a[0].numbers));
	}
	ffs_table_close(a[0].t);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_survives_workers),
	    cmocka_unit_test(test_trees),
	    cmocka_unit_test(test_foreign_files),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
