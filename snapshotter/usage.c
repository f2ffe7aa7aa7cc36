#include "snapshotter/internal.h"

#include "base/map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

struct walk {
	struct map seen; /* inodes with several names */
	int64_t bytes, inodes;
};

static void count(struct walk *w, const struct stat *st)
{
	uint64_t ino = st->st_ino;

	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		if (map_has(&w->seen, map_key_u64(&ino)))
			return;
		map_put(&w->seen, map_key_u64(&ino), w);
	}
	w->bytes += (int64_t)st->st_blocks * 512;
	w->inodes++;
}

/* Descends with descriptors, so a tree that is being changed by a container cannot lead outside. */
static int walk_dir(struct walk *w, TAKE(int) fd, struct err *err)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = err_errno(err, errno, "read directory");
		close(fd);
		return r;
	}
	while (r >= 0 && (e = readdir(d))) {
		struct stat st;
		int sub;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* gone meanwhile */
		count(w, &st);
		if (!S_ISDIR(st.st_mode))
			continue;
		sub = openat(dirfd(d), e->d_name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			r = walk_dir(w, sub, err);
	}
	closedir(d);
	return r;
}

int snap_disk_usage(int dir_fd, const char *path, int64_t *bytes, int64_t *inodes, struct err *err)
{
	struct walk w = {.seen = MAP_INIT};
	struct stat st;
	int fd, r;

	fd = openat(dir_fd, path, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = err_errno(err, errno, "usage of %s", path);
		if (fd >= 0)
			close(fd);
		return r;
	}
	count(&w, &st);
	r = walk_dir(&w, fd, err);
	map_fini(&w.seen);
	*bytes = w.bytes;
	*inodes = w.inodes;
	return r;
}
