/* Daemons of engines. */
#include "bench/coldbench/engines/daemon.h"

#include "base/clock.h"
#include "base/unix.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/room.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define ANSWER_NS (30 * NS_PER_S)
#define STOP_MS 10000
#define RETRY_US 20000

static char *log_path(const struct daemon *d, const struct engine *e)
{
	return xasprintf("%s/%s.log", e->dir, d->name);
}

int daemon_start(struct daemon *d, const struct engine *e, const char *name, const struct argv *argv, struct err *err)
{
	AUTO_FREE char *path = NULL;
	AUTO_FD int log = -1;

	*d = (struct daemon){.name = name};
	path = log_path(d, e);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log < 0)
		return err_errno(err, errno, "open %s", path);
	return room_start(argv, (struct spawn){.stdio = {-1, log, log}, .detach = true}, &d->pid, err);
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

int daemon_await(const struct daemon *d, const struct engine *e, const struct argv *question, struct err *err)
{
	int64_t deadline_ns = clock_mono_ns() + ANSWER_NS;
	AUTO_FREE char *path = log_path(d, e);
	AUTO_FREE char *words = NULL;
	bool ended;
	int r;

	do {
		r = command_run(question, NULL, deadline_ns, e->cancel_fd, NULL);
		if (r == -ERR_CANCELLED)
			return err_set(err, ERR_CANCELLED, "stopped");
		if (r >= 0)
			return 0;
		ended = has_ended(d->pid);
		usleep(RETRY_US);
	} while (!ended && clock_mono_ns() < deadline_ns);
	words = last_words(path);
	return err_set(err, ERR_UNAVAILABLE, "%s %s: %s", d->name, ended ? "has ended" : "does not answer", words);
}

void daemon_stop(struct daemon *d)
{
	AUTO_FD int pidfd = -1;
	struct pollfd p;
	int status;

	if (!d->pid)
		return;
	pidfd = pidfd_open(d->pid, 0);
	p = (struct pollfd){.fd = pidfd, .events = POLLIN};
	kill(d->pid, SIGTERM);
	if (poll(&p, 1, STOP_MS) == 0)
		kill(d->pid, SIGKILL);
	spawn_wait(d->pid, &status, NULL);
	d->pid = 0;
}
