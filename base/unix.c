#include "base/unix.h"

#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static int fill_address(const char *path, struct sockaddr_un *a, struct err *err)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if (!path[0] || !str_copy(str_of(path), a->sun_path, UNIX_PATH_MAX_BYTES + 1))
		return err_set(err, ERR_INVALID, "socket path \"%s\" is not 1 to %d bytes long", path,
		               UNIX_PATH_MAX_BYTES);
	return 0;
}

/* Removes a socket file that nobody listens on. */
static int remove_stale(const struct sockaddr_un *a, int type, struct err *err)
{
	AUTO_FD int fd = -1;
	struct stat st;

	if (lstat(a->sun_path, &st))
		return errno == ENOENT ? 0 : err_errno(err, errno, "stat %s", a->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ERR_EXISTS, "%s exists and is not a socket", a->sun_path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	if (!connect(fd, (const struct sockaddr *)a, sizeof(*a)) || errno == EAGAIN || errno == EPROTOTYPE)
		return err_set(err, ERR_EXISTS, "somebody listens on %s", a->sun_path);
	if (errno != ECONNREFUSED && errno != ENOENT)
		return err_errno(err, errno, "connect to %s", a->sun_path);
	if (unlink(a->sun_path) && errno != ENOENT)
		return err_errno(err, errno, "remove stale socket %s", a->sun_path);
	return 0;
}

int unix_listen(const char *path, int type, mode_t mode, int *out, struct err *err)
{
	struct sockaddr_un a;
	AUTO_FD int fd = -1;

	TRY(fill_address(path, &a, err));
	TRY(remove_stale(&a, type, err));
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	/* The file that bind makes inherits the mode of the socket less the umask, so it is never wider than asked;
	 * chmod then gives what the umask took. */
	if (fchmod(fd, mode))
		return err_errno(err, errno, "chmod socket");
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a)))
		return err_errno(err, errno, "bind %s", path);
	/* At once: clients wait for a socket that is not there yet, but give up on one that nobody listens on. */
	if (listen(fd, SOMAXCONN) || chmod(path, mode)) {
		int sys = errno;

		unlink(path);
		return err_errno(err, sys, "listen on %s", path);
	}
	*out = STEAL_FD(fd);
	return 0;
}

int unix_connect(const char *path, int type, int *out, struct err *err)
{
	struct sockaddr_un a;
	AUTO_FD int fd = -1;

	TRY(fill_address(path, &a, err));
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	while (connect(fd, (const struct sockaddr *)&a, sizeof(a))) {
		if (errno == EINTR)
			continue;
		if (errno == ENOENT || errno == ENOTDIR)
			return err_set_at(err, ERR_UNAVAILABLE, errno, __FILE__, __LINE__,
			                  "connect to %s: no such socket", path);
		return err_errno(err, errno, "connect to %s", path);
	}
	*out = STEAL_FD(fd);
	return 0;
}

int unix_peer(int fd, struct ucred *out, struct err *err)
{
	socklen_t n = sizeof(*out);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &n))
		return err_errno(err, errno, "peer credentials");
	return 0;
}

/* Room for the descriptors of one message, aligned as the kernel wants it. */
union fd_control {
	struct cmsghdr align;
	char room[CMSG_SPACE(UNIX_FDS_MAX * sizeof(int))];
};

/* The rest of a message of which a stream socket took only a part. */
static int send_rest(int fd, struct str rest, struct err *err)
{
	while (rest.n) {
		ssize_t n = send(fd, rest.p, rest.n, MSG_NOSIGNAL);

		if (n >= 0) {
			rest = str_sub(rest, (size_t)n, SIZE_MAX);
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			poll(&p, 1, -1);
		} else if (errno != EINTR) {
			return err_errno(err, errno, "send");
		}
	}
	return 0;
}

bool unix_peer_in_group(int fd, const struct ucred *peer, gid_t gid)
{
	AUTO_FREE gid_t *groups = NULL;
	socklen_t n = 0;

	if (peer->gid == gid)
		return true;
	/* The first call says how many there are; one process has at most 65536 (NGROUPS_MAX). */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &n) == 0 || errno != ERANGE || n > 65536 * sizeof(gid_t))
		return false;
	groups = xmalloc(n);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) < 0)
		return false;
	for (size_t i = 0; i < n / sizeof(gid_t); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

int unix_send(int fd, struct str data, const int *fds, unsigned n_fds, struct err *err)
{
	struct iovec iov = {.iov_base = (void *)data.p, .iov_len = data.n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_control control = {0};
	ssize_t n;

	assert(n_fds <= UNIX_FDS_MAX);
	if (!data.n)
		return err_set(err, ERR_INVALID, "an empty message cannot be told from the end of the connection");
	if (n_fds) {
		struct cmsghdr *c;

		m.msg_control = control.room;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, errno, "send");
	return send_rest(fd, str_sub(data, (size_t)n, SIZE_MAX), err);
}

/* Collects the descriptors of a message. */
static unsigned take_fds(struct msghdr *m, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t bytes;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		bytes = c->cmsg_len - CMSG_LEN(0);
		memcpy(fds + n, CMSG_DATA(c), bytes);
		n += (unsigned)(bytes / sizeof(int));
	}
	return n;
}

int unix_recv(int fd, void *dst, size_t dst_bytes, size_t *n, int *fds, unsigned *n_fds, struct err *err)
{
	struct iovec iov = {.iov_base = dst, .iov_len = dst_bytes};
	union fd_control control;
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	int got_fds[UNIX_FDS_MAX];
	unsigned n_got;
	ssize_t got;

	do
		got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_errno(err, errno, "receive");
	n_got = take_fds(&m, got_fds);
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (n_got && !fds)) {
		while (n_got)
			close(got_fds[--n_got]);
		return err_set(err, ERR_INVALID, "message with more %s than there is room for",
		               m.msg_flags & MSG_TRUNC ? "bytes" : "descriptors");
	}
	*n = (size_t)got;
	if (fds) {
		memcpy(fds, got_fds, n_got * sizeof(int));
		*n_fds = n_got;
	}
	return 0;
}

