#include "contentd/ctl/attach.h"
#include "contentd/ctl/logs.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#define COPY_BYTES 65536
#define DRAIN_NS (1 * NS_PER_S)
#define CTRL_P '\x10'
#define CTRL_Q '\x11'

static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

/* ---- opening ---- */

static int make_fifo(struct attach *a, const char *name, int flags, char **path, int *fd, struct err *err)
{
	*path = xasprintf("%s/%s", a->dir, name);
	if (mkfifo(*path, 0600) < 0)
		return err_errno(err, errno, "make %s", *path);
	*fd = open(*path, flags | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0)
		return err_errno(err, errno, "open %s", *path);
	return 0;
}

static int hold_signals(struct attach *a, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(SIGNALS); i++)
		sigaddset(&set, SIGNALS[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->signal_fd < 0)
		return err_errno(err, errno, "signalfd");
	return 0;
}

int attach_open(struct attach *a, struct err *err)
{
	const char *base = access("/run", W_OK) == 0 ? "/run" : "/tmp";

	a->dir = xasprintf("%s/contentctl-XXXXXX", base);
	if (!mkdtemp(a->dir)) {
		free(a->dir);
		a->dir = NULL;
		return err_errno(err, errno, "make a directory in %s", base);
	}
	TRY(hold_signals(a, err));
	/* Opened for both, so that opening does not wait for the shim. */
	if (a->interactive)
		TRY(make_fifo(a, "stdin", O_RDWR, &a->in_path, &a->in_fd, err));
	TRY(make_fifo(a, "stdout", O_RDONLY, &a->out_path, &a->out_fd, err));
	if (!a->terminal)
		TRY(make_fifo(a, "stderr", O_RDONLY, &a->err_path, &a->err_fd, err));
	a->in_open = a->interactive;
	return 0;
}

/* ---- joining ---- */

/* From its end on, and with what comes later noticed. */
static int join_log(struct attach *a, const char *path, struct err *err)
{
	a->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (a->watch_fd < 0 || inotify_add_watch(a->watch_fd, path, IN_MODIFY | IN_CLOSE_WRITE) < 0)
		return err_errno(err, errno, "watch %s", path);
	a->log_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (a->log_fd < 0 || lseek(a->log_fd, 0, SEEK_END) < 0)
		return err_errno(err, errno, "open %s", path);
	return 0;
}

static int join_fifo(const char *path, int flags, int *fd, struct err *err)
{
	*fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	return *fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}

/* A stream as shims know them: a path, with "fifo://" or "file://" before it or not. */
static const char *stream_path(const char *uri)
{
	struct str path = str_of(uri);

	if (!str_skip(&path, STR("fifo://")))
		str_skip(&path, STR("file://"));
	return path.p;
}

