/* When a program is ready, for the signs that somebody has to look for. */
#include "bench/coldbench/measure/ready.h"

#include "base/buf.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define PATH_MAX_BYTES 1024
#define RETRY_NS (200 * NS_PER_US)

/* ---- the label ---- */

static bool take_port(struct str *text, unsigned *out)
{
	ptrdiff_t end = str_find(*text, '/');
	struct str digits = end < 0 ? *text : str_sub(*text, 0, (size_t)end);
	uint64_t port;

	if (!str_u64(digits, 10, &port) || port < 1 || port > 65535)
		return false;
	*out = (unsigned)port;
	*text = str_sub(*text, digits.n, SIZE_MAX);
	return true;
}

/* What may stand in a request line as it is. */
static bool take_path(struct str text, char **out)
{
	if (!str_starts(text, STR("/")) || text.n > PATH_MAX_BYTES)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] <= ' ' || text.p[i] > '~')
			return false;
	*out = xstrndup(text.p, text.n);
	return true;
}

int ready_parse(struct str text, struct ready *out, struct err *err)
{
	struct str rest = text;
	bool ok = true;

	*out = (struct ready){0};
	if (str_eqc(text, "line")) {
		out->kind = READY_LINE;
	} else if (str_eqc(text, "exit")) {
		out->kind = READY_EXIT;
	} else if (str_skip(&rest, STR("tcp:"))) {
		out->kind = READY_TCP;
		ok = take_port(&rest, &out->port) && !rest.n;
	} else if (str_skip(&rest, STR("http:"))) {
		out->kind = READY_HTTP;
		ok = take_port(&rest, &out->port) && take_path(rest, &out->path);
	} else if (str_skip(&rest, STR("file:"))) {
		out->kind = READY_FILE;
		ok = take_path(rest, &out->path);
	} else {
		ok = false;
	}
	if (!ok)
		return err_set(err, ERR_INVALID,
		               "\"" STR_FMT "\" is none of line, exit, tcp:PORT, http:PORT/PATH, file:/PATH",
		               STR_ARG(text));
	return 0;
}

void ready_fini(struct ready *r)
{
	free(r->path);
	*r = (struct ready){0};
}

/* ---- waiting ---- */

struct waiting {
	const struct ready *ready;
	pid_t init;
	int pidfd, cancel_fd;
	int root_fd; /* READY_FILE */
	int64_t deadline_ns;
	int64_t at_ns;
	struct err err;
};

/* Sleeps until `fd` (-1: none) can do that (1), or for a time (0). */
static int sleep_on(struct waiting *w, int fd, short events, int64_t ns)
{
	struct pollfd fds[] = {
	    {.fd = w->pidfd, .events = POLLIN}, {.fd = w->cancel_fd, .events = POLLIN}, {.fd = fd, .events = events}};
	int64_t left_ns = w->deadline_ns - clock_mono_ns();
	struct timespec timeout;

	if (left_ns <= 0)
		return err_set(&w->err, ERR_DEADLINE, "the program is not ready in time");
	if (ns > left_ns)
		ns = left_ns;
	timeout = (struct timespec){ns / NS_PER_S, ns % NS_PER_S};
	if (ppoll(fds, 3, &timeout, NULL) < 0)
		return errno == EINTR ? 0 : err_errno(&w->err, errno, "poll");
	if (fds[2].revents)
		return 1;
	if (fds[1].revents)
		return err_set(&w->err, ERR_CANCELLED, "cancelled");
	if (fds[0].revents)
		return err_set(&w->err, ERR_UNAVAILABLE, "the program has ended before it was ready");
	return 0;
}

static int sleep_for_fd(struct waiting *w, int fd, short events)
{
	int r;

	do
		r = sleep_on(w, fd, events, NS_PER_S);
	while (r == 0);
	return r;
}

