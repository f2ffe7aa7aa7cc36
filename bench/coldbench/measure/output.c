/* Output of programs: a thread from pipe to file. */
#include "bench/coldbench/measure/output.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

/* Of one program's output, what the file gets: enough to explain a failure, whatever it prints. */
#define FILE_BYTES_MAX (1u << 20)

struct output {
	int in_fd, file_fd;
	size_t file_bytes; /* the thread's: of ours in it */
	int news_fd;       /* readable for good once there is a line, or the end */
	int stop_fd;
	pthread_t thread;
	_Atomic int64_t line_ns;
};

static void output_free(struct output *o)
{
	int fds[] = {o->in_fd, o->file_fd, o->news_fd, o->stop_fd};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(o);
}
static void output_cleanup(struct output **o)
{
	if (*o)
		output_free(*o);
}

/* Without a disk there is no file, but still a line. */
static void keep(struct output *o, struct str bytes)
{
	struct str kept = str_sub(bytes, 0, FILE_BYTES_MAX - o->file_bytes);

	fd_write_all(o->file_fd, kept, NULL);
	o->file_bytes += kept.n;
	if (kept.n && o->file_bytes == FILE_BYTES_MAX)
		fd_write_all(o->file_fd, STR("\n(what the program prints beyond a megabyte is not kept)\n"), NULL);
}

/* How many bytes it was; 0 at the end. */
static size_t pass_on(struct output *o)
{
	char bytes[65536];
	ssize_t n = TEMP_FAILURE_RETRY(read(o->in_fd, bytes, sizeof(bytes)));
	int64_t now_ns = clock_mono_ns();

	if (n <= 0)
		return 0;
	if (!o->line_ns && memchr(bytes, '\n', (size_t)n)) {
		o->line_ns = now_ns;
		eventfd_write(o->news_fd, 1);
	}
	keep(o, str_make(bytes, (size_t)n));
	return (size_t)n;
}

/* What is in the pipe by now, but nothing that comes meanwhile: who floods it may live on. */
static void drain(struct output *o)
{
	int left = 0;

	if (ioctl(o->in_fd, FIONREAD, &left))
		return;
	while (left > 0) {
		size_t n = pass_on(o);

		if (!n)
			return;
		left -= (int)n;
	}
}

static void *run(void *arg)
{
	struct output *o = arg;
	struct pollfd fds[] = {{.fd = o->in_fd, .events = POLLIN}, {.fd = o->stop_fd, .events = POLLIN}};

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents) {
			drain(o);
			break;
		}
		if (!pass_on(o))
			break;
	}
	eventfd_write(o->news_fd, 1);
	return NULL;
}

int output_start(const char *path, struct output **out, int *write_fd, struct err *err)
{
	__attribute__((cleanup(output_cleanup))) struct output *o = xcalloc(1, sizeof(*o));
	AUTO_FD int to = -1;
	int pipes[2], r;

	o->in_fd = o->file_fd = o->news_fd = o->stop_fd = -1;
	if (pipe2(pipes, O_CLOEXEC))
		return err_errno(err, errno, "pipe");
	o->in_fd = pipes[0];
	to = pipes[1];
	o->file_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (o->file_fd < 0)
		return err_errno(err, errno, "open %s", path);
	o->news_fd = eventfd(0, EFD_CLOEXEC);
	o->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (o->news_fd < 0 || o->stop_fd < 0)
		return err_errno(err, errno, "eventfd");
	r = pthread_create(&o->thread, NULL, run, o);
	if (r)
		return err_errno(err, r, "start a thread");
	*write_fd = STEAL_FD(to);
	*out = STEAL(o);
	return 0;
}

int output_wait_line(struct output *o, int64_t deadline_ns, int cancel_fd, int64_t *at_ns, struct err *err)
{
	struct pollfd fds[] = {{.fd = o->news_fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};

	while (!o->line_ns) {
		int64_t left_ns = deadline_ns - clock_mono_ns();
		struct timespec left = {left_ns / NS_PER_S, left_ns % NS_PER_S};

		if (left_ns <= 0)
			return err_set(err, ERR_DEADLINE, "the program has printed no line in time");
		if (ppoll(fds, 2, &left, NULL) < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
		if (o->line_ns)
			break;
		if (fds[0].revents)
			return err_set(err, ERR_UNAVAILABLE, "the program has ended without a line");
		if (fds[1].revents)
			return err_set(err, ERR_CANCELLED, "cancelled");
	}
	*at_ns = o->line_ns;
	return 0;
}

void output_stop(struct output *o)
{
	if (!o)
		return;
	eventfd_write(o->stop_fd, 1);
	pthread_join(o->thread, NULL);
	output_free(o);
}
