#include "base/clock.h"
#include "base/log.h"
#include "base/unix.h"
#include "base/vec.h"
#include "rpc/acceptor.h"
#include "rpc/call.h"
#include "rpc/pb.h"
#include "rpc/ttrpc_link.h"

#include <assert.h>
#include <errno.h>

#define TTRPC_REQUESTS_MAX (64u << 20) /* bytes of the requests of one connection that have no answer yet */

struct conn;

struct call {
	struct rpc_call base;
	struct ttrpc_server *server;
	struct ttrpc_link *link; /* a reference: answers are sent from any thread */
	uint32_t stream_id;
	struct ttrpc_fds fds_in;  /* the handler's */
	struct ttrpc_fds fds_out; /* the handler's */
	size_t request_bytes;     /* as charged to the connection */

	/* The I/O thread's. */
	struct conn *conn; /* NULL once it is no longer listed there */
	struct call *next, *prev;
	struct loop_timer *timer;

	bool finished; /* guarded by base.lock: there is an answer */
};

/* The I/O thread's. */
struct conn {
	struct ttrpc_server *server;
	struct conn *next, *prev;
	struct ttrpc_link *link;
	struct worker_share *share;
	struct call *calls;
	unsigned n_calls;
	size_t request_bytes; /* of its calls */
	uint32_t last_id;
};

struct ttrpc_server {
	struct ttrpc_server_opts opts;
	struct rpc_hook hook;
	struct rpc_methods methods;
	struct workers *workers;
	struct rpc_io *io;
	bool own_io, started;
	VEC(int) adopted; /* before the start */

	/* The I/O thread's, from the start on. */
	struct acceptor acceptor;
	struct conn *conns;
	unsigned n_conns;
	bool stopping;
};

/* ---- answers ---- */

static void send_answer(struct call *c, enum err_code code, const char *message, struct str payload)
{
	AUTO(buf) struct buf frame = BUF_INIT;
	struct err err = ERR_INIT;
	int r;

	ttrpc_put_response(&frame, c->stream_id, code, message, payload);
	r = ttrpc_link_send(c->link, buf_str(&frame), c->fds_out.fd, code == ERR_OK ? c->fds_out.n : 0, &err);
	if (r >= 0 || err.code == ERR_UNAVAILABLE)
		return;
	/* Too long, or its descriptors cannot be sent: say so instead. */
	buf_clear(&frame);
	ttrpc_put_response(&frame, c->stream_id, err.code, err.msg, STR_NONE);
	ttrpc_link_send(c->link, buf_str(&frame), NULL, 0, NULL);
}

/* Takes the call off its connection: on the I/O thread. */
static void unlist(struct call *c)
{
	struct conn *conn = c->conn;

	if (c->timer)
		loop_timer_free(STEAL(c->timer));
	if (!conn)
		return;
	if (c->prev)
		c->prev->next = c->next;
	else
		conn->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	conn->n_calls--;
	conn->request_bytes -= c->request_bytes;
	c->conn = NULL;
	rpc_call_unref(&c->base);
}

static void on_finished(void *arg)
{
	struct call *c = arg;

	unlist(c);
	rpc_call_unref(&c->base);
}

/* True for the one who is to answer. */
static bool claim(struct call *c)
{
	bool first;

	pthread_mutex_lock(&c->base.lock);
	first = !c->finished;
	c->finished = true;
	pthread_mutex_unlock(&c->base.lock);
	return first;
}

/* Failed for no reason but our own end. */
static bool is_left_unanswered(struct call *c, int rc)
{
	bool left;

	pthread_mutex_lock(&c->base.lock);
	left = c->server->opts.quiet_stop && rc < 0 && c->base.cancelled == ERR_UNAVAILABLE;
	pthread_mutex_unlock(&c->base.lock);
	return left;
}

static void call_finish(struct rpc_call *base, int rc, const struct err *err)
{
	struct call *c = (struct call *)base;

	if (claim(c) && !is_left_unanswered(c, rc))
		send_answer(c, rc < 0 ? (enum err_code) - rc : ERR_OK, rc < 0 ? err->msg : NULL, buf_str(&base->reply));
	loop_post(rpc_io_loop(c->server->io), on_finished, rpc_call_ref(base));
}

static void call_free(struct rpc_call *base)
{
	struct call *c = (struct call *)base;

	assert(!c->conn && !c->timer);
	ttrpc_fds_fini(&c->fds_in);
	ttrpc_fds_fini(&c->fds_out);
	ttrpc_link_unref(c->link);
	rpc_call_fini(base);
	free(c);
}

