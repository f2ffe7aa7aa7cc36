#include "bench/netproxy/control.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"

#include <errno.h>
#include <math.h>

#define LINE_MAX_BYTES 4096
#define CLIENTS_MAX 64
#define TIMES_MAX 256 /* in one `at` */
#define ANSWER_TIMEOUT_S 5

struct client {
	struct control *control;
	struct client *next;
	int fd;
	struct loop_io *io;
	struct buf line;
};

struct control {
	struct proxy *proxy;
	char *path;
	int fd;
	struct loop_io *io;
	struct client *clients;
	unsigned n_clients;
};

static int parse_number(const char *text, double max, double *out, struct err *err)
{
	char *end;

	*out = strtod(text, &end);
	if (end == text || *end || !isfinite(*out) || *out < 0 || *out > max)
		return err_set(err, ERR_INVALID, "'%s' is not a number from 0 to %.0f", text, max);
	return 0;
}

int control_parse_network(const char *rtt_ms, const char *mbit, int64_t *rtt_ns, double *out_mbit, struct err *err)
{
	double ms;

	TRY_WRAP(parse_number(rtt_ms, 60e3, &ms, err), err, "round-trip time in ms");
	TRY_WRAP(parse_number(mbit, 1e6, out_mbit, err), err, "bandwidth in Mbit/s");
	*rtt_ns = (int64_t)(ms * NS_PER_MS);
	return 0;
}

static int run_net(struct proxy *p, struct str args, struct err *err)
{
	AUTO_FREE char *rtt_ms = NULL;
	AUTO_FREE char *mbit = NULL;
	struct str word;
	int64_t rtt_ns;
	double rate;

	if (!str_split(&args, ' ', &word) || !args.n)
		return err_set(err, ERR_INVALID, "usage: net RTT_MS MBIT");
	rtt_ms = xstrndup(word.p, word.n);
	mbit = xstrndup(args.p, args.n);
	TRY(control_parse_network(rtt_ms, mbit, &rtt_ns, &rate, err));
	proxy_set_network(p, rtt_ns, rate);
	return 0;
}

static int run_down(struct proxy *p, struct str how, struct err *err)
{
	if (how.n && !str_eqc(how, "reset") && !str_eqc(how, "silent"))
		return err_set(err, ERR_INVALID, "usage: down [reset|silent]");
	proxy_set_down(p, str_eqc(how, "silent") ? PROXY_SILENT : PROXY_RESET);
	return 0;
}

