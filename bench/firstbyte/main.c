/*
 * firstbyte: runs a command and says when the first byte of its standard output came, for measuring the start of a
 * program from outside of it. At that moment it also asks a netproxy to keep its counters under a name.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/unix.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#define ANSWER_MAX_BYTES (4u << 20)

const char *argp_program_version = "firstbyte " CONTENTD_VERSION;

struct options {
	const char *out, *control, *mark;
	char **command;
};

struct result {
	int64_t start_ns, first_byte_ns; /* CLOCK_MONOTONIC; first_byte_ns 0 = it never came */
	int64_t end_ns;
	uint64_t output_bytes;
	int status; /* as a shell says it: 128 + the signal that ended it */
};

enum { OPT_OUT = 256, OPT_CONTROL, OPT_MARK };

static const struct argp_option option_table[] = {
    {"out", OPT_OUT, "FILE", 0, "write the times here, as JSON", 0},
    {"control", OPT_CONTROL, "SOCKET", 0, "a netproxy's control socket", 0},
    {"mark", OPT_MARK, "NAME", 0, "what it calls its counters at the first byte (default ready)", 0},
    {0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case OPT_OUT:
		o->out = arg;
		return 0;
	case OPT_CONTROL:
		o->control = arg;
		return 0;
	case OPT_MARK:
		o->mark = arg;
		return 0;
	case ARGP_KEY_ARG:
		o->command = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no command");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
    .options = option_table,
    .parser = on_option,
    .args_doc = "COMMAND [ARG...]",
    .doc = "Runs a command, passes its standard output on, and says how long the first byte of it took. Exits with the "
	   "command's status.",
};

/* The connection stands before the command starts, so that the mark costs one message. */
static int set_mark(int fd, const char *name, struct err *err)
{
	AUTO_FREE char *line = xasprintf("mark %s\n", name);
	AUTO(buf) struct buf answer = BUF_INIT;

	TRY(fd_write_all(fd, str_of(line), err));
	TRY(fd_read_all(fd, ANSWER_MAX_BYTES, &answer, err));
	if (!answer.n || str_starts(buf_str(&answer), STR("{\"error\"")))
		return err_set(err, ERR_UNAVAILABLE, "netproxy keeps no mark: %s", buf_cstr(&answer));
	return 0;
}

/* Passes output on until it ends; the mark is set before the first byte goes further. */
static int copy_output(int from, int control_fd, const struct options *o, struct result *res, struct err *err)
{
	char bytes[65536];

	for (;;) {
		ssize_t got = read(from, bytes, sizeof(bytes));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(err, errno, "read the command's output");
		if (got == 0)
			return 0;
		if (!res->first_byte_ns) {
			res->first_byte_ns = clock_mono_ns();
			if (control_fd >= 0)
				TRY(set_mark(control_fd, o->mark, err));
		}
		res->output_bytes += (uint64_t)got;
		TRY(fd_write_all(STDOUT_FILENO, str_make(bytes, (size_t)got), err));
	}
}

static int measure(const struct options *o, struct result *res, struct err *err)
{
	AUTO_FD int control_fd = -1;
	AUTO_FD int in = -1;
	AUTO_FD int out = -1;
	int pipes[2], wait_status;
	struct spawn s = {.argv = (const char *const *)o->command};
	pid_t pid;
	int r;

	if (o->control)
		TRY(unix_connect(o->control, SOCK_STREAM, &control_fd, err));
	if (pipe2(pipes, O_CLOEXEC))
		return err_errno(err, errno, "pipe");
	in = pipes[0];
	out = pipes[1];
	s.stdio[0] = STDIN_FILENO;
	s.stdio[1] = out;
	s.stdio[2] = STDERR_FILENO;
	res->start_ns = clock_mono_ns();
	TRY(spawn_start(&s, &pid, err));
	close(STEAL_FD(out));
	r = copy_output(in, control_fd, o, res, err);
	TRY(spawn_wait(pid, &wait_status, r < 0 ? NULL : err));
	res->end_ns = clock_mono_ns();
	res->status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
	return r;
}

static void w_ms(struct json_writer *w, const char *key, int64_t ns)
{
	json_w_key(w, key);
	json_w_double(w, (double)(ns / 1000) / 1000);
}

static int write_result(const struct result *res, const char *path, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &text, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "start_ns", res->start_ns);
	if (res->first_byte_ns)
		w_ms(&w, "first_byte_ms", res->first_byte_ns - res->start_ns);
	w_ms(&w, "total_ms", res->end_ns - res->start_ns);
	json_w_ki64(&w, "output_bytes", (int64_t)res->output_bytes);
	json_w_ki64(&w, "status", res->status);
	json_w_object_end(&w);
	buf_addc(&text, '\n');
	return file_write_atomic(AT_FDCWD, path, buf_str(&text), 0644, err);
}

int main(int argc, char **argv)
{
	struct options o = {.mark = "ready"};
	struct err err = ERR_INIT;
	struct result res = {0};

	log_init("firstbyte", LOG_INFO, false);
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	if (measure(&o, &res, &err) < 0 || (o.out && write_result(&res, o.out, &err) < 0)) {
		log_error("%s", err.msg);
		return 125;
	}
	return res.status;
}
