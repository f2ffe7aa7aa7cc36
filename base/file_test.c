#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Each test has an empty directory of its own; *state is its descriptor. */
static char dir_path[] = "/tmp/contentd-file-test-XXXXXX";
static int dir_fd;

static int set_up(void **state)
{
	strcpy(dir_path + sizeof(dir_path) - 7, "XXXXXX");
	if (!mkdtemp(dir_path))
		return -1;
	dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int tear_down(void **state)
{
	AUTO_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	close(dir_fd);
	return dir_remove(root, dir_path + 1, NULL) || !access(dir_path, F_OK);
}

static void put(const char *name, struct str text)
{
	AUTO_FD int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, NULL), 0);
}

static bool exists(const char *name)
{
	return !faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

static void reads_within_the_bound(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	put("f", STR("0123456789"));
	buf_adds(&b, ">");
	assert_int_equal(file_read(dir_fd, "f", 10, &b, &err), 0);
	assert_string_equal(b.p, ">0123456789");
	buf_clear(&b);
	assert_int_equal(file_read(dir_fd, "f", 9, &b, &err), -ERR_EXHAUSTED);
	assert_non_null(strstr(err.msg, "f: "));
	buf_clear(&b);
	assert_int_equal(file_read(dir_fd, "absent", 9, &b, &err), -ERR_NOT_FOUND);
	put("empty", STR(""));
	assert_int_equal(file_read(dir_fd, "empty", 0, &b, &err), 0);
	assert_int_equal(b.n, 0);
	/* A file that does not tell its size. */
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 1 << 20, &b, &err), 0);
	assert_true(str_starts(buf_str(&b), STR("Name:")));
}

static void reads_a_long_pipe(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FREE char *data = xmalloc(1 << 20);
	struct err err = ERR_INIT;
	int ends[2], status;
	pid_t child;

	for (int i = 0; i < 1 << 20; i++)
		data[i] = (char)(i * 31);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (!child)
		_exit(fd_write_all(ends[1], str_make(data, 1 << 20), NULL) ? 1 : 0);
	close(ends[1]);
	assert_int_equal(fd_read_all(ends[0], 1 << 20, &b, &err), 0);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(str_eq(buf_str(&b), str_make(data, 1 << 20)));
}