static const struct rpc_call_ops call_ops = {.finish = call_finish, .free = call_free};

/* Ends a call from this side, whatever its handler does: on the I/O thread. */
static void abort_call(struct call *c, enum err_code code, const char *message)
{
	rpc_call_cancel(&c->base, code);
	if (claim(c))
		send_answer(c, code, message, STR_NONE);
}

/* ---- what handlers use ---- */

static struct call *call_of(struct rpc_call *base)
{
	assert(base->ops == &call_ops);
	return (struct call *)base;
}

int ttrpc_call_fd(struct rpc_call *base, unsigned i)
{
	struct call *c = call_of(base);

	return i < c->fds_in.n ? STEAL_FD(c->fds_in.fd[i]) : -1;
}

int ttrpc_reply_fd(struct rpc_call *base, int fd, struct err *err)
{
	AUTO_FD int owned = fd;
	struct call *c = call_of(base);

	if (!ttrpc_link_has_fds(c->link))
		return err_set(err, ERR_PRECONDITION, "descriptors cannot be sent on this connection");
	if (c->fds_out.n == TTRPC_FDS_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d descriptors", TTRPC_FDS_MAX);
	c->fds_out.fd[c->fds_out.n++] = STEAL_FD(owned);
	return 0;
}

static bool room_wanted(struct rpc_call *base)
{
	struct ttrpc_link *link = ((struct call *)base)->link;

	return ttrpc_link_queued(link) <= TTRPC_QUEUED_MAX || !ttrpc_link_alive(link);
}

int ttrpc_progress(struct rpc_call *base, const ProtobufCMessage *msg, struct err *err)
{
	AUTO(buf) struct buf payload = BUF_INIT, frame = BUF_INIT;
	struct call *c = call_of(base);
	int r = 0;

	pthread_mutex_lock(&base->lock);
	if (!base->cancelled && !room_wanted(base))
		r = rpc_call_wait(base, room_wanted, err);
	if (!r)
		r = rpc_call_cancelled_locked(base, err);
	pthread_mutex_unlock(&base->lock);
	TRY(r);
	pb_pack(msg, &payload);
	ttrpc_put_data(&frame, c->stream_id, 0, buf_str(&payload));
	return ttrpc_link_send(c->link, buf_str(&frame), NULL, 0, err);
}

/* ---- requests ---- */

static void on_deadline(void *arg)
{
	struct call *c = arg;

	loop_timer_free(STEAL(c->timer));
	abort_call(c, ERR_DEADLINE, "context deadline exceeded");
}

static struct call *call_new(struct conn *conn, uint32_t stream_id)
{
	struct ttrpc_server *s = conn->server;
	struct call *c = xcalloc(1, sizeof(*c));

	rpc_call_init(&c->base, &call_ops);
	c->base.hook = &s->hook;
	c->base.workers = s->workers;
	c->base.share = conn->share;
	c->base.peer = *ttrpc_link_peer(conn->link);
	c->base.max_message_bytes = ttrpc_link_frame_max(conn->link);
	c->server = s;
	c->link = ttrpc_link_ref(conn->link);
	c->stream_id = stream_id;
	c->conn = conn;
	c->next = conn->calls;
	if (c->next)
		c->next->prev = c;
	conn->calls = c;
	conn->n_calls++;
	return c;
}

static int check_frame(struct conn *conn, const struct ttrpc_frame *f, struct err *err)
{
	if (f->stream_id % 2 == 0)
		return err_set(err, ERR_INVALID, "stream id %u is not odd", f->stream_id);
	if (f->stream_id <= conn->last_id)
		return err_set(err, ERR_INVALID, "stream id %u is not new", f->stream_id);
	conn->last_id = f->stream_id;
	if (f->oversized)
		return err_set(err, ERR_EXHAUSTED, "the request exceeds the limit of %u bytes", TTRPC_FRAME_MAX);
	if (f->flags & TTRPC_REMOTE_OPEN)
		return err_set(err, ERR_UNIMPLEMENTED, "streaming calls are not supported");
	if (conn->server->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
	if (conn->n_calls > conn->server->opts.max_calls)
		return err_set(err, ERR_EXHAUSTED, "more than %u calls are outstanding", conn->server->opts.max_calls);
	if (conn->request_bytes + f->data.n > TTRPC_REQUESTS_MAX)
		return err_set(err, ERR_EXHAUSTED, "requests of more than %u bytes are outstanding",
		               TTRPC_REQUESTS_MAX);
	return 0;
}

/* Fills the call from the request's envelope. */
static int prepare(struct call *c, const struct ttrpc_frame *f, struct err *err)
{
	AUTO(pb) Ttrpc__Request *req = NULL;
	AUTO_FREE char *name = NULL;
	int64_t now = clock_mono_ns();

	TRY(check_frame(c->conn, f, err));
	c->request_bytes = f->data.n;
	c->conn->request_bytes += f->data.n;
	TRY(pb_unpack(&ttrpc__request__descriptor, f->data, &req, err));
	name = xasprintf("%s/%s", req->service, req->method);
	TRY(rpc_methods_find(&c->server->methods, str_of(name), &c->base.method, err));
	for (size_t i = 0; i < req->n_metadata; i++)
		rpc_call_add_metadata(&c->base, str_of(req->metadata[i]->key), str_of(req->metadata[i]->value));
	buf_add(&c->base.request, req->payload.data, req->payload.len);
	if (req->timeout_nano > 0 && req->timeout_nano < INT64_MAX - now) {
		c->base.deadline_ns = now + req->timeout_nano;
		TRY(loop_timer_new(rpc_io_loop(c->server->io), on_deadline, c, &c->timer, err));
		loop_timer_set(c->timer, c->base.deadline_ns);
	}
	return 0;
}

static void on_request(struct conn *conn, const struct ttrpc_frame *f, struct ttrpc_fds *fds)
{
	struct err err = ERR_INIT;
	struct call *c;
	int r;

	if (conn->server->stopping && conn->server->opts.quiet_stop)
		return;
	c = call_new(conn, f->stream_id);
	c->fds_in = *fds;
	fds->n = 0;
	r = prepare(c, f, &err);
	if (r >= 0 && !(c->base.method->flags & RPC_INLINE))
		r = rpc_call_submit(&c->base, &err);
	else if (r >= 0)
		rpc_call_run(&c->base);
	if (r < 0) {
		abort_call(c, err.code, err.msg);
		unlist(c);
	}
}

/* Data frames mean one thing here: the client gives a call up. One for a call that has just ended is no error. */
static void on_data(struct conn *conn, const struct ttrpc_frame *f)
{
	if (f->flags != (TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA))
		return;
	for (struct call *c = conn->calls; c; c = c->next)
		if (c->stream_id == f->stream_id) {
			abort_call(c, ERR_CANCELLED, "the client has cancelled the call");
			return;
		}
}

static void on_frame(void *arg, const struct ttrpc_frame *f, struct ttrpc_fds *fds)
{
	struct conn *conn = arg;

	if (f->type == TTRPC_REQUEST)
		on_request(conn, f, fds);
	else if (f->type == TTRPC_DATA)
		on_data(conn, f);
}

/* ---- connections ---- */

/* Has those look again who wait in ttrpc_progress. */
static void on_drain(void *arg)
{
	struct conn *conn = arg;

	for (struct call *c = conn->calls; c; c = c->next) {
		pthread_mutex_lock(&c->base.lock);
		pthread_cond_broadcast(&c->base.cond);
		pthread_mutex_unlock(&c->base.lock);
	}
}

static void conn_free(struct conn *conn)
{
	struct ttrpc_server *s = conn->server;

	while (conn->calls) {
		rpc_call_cancel(&conn->calls->base, ERR_CANCELLED);
		unlist(conn->calls);
	}
	if (conn->prev)
		conn->prev->next = conn->next;
	else
		s->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	s->n_conns--;
	worker_share_free(conn->share);
	ttrpc_link_close(conn->link);
	free(conn);
}

static void on_close(void *arg, const struct err *why)
{
	struct conn *conn = arg;
	struct ttrpc_server *s = conn->server;
	struct ucred peer = *ttrpc_link_peer(conn->link);

	log_debug("ttrpc: connection of pid %d: %s", (int)peer.pid, why->msg);
	conn_free(conn);
	if (s->opts.on_disconnect)
		s->opts.on_disconnect(&peer, s->opts.arg);
}

static const struct ttrpc_link_ops link_ops = {on_frame, on_drain, on_close, .pause_reading = true};

static int conn_open(void *arg, TAKE(int) fd, struct err *err)
{
	struct ttrpc_server *s = arg;
	struct conn *conn = xcalloc(1, sizeof(*conn));
	const struct ucred *peer;
	int r;

	r = ttrpc_link_new(fd, rpc_io_loop(s->io), &link_ops, conn, &conn->link, err);
	if (r < 0) {
		free(conn);
		return r;
	}
	conn->server = s;
	conn->share = worker_share_new(s->workers);
	conn->next = s->conns;
	if (conn->next)
		conn->next->prev = conn;
	s->conns = conn;
	s->n_conns++;
	peer = ttrpc_link_peer(conn->link);
	if (s->opts.allow && !s->opts.allow(peer, s->opts.arg))
		r = err_set(err, ERR_PERMISSION, "uid %u may not connect", peer->uid);
	else if (s->n_conns > s->opts.max_connections)
		r = err_set(err, ERR_EXHAUSTED, "%u connections are open", s->n_conns - 1);
	if (r >= 0)
		r = ttrpc_link_start(conn->link, err);
	if (r < 0)
		conn_free(conn);
	return r;
}

/* ---- life ---- */

int ttrpc_server_new(const struct ttrpc_server_opts *opts, struct ttrpc_server **out, struct err *err)
{
	AUTO(ttrpc_server) struct ttrpc_server *s = xcalloc(1, sizeof(*s));

	if (opts)
		s->opts = *opts;
	if (!s->opts.max_workers)
		s->opts.max_workers = 64;
	if (!s->opts.max_calls)
		s->opts.max_calls = 1024;
	if (!s->opts.max_connections)
		s->opts.max_connections = 4096;
	s->acceptor = (struct acceptor){.name = "ttrpc", .accept = conn_open, .arg = s};
	s->hook = (struct rpc_hook){s->opts.before, s->opts.after, s->opts.arg};
	s->methods = RPC_METHODS_INIT;
	s->io = s->opts.io;
	*out = STEAL(s);
	return 0;
}

int ttrpc_server_add(struct ttrpc_server *s, const struct rpc_service *svc, struct err *err)
{
	assert(!s->started);
	return rpc_methods_add(&s->methods, svc, RPC_INLINE | RPC_LONG, err);
}

int ttrpc_server_listen(struct ttrpc_server *s, int fd, struct err *err)
{
	assert(!s->started);
	acceptor_add(&s->acceptor, fd);
	return 0;
}

/* Work for the I/O thread, and what came of it. */
struct order {
	struct ttrpc_server *s;
	int fd;
	struct err *err;
	int r;
};

static void adopt_on_io(void *arg)
{
	struct order *o = arg;

	o->r = conn_open(o->s, o->fd, o->err);
}

int ttrpc_server_adopt(struct ttrpc_server *s, int fd, struct err *err)
{
	struct order o = {s, fd, err, 0};

	if (s->started)
		rpc_io_run(s->io, adopt_on_io, &o);
	else
		vec_push(&s->adopted, fd);
	return o.r;
}

static void start_on_io(void *arg)
{
	struct order *o = arg;
	struct ttrpc_server *s = o->s;

	o->r = acceptor_start(&s->acceptor, rpc_io_loop(s->io), o->err);
	while (o->r >= 0 && s->adopted.n)
		o->r = conn_open(s, vec_pop(&s->adopted), o->err);
}

int ttrpc_server_start(struct ttrpc_server *s, struct err *err)
{
	struct order o = {s, -1, err, 0};

	assert(!s->started);
	TRY(workers_new(s->opts.max_workers, 0, &s->workers, err));
	if (!s->io) {
		TRY(rpc_io_new(&s->io, err));
		s->own_io = true;
	}
	s->started = true;
	rpc_io_run(s->io, start_on_io, &o);
	return o.r;
}

static void stop_on_io(void *arg)
{
	struct ttrpc_server *s = arg;

	s->stopping = true;
	acceptor_close(&s->acceptor);
	for (struct conn *conn = s->conns; conn; conn = conn->next)
		for (struct call *c = conn->calls; c; c = c->next)
			if (s->opts.quiet_stop)
				rpc_call_cancel(&c->base, ERR_UNAVAILABLE);
			else
				abort_call(c, ERR_UNAVAILABLE, "the server is stopping");
}

static void close_on_io(void *arg)
{
	struct ttrpc_server *s = arg;

	while (s->conns)
		conn_free(s->conns);
}

void ttrpc_server_stop(struct ttrpc_server *s)
{
	if (!s->started)
		return;
	s->started = false;
	rpc_io_run(s->io, stop_on_io, s);
	workers_end(s->workers);
	/* Runs after what the handlers have posted. */
	rpc_io_run(s->io, close_on_io, s);
	if (s->own_io)
		rpc_io_free(STEAL(s->io));
	s->own_io = false;
	workers_free(STEAL(s->workers));
}

void ttrpc_server_free(struct ttrpc_server *s)
{
	if (!s)
		return;
	ttrpc_server_stop(s);
	workers_free(s->workers);
	acceptor_close(&s->acceptor);
	while (s->adopted.n)
		close(vec_pop(&s->adopted));
	vec_fini(&s->adopted);
	rpc_methods_fini(&s->methods);
	free(s);
}
