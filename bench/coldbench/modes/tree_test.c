#include "base/testing.h"
#include "bench/coldbench/modes/tree.h"

#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>

/* A tree of 10 regular files of 0, 100, ... 900 bytes, two directories, a symlink to one of them and one that leads nowhere. */
static char root[] = "/tmp/coldbench-tree.XXXXXX";
static int root_fd = -1;
static const atomic_bool go_on = false;

static void make_file(const char *path, size_t bytes)
{
	AUTO_FREE char *content = xcalloc(1, bytes + 1);
	AUTO_FD int fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	OK(fd_write_all(fd, str_make(content, bytes), err));
}

static int make_tree(void **state)
{
	char name[32];

	assert_non_null(mkdtemp(root));
	root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(root_fd >= 0);
	assert_int_equal(mkdirat(root_fd, "b", 0700), 0);
	assert_int_equal(mkdirat(root_fd, "b/deep", 0700), 0);
	assert_int_equal(symlinkat("b", root_fd, "again"), 0);
	assert_int_equal(symlinkat("/nowhere", root_fd, "broken"), 0);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "%s%u", i < 5 ? "" : "b/deep/", i);
		make_file(name, i * 100);
	}
	return 0;
}

static int remove_tree(void **state)
{
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir_remove(tmp, root + strlen("/tmp/"), NULL);

	close(tmp);
	close(root_fd);
	return r;
}

static void each_entry_is_listed_once_and_in_order(void **state)
{
	AUTO(tree) struct tree t = {VEC_INIT};
	const char *want[] = {"0",      "1",        "2",        "3",        "4",        "again",    "b",
	                      "b/deep", "b/deep/5", "b/deep/6", "b/deep/7", "b/deep/8", "b/deep/9", "broken"};

	OK(tree_list(root_fd, &go_on, &t, err));
	assert_int_equal(t.entries.n, ARRAY_LEN(want));
	for (size_t i = 0; i < t.entries.n; i++)
		assert_string_equal(t.entries.p[i].path, want[i]);
	assert_int_equal(t.entries.p[5].type, S_IFLNK);
	assert_int_equal(t.entries.p[6].type, S_IFDIR);
	assert_int_equal(t.entries.p[9].bytes, 600);
}

static void all_is_read(void **state)
{
	uint64_t n_files, bytes;

	OK(tree_read_all(root_fd, &go_on, &n_files, &bytes, err));
	assert_int_equal(n_files, 10);
	assert_int_equal(bytes, 4500);
}

static void another_thread_can_end_it(void **state)
{
	const atomic_bool stop = true;
	AUTO(tree) struct tree t = {VEC_INIT};
	uint64_t n_files, bytes;

	FAILS(tree_list(root_fd, &stop, &t, err), ERR_CANCELLED);
	FAILS(tree_read_all(root_fd, &stop, &n_files, &bytes, err), ERR_CANCELLED);
}

static void picks_are_spread(void **state)
{
	AUTO(tree) struct tree t = {VEC_INIT};
	tree_picks some = VEC_INIT;
	tree_picks all = VEC_INIT;

	OK(tree_list(root_fd, &go_on, &t, err));
	tree_pick(&t, S_IFREG, 1, 900, 3, &some);
	assert_int_equal(some.n, 3);
	assert_string_equal(some.p[0], "1");
	assert_string_equal(some.p[1], "4");
	assert_string_equal(some.p[2], "b/deep/7");
	tree_pick(&t, S_IFREG, 300, 700, 100, &all);
	assert_int_equal(all.n, 5);
	assert_string_equal(all.p[0], "3");
	assert_string_equal(all.p[4], "b/deep/7");
	assert_string_equal(tree_largest(&t)->path, "b/deep/9");
	vec_fini(&some);
	vec_fini(&all);
}

static void another_size_is_another_hash(void **state)
{
	AUTO(tree) struct tree a = {VEC_INIT};
	AUTO(tree) struct tree b = {VEC_INIT};

	OK(tree_list(root_fd, &go_on, &a, err));
	OK(tree_list(root_fd, &go_on, &b, err));
	assert_int_equal(tree_hash(&a), tree_hash(&b));
	b.entries.p[13].bytes++;
	assert_int_not_equal(tree_hash(&a), tree_hash(&b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_entry_is_listed_once_and_in_order),
	    cmocka_unit_test(all_is_read),
	    cmocka_unit_test(another_thread_can_end_it),
	    cmocka_unit_test(picks_are_spread),
	    cmocka_unit_test(another_size_is_another_hash),
	};

	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