/* What one spawn_start holds while it works. */
struct spawn_plan {
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	VEC(int) dups; /* ours to close */
};

static void spawn_plan_init(struct spawn_plan *p)
{
	memset(p, 0, sizeof(*p));
	if (posix_spawn_file_actions_init(&p->actions) || posix_spawnattr_init(&p->attr))
		abort(); /* memory is gone */
}

static void spawn_plan_fini(struct spawn_plan *p)
{
	posix_spawn_file_actions_destroy(&p->actions);
	posix_spawnattr_destroy(&p->attr);
	vec_each(&p->dups, fd)
		close(*fd);
	vec_fini(&p->dups);
}

DEFINE_AUTO_FINI(spawn_plan);

/* Lets the child have `fd` as descriptor `to`. Sources below n_targets are first moved out of the way here, so that no
 * dup2 in the child overwrites the source of a later one. */
static int plan_fd(struct spawn_plan *p, int fd, int to, int n_targets, struct err *err)
{
	if (fd < n_targets) {
		int moved = fcntl(fd, F_DUPFD_CLOEXEC, n_targets);

		if (moved < 0)
			return err_errno(err, errno, "duplicate descriptor %d", fd);
		vec_push(&p->dups, moved);
		fd = moved;
	}
	if (posix_spawn_file_actions_adddup2(&p->actions, fd, to))
		abort();
	return 0;
}

static int plan_fds(struct spawn_plan *p, const struct spawn *s, struct err *err)
{
	int n_targets = 3 + (int)s->n_keep;

	for (int i = 0; i < 3; i++)
		if (s->stdio[i] >= 0)
			TRY(plan_fd(p, s->stdio[i], i, n_targets, err));
	if (s->stdio[0] < 0 && posix_spawn_file_actions_addopen(&p->actions, 0, "/dev/null", O_RDONLY, 0))
		abort();
	for (unsigned i = 0; i < s->n_keep; i++)
		TRY(plan_fd(p, s->keep[i], 3 + (int)i, n_targets, err));
	if (posix_spawn_file_actions_addclosefrom_np(&p->actions, n_targets))
		abort();
	if (s->cwd && posix_spawn_file_actions_addchdir_np(&p->actions, s->cwd))
		abort();
	return 0;
}

/* Default signal actions and an empty mask: what a program expects, whatever this process has set up for itself. */
static void plan_attr(struct spawn_plan *p, const struct spawn *s)
{
	short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	sigset_t all, none;

	memset(&all, 0xff, sizeof(all)); /* sigfillset leaves out glibc's own two, and the child would ignore those */
	sigemptyset(&none);
	posix_spawnattr_setsigdefault(&p->attr, &all);
	posix_spawnattr_setsigmask(&p->attr, &none);
	if (s->detach)
		flags |= POSIX_SPAWN_SETSID;
	else if (s->new_group)
		flags |= POSIX_SPAWN_SETPGROUP; /* 0: a group of its own */
	posix_spawnattr_setflags(&p->attr, flags);
}

int spawn_start(const struct spawn *s, pid_t *pid, struct err *err)
{
	AUTO(spawn_plan) struct spawn_plan p;
	char *const *envp = (char *const *)(s->envp ? s->envp : (const char *const *)environ);
	int r;

	spawn_plan_init(&p);
	TRY(plan_fds(&p, s, err));
	plan_attr(&p, s);
	/* glibc runs the child on our memory until it execs (CLONE_VFORK), so the cost does not grow with our size,
	 * only async-signal-safe code runs in between, and a failed exec is reported here. */
	r = posix_spawnp(pid, s->argv[0], &p.actions, &p.attr, (char *const *)s->argv, envp);
	if (r)
		return err_errno(err, r, "start %s", s->argv[0]);
	return 0;
}

int spawn_wait(pid_t pid, int *status, struct err *err)
{
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return err_errno(err, errno, "wait for process %d", (int)pid);
	return 0;
}

int program_path(char **out, struct err *err)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));

	if (n < 0)
		return err_errno(err, errno, "read /proc/self/exe");
	*out = xstrndup(path, (size_t)n);
	return 0;
}

bool program_is(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int program_find(const char *name, char **out, struct err *err)
{
	struct str rest = str_of(getenv("PATH") ?: ""), dir;

	while (str_split(&rest, ':', &dir)) {
		AUTO_FREE char *path = NULL;

		if (!dir.n || dir.p[0] != '/')
			continue;
		path = xasprintf(STR_FMT "/%s", STR_ARG(dir), name);
		if (!program_is(path))
			continue;
		*out = STEAL(path);
		return 0;
	}
	return err_set(err, ERR_NOT_FOUND, "there is no program %s in PATH", name);
}
