#include "contentd/ops/lock.h"

#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

static int check_owner(const char *dir, struct err *err)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return err_errno(err, errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_PRECONDITION, "%s is no directory", dir);
	if (st.st_uid != geteuid())
		return err_set(err, ERR_PERMISSION, "%s belongs to uid %u, this is uid %u", dir, (unsigned)st.st_uid,
		               (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, ERR_PERMISSION, "%s can be written by others (mode %04o): chmod go-w it", dir,
		               st.st_mode & 07777);
	return 0;
}

static int locked_by_other(const char *path, int fd, struct err *err)
{
	AUTO(buf) struct buf pid = BUF_INIT;
	struct str text;

	fd_read_all(fd, 32, &pid, NULL);
	text = str_trim(buf_str(&pid));
	return err_set(err, ERR_EXISTS, "%s: another contentd%s" STR_FMT "%s uses this directory", path,
	               text.n ? ", pid " : "", STR_ARG(text), text.n ? "," : "");
}

int cd_dir_lock(const char *dir, int *out, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/contentd.lock", dir);
	AUTO_FREE char *pid = xasprintf("%d\n", (int)getpid());
	AUTO_FD int fd = -1;

	TRY(check_owner(dir, err));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "%s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? locked_by_other(path, fd, err) : err_errno(err, errno, "lock %s", path);
	if (ftruncate(fd, 0) < 0)
		return err_errno(err, errno, "%s", path);
	TRY_WRAP(fd_pwrite_all(fd, str_of(pid), 0, err), err, "%s", path);
	*out = STEAL_FD(fd);
	return 0;
}
