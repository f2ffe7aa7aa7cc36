/* Rooms: a thread makes the namespace, its descriptor keeps it; a thread each goes there to start a process. */
#include "bench/coldbench/peers/room.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#define UNIFIED "/sys/fs/cgroup/unified"
#define MARK "trusted.coldbench.place"

/* A folder of the machine that was made for rooms. */
struct place {
	char *path;
	int fd; /* with a shared lock on it */
};

struct room {
	int fd;                   /* of the namespace; -1: this machine's own */
	char *dir;                /* a mount on itself, to be undone; NULL: none */
	VEC(struct place) places; /* parents first */
};

/* ---- threads in namespaces of their own ---- */

struct visit {
	int (*run)(void *arg, struct err *err);
	void *arg;
	struct err *err;
	int result;
};

static void *run_visit(void *arg)
{
	struct visit *v = arg;

	v->result = v->run(v->arg, v->err);
	return NULL;
}

/* A thread that leaves the namespace (and with it the root and the working folder) of all the others ends with that; what it
 * has started is a child of the process. */
static int in_thread(int (*run)(void *arg, struct err *err), void *arg, struct err *err)
{
	struct visit v = {.run = run, .arg = arg, .err = err};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, run_visit, &v);

	if (r)
		return err_errno(err, r, "pthread_create");
	pthread_join(thread, NULL);
	return v.result;
}

/* ---- places ---- */

/* Rooms of all processes take and leave places one at a time. */
static int lock_places(int *out, struct err *err)
{
	AUTO_FD int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX))
		return err_errno(err, errno, "lock /");
	*out = STEAL_FD(fd);
	return 0;
}

static int mark(int fd, const char *path, struct err *err)
{
	int r;

	if (!fsetxattr(fd, MARK, "", 0, 0))
		return 0;
	r = err_errno(err, errno, "mark %s as made for rooms", path);
	rmdir(path);
	return r;
}

