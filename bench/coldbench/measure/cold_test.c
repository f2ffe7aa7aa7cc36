#include "base/testing.h"
#include "bench/coldbench/measure/cold.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "bench/coldbench/modes/mode.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH "/usr/local/bin:/usr/bin:/bin"

/* What is in memory alone stays there when somebody drops the caches. */
static char root[] = "/dev/shm/coldbench-cold.XXXXXX";

static void make_file(const char *dir, const char *name, size_t bytes, mode_t mode)
{
	AUTO_FREE char *path = xasprintf("%s/usr/%s/%s", root, dir, name);
	AUTO(buf) struct buf text = BUF_INIT;

	memset(buf_reserve(&text, bytes), 'x', bytes);
	text.n = bytes;
	OK(file_write_atomic(AT_FDCWD, path, buf_str(&text), mode, err));
}

/* A program of that many bytes. */
static void make_program(const char *name, size_t bytes)
{
	make_file("bin", name, bytes, 0755);
}

static uint64_t resident(const char *name, const char *below)
{
	uint64_t bytes = UINT64_MAX;

	OK(cold_resident_bytes((const char *const[]){name, NULL}, below, &bytes, err));
	return bytes;
}

static void programs_are_looked_for_below_the_root(void **state)
{
	uint64_t bytes = 1;

	make_program("coldbench-x", 10000);
	make_program("coldbench-y", 500);
	assert_int_equal(resident("coldbench-x", root), 10000);
	assert_int_equal(resident("coldbench-z", root), 0);
	OK(cold_resident_bytes((const char *const[]){"coldbench-x", "coldbench-z", "coldbench-y", NULL}, root, &bytes,
	                       err));
	assert_int_equal(bytes, 10500);
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

/* As a shell passes over them: /usr/local/bin comes first. */
static void what_is_no_program_hides_none(void **state)
{
	AUTO_FREE char *folder = xasprintf("%s/usr/local/bin/coldbench-x", root);

	make_program("coldbench-x", 10000);
	make_program("coldbench-y", 500);
	OK(dir_make(folder, 0755, err));
	make_file("local/bin", "coldbench-y", 7, 0644);
	assert_int_equal(resident("coldbench-x", root), 10000);
	assert_int_equal(resident("coldbench-y", root), 500);
	make_file("local/bin", "coldbench-y", 7, 0755);
	assert_int_equal(resident("coldbench-y", root), 7);
}

/* 0 would be the best of all answers. */
static void what_cannot_be_looked_at_is_an_error(void **state)
{
	AUTO_FREE char *absent = xasprintf("%s/absent", root);
	uint64_t bytes;

	FAILS(cold_resident_bytes((const char *const[]){"coldbench-x", NULL}, absent, &bytes, err), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(programs_are_looked_for_below_the_root),
	    cmocka_unit_test(without_a_root_they_are_the_machines),
	    cmocka_unit_test(links_do_not_lead_out_of_the_root),
	    cmocka_unit_test(what_is_no_program_hides_none),
	    cmocka_unit_test(what_cannot_be_looked_at_is_an_error),
	};
	AUTO_FREE char *bin = NULL, *local = NULL;
	int failed;

	setenv("PATH", PATH, 1);
	assert_non_null(mkdtemp(root));
	bin = xasprintf("%s/usr/bin", root);
	local = xasprintf("%s/usr/local/bin", root);
	assert_int_equal(dir_make(bin, 0755, NULL), 0);
	assert_int_equal(dir_make(local, 0755, NULL), 0);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	assert_int_equal(folder_remove(root, NULL), 0);
	return failed;
}
