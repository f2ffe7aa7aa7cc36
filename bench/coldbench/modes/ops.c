/* Operations on the files of a mounted image. */
#include "bench/coldbench/modes/ops.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BUFFER_BYTES (128u << 10)
#define PAGE_BYTES 4096u
#define FILES_MAX 4000
#define SMALL_MAX 2000
#define SMALL_BYTES (16u << 10)
#define RANDOM_READS 2048
#define EXECS 20

static int failed(const char *what, const char *path, struct err *err)
{
	return err_errno(err, errno, "%s /%s", what, path);
}

static int stopped(struct err *err)
{
	return err_set(err, ERR_CANCELLED, "stopped");
}

static int lstat_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	struct stat st;

	vec_each(&f->tree.entries, e) {
		if (*f->stop)
			return stopped(err);
		if (fstatat(f->root_fd, e->path, &st, AT_SYMLINK_NOFOLLOW))
			return failed("stat", e->path, err);
	}
	*n = f->tree.entries.n;
	return 0;
}

/* Of linux/dirent.h, which C libraries do not have. */
struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

static int read_dir(int fd, char *buffer, uint64_t *n)
{
	long got;

	while ((got = syscall(SYS_getdents64, fd, buffer, BUFFER_BYTES)) > 0)
		for (long at = 0; at < got; at += ((struct linux_dirent64 *)(buffer + at))->d_reclen)
			++*n;
	return (int)got;
}

static int readdir_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	uint64_t entries = 0;

	vec_each(&f->dirs, path) {
		int fd, r;

		if (*f->stop)
			return stopped(err);
		fd = openat(f->root_fd, *path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? -1 : read_dir(fd, f->buffer, &entries);
		if (fd >= 0)
			close(fd);
		if (r < 0)
			return failed("list", *path, err);
	}
	*n = entries;
	return 0;
}

static int count_entry(void *arg, const struct walk_entry *e, struct err *err)
{
	++*(uint64_t *)arg;
	return 0;
}

static int walk_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	uint64_t entries = 0;

	TRY(tree_walk(f->root_fd, f->stop, count_entry, &entries, err));
	*n = entries;
	return 0;
}

static int open_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	vec_each(&f->files, path) {
		int fd;

		if (*f->stop)
			return stopped(err);
		fd = openat(f->root_fd, *path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return failed("open", *path, err);
		close(fd);
	}
	*n = f->files.n;
	return 0;
}

/* Reads a file to its end, and adds what it has. */
static int read_file(struct op_files *f, const char *path, uint64_t *bytes, struct err *err)
{
	AUTO_FD int fd = openat(f->root_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = -1;

	while (!*f->stop && fd >= 0 && (n = read(fd, f->buffer, BUFFER_BYTES)) > 0)
		*bytes += (uint64_t)n;
	if (*f->stop)
		return stopped(err);
	return n < 0 ? failed("read", path, err) : 0;
}

static int small_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	uint64_t bytes = 0;

	vec_each(&f->small, path)
		TRY(read_file(f, *path, &bytes, err));
	*n = f->small.n;
	return 0;
}

static int seq_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	uint64_t bytes = 0;

	TRY(read_file(f, f->large->path, &bytes, err));
	*n = bytes / PAGE_BYTES;
	return 0;
}

static int rand4k_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	uint64_t pages = f->large->bytes / PAGE_BYTES, random = 0;
	AUTO_FD int fd = openat(f->root_fd, f->large->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	for (unsigned i = 0; i < RANDOM_READS; i++) {
		off_t at = (off_t)(random_next(&random) % pages * PAGE_BYTES);

		if (*f->stop)
			return stopped(err);
		if (fd < 0 || pread(fd, f->buffer, PAGE_BYTES, at) != PAGE_BYTES)
			return failed("read", f->large->path, err);
	}
	*n = RANDOM_READS;
	return 0;
}

/* Where a page that cannot be read takes this thread; NULL: it touches none. Volatile, as signals read it. */
static _Thread_local sigjmp_buf *volatile unreadable;

/* Anybody else's has no way out: it ends the process, as without a handler. */
static void on_bus_error(int number)
{
	if (unreadable)
		siglongjmp(*unreadable, 1);
	signal(number, SIG_DFL);
	raise(number);
}

/* A function of its own: what lives across sigsetjmp is not to change after it. False when a page cannot be read. */
__attribute__((noinline)) static bool touch_pages(const volatile char *p, uint64_t bytes, const atomic_bool *stop)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 1)) {
		unreadable = NULL;
		return false;
	}
	unreadable = &here;
	for (uint64_t at = 0; at < bytes && !*stop; at += PAGE_BYTES)
		(void)p[at];
	unreadable = NULL;
	return true;
}

/* A failed read of a mapped file (EIO, or a server that is gone) is SIGBUS. */
static int mmap_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	struct sigaction ours = {.sa_handler = on_bus_error}, theirs;
	AUTO_FD int fd = openat(f->root_fd, f->large->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	const volatile char *p = fd < 0 ? MAP_FAILED : mmap(NULL, f->large->bytes, PROT_READ, MAP_SHARED, fd, 0);
	bool readable;

	if (p == MAP_FAILED)
		return failed("map", f->large->path, err);
	sigaction(SIGBUS, &ours, &theirs);
	readable = touch_pages(p, f->large->bytes, f->stop);
	sigaction(SIGBUS, &theirs, NULL);
	munmap((void *)p, f->large->bytes);
	if (!readable)
		return err_set(err, ERR_UNAVAILABLE, "mapped /%s cannot be read", f->large->path);
	if (*f->stop)
		return stopped(err);
	*n = (f->large->bytes + PAGE_BYTES - 1) / PAGE_BYTES;
	return 0;
}

