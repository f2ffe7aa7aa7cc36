#include "rpc/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/unix.h"
#include "base/vec.h"
#include "rpc/acceptor.h"
#include "rpc/h2.h"
#include "rpc/io.h"

#include <assert.h>
#include <errno.h>

#define READ_BYTES (256u << 10)
#define WRITE_BYTES (256u << 10)
#define READS_PER_EVENT 8 /* then other connections have their turn */
#define REFUSED_MAX 32    /* connections at a time that may not call, and are told so */

/* A connection; the I/O thread's. */
struct conn {
	struct rpc_server *s;
	struct conn *next, *prev, *next_dirty;
	int fd;
	pid_t pid; /* of the peer, for messages */
	struct loop_io *io;
	struct h2_conn *h2;
	struct buf out;
	size_t out_at;
	bool waits_to_write, is_dirty;
	bool refused;                /* it may not call */
	struct loop_timer *greeting; /* until the client has said that it speaks HTTP/2; when refused, to the end */
};

struct rpc_server {
	struct rpc_server_opts opts;
	struct h2_env env;
	struct rpc_io *io; /* NULL until started */

	/* The I/O thread's, from the start on. */
	struct acceptor acceptor;
	struct conn *conns, *dirty;
	unsigned n_conns, n_refused; /* the latter are not among the former */
	struct buf in;               /* READ_BYTES of room */
	bool stopping;

	pthread_mutex_t lock;
	pthread_cond_t idle_cond;
	bool idle; /* guarded by lock: stopping, and no call is open */
};

/* ---- connections ---- */

static void conn_close(struct conn *c)
{
	struct rpc_server *s = c->s;

	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	for (struct conn **at = &s->dirty; c->is_dirty && *at; at = &(*at)->next_dirty)
		if (*at == c) {
			*at = c->next_dirty;
			break;
		}
	if (c->refused)
		s->n_refused--;
	else
		s->n_conns--;
	if (c->greeting)
		loop_timer_free(c->greeting);
	loop_io_free(c->io);
	h2_conn_free(c->h2);
	close(c->fd);
	buf_fini(&c->out);
	free(c);
}

static void conn_fail(struct conn *c, const struct err *err)
{
	log_debug("rpc: connection of pid %d closed: %s", (int)c->pid, err->msg);
	conn_close(c);
}

static void conn_want_write(struct conn *c, bool want)
{
	if (c->waits_to_write != want)
		loop_io_set(c->io, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
	c->waits_to_write = want;
}

/* Sends what there is; false when the connection is gone. */
static bool conn_flush(struct conn *c)
{
	struct err err = ERR_INIT;

	for (;;) {
		ssize_t n;

		if (c->out_at == c->out.n) {
			buf_clear(&c->out);
			c->out_at = 0;
			if (h2_conn_pull(c->h2, &c->out, WRITE_BYTES, &err) < 0) {
				conn_fail(c, &err);
				return false;
			}
			if (!c->out.n)
				break;
		}
		n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn_want_write(c, true);
			return true;
		}
		if (n < 0) {
			err_errno(&err, errno, "send");
			conn_fail(c, &err);
			return false;
		}
		c->out_at += (size_t)n;
	}
	buf_fini(&c->out);
	conn_want_write(c, false);
	if (h2_conn_done(c->h2)) {
		conn_close(c);
		return false;
	}
	return true;
}

static void check_idle(struct rpc_server *s)
{
	size_t calls = 0;

	if (!s->stopping)
		return;
	for (struct conn *c = s->conns; c; c = c->next)
		calls += h2_conn_calls(c->h2);
	pthread_mutex_lock(&s->lock);
	s->idle = !calls;
	pthread_cond_signal(&s->idle_cond);
	pthread_mutex_unlock(&s->lock);
}

/* Feeds what has arrived; false when the connection is gone. */
static bool conn_read(struct conn *c)
{
	struct rpc_server *s = c->s;
	struct err err = ERR_INIT;

	for (int i = 0; i < READS_PER_EVENT; i++) {
		char *room = buf_reserve(&s->in, READ_BYTES);
		ssize_t n = recv(c->fd, room, READ_BYTES, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			err_errno(&err, n < 0 ? errno : ECONNRESET, "receive");
			conn_fail(c, &err);
			return false;
		}
		if (h2_conn_feed(c->h2, str_make(room, (size_t)n), &err) < 0) {
			conn_fail(c, &err);
			return false;
		}
		if ((size_t)n < READ_BYTES)
			break;
	}
	if (c->greeting && !c->refused && h2_conn_greeted(c->h2))
		loop_timer_free(STEAL(c->greeting));
	return true;
}

