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

static uint64_t count_resident(int fd, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (bytes + page - 1) / page;
	AUTO_FREE unsigned char *pages = xmalloc(n);
	uint64_t resident = 0;
	void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return 0;
	if (!mincore(at, bytes, pages))
		for (size_t i = 0; i < n; i++)
			resident += pages[i] & 1 ? page : 0;
	munmap(at, bytes);
	return resident < bytes ? resident : bytes;
}

/* The file that a program's name stands for; links lead to where they would if `root` were "/". -1: there is none. */
static int open_program(const char *name, const char *root)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_IN_ROOT};
	struct str rest = str_of(getenv("PATH")), dir;
	AUTO_FREE char *ours = NULL;
	AUTO_FD int root_fd = -1;
	int fd = -1;

	if (program_beside(name, &ours, NULL) >= 0)
		return open(ours, O_RDONLY | O_CLOEXEC);
	root_fd = open(root ?: "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (fd < 0 && str_split(&rest, ':', &dir)) {
		AUTO_FREE char *path = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);

		fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
	}
	return fd;
}

uint64_t cold_resident_bytes(const char *const *programs, const char *root)
{
	uint64_t bytes = 0;

	for (; *programs; programs++) {
		AUTO_FD int fd = open_program(*programs, root);
		struct stat st;

		if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0)
			bytes += count_resident(fd, (size_t)st.st_size);
	}
	return bytes;
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