static int run_at(struct proxy *p, struct str args, struct json_writer *w, struct err *err)
{
	int64_t times[TIMES_MAX];
	int64_t now = clock_mono_ns();
	size_t n = 0;
	struct str word;

	while (str_split(&args, ' ', &word)) {
		if (n == TIMES_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d moments", TIMES_MAX);
		if (!str_i64(word, &times[n]) || times[n] < 0)
			return err_set(err, ERR_INVALID, "'" STR_FMT "' is not a time in ns", STR_ARG(word));
		if (times[n] > now)
			return err_set(err, ERR_OUT_OF_RANGE, STR_FMT " ns: that has not come yet", STR_ARG(word));
		n++;
	}
	proxy_write_at(p, times, n, w);
	return 1;
}

/* 1 when it has written its own answer. */
static int run_command(struct proxy *p, struct str line, struct json_writer *w, struct err *err)
{
	struct str args = str_trim(line);
	struct str verb = STR_NONE;

	str_split(&args, ' ', &verb);
	args = str_trim(args);
	if (str_eqc(verb, "stats"))
		return 0;
	if (str_eqc(verb, "mark") && args.n)
		return proxy_mark(p, args, err);
	if (str_eqc(verb, "reset"))
		return proxy_reset_counters(p), 0;
	if (str_eqc(verb, "at") && args.n)
		return run_at(p, args, w, err);
	if (str_eqc(verb, "exchanges"))
		return records_write(&p->records, w), 1;
	if (str_eqc(verb, "fault"))
		return fault_rules_add(&p->faults, args, err);
	if (str_eqc(verb, "clear"))
		return fault_rules_clear(&p->faults), 0;
	if (str_eqc(verb, "net"))
		return run_net(p, args, err);
	if (str_eqc(verb, "down"))
		return run_down(p, args, err);
	if (str_eqc(verb, "up"))
		return proxy_set_down(p, PROXY_UP), 0;
	return err_set(err, ERR_INVALID,
	               "no command '" STR_FMT "' (stats, mark NAME, reset, at NS..., exchanges, fault, clear, net, "
	               "down, up)",
	               STR_ARG(str_trim(line)));
}

void control_execute(struct proxy *p, struct str line, struct buf *answer)
{
	struct err err = ERR_INIT;
	struct json_writer w;
	int r;

	json_writer_init(&w, answer, NULL);
	r = run_command(p, line, &w, &err);
	if (r < 0) {
		json_w_object_begin(&w);
		json_w_kcstr(&w, "error", err.msg);
		json_w_ki64(&w, "code", err.code);
		json_w_object_end(&w);
	} else if (!r) {
		proxy_write_stats(p, &w);
	}
	buf_addc(answer, '\n');
}

static void client_free(struct client *k)
{
	struct control *c = k->control;
	struct client **at = &c->clients;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	c->n_clients--;
	loop_io_free(k->io);
	close(k->fd);
	buf_fini(&k->line);
	free(k);
}

/* Nobody asks for a long answer while something is measured; a client that does not take it within seconds loses it. */
static void client_answer(struct client *k)
{
	const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	AUTO(buf) struct buf answer = BUF_INIT;

	control_execute(k->control->proxy, buf_str(&k->line), &answer);
	setsockopt(k->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	for (size_t at = 0; at < answer.n;) {
		ssize_t put = send(k->fd, answer.p + at, answer.n - at, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			break;
		at += (size_t)put;
	}
}

static void on_client(void *arg, uint32_t events)
{
	struct client *k = arg;
	ssize_t got = recv(k->fd, buf_reserve(&k->line, LINE_MAX_BYTES), LINE_MAX_BYTES, MSG_DONTWAIT);
	char *end;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got > 0)
		k->line.n += (size_t)got;
	end = k->line.n ? memchr(k->line.p, '\n', k->line.n) : NULL;
	if (got > 0 && !end && k->line.n < LINE_MAX_BYTES)
		return;
	if (end) {
		k->line.n = (size_t)(end - k->line.p);
		client_answer(k);
	}
	client_free(k);
}

static void on_accept(void *arg, uint32_t events)
{
	struct control *c = arg;
	struct client *k;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (c->n_clients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	k = xcalloc(1, sizeof(*k));
	*k = (struct client){.control = c, .fd = fd, .next = c->clients};
	c->clients = k;
	c->n_clients++;
	if (loop_io_new(c->proxy->loop, fd, EPOLLIN, on_client, k, &k->io, NULL) < 0)
		client_free(k);
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	while (c->clients)
		client_free(c->clients);
	loop_io_free(c->io);
	if (c->fd >= 0) {
		unlink(c->path);
		close(c->fd);
	}
	free(c->path);
	free(c);
}

static inline void control_cleanup(struct control **c)
{
	control_stop(*c);
}

int control_start(struct proxy *p, const char *path, struct control **out, struct err *err)
{
	AUTO(control) struct control *c = NULL;

	c = xcalloc(1, sizeof(*c));
	*c = (struct control){.proxy = p, .path = xstrdup(path), .fd = -1};
	TRY(unix_listen(path, SOCK_STREAM, 0600, &c->fd, err));
	TRY(loop_io_new(p->loop, c->fd, EPOLLIN, on_accept, c, &c->io, err));
	*out = STEAL(c);
	return 0;
}

int control_ask(const char *path, struct str line, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FD int fd = -1;

	buf_addstr(&text, line);
	buf_addc(&text, '\n');
	TRY(unix_connect(path, SOCK_STREAM, &fd, err));
	TRY(fd_write_all(fd, buf_str(&text), err));
	buf_clear(&text);
	TRY(fd_read_all(fd, CONTROL_ANSWER_MAX_BYTES, &text, err));
	if (!text.n)
		return err_set(err, ERR_UNAVAILABLE, "%s: no answer", path);
	TRY(fd_write_all(STDOUT_FILENO, buf_str(&text), err));
	return str_starts(buf_str(&text), STR("{\"error\"")) ? 1 : 0;
}
