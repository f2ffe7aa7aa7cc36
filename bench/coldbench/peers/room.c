/* Rooms: a child makes the namespace, its descriptor keeps it. */
#include "bench/coldbench/peers/room.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define UNIFIED "/sys/fs/cgroup/unified"

struct room {
	int fd;    /* of the namespace; -1: this machine's own */
	char *dir; /* a mount on itself, to be undone; NULL: none */
};

/* What the child tells when it cannot go on, and the one byte of `step` when it can. */
struct verdict {
	int sys;
	const char *step;
};

/* The child's copy of `dir` would only receive mounts, as all the rest; one of the shared mount takes its place. */
static const char *share_dir(const char *dir)
{
	int tree = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return "clone the mount of the shared folder";
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return "make / a slave mount";
	if (umount2(dir, MNT_DETACH) || move_mount(tree, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH))
		return "mount the shared folder";
	return NULL;
}

/* NULL, or what failed with errno. After fork in a program with threads: system calls alone. */
static const char *furnish(const struct room_spec *spec, const char *usr)
{
	const char *step = NULL;

	if (unshare(CLONE_NEWNS))
		return "make a mount namespace";
	if (spec->dir)
		step = share_dir(spec->dir);
	else if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		step = "make / a slave mount";
	if (step)
		return step;
	if (spec->one_cgroups && umount2(UNIFIED, MNT_DETACH) && errno != EINVAL && errno != ENOENT)
		return "hide " UNIFIED;
	for (const struct room_bind *b = spec->binds; b && b->from; b++)
		if (mount(b->from, b->at, NULL, MS_BIND, NULL))
			return "mount a folder in the place of the machine's";
	/* Libraries are found where the suite has them, not where this machine's cache of them says. */
	if (usr && mount("/dev/null", "/etc/ld.so.cache", NULL, MS_BIND, NULL) && errno != ENOENT)
		return "hide /etc/ld.so.cache";
	if (usr && mount(usr, "/usr", NULL, MS_BIND, NULL))
		return "mount the suite's /usr";
	return NULL;
}

static _Noreturn void child(const struct room_spec *spec, const char *usr, int fd)
{
	struct verdict v = {0};
	char byte;

	v.step = furnish(spec, usr);
	v.sys = errno;
	/* Lives until the parent has the namespace and closes its end. */
	if (write(fd, &v, sizeof(v)) != sizeof(v) || read(fd, &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static int make(const struct room_spec *spec, const char *usr, int *out, struct err *err)
{
	int pair[2], failed = 0;
	struct verdict v;
	char path[64];
	ssize_t n;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_errno(err, errno, "socketpair");
	pid = fork();
	if (!pid) {
		close(pair[0]);
		child(spec, usr, pair[1]);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_errno(err, errno, "fork");
	}
	do
		n = read(pair[0], &v, sizeof(v));
	while (n < 0 && errno == EINTR);
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	if (n != sizeof(v))
		failed = err_set(err, ERR_INTERNAL, "the maker of a mount namespace died");
	else if (v.step)
		failed = err_errno(err, v.sys, "%s", v.step);
	else if ((*out = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		failed = err_errno(err, errno, "open %s", path);
	close(pair[0]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return failed;
}

static int bind_dir(const char *dir, struct room *r, struct err *err)
{
	if (mount(dir, dir, NULL, MS_BIND, NULL))
		return err_errno(err, errno, "mount %s", dir);
	r->dir = xstrdup(dir);
	/* Private first: its group is its own, not that of the file system it lies in. */
	if (mount(NULL, dir, NULL, MS_PRIVATE, NULL) || mount(NULL, dir, NULL, MS_SHARED, NULL))
		return err_errno(err, errno, "share %s", dir);
	return 0;
}

static int make_binds(const struct room_spec *spec, struct err *err)
{
	for (const struct room_bind *b = spec->binds; b && b->from; b++) {
		TRY(dir_make(b->from, 0700, err));
		TRY(dir_make(b->at, 0700, err));
	}
	return 0;
}

int room_open(const struct room_spec *spec, struct room **out, struct err *err)
{
	AUTO_FREE char *usr = NULL;
	struct room *r = xcalloc(1, sizeof(*r));
	int failed = 0;

	r->fd = -1;
	usr = spec->root ? xasprintf("%s/usr", spec->root) : NULL;
	if (usr || spec->binds || (spec->one_cgroups && !access(UNIFIED, F_OK))) {
		failed = spec->dir ? bind_dir(spec->dir, r, err) : 0;
		if (!failed)
			failed = make_binds(spec, err);
		if (!failed)
			failed = make(spec, usr, &r->fd, err);
	}
	if (failed) {
		room_close(r);
		return failed;
	}
	*out = r;
	return 0;
}

void room_close(struct room *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	if (r->dir)
		umount2(r->dir, MNT_DETACH);
	free(r->dir);
	free(r);
}

void room_enter(const struct room *r, struct argv *a)
{
	if (r->fd < 0)
		return;
	argv_add(a, "nsenter");
	argv_addf(a, "--mount=/proc/%d/fd/%d", (int)getpid(), r->fd);
	argv_add(a, "--");
}
