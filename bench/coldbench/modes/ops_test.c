#include "base/testing.h"
#include "bench/coldbench/modes/ops.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

/* Five files of 10 bytes, one of 1 MiB and 100 bytes, two directories: nine entries with the link. */
static char root[] = "/tmp/coldbench-ops.XXXXXX";
static const atomic_bool go_on = false;

static int make_tree(void **state)
{
	AUTO_FREE char *content = xcalloc(1, (1 << 20) + 100);
	int fd;

	assert_non_null(mkdtemp(root));
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "d", 0700), 0);
	assert_int_equal(mkdirat(fd, "empty", 0700), 0);
	assert_int_equal(symlinkat("d", fd, "link"), 0);
	OK(file_write_atomic(fd, "d/1", STR("0123456789"), 0600, err));
	OK(file_write_atomic(fd, "d/2", STR("0123456789"), 0600, err));
	OK(file_write_atomic(fd, "d/3", STR("0123456789"), 0600, err));
	OK(file_write_atomic(fd, "4", STR("0123456789"), 0600, err));
	OK(file_write_atomic(fd, "5", STR("0123456789"), 0600, err));
	OK(file_write_atomic(fd, "large", str_make(content, (1 << 20) + 100), 0600, err));
	close(fd);
	return 0;
}

static int remove_tree(void **state)
{
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir_remove(tmp, root + strlen("/tmp/"), NULL);

	close(tmp);
	return r;
}

/* How many operations a pass of that name is; 0 when there is nothing for it here. */
static uint64_t count(struct op_files *f, const char *name)
{
	for (const struct op *op = OPS_OF_FILES; op->name; op++) {
		uint64_t n = 0;

		if (strcmp(op->name, name) != 0)
			continue;
		if (!op->applies(f))
			return 0;
		OK(op->pass(f, &n, err));
		return n;
	}
	fail_msg("no operation %s", name);
	return 0;
}

static void passes_do_what_they_say(void **state)
{
	struct op_files f;

	OK(op_files_open(root, &go_on, &f, err));
	assert_int_equal(count(&f, "lstat"), 9);
	/* "." and ".." of each of the two directories; the root is none of the entries */
	assert_int_equal(count(&f, "readdir"), 3 + 4);
	assert_int_equal(count(&f, "walk"), 9);
	assert_int_equal(count(&f, "open"), 6);
	assert_int_equal(count(&f, "small"), 5);
	assert_int_equal(count(&f, "seq"), 256);
	assert_int_equal(count(&f, "rand4k"), 2048);
	assert_int_equal(count(&f, "mmap"), 257);
	assert_int_equal(count(&f, "exec"), 0);
	assert_int_equal(count(&f, "exec_static"), 0);
	op_files_close(&f);
}

static void what_fails_is_named(void **state)
{
	struct op_files f;
	struct err failure = ERR_INIT;
	uint64_t n;

	OK(op_files_open(root, &go_on, &f, err));
	assert_int_equal(renameat(f.root_fd, "4", f.root_fd, "away"), 0);
	assert_true(OPS_OF_FILES[0].pass(&f, &n, &failure) < 0);
	assert_string_equal(failure.msg, "stat /4: No such file or directory");
	assert_int_equal(renameat(f.root_fd, "away", f.root_fd, "4"), 0);
	op_files_close(&f);
}

/* Why the operation "exec" fails; "" when it does not. */
static void run_dynamic(const char *dir, const char *program, struct err *failure)
{
	struct op_files f = {
	    .root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .stop = &go_on, .dynamic = program};
	uint64_t n = 0;

	*failure = ERR_INIT;
	for (const struct op *op = OPS_OF_FILES; op->name; op++)
		if (!strcmp(op->name, "exec") && op->pass(&f, &n, failure) >= 0)
			assert_int_equal(n, 20);
	op_files_close(&f);
}

/* This machine's own programs; in the test's tree there is none. */
static void programs_run_with_the_image_as_their_root(void **state)
{
	struct err failure;

	if (geteuid() != 0) {
		print_message("changing the root needs root\n");
		skip();
	}
	run_dynamic("/", "usr/bin/true", &failure);
	assert_string_equal(failure.msg, "");
	run_dynamic("/", "usr/bin/false", &failure);
	assert_string_equal(failure.msg, "/usr/bin/false ended with wait status 0x100");
	run_dynamic(root, "usr/bin/true", &failure);
	assert_string_equal(failure.msg, "/usr/bin/true ended with wait status 0x7f00");
}

static void another_thread_can_end_it(void **state)
{
	atomic_bool stop = false;
	struct op_files f;
	uint64_t n = 0;

	OK(op_files_open(root, &stop, &f, err));
	f.dynamic = f.static_ = "4"; /* is not come to */
	stop = true;
	for (const struct op *op = OPS_OF_FILES; op->name; op++)
		FAILS(op->pass(&f, &n, err), ERR_CANCELLED);
	op_files_close(&f);
}

/* As when the server of a file system is killed. */
static void mapped_pages_that_cannot_be_read_are_told(void **state)
{
	struct sigaction before, after;
	struct op_files f;
	struct err failure = ERR_INIT;
	uint64_t n;
	int fd;

	OK(op_files_open(root, &go_on, &f, err));
	fd = openat(f.root_fd, "large", O_WRONLY | O_CLOEXEC);
	assert_int_equal(sigaction(SIGBUS, NULL, &before), 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	for (const struct op *op = OPS_OF_FILES; op->name; op++)
		if (!strcmp(op->name, "mmap"))
			assert_int_equal(op->pass(&f, &n, &failure), -ERR_UNAVAILABLE);
	assert_string_equal(failure.msg, "mapped /large cannot be read");
	assert_int_equal(sigaction(SIGBUS, NULL, &after), 0);
	assert_true(after.sa_handler == before.sa_handler);
	assert_int_equal(ftruncate(fd, (1 << 20) + 100), 0);
	assert_int_equal(count(&f, "mmap"), 257);
	close(fd);
	op_files_close(&f);
}

static void time_is_per_operation(void **state)
{
	struct op_files f;
	double ns = 0;

	OK(op_files_open(root, &go_on, &f, err));
	OK(op_measure(&OPS_OF_FILES[0], &f, 0, &ns, err));
	assert_true(ns > 1 && ns < 1e9);
	op_files_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(passes_do_what_they_say),
	    cmocka_unit_test(what_fails_is_named),
	    cmocka_unit_test(programs_run_with_the_image_as_their_root),
	    cmocka_unit_test(another_thread_can_end_it),
	    cmocka_unit_test(mapped_pages_that_cannot_be_read_are_told),
	    cmocka_unit_test(time_is_per_operation),
	};

	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
