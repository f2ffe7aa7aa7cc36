/* Commands that run to their end. */
#include "bench/coldbench/measure/command.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"
#include "bench/coldbench/peers/room.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TAIL_BYTES 4096
#define OUTPUT_BYTES_MAX (64u << 10)
#define TIDY_MS 20000 /* for scripts that have daemons of their own */

int command_start(const struct argv *argv, const char *output, pid_t *out, struct err *err)
{
	AUTO_FD int fd = -1;

	fd = open(output ? output : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, errno, "open %s", output ? output : "/dev/null");
	return room_start(argv, (struct spawn){.stdio = {-1, fd, fd}, .new_group = true}, out, err);
}

char *last_words(const char *path)
{
	char text[TAIL_BYTES + 1];
	AUTO_FD int fd = -1;
	struct str rest, line, last = STR_NONE;
	struct stat st;
	ssize_t n;
	char *words;

	fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &st))
		return xstrdup("");
	n = pread(fd, text, TAIL_BYTES, st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0);
	rest = str_make(text, n > 0 ? (size_t)n : 0);
	while (str_split(&rest, '\n', &line))
		if (str_trim(line).n)
			last = str_trim(line);
	words = xstrndup(last.p ? last.p : "", last.n);
	text_clean(words);
	return words;
}

static int wait_end(int pidfd, int64_t deadline_ns, int cancel_fd, const char *name, struct err *err)
{
	struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};

	for (;;) {
		int64_t left_ms = (deadline_ns - clock_mono_ns()) / NS_PER_MS + 1;

		if (poll(p, 2, left_ms < 1 ? 0 : left_ms > 60000 ? 60000 : (int)left_ms) < 0 && errno != EINTR)
			return err_errno(err, errno, "wait for %s", name);
		if (p[0].revents)
			return 0;
		if (p[1].revents)
			return err_set(err, ERR_CANCELLED, "%s was stopped", name);
		if (left_ms <= 0)
			return err_set(err, ERR_DEADLINE, "%s has not ended in time", name);
	}
}

/* Not reaped yet, so that the group is still its own. */
static void end_group(pid_t pid, int pidfd)
{
	kill(-pid, SIGTERM);
	poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, TIDY_MS);
	kill(-pid, SIGKILL);
}

/* Waits for it, or ends it, and reaps it. */
static int finish(pid_t pid, const char *name, int64_t deadline_ns, int cancel_fd, int *status, struct err *err)
{
	AUTO_FD int pidfd = pidfd_open(pid, 0);
	int r =
	    pidfd < 0 ? err_errno(err, errno, "watch %s", name) : wait_end(pidfd, deadline_ns, cancel_fd, name, err);

	if (r < 0)
		end_group(pid, pidfd);
	TRY(spawn_wait(pid, status, r < 0 ? NULL : err));
	return r;
}

int command_wait(pid_t pid, const struct argv *argv, const char *output, int64_t deadline_ns, int cancel_fd,
                 struct err *err)
{
	int status;

	TRY(finish(pid, argv->p[0], deadline_ns, cancel_fd, &status, err));
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		AUTO_FREE char *words = last_words(output);

		if (WIFSIGNALED(status))
			return err_set(err, ERR_INTERNAL, "%s was ended by signal %d%s%s", argv->p[0], WTERMSIG(status),
			               *words ? ": " : "", words);
		return err_set(err, ERR_INTERNAL, "%s ended with status %d%s%s", argv->p[0], WEXITSTATUS(status),
		               *words ? ": " : "", words);
	}
	return 0;
}

int command_run(const struct argv *argv, const char *output, int64_t deadline_ns, int cancel_fd, struct err *err)
{
	pid_t pid;

	TRY(command_start(argv, output, &pid, err));
	return command_wait(pid, argv, output, deadline_ns, cancel_fd, err);
}

int command_output(const struct argv *argv, bool with_errors, int64_t deadline_ns, int cancel_fd, struct buf *out,
                   int *status, struct err *err)
{
	AUTO_FD int fd = memfd_create("output", MFD_CLOEXEC);
	pid_t pid;
	int end;

	if (fd < 0)
		return err_errno(err, errno, "memfd_create");
	TRY(room_start(argv, (struct spawn){.stdio = {-1, fd, with_errors ? fd : -1}, .new_group = true}, &pid, err));
	TRY(finish(pid, argv->p[0], deadline_ns, cancel_fd, &end, err));
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "lseek");
	*status = WIFEXITED(end) ? WEXITSTATUS(end) : 128 + WTERMSIG(end);
	TRY_WRAP(fd_read_all(fd, OUTPUT_BYTES_MAX, out, err), err, "output of %s", argv->p[0]);
	return 0;
}

int program_beside(const char *name, char **out, struct err *err)
{
	static const char *const places[] = {"", "../bin/"};
	AUTO_FREE char *own = NULL;

	TRY(program_path(&own, err));
	*strrchr(own, '/') = 0;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		AUTO_FREE char *path = xasprintf("%s/%s%s", own, places[i], name);

		if (access(path, X_OK))
			continue;
		*out = STEAL(path);
		return 0;
	}
	return err_set(err, ERR_NOT_FOUND, "no program %s in %s", name, own);
}
