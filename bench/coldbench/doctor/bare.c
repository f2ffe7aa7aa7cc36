#include "bench/coldbench/doctor/bare.h"

#include "base/clock.h"
#include "base/unix.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/room.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

double process_cpu_ms(pid_t pid)
{
	struct timespec at;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &at))
		return 0;
	return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / NS_PER_MS;
}

/* Waits for something to read, not longer than until the deadline. */
static int wait_readable(int fd, const struct launch_spec *spec, int64_t deadline_ns, struct err *err)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = spec->cancel_fd, .events = POLLIN}};
	int64_t left_ms;
	int n;

	do {
		left_ms = (deadline_ns - clock_mono_ns()) / NS_PER_MS;
		n = poll(p, 2, left_ms > 0 ? (int)left_ms : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, errno, "wait for the program");
	if (p[1].revents)
		return err_set(err, ERR_CANCELLED, "stopped");
	return n ? 0 : err_set(err, ERR_DEADLINE, "%s: no end in sight", spec->id);
}

/* The first line is whole. */
struct line {
	int64_t at_ns; /* 0: there was none */
	double cpu_ms; /* of this process, by then */
};

/* Reads until the end. */
static int follow_output(int fd, const struct launch_spec *spec, int64_t deadline_ns, struct line *line,
                         struct err *err)
{
	char text[4096];
	ssize_t n;

	*line = (struct line){0};
	for (;;) {
		TRY(wait_readable(fd, spec, deadline_ns, err));
		n = read(fd, text, sizeof(text));
		if (n > 0 && !line->at_ns && memchr(text, '\n', (size_t)n))
			*line = (struct line){clock_mono_ns(), process_cpu_ms(getpid())};
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "read what the program prints");
	}
}

static int spawn_run(const struct launch_spec *spec, const struct argv *run, int *out_fd, pid_t *pid, struct err *err)
{
	AUTO_FD int ours = -1;
	AUTO_FD int theirs = -1;
	AUTO_FD int log = -1;
	int pipes[2];

	log = open(spec->output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log < 0)
		return err_errno(err, errno, "open %s", spec->output);
	if (pipe2(pipes, O_CLOEXEC))
		return err_errno(err, errno, "make a pipe");
	ours = pipes[0];
	theirs = pipes[1];
	TRY(room_start(run, (struct spawn){.stdio = {-1, theirs, log}}, pid, err));
	*out_fd = STEAL_FD(ours);
	return 0;
}

int bare_start(const struct launch_spec *spec, double *ready_ms, double *own_ms, struct err *err)
{
	AUTO(argv) struct argv pull = {0};
	AUTO(argv) struct argv run = {0};
	struct engine *e = spec->engine;
	double begun_cpu_ms = process_cpu_ms(getpid());
	int64_t begun_ns, deadline_ns;
	AUTO_FD int out_fd = -1;
	int followed, status;
	struct line line;
	pid_t pid;

	if (spec->pull)
		TRY(e->kind->pull(e, spec->ref, &pull, err));
	TRY(e->kind->run(e, spec->ref, spec->id, false, spec->args, &run, err));
	begun_ns = clock_mono_ns();
	deadline_ns = begun_ns + spec->timeout_ns;
	if (spec->pull)
		TRY(command_run(&pull, spec->output, deadline_ns, spec->cancel_fd, err));
	TRY(spawn_run(spec, &run, &out_fd, &pid, err));
	followed = follow_output(out_fd, spec, deadline_ns, &line, err);
	if (followed < 0)
		kill(pid, SIGKILL);
	TRY(spawn_wait(pid, &status, followed < 0 ? NULL : err));
	TRY(followed);
	if (!line.at_ns || status) {
		AUTO_FREE char *words = last_words(spec->output);

		return err_set(err, ERR_INTERNAL, "%s ended with status %d: %s", run.p[0], status, words);
	}
	*ready_ms = (double)(line.at_ns - begun_ns) / NS_PER_MS;
	*own_ms = line.cpu_ms - begun_cpu_ms;
	return 0;
}