/* A folder that is made here is marked: whichever room is its last removes it, even if the one that made it was killed. */
static int take_folder(struct room *r, const char *path, struct err *err)
{
	bool is_new = mkdir(path, 0700) == 0;
	AUTO_FD int fd = -1;

	if (!is_new && errno != EEXIST)
		return err_errno(err, errno, "make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	if (is_new)
		TRY(mark(fd, path, err));
	if (fgetxattr(fd, MARK, NULL, 0) < 0)
		return 0; /* the machine's own */
	if (flock(fd, LOCK_SH))
		return err_errno(err, errno, "lock %s", path);
	vec_push(&r->places, (struct place){xstrdup(path), STEAL_FD(fd)});
	return 0;
}

/* The folder and those above it. */
static int take_place(struct room *r, const char *at, struct err *err)
{
	AUTO_FREE char *path = xstrdup(at);
	char *slash = path;

	do {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = 0;
		TRY(take_folder(r, path, err));
		if (slash)
			*slash = '/';
	} while (slash);
	return 0;
}

static int take_places(struct room *r, const struct room_bind *binds, struct err *err)
{
	AUTO_FD int lock = -1;

	TRY(lock_places(&lock, err));
	for (; binds->from; binds++) {
		TRY(dir_make(binds->from, 0700, err));
		TRY(take_place(r, binds->at, err));
	}
	return 0;
}

/* Removing a folder undoes the mounts on it in all namespaces: those that another room has stay. */
static void leave_places(struct room *r)
{
	AUTO_FD int lock = -1;

	if (r->places.n)
		lock_places(&lock, NULL);
	while (r->places.n) {
		struct place p = vec_pop(&r->places);

		if (lock >= 0 && !flock(p.fd, LOCK_EX | LOCK_NB))
			rmdir(p.path);
		close(p.fd);
		free(p.path);
	}
	vec_fini(&r->places);
}

/* ---- making ---- */

struct making {
	const struct room_spec *spec;
	const char *usr;
	int fd;
};

/* Our copy of `dir` would only receive mounts, as all the rest; one of the shared mount takes its place. */
static int share_dir(const char *dir, struct err *err)
{
	AUTO_FD int tree = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return err_errno(err, errno, "clone the mount of %s", dir);
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return err_errno(err, errno, "make / a slave mount");
	if (umount2(dir, MNT_DETACH) || move_mount(tree, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH))
		return err_errno(err, errno, "mount %s", dir);
	return 0;
}

static int mount_bind(const char *from, const char *at, struct err *err)
{
	if (mount(from, at, NULL, MS_BIND, NULL))
		return err_errno(err, errno, "mount %s at %s", from, at);
	return 0;
}

static int furnish(void *arg, struct err *err)
{
	struct making *m = arg;
	const struct room_spec *spec = m->spec;

	if (unshare(CLONE_NEWNS))
		return err_errno(err, errno, "make a mount namespace");
	if (spec->dir)
		TRY(share_dir(spec->dir, err));
	else if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return err_errno(err, errno, "make / a slave mount");
	if (spec->one_cgroups && umount2(UNIFIED, MNT_DETACH) && errno != EINVAL && errno != ENOENT)
		return err_errno(err, errno, "hide " UNIFIED);
	for (const struct room_bind *b = spec->binds; b && b->from; b++)
		TRY(mount_bind(b->from, b->at, err));
	/* Libraries are found where the suite has them, not where this machine's cache of them says. */
	if (m->usr && !access("/etc/ld.so.cache", F_OK))
		TRY(mount_bind("/dev/null", "/etc/ld.so.cache", err));
	if (m->usr)
		TRY(mount_bind(m->usr, "/usr", err));
	m->fd = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
	return m->fd < 0 ? err_errno(err, errno, "open the mount namespace") : 0;
}

static int bind_dir(const char *dir, struct room *r, struct err *err)
{
	TRY(mount_bind(dir, dir, err));
	r->dir = xstrdup(dir);
	/* Private first: its group is its own, not that of the file system it lies in. */
	if (mount(NULL, dir, NULL, MS_PRIVATE, NULL) || mount(NULL, dir, NULL, MS_SHARED, NULL))
		return err_errno(err, errno, "share %s", dir);
	return 0;
}

static int make(const struct room_spec *spec, struct room *r, struct err *err)
{
	AUTO_FREE char *usr = spec->root ? xasprintf("%s/usr", spec->root) : NULL;
	struct making m = {.spec = spec, .usr = usr, .fd = -1};

	if (!usr && !spec->binds && (!spec->one_cgroups || access(UNIFIED, F_OK)))
		return 0;
	if (spec->dir)
		TRY(bind_dir(spec->dir, r, err));
	if (spec->binds)
		TRY(take_places(r, spec->binds, err));
	TRY(in_thread(furnish, &m, err));
	r->fd = m.fd;
	return 0;
}

int room_open(const struct room_spec *spec, struct room **out, struct err *err)
{
	AUTO(room) struct room *r = xcalloc(1, sizeof(*r));

	r->fd = -1;
	TRY(make(spec, r, err));
	*out = STEAL(r);
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
	leave_places(r);
	free(r->dir);
	free(r);
}

/* ---- starting ---- */

/* Who has set these for his own containers would overrule what an engine has in its files, and samples would land in his store:
 * podman(1), containers.conf(5), containers-storage.conf(5), containers-registries.conf(5), containers-auth.json(5), ctr(8). */
static const char *const OVERRULING[] = {
    "BUILDAH_", "CONTAINERD_", "CONTAINERS_",        "CONTAINER_",
    "DOCKER_",  "PODMAN_",     "REGISTRY_AUTH_FILE", "REGISTRIES_CONFIG_PATH",
    "STORAGE_",
};

struct environment {
	VEC(const char *) vars; /* borrowed; ends with NULL */
};

static void environment_fini(struct environment *e)
{
	vec_fini(&e->vars);
}
DEFINE_AUTO_FINI(environment);

static bool overrules(const char *var)
{
	for (size_t i = 0; i < ARRAY_LEN(OVERRULING); i++)
		if (str_starts(str_of(var), str_of(OVERRULING[i])))
			return true;
	return false;
}

static void take_environment(struct environment *out)
{
	for (char **var = environ; *var; var++)
		if (!overrules(*var))
			vec_push(&out->vars, *var);
	vec_push(&out->vars, NULL);
}

struct start {
	const struct argv *argv;
	const struct spawn *how;
	pid_t *pid;
};

static void wait_until(int64_t due_ns)
{
	struct timespec at = {due_ns / NS_PER_S, due_ns % NS_PER_S};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static int start(void *arg, struct err *err)
{
	const struct start *s = arg;
	const struct argv *a = s->argv;

	if (a->wait_ns)
		wait_until(clock_mono_ns() + a->wait_ns);
	/* A thread that shares its root with others must not change it. */
	if (a->room && a->room->fd >= 0 && (unshare(CLONE_FS) || setns(a->room->fd, CLONE_NEWNS)))
		return err_errno(err, errno, "enter the room of %s", a->p[0]);
	return spawn_start(s->how, s->pid, err);
}

int room_start(const struct argv *a, struct spawn how, pid_t *pid, struct err *err)
{
	AUTO(environment) struct environment env = {VEC_INIT};

	take_environment(&env);
	how.argv = (const char *const *)a->p;
	how.envp = env.vars.p;
	return in_thread(start, &(struct start){.argv = a, .how = &how, .pid = pid}, err);
}