static void positioned_io(void **state)
{
	AUTO_FD int fd = openat(dir_fd, "p", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct err err = ERR_INIT;
	char got[4];

	assert_int_equal(fd_pwrite_all(fd, STR("abcd"), 5, &err), 0);
	assert_int_equal(fd_pread_all(fd, got, 4, 5, &err), 0);
	assert_memory_equal(got, "abcd", 4);
	assert_int_equal(fd_pread_all(fd, got, 4, 6, &err), -ERR_DATA_LOSS);
	assert_int_equal(fd_pread_all(fd, got, 0, 99, &err), 0);
}

static void replaces_a_file(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	struct stat st;
	mode_t old;

	put("f", STR("old"));
	old = umask(077);
	assert_int_equal(file_write_atomic(dir_fd, "f", STR("new"), 0644, &err), 0);
	umask(old);
	assert_int_equal(file_read(dir_fd, "f", 10, &b, &err), 0);
	assert_string_equal(b.p, "new");
	assert_int_equal(fstatat(dir_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask */
	assert_int_equal(mkdirat(dir_fd, "d", 0755), 0);
	assert_int_equal(file_write_atomic(dir_fd, "d/g", STR("x"), 0600, &err), 0);
	assert_true(exists("d/g"));
	assert_int_equal(file_write_atomic(dir_fd, "absent/g", STR("x"), 0600, &err), -ERR_NOT_FOUND);
}

/* A failure leaves the old file and no temporary one behind. */
static void a_failed_replacement_leaves_nothing(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(mkdirat(dir_fd, "d", 0755), 0);
	assert_int_equal(mkdirat(dir_fd, "d/f", 0755), 0);
	assert_int_not_equal(file_write_atomic(dir_fd, "d/f", STR("x"), 0600, &err), 0);
	assert_true(str_starts(str_of(err.msg), STR("write d/f: ")));
	assert_int_equal(unlinkat(dir_fd, "d/f", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(dir_fd, "d", AT_REMOVEDIR), 0); /* was empty */
}

static void makes_directories(void **state)
{
	AUTO_FREE char *deep = xasprintf("%s/a//b/c/", dir_path);
	AUTO_FREE char *below_file = xasprintf("%s/f/x", dir_path);
	AUTO_FREE char *file = xasprintf("%s/f", dir_path);
	struct err err = ERR_INIT;
	AUTO_FD int fd = -1;

	assert_int_equal(dir_make(deep, 0755, &err), 0);
	assert_int_equal(dir_make(deep, 0755, &err), 0);
	assert_true(exists("a/b/c"));
	assert_int_equal(dir_make("/", 0755, &err), 0);
	put("f", STR(""));
	assert_int_equal(dir_make(below_file, 0755, &err), -ERR_INVALID);
	assert_int_equal(dir_make(file, 0755, &err), -ERR_INVALID);
	assert_int_equal(dir_make("", 0755, &err), -ERR_NOT_FOUND);

	assert_int_equal(dir_open(dir_fd, "new", 0700, &fd, &err), 0);
	assert_true(exists("new"));
	assert_int_equal(dir_sync(fd, &err), 0);
	assert_int_equal(symlinkat("new", dir_fd, "link"), 0);
	assert_int_not_equal(dir_open(dir_fd, "link", 0700, &(int){-1}, &err), 0);
}

static void opens_beneath_only(void **state)
{
	struct err err = ERR_INIT;
	int fd;

	assert_int_equal(mkdirat(dir_fd, "d", 0755), 0);
	put("d/f", STR("x"));
	put("secret", STR("x"));
	assert_int_equal(symlinkat("f", dir_fd, "d/in"), 0);
	assert_int_equal(symlinkat("../secret", dir_fd, "d/out"), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir_fd, "d/abs"), 0);

	AUTO_FD int d = openat(dir_fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const struct {
		const char *path;
		bool no_symlinks, ok;
	} cases[] = {{"f", true, true},       {"in", false, true},           {"in", true, false},
	             {"out", false, false},   {"abs", false, false},         {"../secret", false, false},
	             {"..", false, false},    {"/etc/passwd", false, false}, {"./f", true, true},
	             {"../d/f", false, false}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int r = file_open_beneath(d, cases[i].path, O_RDONLY, 0, cases[i].no_symlinks, &fd, &err);

		if (!r != cases[i].ok)
			fail_msg("%s: %d", cases[i].path, r);
		if (!r) {
			assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
			close(fd);
		}
	}
	assert_int_equal(file_open_beneath(d, "made", O_WRONLY | O_CREAT, 0640, true, &fd, &err), 0);
	close(fd);
	assert_int_equal(file_open_beneath(d, "absent", O_RDONLY, 0640, true, &fd, &err), -ERR_NOT_FOUND);
}

static void iterates_over_entries(void **state)
{
	struct err err = ERR_INIT;
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	unsigned bits = 0;
	int more;

	for (int twice = 0; twice < 2; twice++) { /* the second pass starts anew */
		AUTO_DIR DIR *empty = NULL;

		assert_int_equal(dir_iter_open(dir_fd, &empty, &err), 0);
		assert_int_equal(dir_iter_next(empty, &e, &err), 0);
	}
	put("f0", STR(""));
	put("f1", STR(""));
	assert_int_equal(mkdirat(dir_fd, "f2", 0755), 0);
	assert_int_equal(dir_iter_open(dir_fd, &d, &err), 0);
	while ((more = dir_iter_next(d, &e, &err)) > 0) {
		assert_int_equal(e->d_name[0], 'f');
		bits += 1u << (4 * (e->d_name[1] - '0'));
	}
	assert_int_equal(more, 0);
	assert_int_equal(bits, 0x111); /* each once */
	assert_int_equal(dir_iter_open(-1, &(DIR *){NULL}, &err), -ERR_INTERNAL);
}

static void removes_trees(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(dir_remove(dir_fd, "absent", &err), 0);
	put("f", STR("x"));
	assert_int_equal(dir_remove(dir_fd, "f", &err), 0);
	assert_false(exists("f"));

	put("outside", STR("kept"));
	assert_int_equal(mkdirat(dir_fd, "kept", 0755), 0);
	put("kept/f", STR("kept"));
	assert_int_equal(mkdirat(dir_fd, "t", 0755), 0);
	for (int i = 0; i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "t/d%d", i);
		assert_int_equal(mkdirat(dir_fd, name, 0755), 0);
		snprintf(name, sizeof(name), "t/d%d/f", i);
		put(name, STR("x"));
	}
	assert_int_equal(symlinkat("../kept", dir_fd, "t/link"), 0);
	assert_int_equal(dir_remove(dir_fd, "t", &err), 0);
	assert_false(exists("t"));
	assert_true(exists("outside"));
	assert_true(exists("kept/f"));
	assert_int_equal(symlinkat("kept", dir_fd, "link"), 0);
	assert_int_equal(dir_remove(dir_fd, "link", &err), 0);
	assert_true(exists("kept/f"));
}

/* Deeper than there are descriptors, with files and twins on the way. */
static void removes_trees_of_any_depth(void **state)
{
	const struct rlimit few = {128, 128};
	struct err err = ERR_INIT;
	AUTO_FD int at = -1;
	int status;
	pid_t child;

	assert_int_equal(dir_open(dir_fd, "deep", 0755, &at, &err), 0);
	for (int i = 0; i < 500; i++) {
		int below;

		assert_int_equal(mkdirat(at, "twin", 0755), 0);
		close(
		    openat(at, ".removed-0", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)); /* the name used while removing */
		assert_int_equal(dir_open(at, "a-directory-with-a-name", 0755, &below, &err), 0);
		close(at);
		at = below;
	}
	child = fork();
	if (!child)
		_exit(setrlimit(RLIMIT_NOFILE, &few) || dir_remove(dir_fd, "deep", NULL));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(exists("deep"));
}

static void never_crosses_a_mount_point(void **state)
{
	AUTO_FREE char *outer = xasprintf("%s/t/outer", dir_path);
	AUTO_FREE char *mounted = xasprintf("%s/t/outer/m", dir_path);
	AUTO_FREE char *kept = xasprintf("%s/kept", dir_path);
	struct err err = ERR_INIT;
	int status;
	pid_t child;

	assert_int_equal(dir_make(mounted, 0755, &err), 0);
	assert_int_equal(dir_make(kept, 0755, &err), 0);
	put("kept/f", STR("kept"));
	/* A bind mount of the same file system, so that device numbers do not give it away; in a mount namespace that ends
	 * with the child. */
	child = fork();
	if (!child) {
		if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(kept, mounted, NULL, MS_BIND, NULL))
			_exit(2);
		dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the old one is in the old namespace */
		_exit(dir_remove(dir_fd, "t", &err) == -ERR_PRECONDITION && exists("kept/f") && exists("t/outer/m/f")
		          ? 0
		          : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(exists("kept/f"));
}

static void sealed_memory_files(void **state)
{
	AUTO_FD int fd = -1;
	struct err err = ERR_INIT;
	char got[5];

	assert_int_equal(memfd_of("test", STR("12345"), &fd, &err), 0);
	assert_int_equal(read(fd, got, 5), 5);
	assert_memory_equal(got, "12345", 5);
	assert_int_equal(ftruncate(fd, 3), -1);
	assert_int_equal(ftruncate(fd, 9), -1);
	assert_true(fcntl(fd, F_GET_SEALS) & F_SEAL_SEAL);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1); /* the size is sealed, not the bytes */
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FILE_TEST(reads_within_the_bound),
	    FILE_TEST(reads_a_long_pipe),
	    FILE_TEST(positioned_io),
	    FILE_TEST(replaces_a_file),
	    FILE_TEST(a_failed_replacement_leaves_nothing),
	    FILE_TEST(makes_directories),
	    FILE_TEST(opens_beneath_only),
	    FILE_TEST(iterates_over_entries),
	    FILE_TEST(removes_trees),
	    FILE_TEST(removes_trees_of_any_depth),
	    FILE_TEST(never_crosses_a_mount_point),
	    FILE_TEST(sealed_memory_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