/* 1 with a connected socket, 0 when nobody takes the connection. */
static int try_connect(struct waiting *w, int *out)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons((uint16_t)w->ready->port),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	AUTO_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int failed = 0;
	socklen_t n = sizeof(failed);

	if (fd < 0)
		return err_errno(&w->err, errno, "socket");
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a))) {
		if (errno != EINPROGRESS)
			return 0;
		TRY(sleep_for_fd(w, fd, POLLOUT));
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &n) || failed)
			return 0;
	}
	*out = STEAL_FD(fd);
	return 1;
}

/* 1 once the head of a good answer is there; 0 for other answers, and for a connection that ends before it. */
static int try_http(struct waiting *w)
{
	AUTO_FREE char *request =
	    xasprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", w->ready->path);
	AUTO_FD int fd = -1;
	char head[13] = "";
	size_t n = 0;
	int r = try_connect(w, &fd);

	if (r != 1)
		return r;
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
		return 0;
	while (n < sizeof(head) - 1) {
		ssize_t got;

		TRY(sleep_for_fd(w, fd, POLLIN));
		got = recv(fd, head + n, sizeof(head) - 1 - n, 0);
		if (got <= 0)
			return 0;
		n += (size_t)got;
	}
	/* "HTTP/1.1 200" */
	return !strncmp(head, "HTTP/1.", 7) && head[9] >= '1' && head[9] <= '3';
}

static int try_file(struct waiting *w)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	long fd = syscall(SYS_openat2, w->root_fd, w->ready->path, &how, sizeof(how));

	if (fd < 0)
		return 0;
	close((int)fd);
	return 1;
}

static int try_once(struct waiting *w)
{
	AUTO_FD int fd = -1;

	switch (w->ready->kind) {
	case READY_TCP:
		return try_connect(w, &fd);
	case READY_HTTP:
		return try_http(w);
	case READY_FILE:
		return try_file(w);
	default:
		abort(); /* seen by whoever reads the output, or watches the process */
	}
}

static int open_proc(struct waiting *w, const char *name, int flags, int *out)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)w->init, name);
	*out = open(path, flags | O_CLOEXEC);
	if (*out < 0 && (errno == ENOENT || errno == ESRCH))
		return err_set(&w->err, ERR_UNAVAILABLE, "the program has ended before it was ready");
	if (*out < 0)
		return err_errno(&w->err, errno, "open %s", path);
	return 0;
}

static int enter(struct waiting *w)
{
	AUTO_FD int net_fd = -1;

	if (w->ready->kind == READY_FILE)
		return open_proc(w, "root", O_PATH | O_DIRECTORY, &w->root_fd);
	TRY(open_proc(w, "ns/net", O_RDONLY, &net_fd));
	if (setns(net_fd, CLONE_NEWNET))
		return err_errno(&w->err, errno, "enter the container's network namespace");
	return 0;
}

static void *run(void *arg)
{
	struct waiting *w = arg;
	int r = enter(w);

	while (r >= 0) {
		r = try_once(w);
		if (r == 1) {
			w->at_ns = clock_mono_ns();
			break;
		}
		if (r == 0)
			r = sleep_on(w, -1, 0, RETRY_NS);
	}
	return NULL;
}

int ready_wait(const struct ready *r, pid_t init, int64_t deadline_ns, int cancel_fd, int64_t *at_ns, struct err *err)
{
	AUTO_FD int pidfd = pidfd_open(init, 0);
	struct waiting w = {.ready = r,
	                    .init = init,
	                    .pidfd = pidfd,
	                    .cancel_fd = cancel_fd,
	                    .root_fd = -1,
	                    .deadline_ns = deadline_ns};
	pthread_t thread;
	int failed;

	if (pidfd < 0)
		return err_set(err, ERR_UNAVAILABLE, "the program has ended before it was ready");
	failed = pthread_create(&thread, NULL, run, &w);
	if (failed)
		return err_errno(err, failed, "start a thread");
	pthread_join(thread, NULL);
	if (w.root_fd >= 0)
		close(w.root_fd);
	if (!w.at_ns) {
		if (err)
			*err = w.err;
		return -(int)w.err.code;
	}
	*at_ns = w.at_ns;
	return 0;
}
