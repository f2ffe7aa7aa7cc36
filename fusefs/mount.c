#include "fusefs/mount.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* The kernel refuses a read with less room than the largest request it may send. */
#define REQUEST_BYTES_MAX ((1u << 20) + (64u << 10))

static void detach_dead(const char *path)
{
	unsigned n = 0;

	/* We hold the lock of the state directory, so whatever is mounted here has nobody who serves it. */
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		n++;
	if (n)
		log_warn("detached a dead mount at %s: images that use it must be mounted again", path);
}

int ffs_mount_make(const char *path, int *fuse_fd, struct buf *init, struct err *err)
{
	AUTO_FREE char *room = NULL;
	AUTO_FD int fd = -1;
	char options[128];
	ssize_t n;

	detach_dead(path);
	TRY(dir_make(path, 0700, err));
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
	         fd);
	if (mount("contentfs", path, "fuse.contentfs", MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
		return err_errno(err, errno, "mount %s", path);
	room = xmalloc(REQUEST_BYTES_MAX);
	do
		n = read(fd, room, REQUEST_BYTES_MAX);
	while (n < 0 && errno == EINTR);
	if (n < (ssize_t)sizeof(struct fuse_in_header) || ((struct fuse_in_header *)room)->opcode != FUSE_INIT) {
		umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
		return err_errno(err, n < 0 ? errno : EPROTO, "read the INIT request of %s", path);
	}
	buf_add(init, room, (size_t)n);
	*fuse_fd = STEAL_FD(fd);
	return 0;
}

void ffs_mount_end(const char *path)
{
	if (umount2(path, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		log_warn("unmount %s: %m", path);
}

bool ffs_mount_alive(int fuse_fd)
{
	struct pollfd p = {.fd = fuse_fd, .events = POLLIN};

	return poll(&p, 1, 0) >= 0 && !(p.revents & (POLLERR | POLLNVAL));
}

int ffs_mount_set_readahead(const char *path, unsigned kib, struct err *err)
{
	AUTO_FD int fd = -1;
	char name[96], text[16];
	struct statx sx;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) < 0)
		return err_errno(err, errno, "stat %s", path);
	snprintf(name, sizeof(name), "/sys/class/bdi/%u:%u/read_ahead_kb", sx.stx_dev_major, sx.stx_dev_minor);
	fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", name);
	snprintf(text, sizeof(text), "%u", kib);
	return fd_write_all(fd, str_of(text), err);
}
