#include "bench/coldbench/net/net.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/unix.h"
#include "bench/coldbench/measure/command.h"
#include "bench/netproxy/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#define ANSWER_TIMEOUT_S 20
#define TIMES_PER_LINE 128 /* what a command line has room for */

struct net {
	pid_t pid;
	int tie_fd; /* a pipe to it: it ends with us */
	unsigned port;
	char *address;      /* "127.0.0.1:PORT" */
	char *socket, *log; /* removed at the end */
};

void net_exchange_list_fini(struct net_exchange_list *l)
{
	vec_each(&l->items, e) {
		free(e->method);
		free(e->target);
		free(e->range);
	}
	vec_fini(&l->items);
}

/* --- the process --- */

void net_stop(struct net *n)
{
	int status;

	if (!n)
		return;
	if (n->pid > 0) {
		kill(n->pid, SIGTERM);
		spawn_wait(n->pid, &status, NULL);
	}
	if (n->tie_fd >= 0)
		close(n->tie_fd);
	if (n->socket)
		unlink(n->socket);
	if (n->log)
		unlink(n->log);
	free(n->address);
	free(n->socket);
	free(n->log);
	free(n);
}

const char *net_address(const struct net *n)
{
	return n->address;
}

unsigned net_port(const struct net *n)
{
	return n->port;
}

pid_t net_pid(const struct net *n)
{
	return n->pid;
}

/* Its first line: "listening on port N". */
static int read_port(struct net *n, int fd, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *last = NULL;
	struct str line;
	uint64_t port;

	while (!memchr(buf_cstr(&text), '\n', text.n)) {
		ssize_t got = read(fd, buf_reserve(&text, 100), 100);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || text.n > 100) {
			last = last_words(n->log);
			return err_set(err, ERR_UNAVAILABLE, "netproxy does not start: %s", last);
		}
		text.n += (size_t)got;
	}
	line = str_trim(buf_str(&text));
	if (!str_skip(&line, STR("listening on port ")) || !str_u64(line, 10, &port) || !port || port > 65535)
		return err_set(err, ERR_INTERNAL, "netproxy says '" STR_FMT "'", STR_ARG(line));
	n->port = (unsigned)port;
	n->address = xasprintf("127.0.0.1:%u", n->port);
	return 0;
}

static int start_program(struct net *n, const char *const *argv, struct err *err)
{
	AUTO_FD int log = -1;
	AUTO_FD int out = -1;
	AUTO_FD int said = -1;
	AUTO_FD int tied = -1;
	int ends[2];

	log = open(n->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (log < 0)
		return err_errno(err, errno, "open %s", n->log);
	if (pipe2(ends, O_CLOEXEC))
		return err_errno(err, errno, "pipe2");
	said = ends[0];
	out = ends[1];
	if (pipe2(ends, O_CLOEXEC))
		return err_errno(err, errno, "pipe2");
	tied = ends[0];
	n->tie_fd = ends[1];
	TRY(spawn_start(&(struct spawn){.argv = argv, .stdio = {tied, out, log}, .new_group = true}, &n->pid, err));
	close(STEAL_FD(out));
	return read_port(n, said, err);
}

int net_start(const char *host_port, double rtt_ms, double mbit, const char *dir, struct net **out, struct err *err)
{
	static atomic_uint count;
	unsigned number = atomic_fetch_add(&count, 1);
	AUTO(net) struct net *n = NULL;
	AUTO_FREE char *program = NULL;
	AUTO_FREE char *rtt = xasprintf("%.6f", rtt_ms);
	AUTO_FREE char *rate = xasprintf("%.6f", mbit);

	n = xcalloc(1, sizeof(*n));
	n->tie_fd = -1;
	n->socket = xasprintf("%s/net%u.sock", dir, number);
	n->log = xasprintf("%s/net%u.log", dir, number);
	TRY(program_beside("netproxy", &program, err));
	const char *const argv[] = {program, "--tied", "--realtime", "--to",      host_port, "--rtt-ms",
	                            rtt,     "--mbit", rate,         "--control", n->socket, NULL};
	TRY(start_program(n, argv, err));
	*out = STEAL(n);
	return 0;
}

/* --- commands --- */

/* {"error": "...", "code": N} as an error. */
static int take_error(struct str text, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(text);
	struct str message = STR("unreadable answer");
	uint64_t code = ERR_INTERNAL;
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (json_key_is(key, "error"))
			TRY(json_string(j, &message, err));
		else if (json_key_is(key, "code"))
			TRY(json_u64(j, &code, err));
		else
			TRY(json_skip(j, err));
	}
	TRY(more);
	if (code < ERR_CANCELLED || code > ERR_UNAUTHENTICATED)
		code = ERR_INTERNAL;
	return err_set(err, (enum err_code)code, "netproxy: " STR_FMT, STR_ARG(message));
}

