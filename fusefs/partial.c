/*
 * A partial file: the content at its place, sparse; after it, at the next multiple of 4096, the map:
 *
 *   0  magic "CFSPART1"     8  u64 size    16  u32 chunks   20  u32 0
 *   24 boot id (16 bytes)  40  key (32)    72  u8 marks[]   one per chunk: 1 = written and verified
 *
 * A mark is made after the chunk was written, in the same page cache, so it is true however a process ends; a byte each,
 * so that threads can mark side by side. It says nothing after the machine went down: a map of another boot makes its
 * chunks *unsure*, to be verified once more.
 */
#include "base/compat.h"
#include "base/file.h"
#include "fusefs/core.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define MAP_ALIGN 4096u

struct map_header {
	char magic[8];
	uint64_t size;
	uint32_t n_chunks, zero;
	uint8_t boot[16];
	struct digest key;
};

static const char MAGIC[8] = "CFSPART1";

static uint64_t map_offset(uint64_t size)
{
	return (size + MAP_ALIGN - 1) / MAP_ALIGN * MAP_ALIGN;
}

/* The kernel's random id of this boot; zeros when /proc is not there, which makes nothing of an earlier process sure. */
static uint8_t boot_id[16];
static bool boot_known;

static void boot_read(void)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct err err;
	unsigned n = 0;

	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &err) < 0)
		return;
	for (size_t i = 0; i + 1 < text.n && n < sizeof(boot_id);) {
		uint64_t byte;

		if (text.p[i] == '-') {
			i++;
			continue;
		}
		if (!str_u64(str_make(text.p + i, 2), 16, &byte))
			return;
		boot_id[n++] = (uint8_t)byte;
		i += 2;
	}
	boot_known = n == sizeof(boot_id);
}

static int open_in(int dir_fd, const char *name, int *fd)
{
	char sub[3] = {name[0], name[1], 0};

	*fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0 && errno == ENOENT && (mkdirat(dir_fd, sub, 0700) == 0 || errno == EEXIST))
		*fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return *fd < 0 ? -1 : 0;
}

/* A map that fits: its marks, and whether this boot wrote it. Nothing else of a damaged or foreign file counts. */
static bool map_read(int fd, const struct map_header *want, uint8_t *marks, bool *same_boot)
{
	struct map_header have;
	uint64_t at = map_offset(want->size);
	struct err err;

	if (fd_pread_all(fd, &have, sizeof(have), (off_t)at, &err) < 0 || memcmp(have.magic, MAGIC, sizeof(MAGIC)) ||
	    have.size != want->size || have.n_chunks != want->n_chunks || !digest_eq(&have.key, &want->key))
		return false;
	*same_boot = boot_known && !memcmp(have.boot, want->boot, sizeof(have.boot));
	return fd_pread_all(fd, marks, want->n_chunks, (off_t)(at + sizeof(have)), &err) == 0;
}

int partial_open(int dir_fd, const struct digest *key, uint64_t size, uint32_t n_chunks, int *fd, uint64_t *present,
                 uint64_t *unsure, bool *any_unsure, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct map_header header = {.size = size, .n_chunks = n_chunks, .key = *key};
	AUTO_FREE uint8_t *marks = NULL;
	char name[FFS_OBJECT_PATH_MAX];
	AUTO_FD int file = -1;
	bool same_boot = false;

	pthread_once(&once, boot_read);
	memcpy(header.magic, MAGIC, sizeof(MAGIC));
	memcpy(header.boot, boot_id, sizeof(boot_id));
	*any_unsure = false;
	if (open_in(dir_fd, ffs_object_path(key, name), &file) < 0)
		return err_errno(err, errno, "open partial/%s", name);
	marks = xcalloc(n_chunks, 1);
	if (map_read(file, &header, marks, &same_boot))
		for (uint32_t i = 0; i < n_chunks; i++)
			if (marks[i] == 1) {
				bit_set(same_boot ? present : unsure, i);
				*any_unsure |= !same_boot;
			}
	if (!same_boot) {
		/* Marks only come back one by one, as their chunks are verified. The header is written last: whoever sees it
		 * sees zeros after it. */
		if (!*any_unsure && ftruncate(file, 0) < 0)
			return err_errno(err, errno, "truncate partial/%s", name);
		memset(marks, 0, n_chunks);
		TRY(fd_pwrite_all(file, str_make(marks, n_chunks), (off_t)(map_offset(size) + sizeof(header)), err));
		TRY(fd_pwrite_all(file, str_make(&header, sizeof(header)), (off_t)map_offset(size), err));
	}
	*fd = STEAL_FD(file);
	return 0;
}

bool partial_exists(int dir_fd, const struct digest *key)
{
	char name[FFS_OBJECT_PATH_MAX];

	return faccessat(dir_fd, ffs_object_path(key, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int partial_write(int fd, const void *p, size_t n, uint64_t at, struct err *err)
{
	struct iovec iov = {(void *)p, n};

	while (iov.iov_len) {
		ssize_t r = pwritev2(fd, &iov, 1, (off_t)at, RWF_DONTCACHE);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS))
			return fd_pwrite_all(fd, str_make(iov.iov_base, iov.iov_len), (off_t)at, err);
		if (r <= 0)
			return err_errno(err, r < 0 ? errno : EIO, "write");
		iov.iov_base = (char *)iov.iov_base + r;
		iov.iov_len -= (size_t)r;
		at += (uint64_t)r;
	}
	return 0;
}

int partial_read(int fd, void *p, size_t n, uint64_t at, struct err *err)
{
	TRY(fd_pread_all_uncached(fd, p, n, (off_t)at, err));
	/* What the kernel could not write back it drops, and reads as zeros: it says so once, to who asks. */
	if (sync_file_range(fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WAIT_BEFORE) < 0 &&
	    (errno == EIO || errno == ENOSPC || errno == EDQUOT))
		return err_errno(err, errno, "written data was lost");
	return 0;
}

int partial_mark(int fd, uint64_t size, uint32_t i, struct err *err)
{
	return fd_pwrite_all(fd, STR("\1"), (off_t)(map_offset(size) + sizeof(struct map_header) + i), err);
}

int partial_seal(int fd, uint64_t size, struct err *err)
{
	return ftruncate(fd, (off_t)size) < 0 ? err_errno(err, errno, "truncate") : 0;
}

void partial_remove(int dir_fd, const struct digest *key)
{
	char name[FFS_OBJECT_PATH_MAX];

	unlinkat(dir_fd, ffs_object_path(key, name), 0);
}
