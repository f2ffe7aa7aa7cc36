#include "base/file.h"

#include "base/compat.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

int fd_read_all(int fd, size_t max_bytes, struct buf *out, struct err *err)
{
	size_t room = 16384, used = 0;
	struct stat st;

	/* One read is enough for a file that tells its size; /proc and pipes do not. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0)
		room = (size_t)st.st_size < max_bytes ? (size_t)st.st_size + 1 : max_bytes;
	for (;;) {
		size_t most = max_bytes - used < room ? max_bytes - used : room;
		/* One byte more than allowed tells "just fits" from "too large". */
		ssize_t n = read(fd, buf_reserve(out, most + 1), most + 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read");
		if (n == 0)
			break;
		if ((size_t)n > max_bytes - used)
			return err_set(err, ERR_EXHAUSTED, "more than the allowed %zu bytes", max_bytes);
		used += (size_t)n;
		out->n += (size_t)n;
		if (room < 1 << 20)
			room *= 2;
	}
	out->p[out->n] = 0;
	return 0;
}

int file_read(int dir_fd, const char *path, size_t max_bytes, struct buf *out, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	TRY_WRAP(fd_read_all(fd, max_bytes, out, err), err, "%s", path);
	return 0;
}

int fd_write_all(int fd, struct str data, struct err *err)
{
	while (data.n) {
		ssize_t n = write(fd, data.p, data.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "write");
		data = str_sub(data, (size_t)n, SIZE_MAX);
	}
	return 0;
}

int fd_write_hole(int fd, uint64_t bytes, struct err *err)
{
	off_t at = bytes > INT64_MAX ? -1 : lseek(fd, (off_t)bytes, SEEK_CUR);

	if (at < 0 || ftruncate(fd, at) < 0)
		return err_errno(err, bytes > INT64_MAX ? EFBIG : errno, "leave a hole of %llu bytes",
		                 (unsigned long long)bytes);
	return 0;
}

int fd_pwrite_all(int fd, struct str data, off_t at, struct err *err)
{
	while (data.n) {
		ssize_t n = pwrite(fd, data.p, data.n, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "write");
		at += n;
		data = str_sub(data, (size_t)n, SIZE_MAX);
	}
	return 0;
}

static int pread_all(int fd, void *dst, size_t n, off_t at, int flags, struct err *err)
{
	for (size_t done = 0; done < n;) {
		struct iovec iov = {(char *)dst + done, n - done};
		ssize_t got = preadv2(fd, &iov, 1, at + (off_t)done, flags);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && flags && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
			flags = 0;
			continue;
		}
		if (got < 0)
			return err_errno(err, errno, "read");
		if (got == 0)
			return err_set(err, ERR_DATA_LOSS, "file ends after %zu of %zu bytes at %lld", done, n,
			               (long long)at);
		done += (size_t)got;
	}
	return 0;
}

int fd_pread_all(int fd, void *dst, size_t n, off_t at, struct err *err)
{
	return pread_all(fd, dst, n, at, 0, err);
}

int fd_pread_all_uncached(int fd, void *dst, size_t n, off_t at, struct err *err)
{
	return pread_all(fd, dst, n, at, RWF_DONTCACHE, err);
}

int dir_sync(int dir_fd, struct err *err)
{
	if (fsync(dir_fd))
		return err_errno(err, errno, "sync directory");
	return 0;
}

/* Opens the directory that holds `path`; *name is the part after it. */
static int open_parent(int dir_fd, const char *path, int *out, const char **name, struct err *err)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *parent = NULL;

	*name = slash ? slash + 1 : path;
	parent = !slash ? xstrdup(".") : slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
	*out = openat(dir_fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*out < 0)
		return err_errno(err, errno, "open %s", parent);
	return 0;
}

static int fill_new_file(int fd, struct str data, mode_t mode, struct err *err)
{
	TRY(fd_write_all(fd, data, err));
	if (fchmod(fd, mode))
		return err_errno(err, errno, "chmod");
	if (fsync(fd))
		return err_errno(err, errno, "sync");
	return 0;
}

int file_write_atomic(int dir_fd, const char *path, struct str data, mode_t mode, struct err *err)
{
	AUTO_FD int parent_fd = -1;
	AUTO_FD int fd = -1;
	const char *name;
	char tmp[32] = ".new-";
	int r;

	TRY(open_parent(dir_fd, path, &parent_fd, &name, err));
	random_hex(tmp + strlen(tmp), 8);
	fd = openat(parent_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, errno, "create a file beside %s", path);
	r = fill_new_file(fd, data, mode, err);
	if (!r && renameat(parent_fd, tmp, parent_fd, name))
		r = err_errno(err, errno, "rename");
	if (r) {
		unlinkat(parent_fd, tmp, 0);
		err_wrap(err, "write %s", path);
		return r;
	}
	return dir_sync(parent_fd, err);
}

int file_open_beneath(int dir_fd, const char *path, int flags, mode_t mode, bool no_symlinks, int *out, struct err *err)
{
	struct open_how how = {
	    .flags = (uint64_t)(flags | O_CLOEXEC),
	    .mode = flags & (O_CREAT | O_TMPFILE) & ~O_DIRECTORY ? mode : 0,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (no_symlinks ? RESOLVE_NO_SYMLINKS : 0),
	};
	int fd;

	/* EAGAIN: a rename somewhere made the kernel unsure about a ".." on the way; openat2(2) says try again. */
	for (int tries = 0; tries < 32; tries++) {
		fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0) {
			*out = fd;
			return 0;
		}
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return err_errno(err, errno, "open %s", path);
}

int memfd_of(const char *name, struct str content, int *out, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(err, errno, "memfd_create %s", name);
	TRY_WRAP(fd_pwrite_all(fd, content, 0, err), err, "memfd %s", name);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return err_errno(err, errno, "seal memfd %s", name);
	*out = STEAL_FD(fd);
	return 0;
}