static bool is_kind(const char *path, mode_t kind)
{
	struct stat st;

	return path[0] == '/' && stat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

int attach_join(struct attach *a, const TaskTypes__Process *task, struct err *err)
{
	const char *in = stream_path(task->stdin), *out = stream_path(task->stdout),
		   *errors = stream_path(task->stderr);

	a->joined = true;
	a->terminal = task->terminal;
	if (!is_kind(out, S_IFIFO) && !is_kind(out, S_IFREG))
		return err_set(err, ERR_PRECONDITION, "it writes neither to a FIFO nor to a file%s%s", *out ? ": " : "",
		               out);
	TRY(hold_signals(a, err));
	if (is_kind(out, S_IFREG))
		return join_log(a, out, err);
	TRY(join_fifo(out, O_RDONLY, &a->out_fd, err));
	if (!a->terminal && is_kind(errors, S_IFIFO))
		TRY(join_fifo(errors, O_RDONLY, &a->err_fd, err));
	/* For both, as for attach_open: then it does not matter whether the shim has closed its end. */
	if (a->interactive && is_kind(in, S_IFIFO))
		TRY(join_fifo(in, O_RDWR, &a->in_fd, err));
	a->in_open = a->in_fd >= 0;
	return 0;
}

/* ---- waiting ---- */

int attach_wait_ahead(struct attach *a, struct err *err)
{
	Tasks__WaitRequest req = TASKS__WAIT_REQUEST__INIT;

	req.container_id = a->container;
	req.exec_id = a->exec;
	TRY(rpc_stream_open(a->c->client, &tasks__tasks__descriptor, "Wait", NULL, &a->wait, err));
	TRY(rpc_stream_send(a->wait, &req.base, err));
	return rpc_stream_close_send(a->wait, err);
}

/* ---- the terminal ---- */

static void resize(struct attach *a)
{
	Tasks__ResizePtyRequest req = TASKS__RESIZE_PTY_REQUEST__INIT;
	struct winsize w;

	if (!a->terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0)
		return;
	req.container_id = a->container;
	req.exec_id = a->exec;
	req.width = w.ws_col;
	req.height = w.ws_row;
	/* A program that has just ended has no terminal any more. */
	rpc_call(a->c->client, &tasks__tasks__descriptor, "ResizePty", NULL, &req.base, NULL, NULL);
}

static void set_raw(struct attach *a)
{
	struct termios t;

	if (!a->terminal || tcgetattr(STDIN_FILENO, &a->saved) < 0)
		return;
	t = a->saved;
	cfmakeraw(&t);
	a->raw = tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
}

/* ---- copying ---- */

static bool tells_to_leave(int signal)
{
	return signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
}

static void hand_on(struct attach *a, int signal)
{
	Tasks__KillRequest req = TASKS__KILL_REQUEST__INIT;
	struct err err = ERR_INIT;

	if (signal == SIGWINCH) {
		resize(a);
		return;
	}
	if (a->joined && tells_to_leave(signal)) {
		a->left = true;
		a->left_status = signal == SIGINT ? 0 : 128 + (uint32_t)signal;
		return;
	}
	req.container_id = a->container;
	req.exec_id = a->exec;
	req.signal = (uint32_t)signal;
	/* One that has just ended is no news. */
	if (rpc_call(a->c->client, &tasks__tasks__descriptor, "Kill", NULL, &req.base, NULL, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		fprintf(stderr, "contentctl: hand on SIG%s: %s\n", sigabbrev_np(signal) ?: "?", err.msg);
}

static void take_signals(struct attach *a)
{
	struct signalfd_siginfo info;

	while (read(a->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		hand_on(a, (int)info.ssi_signo);
}

/* Moves what is there; closes *fd at the end of the stream. */
static void copy_out(struct attach *a, int *fd, int to)
{
	char bytes[COPY_BYTES];
	ssize_t n;

	while ((n = read(*fd, bytes, sizeof(bytes))) > 0) {
		if (!a->ready_ns)
			a->ready_ns = clock_mono_ns();
		if (fd_write_all(to, str_make(bytes, (size_t)n), NULL) < 0)
			break; /* nobody reads us: the program gets no SIGPIPE for that */
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close(STEAL_FD(*fd));
}

/* What the log has by now. */
static int copy_log(void *arg, struct err *err)
{
	struct attach *a = arg;
	char bytes[COPY_BYTES];
	struct inotify_event e; /* those of a watched file have no name behind them */
	ssize_t n;

	while (read(a->watch_fd, &e, sizeof(e)) == (ssize_t)sizeof(e))
		;
	while ((n = read(a->log_fd, bytes, sizeof(bytes))) > 0)
		TRY(fd_write_all(STDOUT_FILENO, str_make(bytes, (size_t)n), err));
	return 0;
}

/* What we joined keeps its input, for whoever joins next. */
static void end_input(struct attach *a)
{
	Tasks__CloseIORequest req = TASKS__CLOSE_IOREQUEST__INIT;

	a->in_open = false;
	req.container_id = a->container;
	req.exec_id = a->exec;
	req.stdin = true;
	if (!a->joined)
		rpc_call(a->c->client, &tasks__tasks__descriptor, "CloseIO", NULL, &req.base, NULL, NULL);
	close(STEAL_FD(a->in_fd));
}

/* Takes Ctrl-P Ctrl-Q out of what was typed into a terminal that we joined, and all behind it. A Ctrl-P at the end waits
 * for what comes after it; `bytes` has room for one more. */
static size_t take_keys(struct attach *a, char *bytes, size_t n)
{
	char *p;

	if (!a->joined || !a->raw)
		return n;
	if (a->half_left) {
		memmove(bytes + 1, bytes, n++);
		bytes[0] = CTRL_P;
	}
	p = memmem(bytes, n, (char[]){CTRL_P, CTRL_Q}, 2);
	a->left = p != NULL;
	a->half_left = !p && bytes[n - 1] == CTRL_P;
	return p ? (size_t)(p - bytes) : n - a->half_left;
}

static void copy_in(struct attach *a)
{
	char bytes[4096]; /* PIPE_BUF: written whole or not at all */
	struct pollfd room = {.fd = a->in_fd, .events = POLLOUT};
	ssize_t n;

	if (poll(&room, 1, 0) <= 0)
		return;
	n = read(STDIN_FILENO, bytes, sizeof(bytes) - 1);
	if (n > 0 && fd_write_all(a->in_fd, str_make(bytes, take_keys(a, bytes, (size_t)n)), NULL) >= 0)
		return;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	end_input(a);
}

static void serve(struct attach *a, const struct pollfd *p)
{
	if (p[0].revents)
		take_signals(a);
	if (a->out_fd >= 0 && p[1].revents)
		copy_out(a, &a->out_fd, STDOUT_FILENO);
	if (a->err_fd >= 0 && p[2].revents)
		copy_out(a, &a->err_fd, STDERR_FILENO);
	if (a->in_open && p[3].revents)
		copy_in(a);
	if (a->watch_fd >= 0 && p[4].revents)
		copy_log(a, NULL);
}

int attach_run(struct attach *a, uint32_t *status, struct err *err)
{
	set_raw(a);
	resize(a);
	for (;;) {
		AUTO(pb) Tasks__WaitResponse *ended = NULL;
		struct pollfd p[] = {
		    {.fd = a->signal_fd, .events = POLLIN}, {.fd = a->out_fd, .events = POLLIN},
		    {.fd = a->err_fd, .events = POLLIN},    {.fd = a->in_open ? STDIN_FILENO : -1, .events = POLLIN},
		    {.fd = a->watch_fd, .events = POLLIN},
		};
		int r = rpc_stream_try_recv(a->wait, &ended, err);

		if (r == RPC_MESSAGE) {
			*status = ended->exit_status;
			return 0;
		}
		if (r != RPC_AGAIN)
			return r < 0 ? err_wrap(err, "wait for the program")
			             : err_set(err, ERR_INTERNAL, "the daemon ended the wait without an answer");
		TRY(rpc_client_poll(a->c->client, p, ARRAY_LEN(p), INT64_MAX, err));
		serve(a, p);
		if (a->left) {
			*status = a->left_status;
			return 0;
		}
	}
}

void attach_drain(struct attach *a)
{
	int64_t until = clock_mono_ns() + DRAIN_NS;

	/* The shim closes its ends when it has copied all, at the latest when the task is deleted; a reader must not wait
	 * for what holds them open still. */
	while ((a->out_fd >= 0 || a->err_fd >= 0) && clock_mono_ns() < until) {
		struct pollfd p[] = {{.fd = a->out_fd, .events = POLLIN}, {.fd = a->err_fd, .events = POLLIN}};
		int n = poll(p, ARRAY_LEN(p), 50);

		if (n < 0 && errno != EINTR)
			return;
		if (a->out_fd >= 0 && p[0].revents)
			copy_out(a, &a->out_fd, STDOUT_FILENO);
		if (a->err_fd >= 0 && p[1].revents)
			copy_out(a, &a->err_fd, STDERR_FILENO);
	}
	if (a->log_fd >= 0)
		logs_copy_rest(a->log_fd, a->watch_fd, copy_log, a, NULL);
}

void attach_close(struct attach *a)
{
	int *fds[] = {&a->in_fd, &a->out_fd, &a->err_fd, &a->signal_fd, &a->log_fd, &a->watch_fd};
	char **paths[] = {&a->in_path, &a->out_path, &a->err_path};

	if (a->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &a->saved);
	rpc_stream_free(a->wait);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(STEAL_FD(*fds[i]));
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (*paths[i])
			unlink(*paths[i]);
		free(*paths[i]);
	}
	if (a->dir)
		rmdir(a->dir);
	free(a->dir);
	a->dir = NULL;
}
