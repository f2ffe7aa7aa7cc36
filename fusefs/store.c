#include "fusefs/store_internal.h"

#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static const char *const DIR_NAMES[FFS_DIRS] = {
    [FFS_DIR_OBJECTS] = "objects",
    [FFS_DIR_PARTIAL] = "partial",
    [FFS_DIR_INDEX] = "index",
    [FFS_DIR_PINS] = "pins",
};

/* Removes what a dead process has left in a directory under names of that beginning. */
static int sweep(struct ffs_store *s, enum ffs_dir which, struct str prefix, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	TRY(dir_iter_open(s->dirs[which], &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		struct err why = ERR_INIT;

		if (str_starts(str_of(e->d_name), prefix) && dir_remove(s->dirs[which], e->d_name, &why) < 0)
			log_warn("left-over %s/%s: %s", DIR_NAMES[which], e->d_name, why.msg);
	}
	return more;
}

/*
 * ext4 puts new files near their directory and does not use inodes that were freed in the last minutes again: to find
 * another one it steps over every one of them, each time. After an eviction, or next to another program's clean-up,
 * thousands of new objects in one directory would cost seconds. Batches are therefore made like home directories, each
 * in an emptier part of the disk. Other file systems do without.
 */
static void spread_batches(struct ffs_store *s)
{
	int flags;

	if (ioctl(s->dirs[FFS_DIR_PARTIAL], FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_TOPDIR_FL;
	if (ioctl(s->dirs[FFS_DIR_PARTIAL], FS_IOC_SETFLAGS, &flags) < 0)
		log_debug("partial/: %s", strerror(errno));
}

static int open_dirs(struct ffs_store *s, const char *root, struct err *err)
{
	AUTO_FD int root_fd = -1;

	TRY(dir_make(root, 0700, err));
	root_fd = open(root, O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return err_errno(err, errno, "open %s", root);
	for (int i = 0; i < FFS_DIRS; i++)
		TRY_WRAP(dir_open(root_fd, DIR_NAMES[i], 0700, &s->dirs[i], err), err, "%s", root);
	return 0;
}

/* What stands beside an index goes without it: a job may have written gaps on while its layer was deleted, and a crash can
 * leave points before the index is there, or after it has gone. */
static int sweep_beside(struct ffs_store *s, struct str suffix, struct err *err)
{
	int dir = s->dirs[FFS_DIR_INDEX], more;
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;

	TRY(dir_iter_open(dir, &d, err));
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		struct str name = str_of(e->d_name);
		AUTO_FREE char *index = NULL;

		if (!str_ends(name, suffix))
			continue;
		index = str_dup(str_sub(name, 0, name.n - suffix.n));
		if (faccessat(dir, index, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			unlinkat(dir, e->d_name, 0);
	}
	return more;
}

static int clean(struct ffs_store *s, struct err *err)
{
	spread_batches(s);
	TRY(sweep_beside(s, STR(FFS_GAPS_SUFFIX), err));
	TRY(sweep_beside(s, STR(FFS_POINTS_SUFFIX), err));
	TRY(sweep(s, FFS_DIR_PARTIAL, STR(FFS_BATCH_PREFIX), err));
	TRY(sweep(s, FFS_DIR_INDEX, STR("."), err));
	return sweep(s, FFS_DIR_PINS, STR("."), err);
}

int ffs_store_look(const char *root, struct ffs_store **out, struct err *err)
{
	struct ffs_store *s = xcalloc(1, sizeof(*s));
	int r;

	for (int i = 0; i < FFS_DIRS; i++)
		s->dirs[i] = -1;
	pthread_rwlock_init(&s->deleting, NULL);
	pthread_mutex_init(&s->relied_lock, NULL);
	pthread_mutex_init(&s->source_lock, NULL);
	r = open_dirs(s, root, err);
	if (r < 0) {
		ffs_store_close(s);
		return r;
	}
	*out = s;
	return 0;
}

int ffs_store_open(const char *root, struct ffs_store **out, struct err *err)
{
	AUTO(ffs_store) struct ffs_store *s = NULL;

	TRY(ffs_store_look(root, &s, err));
	TRY(clean(s, err));
	*out = STEAL(s);
	return 0;
}

void ffs_store_close(struct ffs_store *s)
{
	if (!s)
		return;
	for (int i = 0; i < FFS_DIRS; i++)
		if (s->dirs[i] >= 0)
			close(s->dirs[i]);
	map_fini(&s->relied);
	pthread_mutex_destroy(&s->relied_lock);
	pthread_mutex_destroy(&s->source_lock);
	pthread_rwlock_destroy(&s->deleting);
	free(s);
}

int ffs_store_dir(const struct ffs_store *s, enum ffs_dir which)
{
	return s->dirs[which];
}

void ffs_store_rely_begin(struct ffs_store *s)
{
	pthread_rwlock_rdlock(&s->deleting);
}

void ffs_store_rely_end(struct ffs_store *s)
{
	pthread_rwlock_unlock(&s->deleting);
}

/* ---- objects ---- */

char *ffs_object_path(const struct digest *key, char dst[static FFS_OBJECT_PATH_MAX])
{
	char hex[65];

	digest_hex(key, hex);
	snprintf(dst, FFS_OBJECT_PATH_MAX, "%.2s/%s", hex, hex + 2);
	return dst;
}

int ffs_object_open(struct ffs_store *s, const struct digest *key, uint64_t size, int *fd, struct err *err)
{
	char path[FFS_OBJECT_PATH_MAX];
	AUTO_FD int f = -1;
	struct stat st;

	f = openat(s->dirs[FFS_DIR_OBJECTS], ffs_object_path(key, path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (f < 0 || fstat(f, &st) < 0)
		return err_errno(err, errno, "object %s", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return err_set(err, ERR_DATA_LOSS, "object %s has %lld bytes, not %llu", path, (long long)st.st_size,
		               (unsigned long long)size);
	*fd = STEAL_FD(f);
	return 0;
}

bool ffs_object_has(struct ffs_store *s, const struct digest *key, uint64_t size)
{
	char path[FFS_OBJECT_PATH_MAX];
	struct stat st;

	return fstatat(s->dirs[FFS_DIR_OBJECTS], ffs_object_path(key, path), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

/* Makes objects/<2 hex>; most exist, so the caller tries first and comes here on ENOENT. */
static int make_fan_out(struct ffs_store *s, const char *path, struct err *err)
{
	char sub[3] = {path[0], path[1], '\0'};

	if (mkdirat(s->dirs[FFS_DIR_OBJECTS], sub, 0700) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make objects/%s", sub);
	return 0;
}

static int move(int from_fd, const char *from, int to_fd, const char *to, bool link)
{
	if (link)
		return linkat(from_fd, from, to_fd, to, 0);
	return renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE);
}

int ffs_object_adopt(struct ffs_store *s, int dir_fd, const char *name, const struct digest *key, bool link,
                     struct err *err)
{
	int objects = s->dirs[FFS_DIR_OBJECTS];
	char path[FFS_OBJECT_PATH_MAX];

	ffs_object_path(key, path);
	if (move(dir_fd, name, objects, path, link) == 0)
		return 0;
	if (errno == ENOENT) {
		TRY(make_fan_out(s, path, err));
		if (move(dir_fd, name, objects, path, link) == 0)
			return 0;
	}
	if (errno != EEXIST)
		return err_errno(err, errno, "publish object %s", path);
	if (!link && unlinkat(dir_fd, name, 0) < 0)
		return err_errno(err, errno, "remove %s, whose object %s exists", name, path);
	return 0;
}

int ffs_object_link(struct ffs_store *s, int fd, const struct digest *key, struct err *err)
{
	char path[FFS_OBJECT_PATH_MAX], self[32];
	int r;

	/* Through /proc, as AT_EMPTY_PATH wants a capability. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	ffs_object_path(key, path);
	r = linkat(AT_FDCWD, self, s->dirs[FFS_DIR_OBJECTS], path, AT_SYMLINK_FOLLOW);
	if (r < 0 && errno == ENOENT) {
		TRY(make_fan_out(s, path, err));
		r = linkat(AT_FDCWD, self, s->dirs[FFS_DIR_OBJECTS], path, AT_SYMLINK_FOLLOW);
	}
	return r < 0 && errno != EEXIST ? err_errno(err, errno, "publish object %s", path) : 0;
}

int ffs_object_alias(struct ffs_store *s, const struct digest *have, const struct digest *also, struct err *err)
{
	char path[FFS_OBJECT_PATH_MAX];

	return ffs_object_adopt(s, s->dirs[FFS_DIR_OBJECTS], ffs_object_path(have, path), also, true, err);
}

int ffs_objects_sync(struct ffs_store *s, struct err *err)
{
	if (syncfs(s->dirs[FFS_DIR_OBJECTS]) < 0)
		return err_errno(err, errno, "sync objects");
	return 0;
}
