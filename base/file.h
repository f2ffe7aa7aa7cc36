/*
 * Files and directories: whole-file reads with a bound, durable writes, descriptors that stay beneath a directory.
 * Paths from outside are only ever resolved with file_open_beneath. Any thread.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <dirent.h>
#include <sys/types.h>

static inline void auto_dir_cleanup_(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define AUTO_DIR __attribute__((cleanup(auto_dir_cleanup_)))

/* Reads all of a file into `out` (appended). Larger than max_bytes: ERR_EXHAUSTED. */
int file_read(int dir_fd, const char *path, size_t max_bytes, struct buf *out, struct err *err);

/* Reads a descriptor to its end; same bound. */
int fd_read_all(int fd, size_t max_bytes, struct buf *out, struct err *err);

/* Writes all; retries short writes and EINTR. */
int fd_write_all(int fd, struct str data, struct err *err);
int fd_pwrite_all(int fd, struct str data, off_t at, struct err *err);

/* Goes on behind a hole of so many bytes, which read as zeros; the file has them from now on. */
int fd_write_hole(int fd, uint64_t bytes, struct err *err);

/* Reads exactly n bytes; an early end is ERR_DATA_LOSS. */
int fd_pread_all(int fd, void *dst, size_t n, off_t at, struct err *err);
/* The same without leaving in the page cache what was not there before, where the kernel can do that (6.14). */
int fd_pread_all_uncached(int fd, void *dst, size_t n, off_t at, struct err *err);

/* Replaces a file durably: temporary beside it, fsync, rename, fsync of the directory. */
int file_write_atomic(int dir_fd, const char *path, struct str data, mode_t mode, struct err *err);

/* mkdir -p; existing directories are left as they are. */
int dir_make(const char *path, mode_t mode, struct err *err);

/* Opens the directory `name` (one component, not followed when it is a symlink) in dir_fd; made if absent. */
int dir_open(int dir_fd, const char *name, mode_t mode, int *out, struct err *err);

int dir_sync(int dir_fd, struct err *err);

/* Iterates over the entries of a directory, "." and ".." left out, in no order. dir_fd stays the caller's and its
 * position is not used: AUTO_DIR DIR *d = NULL; TRY(dir_iter_open(fd, &d, err)); while ((more = dir_iter_next(...)) > 0) */
int dir_iter_open(int dir_fd, DIR **out, struct err *err);
/* 1 with the next entry (valid until the next call), 0 at the end. */
int dir_iter_next(DIR *d, struct dirent **entry, struct err *err);

/* rm -r of an entry below dir_fd, of any depth, never crossing a mount point or a symlink (a mount point inside is
 * ERR_PRECONDITION, after part of the rest is gone); absent is fine. `name` is relative. */
int dir_remove(int dir_fd, const char *name, struct err *err);

/* openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS (and no symlinks at all when `no_symlinks`). */
int file_open_beneath(int dir_fd, const char *path, int flags, mode_t mode, bool no_symlinks, int *out,
                      struct err *err);

/* A sealed-size anonymous memory file with the given content, offset 0. */
int memfd_of(const char *name, struct str content, int *out, struct err *err);

#endif