/* Sends a line and gets the answer, which is no error. */
static int command(const struct net *n, const char *line, struct buf *answer, struct err *err)
{
	const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	AUTO_FREE char *text = xasprintf("%s\n", line);
	AUTO_FD int fd = -1;

	if (strchr(line, '\n'))
		return err_set(err, ERR_INVALID, "netproxy: a command is one line");
	TRY(unix_connect(n->socket, SOCK_STREAM, &fd, err));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	TRY_WRAP(fd_write_all(fd, str_of(text), err), err, "netproxy");
	TRY_WRAP(fd_read_all(fd, CONTROL_ANSWER_MAX_BYTES, answer, err), err, "netproxy");
	if (!answer->n || answer->p[answer->n - 1] != '\n')
		return err_set(err, ERR_UNAVAILABLE, "netproxy: no whole answer to '%s'", line);
	if (str_starts(buf_str(answer), STR("{\"error\"")))
		return take_error(buf_str(answer), err);
	return 0;
}

static int order(const struct net *n, const char *line, struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;

	return command(n, line, &answer, err);
}

int net_set(struct net *n, double rtt_ms, double mbit, struct err *err)
{
	AUTO_FREE char *line = xasprintf("net %.6f %.6f", rtt_ms, mbit);

	return order(n, line, err);
}

int net_reset(struct net *n, struct err *err)
{
	return order(n, "reset", err);
}

int net_set_faults(struct net *n, const char *rules, struct err *err)
{
	struct str rest = rules ? str_of(rules) : STR_NONE, rule;

	TRY(order(n, "clear", err));
	while (str_split(&rest, ';', &rule)) {
		AUTO_FREE char *line = xasprintf("fault " STR_FMT, STR_ARG(str_trim(rule)));

		TRY(order(n, line, err));
	}
	return 0;
}

/* --- answers --- */

static int read_counters(struct json_reader *j, struct net_counters *c, struct err *err)
{
	struct str key;
	int more;

	*c = (struct net_counters){0};
	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (json_key_is(key, "time_ns"))
			TRY(json_i64(j, &c->time_ns, err));
		else if (json_key_is(key, "to_server_bytes"))
			TRY(json_u64(j, &c->to_server_bytes, err));
		else if (json_key_is(key, "to_client_bytes"))
			TRY(json_u64(j, &c->to_client_bytes, err));
		else if (json_key_is(key, "connections"))
			TRY(json_u64(j, &c->connections, err));
		else if (json_key_is(key, "requests"))
			TRY(json_u64(j, &c->requests, err));
		else if (json_key_is(key, "round_trips"))
			TRY(json_u64(j, &c->round_trips, err));
		else
			TRY(json_skip(j, err));
	}
	return more;
}

int net_faults(struct net *n, uint64_t *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = NULL;
	AUTO(buf) struct buf answer = BUF_INIT;
	struct str key;
	int more;

	TRY(command(n, "stats", &answer, err));
	j = json_reader_new_take(&answer);
	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (json_key_is(key, "faults"))
			return json_u64(j, out, err);
		TRY(json_skip(j, err));
	}
	return more < 0 ? more : err_set(err, ERR_INTERNAL, "netproxy: no count of faults");
}