static void on_conn(void *arg, uint32_t events)
{
	struct conn *c = arg;
	struct rpc_server *s = c->s;

	if (!(events & ~(uint32_t)EPOLLOUT) || conn_read(c))
		conn_flush(c);
	check_idle(s);
}

static void on_greeting_over(void *arg)
{
	struct err err = ERR_INIT;
	struct conn *c = arg;

	if (c->refused)
		err_set(&err, ERR_PERMISSION, "it may not call");
	else
		err_set(&err, ERR_DEADLINE, "no HTTP/2 preface and settings in time");
	conn_fail(c, &err);
}

static int conn_watch(struct conn *c, struct err *err)
{
	TRY(loop_io_new(rpc_io_loop(c->s->io), c->fd, EPOLLIN, on_conn, c, &c->io, err));
	TRY(loop_timer_new(rpc_io_loop(c->s->io), on_greeting_over, c, &c->greeting, err));
	loop_timer_set(c->greeting, clock_mono_ns() + c->s->opts.greeting_ns);
	return 0;
}

static void conn_output(void *arg)
{
	struct conn *c = arg;

	if (c->is_dirty)
		return;
	c->is_dirty = true;
	c->next_dirty = c->s->dirty;
	c->s->dirty = c;
}

static void flush_dirty(void *arg)
{
	struct rpc_server *s = arg;
	struct conn *c;

	while ((c = s->dirty)) {
		s->dirty = c->next_dirty;
		c->is_dirty = false;
		conn_flush(c);
	}
	check_idle(s);
}

/* `refusal`: NULL, or why it may not call. */
static int conn_start(struct rpc_server *s, int fd, const struct ucred *peer, const struct err *refusal,
                      struct err *err)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	int r;

	c->s = s;
	c->fd = fd;
	c->pid = peer->pid;
	c->refused = refusal != NULL;
	r = h2_conn_new(&s->env, peer, refusal, conn_output, c, &c->h2, err);
	if (r >= 0)
		r = conn_watch(c, err);
	if (r < 0) {
		if (c->io)
			loop_io_free(c->io);
		h2_conn_free(c->h2);
		free(c);
		return r;
	}
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	if (c->refused)
		s->n_refused++;
	else
		s->n_conns++;
	conn_flush(c);
	return 0;
}

/* Fails with the refusal, as an answer and for the log. */
static int conn_refuse(struct rpc_server *s, TAKE(int) fd, const struct ucred *peer, struct err *refusal)
{
	if (s->n_refused >= REFUSED_MAX || conn_start(s, fd, peer, refusal, NULL) < 0)
		close(fd);
	return err_wrap(refusal, "pid %d", (int)peer->pid);
}

static int conn_open(void *arg, TAKE(int) fd, struct err *err)
{
	struct rpc_server *s = arg;
	AUTO_FD int owned = fd;
	struct ucred peer;

	TRY(unix_peer(fd, &peer, err));
	if (s->opts.allow && s->opts.allow(&peer, fd, s->opts.arg, err) < 0)
		return conn_refuse(s, STEAL_FD(owned), &peer, err);
	if (s->n_conns >= s->opts.max_connections)
		return err_set(err, ERR_EXHAUSTED, "%u connections are open", s->n_conns);
	TRY(conn_start(s, fd, &peer, NULL, err));
	STEAL_FD(owned);
	return 0;
}

/* ---- life ---- */

