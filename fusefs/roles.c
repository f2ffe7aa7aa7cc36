#include "fusefs/roles.h"

#include "base/clock.h"
#include "base/unix.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* A description of the lock file that is this process's alone: locks of the ordinary kind would go with the first of the
 * handed-over copies of lock_fd that is closed. */
static int open_again(int lock_fd, struct err *err)
{
	char self[32];
	int fd;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", lock_fd);
	fd = open(self, O_RDWR | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "open the lock file") : fd;
}

int ffs_role_lock(int lock_fd, int byte, int64_t patience_ns, struct err *err)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	int64_t until = clock_mono_ns() + patience_ns;
	AUTO_FD int fd = open_again(lock_fd, err);

	if (fd < 0)
		return fd;
	while (fcntl(fd, F_OFD_SETLK, &l) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return err_errno(err, errno, "lock");
		if (clock_mono_ns() >= until)
			return err_set(err, ERR_EXISTS, "another %s runs",
			               byte == FFS_LOCK_HOLDER ? "holder" : "worker");
		usleep(2000);
	}
	STEAL_FD(fd); /* the lock lasts as long as the process */
	return 0;
}

static bool names_a_role(const char *arg)
{
	return !strcmp(arg, "--resume") || !strcmp(arg, "--adopt") || !strcmp(arg, "--worker");
}

/* How many arguments, from this one on, are about the log: a successor's log is as ours is now, not as it was then. */
static int n_about_log(const char *arg)
{
	static const char *const names[] = {"--log-level", "--log-format"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct str rest = str_of(arg);

		if (str_skip(&rest, str_of(names[i])) && (!rest.n || rest.p[0] == '='))
			return rest.n ? 1 : 2;
	}
	return 0;
}

int ffs_role_start(const struct ffs_options *opts, const char *role, const struct ffs_kept *kept, const int *more,
                   unsigned n_more, pid_t *pid, struct err *err)
{
	int keep[8] = {kept->fuse, kept->state, kept->creds, kept->listen, kept->lock};
	AUTO_FREE char *level = xasprintf("--log-level=%s", log_level_name(log_level_get()));
	VEC(const char *) args = VEC_INIT;
	char self[4096];
	ssize_t n;
	int r;

	/* The program as it was when it started, also when its file was replaced meanwhile. */
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = 0;
	vec_push(&args, access(self, X_OK) == 0 ? self : "/proc/self/exe");
	for (int i = 1; i < opts->argc; i++) {
		int skip = n_about_log(opts->argv[i]);

		if (skip)
			i += skip - 1;
		else if (!names_a_role(opts->argv[i]))
			vec_push(&args, opts->argv[i]);
	}
	vec_push(&args, level);
	vec_push(&args, log_is_json() ? "--log-format=json" : "--log-format=text");
	vec_push(&args, role);
	vec_push(&args, NULL);
	for (unsigned i = 0; i < n_more; i++)
		keep[5 + i] = more[i];
	r = spawn_start(
	    &(struct spawn){
		.argv = args.p, .cwd = "/", .stdio = {-1, -1, -1}, .keep = keep, .n_keep = 5 + n_more, .detach = true},
	    pid, err);
	vec_fini(&args);
	return r;
}

int ffs_log_reopen(const char *state, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/contentfs.log", state);
	struct stat st;

	return fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) ? log_reopen(path, err) : 0;
}

int ffs_kept_take(struct ffs_kept *out, struct err *err)
{
	for (int fd = FFS_FD_FUSE; fd < FFS_FDS_KEPT; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			return err_errno(err, errno, "descriptor %d, which an earlier instance should have left", fd);
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	*out = (struct ffs_kept){FFS_FD_FUSE, FFS_FD_STATE, FFS_FD_CREDS, FFS_FD_LISTEN, FFS_FD_LOCK};
	return 0;
}
