#include "bench/coldbench/measure/cold.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

uint64_t cold_resident_bytes(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return 0;
	return count_resident(fd, (size_t)st.st_size);
}

/* The file that a name of a program stands for: beside ours, or in PATH. */
static uint64_t resident_by_name(const char *name)
{
	struct str rest = str_of(getenv("PATH")), dir;
	AUTO_FREE char *ours = NULL;
	ptrdiff_t slash;

	if (strchr(name, '/'))
		return cold_resident_bytes(name);
	if (program_path(&ours, NULL) >= 0) {
		AUTO_FREE char *path = NULL;

		slash = str_rfind(str_of(ours), '/');
		path = xasprintf("%.*s/%s", (int)slash, ours, name);
		if (!access(path, X_OK))
			return cold_resident_bytes(path);
	}
	while (str_split(&rest, ':', &dir)) {
		AUTO_FREE char *path = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);

		if (!access(path, X_OK))
			return cold_resident_bytes(path);
	}
	return 0;
}

static int drop(struct err *err)
{
	AUTO_FD int fd = open(DROP_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open " DROP_FILE);
	TRY_WRAP(fd_write_all(fd, STR("3\n"), err), err, "write " DROP_FILE);
	return 0;
}

int cold_drop(const char *const *programs, uint64_t *resident_bytes, struct err *err)
{
	sync(); /* dirty pages stay */
	TRY(drop(err));
	*resident_bytes = 0;
	for (; *programs; programs++)
		*resident_bytes += resident_by_name(*programs);
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