int rpc_server_new(const struct rpc_server_opts *opts, struct rpc_server **out, struct err *err)
{
	struct rpc_server *s = xcalloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (opts)
		s->opts = *opts;
	if (!s->opts.max_workers)
		s->opts.max_workers = 64;
	if (!s->opts.max_connections)
		s->opts.max_connections = 1024;
	if (!s->opts.greeting_ns)
		s->opts.greeting_ns = 20 * NS_PER_S;
	s->acceptor = (struct acceptor){.name = "rpc", .accept = conn_open, .arg = s};
	h2_env_init(&s->env);
	s->env.hook = (struct rpc_hook){s->opts.before, s->opts.after, s->opts.arg};
	s->env.flush = flush_dirty;
	s->env.flush_arg = s;
	if (s->opts.max_calls)
		s->env.peer_calls_max = s->opts.max_calls;
	if (s->opts.max_message_bytes)
		s->env.max_message_bytes = s->opts.max_message_bytes;
	if (s->opts.max_buffered_bytes) {
		s->env.buffer_soft = s->opts.max_buffered_bytes;
		s->env.buffer_hard = 4 * s->opts.max_buffered_bytes;
		s->env.peer_buffer_max = 8 * s->opts.max_buffered_bytes;
		s->env.peer_unsent_max = 4 * s->opts.max_buffered_bytes;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->idle_cond, &attr);
	pthread_condattr_destroy(&attr);
	*out = s;
	return 0;
}

int rpc_server_add(struct rpc_server *s, const struct rpc_service *svc, struct err *err)
{
	assert(!s->io);
	return rpc_methods_add(&s->env.methods, svc, RPC_CLIENT_STREAM | RPC_SERVER_STREAM | RPC_INLINE | RPC_LONG,
	                       err);
}

int rpc_server_listen(struct rpc_server *s, int fd, struct err *err)
{
	assert(!s->io);
	acceptor_add(&s->acceptor, fd);
	return 0;
}

struct start {
	struct rpc_server *s;
	struct err *err;
	int r;
};

static void start_on_io(void *arg)
{
	struct start *start = arg;
	struct rpc_server *s = start->s;

	start->r = acceptor_start(&s->acceptor, rpc_io_loop(s->io), start->err);
}

int rpc_server_start(struct rpc_server *s, struct err *err)
{
	struct start start = {s, err, 0};

	assert(!s->io);
	TRY(workers_new(s->opts.max_workers, 0, &s->env.workers, err));
	workers_on_calm(s->env.workers, 0, s->opts.calm, s->opts.arg);
	TRY(rpc_io_new(&s->io, err));
	s->env.loop = rpc_io_loop(s->io);
	rpc_io_run(s->io, start_on_io, &start);
	return start.r;
}

static void stop_calls(struct rpc_server *s, bool all)
{
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		h2_conn_stop(c->h2, all);
		conn_flush(c);
	}
	check_idle(s);
}

static void begin_stop(void *arg)
{
	struct rpc_server *s = arg;

	s->stopping = true;
	acceptor_close(&s->acceptor);
	stop_calls(s, false);
}

static void cancel_rest(void *arg)
{
	stop_calls(arg, true);
}

static void close_all(void *arg)
{
	struct rpc_server *s = arg;

	while (s->conns)
		conn_close(s->conns);
}

static void wait_idle(struct rpc_server *s, int64_t until_ns)
{
	struct timespec ts = {until_ns / NS_PER_S, until_ns % NS_PER_S};

	pthread_mutex_lock(&s->lock);
	while (!s->idle)
		if (pthread_cond_timedwait(&s->idle_cond, &s->lock, &ts))
			break;
	pthread_mutex_unlock(&s->lock);
}

void rpc_server_stop(struct rpc_server *s, int64_t grace_ns)
{
	if (!s->io)
		return;
	rpc_io_run(s->io, begin_stop, s);
	if (grace_ns > 0)
		wait_idle(s, clock_mono_ns() + grace_ns);
	rpc_io_run(s->io, cancel_rest, s);
	if (s->opts.cancelled)
		s->opts.cancelled(s->opts.arg);
	/* All calls are finished or cancelled; their handlers return now. */
	workers_end(s->env.workers);
	/* Runs after everything that the handlers have posted. */
	rpc_io_run(s->io, close_all, s);
	rpc_io_free(STEAL(s->io));
	workers_free(STEAL(s->env.workers));
	s->env.loop = NULL;
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s)
		return;
	rpc_server_stop(s, 0);
	workers_free(s->env.workers);
	acceptor_close(&s->acceptor);
	h2_env_fini(&s->env);
	buf_fini(&s->in);
	pthread_cond_destroy(&s->idle_cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
