#include "bench/coldbench/measure/cold.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DROP_FILE "/proc/sys/vm/drop_caches"

/* Some 20 ms of a machine of 2020. */
#define SPIN_ROUNDS 8000000u

/* Adds what of a file is in the page cache. */
static int add_resident(int fd, uint64_t *sum, struct err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes, n;
	AUTO_FREE unsigned char *pages = NULL;
	uint64_t resident = 0;
	struct stat st;
	void *at;
	int r;

	if (fstat(fd, &st))
		return err_errno(err, errno, "fstat");
	bytes = (size_t)st.st_size;
	if (!bytes)
		return 0;
	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return err_errno(err, errno, "mmap");
	n = (bytes + page - 1) / page;
	pages = xcalloc(n, 1);
	r = mincore(at, bytes, pages) ? err_errno(err, errno, "mincore") : 0;
	munmap(at, bytes);
	for (size_t i = 0; i < n; i++)
		resident += pages[i] & 1 ? page : 0;
	*sum += resident < bytes ? resident : bytes;
	return r;
}

static bool is_executable(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

/* The file that a program's name stands for; links lead to where they would if `root_fd` were "/". *out -1: there is none. */
static int open_program(const char *name, int root_fd, int *out, struct err *err)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_IN_ROOT};
	struct str rest = str_of(getenv("PATH") ?: ""), dir;
	AUTO_FREE char *ours = NULL;

	*out = -1;
	if (program_beside(name, &ours, NULL) >= 0) {
		*out = open(ours, O_RDONLY | O_CLOEXEC);
		return *out < 0 ? err_errno(err, errno, "open %s", ours) : 0;
	}
	while (str_split(&rest, ':', &dir)) {
		AUTO_FREE char *path = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);
		AUTO_FD int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

		if (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			return err_errno(err, errno, "open %s", path);
		if (fd < 0 || !is_executable(fd))
			continue;
		*out = STEAL_FD(fd);
		return 0;
	}
	return 0;
}

int cold_resident_bytes(const char *const *programs, const char *root, uint64_t *out, struct err *err)
{
	AUTO_FD int root_fd = open(root ?: "/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root_fd < 0)
		return err_errno(err, errno, "open %s", root ?: "/");
	*out = 0;
	for (; *programs; programs++) {
		AUTO_FD int fd = -1;

		TRY(open_program(*programs, root_fd, &fd, err));
		if (fd >= 0)
			TRY_WRAP(add_resident(fd, out, err), err, "look for %s in the page cache", *programs);
	}
	return 0;
}

int cold_drop(struct err *err)
{
	AUTO_FD int fd = open(DROP_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open " DROP_FILE);
	sync(); /* dirty pages stay */
	TRY_WRAP(fd_write_all(fd, STR("3\n"), err), err, "write " DROP_FILE);
	return 0;
}

double noise_spin_ms(void)
{
	uint64_t x = 88172645463325252u;
	volatile uint64_t result;
	int64_t begun_ns = clock_mono_ns();

	/* xorshift64 (Marsaglia, Xorshift RNGs, 2003): each step needs the one before, nothing needs memory. */
	for (unsigned i = 0; i < SPIN_ROUNDS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	result = x;
	(void)result;
	return (double)(clock_mono_ns() - begun_ns) / NS_PER_MS;
}