static int take_text(struct json_reader *j, char **out, struct err *err)
{
	struct str s;

	TRY(json_string(j, &s, err));
	free(*out);
	*out = xstrndup(s.n ? s.p : "", s.n);
	return 0;
}

static int take_unsigned(struct json_reader *j, unsigned *out, struct err *err)
{
	uint64_t v;

	TRY(json_u64(j, &v, err));
	*out = (unsigned)v;
	return 0;
}

static int read_exchange(struct json_reader *j, struct net_exchange *e, struct err *err)
{
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (json_key_is(key, "method"))
			TRY(take_text(j, &e->method, err));
		else if (json_key_is(key, "target"))
			TRY(take_text(j, &e->target, err));
		else if (json_key_is(key, "range"))
			TRY(take_text(j, &e->range, err));
		else if (json_key_is(key, "status"))
			TRY(take_unsigned(j, &e->status, err));
		else if (json_key_is(key, "begun_ns"))
			TRY(json_i64(j, &e->begun_ns, err));
		else if (json_key_is(key, "first_byte_ns"))
			TRY(json_i64(j, &e->first_byte_ns, err));
		else if (json_key_is(key, "end_ns"))
			TRY(json_i64(j, &e->end_ns, err));
		else if (json_key_is(key, "body_bytes"))
			TRY(json_u64(j, &e->body_bytes, err));
		else if (json_key_is(key, "connection"))
			TRY(take_unsigned(j, &e->connection, err));
		else if (json_key_is(key, "depth"))
			TRY(take_unsigned(j, &e->depth, err));
		else
			TRY(json_skip(j, err));
	}
	TRY(more);
	if (!e->method || !e->target || !e->range)
		return err_set(err, ERR_INTERNAL, "netproxy: an exchange without a request");
	return 0;
}

/* Answers to one line of moments. */
static int ask_at(const struct net *n, const int64_t *times_ns, size_t count, struct net_counters *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = NULL;
	AUTO(buf) struct buf line = BUF_INIT;
	AUTO(buf) struct buf answer = BUF_INIT;
	struct str key;
	size_t got = 0;
	int more;

	buf_adds(&line, "at");
	for (size_t i = 0; i < count; i++)
		buf_addf(&line, " %lld", (long long)times_ns[i]);
	TRY(command(n, buf_cstr(&line), &answer, err));
	j = json_reader_new_take(&answer);
	TRY(json_object_begin(j, err));
	if (json_object_next(j, &key, err) <= 0 || !json_key_is(key, "at"))
		return err_set(err, ERR_INTERNAL, "netproxy: no answer to 'at'");
	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		if (got == count)
			return err_set(err, ERR_INTERNAL, "netproxy: more moments than asked for");
		TRY(read_counters(j, &out[got++], err));
	}
	TRY(more);
	if (got < count)
		return err_set(err, ERR_INTERNAL, "netproxy: fewer moments than asked for");
	return 0;
}

int net_at(struct net *n, const int64_t *times_ns, size_t count, struct net_counters *out, struct err *err)
{
	for (size_t at = 0; at < count; at += TIMES_PER_LINE)
		TRY(ask_at(n, times_ns + at, count - at < TIMES_PER_LINE ? count - at : TIMES_PER_LINE, out + at, err));
	return 0;
}

int net_exchanges(struct net *n, struct net_exchange_list *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = NULL;
	AUTO(buf) struct buf answer = BUF_INIT;
	struct str key;
	int more;

	TRY(command(n, "exchanges", &answer, err));
	j = json_reader_new_take(&answer);
	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (json_key_is(key, "left_out")) {
			TRY(json_u64(j, &out->left_out, err));
			continue;
		}
		if (!json_key_is(key, "exchanges")) {
			TRY(json_skip(j, err));
			continue;
		}
		TRY(json_array_begin(j, err));
		while ((more = json_array_next(j, err)) > 0)
			TRY(read_exchange(j, vec_add(&out->items), err));
		TRY(more);
	}
	return more;
}
