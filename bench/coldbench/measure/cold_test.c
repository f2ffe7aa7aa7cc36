#include "base/testing.h"
#include "bench/coldbench/measure/cold.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH "/usr/local/bin:/usr/bin:/bin"

/* What is in memory alone stays there when somebody drops the caches. */
static char root[] = "/dev/shm/coldbench-cold.XXXXXX";

/* A program of that many bytes. */
static void make_program(const char *name, size_t bytes)
{
	AUTO_FREE char *path = xasprintf("%s/usr/bin/%s", root, name);
	AUTO(buf) struct buf text = BUF_INIT;

	memset(buf_reserve(&text, bytes), 'x', bytes);
	text.n = bytes;
	OK(file_write_atomic(AT_FDCWD, path, buf_str(&text), 0755, err));
}

static uint64_t resident(const char *name, const char *below)
{
	return cold_resident_bytes((const char *const[]){name, NULL}, below);
}

static void programs_are_looked_for_below_the_root(void **state)
{
	make_program("coldbench-x", 10000);
	make_program("coldbench-y", 500);
	assert_int_equal(resident("coldbench-x", root), 10000);
	assert_int_equal(resident("coldbench-z", root), 0);
	assert_int_equal(
	    cold_resident_bytes((const char *const[]){"coldbench-x", "coldbench-z", "coldbench-y", NULL}, root), 10500);
	assert_int_equal(resident("sh", root), 0);
}

static void without_a_root_they_are_the_machines(void **state)
{
	AUTO_FREE char *bin = xasprintf("%s/usr/bin", root);

	make_program("coldbench-x", 10000);
	assert_int_equal(resident("coldbench-x", NULL), 0);
	setenv("PATH", bin, 1);
	assert_int_equal(resident("coldbench-x", NULL), 10000);
	setenv("PATH", PATH, 1);
}

static void links_do_not_lead_out_of_the_root(void **state)
{
	AUTO_FREE char *link = xasprintf("%s/usr/bin/coldbench-link", root);
	AUTO_FREE char *out = xasprintf("%s/usr/bin/coldbench-out", root);

	make_program("coldbench-x", 10000);
	assert_int_equal(symlink("/usr/bin/coldbench-x", link), 0);
	assert_int_equal(symlink("/bin/sh", out), 0);
	assert_int_equal(resident("coldbench-link", root), 10000);
	assert_int_equal(resident("coldbench-out", root), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(programs_are_looked_for_below_the_root),
	    cmocka_unit_test(without_a_root_they_are_the_machines),
	    cmocka_unit_test(links_do_not_lead_out_of_the_root),
	};
	AUTO_FREE char *bin = NULL;
	int failed;

	setenv("PATH", PATH, 1);
	assert_non_null(mkdtemp(root));
	bin = xasprintf("%s/usr/bin", root);
	assert_int_equal(dir_make(bin, 0755, NULL), 0);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	dir_remove(AT_FDCWD, root, NULL);
	return failed;
}
