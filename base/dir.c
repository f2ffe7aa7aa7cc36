/* The directory half of base/file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int dir_make(const char *path, mode_t mode, struct err *err)
{
	AUTO_FREE char *part = xstrdup(path);
	char *at = part, cut;
	struct stat st;

	do {
		at += strspn(at, "/");
		at += strcspn(at, "/");
		cut = *at;
		*at = 0;
		if (mkdir(part, mode) && errno != EEXIST)
			return err_errno(err, errno, "make directory %s", part);
		*at = cut;
	} while (cut);
	if (stat(path, &st))
		return err_errno(err, errno, "make directory %s", path);
	if (!S_ISDIR(st.st_mode))
		return err_errno(err, ENOTDIR, "make directory %s", path);
	return 0;
}

int dir_open(int dir_fd, const char *name, mode_t mode, int *out, struct err *err)
{
	int fd;

	if (mkdirat(dir_fd, name, mode) && errno != EEXIST)
		return err_errno(err, errno, "make directory %s", name);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open directory %s", name);
	*out = fd;
	return 0;
}

int dir_iter_open(int dir_fd, DIR **out, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open directory");
	*out = fdopendir(fd);
	if (!*out)
		return err_errno(err, errno, "read directory");
	(void)STEAL_FD(fd); /* closedir closes it */
	return 0;
}

int dir_iter_next(DIR *d, struct dirent **entry, struct err *err)
{
	do {
		errno = 0;
		*entry = readdir(d);
		if (!*entry)
			return errno ? err_errno(err, errno, "read directory") : 0;
	} while (!strcmp((*entry)->d_name, ".") || !strcmp((*entry)->d_name, ".."));
	return 1;
}

/* Each level of a removal holds a descriptor and a stack frame. A tree that is deeper (whoever filled it may have made
 * it so on purpose) has its deep parts moved up to the top first. */
#define REMOVE_DEPTH 32

struct removal {
	int top_fd;
	unsigned n_moved; /* directories moved to the top: names must differ */
};

static int empty_dir(struct removal *r, int fd, unsigned depth, struct err *err);

/* Opens a directory that is about to be emptied; stops at mount points and symlinks. */
static int open_doomed(int dir_fd, const char *name, int *out, struct err *err)
{
	struct open_how how = {
	    .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
	    .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};

	*out = (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
	if (*out >= 0)
		return 0;
	if (errno == EXDEV)
		return err_set_at(err, ERR_PRECONDITION, EXDEV, __FILE__, __LINE__, "remove %s: it is a mount point",
		                  name);
	return err_errno(err, errno, "open %s", name);
}

static int remove_entry(struct removal *r, int dir_fd, const char *name, unsigned depth, struct err *err)
{
	AUTO_FD int fd = -1;
	char moved[32];

	if (!unlinkat(dir_fd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_errno(err, errno, "remove %s", name);
	if (!unlinkat(dir_fd, name, AT_REMOVEDIR))
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_errno(err, errno, "remove directory %s", name);
	if (depth >= REMOVE_DEPTH) {
		snprintf(moved, sizeof(moved), ".removed-%u", r->n_moved++);
		if (!renameat(dir_fd, name, r->top_fd, moved))
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
			return err_errno(err, errno, "move %s before removal", name);
		return remove_entry(r, dir_fd, name, depth, err); /* the name was taken: try the next */
	}
	TRY(open_doomed(dir_fd, name, &fd, err));
	TRY(empty_dir(r, fd, depth + 1, err));
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) && errno != ENOENT)
		return err_errno(err, errno, "remove directory %s", name);
	return 0;
}

/* Removes all entries, also those that appear meanwhile; fd stays open. */
static int empty_dir(struct removal *r, int fd, unsigned depth, struct err *err)
{
	bool found;

	do {
		AUTO_DIR DIR *d = NULL;
		struct dirent *e;
		int more;

		found = false;
		TRY(dir_iter_open(fd, &d, err));
		while ((more = dir_iter_next(d, &e, err)) > 0) {
			found = true;
			TRY(remove_entry(r, fd, e->d_name, depth, err));
		}
		TRY(more);
	} while (found);
	return 0;
}

int dir_remove(int dir_fd, const char *name, struct err *err)
{
	AUTO_FD int fd = -1;
	struct removal r;

	if (!unlinkat(dir_fd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_errno(err, errno, "remove %s", name);
	TRY(open_doomed(dir_fd, name, &fd, err));
	r = (struct removal){.top_fd = fd};
	TRY_WRAP(empty_dir(&r, fd, 1, err), err, "remove %s", name);
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) && errno != ENOENT)
		return err_errno(err, errno, "remove %s", name);
	return 0;
}