/* In the child, which has our memory until it executes: system calls alone. */
static void enter_and_exec(int root_fd, int null_fd, char *const *argv)
{
	static char *const no_env[] = {NULL};

	if (!fchdir(root_fd) && !chroot(".") && dup2(null_fd, 0) >= 0 && dup2(null_fd, 1) >= 0 && dup2(null_fd, 2) >= 0)
		execve(argv[0], argv, no_env);
	_exit(127);
}

/* The cost of vfork does not grow with our own size, as fork's does. */
__attribute__((noinline)) static int run_program(int root_fd, int null_fd, char *const *argv, int *status)
{
	pid_t pid = vfork();

	if (pid == 0)
		enter_and_exec(root_fd, null_fd, argv);
	if (pid < 0)
		return -1;
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
}

static int exec_pass_of(struct op_files *f, const char *program, const char *arg, uint64_t *n, struct err *err)
{
	AUTO_FD int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_FREE char *path = xasprintf("/%s", program);
	char *argv[] = {path, (char *)arg, NULL};

	for (unsigned i = 0; i < EXECS; i++) {
		int status = 0;

		if (*f->stop)
			return stopped(err);
		if (run_program(f->root_fd, null_fd, argv, &status))
			return failed("run", program, err);
		if (status)
			return err_set(err, ERR_INTERNAL, "/%s ended with wait status 0x%x", program, (unsigned)status);
	}
	*n = EXECS;
	return 0;
}

static int exec_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	return exec_pass_of(f, f->dynamic, NULL, n, err);
}

static int exec_static_pass(struct op_files *f, uint64_t *n, struct err *err)
{
	return exec_pass_of(f, f->static_, "--version", n, err);
}

static bool has_entries(const struct op_files *f)
{
	return f->tree.entries.n;
}

static bool has_files(const struct op_files *f)
{
	return f->files.n;
}

static bool has_small(const struct op_files *f)
{
	return f->small.n;
}

static bool has_large(const struct op_files *f)
{
	return f->large;
}

static bool has_dynamic(const struct op_files *f)
{
	return f->dynamic;
}

static bool has_static(const struct op_files *f)
{
	return f->static_;
}

const struct op OPS_OF_FILES[] = {
    {"lstat", has_entries, lstat_pass, true},
    {"readdir", has_entries, readdir_pass, true},
    {"walk", has_entries, walk_pass, true},
    {"open", has_files, open_pass, true},
    {"small", has_small, small_pass, true},
    {"seq", has_large, seq_pass, true},
    {"rand4k", has_large, rand4k_pass, true},
    {"mmap", has_large, mmap_pass, true},
    {"exec", has_dynamic, exec_pass, false},
    {"exec_static", has_static, exec_static_pass, false},
    {0},
};

int op_measure(const struct op *op, struct op_files *f, int64_t min_ns, double *ns, struct err *err)
{
	uint64_t ops = 0, n = 0;
	int64_t begun_ns = clock_mono_ns(), spent_ns;

	do {
		TRY_WRAP(op->pass(f, &n, err), err, "%s", op->name);
		ops += n;
		spent_ns = clock_mono_ns() - begun_ns;
	} while (spent_ns < min_ns);
	*ns = ops ? (double)spent_ns / (double)ops : 0;
	return 0;
}

/* The program of that path, when it is a file (not a link to one outside) that may be executed. */
static const char *program_of(const struct op_files *f, const char *path)
{
	struct stat st;

	return !fstatat(f->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) && st.st_mode & 0111 ? path
	                                                                                                        : NULL;
}

int op_files_open(const char *root, const atomic_bool *stop, struct op_files *out, struct err *err)
{
	struct op_files f = {.root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .stop = stop};

	if (f.root_fd < 0)
		return err_errno(err, errno, "open %s", root);
	if (tree_list(f.root_fd, stop, &f.tree, err) < 0) {
		op_files_close(&f);
		return -(int)err->code;
	}
	f.buffer = xmalloc(BUFFER_BYTES);
	tree_pick(&f.tree, S_IFDIR, 0, UINT64_MAX, SIZE_MAX, &f.dirs);
	tree_pick(&f.tree, S_IFREG, 1, UINT64_MAX, FILES_MAX, &f.files);
	tree_pick(&f.tree, S_IFREG, 1, SMALL_BYTES, SMALL_MAX, &f.small);
	f.large = tree_largest(&f.tree);
	if (f.large && f.large->bytes < PAGE_BYTES)
		f.large = NULL;
	f.dynamic = program_of(&f, "usr/bin/true");
	f.static_ = program_of(&f, "usr/sbin/ldconfig");
	if (!f.static_)
		f.static_ = program_of(&f, "sbin/ldconfig");
	*out = f;
	return 0;
}

void op_files_close(struct op_files *f)
{
	tree_fini(&f->tree);
	vec_fini(&f->dirs);
	vec_fini(&f->files);
	vec_fini(&f->small);
	free(f->buffer);
	if (f->root_fd >= 0)
		close(f->root_fd);
	*f = (struct op_files){.root_fd = -1};
}
