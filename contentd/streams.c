#include "contentd/streams.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/vec.h"
#include "contentd/daemon.h"
#include "contentd/services.h"
#include "rpc/proto/streaming.pb-c.h"

#include <pthread.h>

#define INBOX_MAX (4u << 20) /* bytes; nobody we talk to sends more than its credit */
#define MESSAGE_BYTES 64u    /* of memory that a message takes besides, so that empty ones count */

struct cd_streams {
	pthread_mutex_t lock;
	struct map open; /* "<namespace><NUL><id>" -> struct cd_stream; lock */
};

/* Held by the handler of its call and by the one who got it. */
struct cd_stream {
	pthread_mutex_t lock;
	pthread_cond_t cond;   /* any change */
	struct rpc_call *call; /* NULL once the handler is about to return; lock */
	unsigned users;        /* threads that use `call` outside of the lock; lock */
	unsigned refs;         /* lock */
	bool taken;            /* somebody got it; lock */
	bool client_done;      /* no more comes from the client; lock */
	VEC(struct buf) inbox; /* messages in wire form, oldest first; lock */
	size_t inbox_bytes;    /* lock */
};

struct cd_streams *cd_streams_new(void)
{
	struct cd_streams *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void cd_streams_free(struct cd_streams *s)
{
	if (!s)
		return;
	map_fini(&s->open);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void unref(struct cd_stream *s)
{
	bool last;

	pthread_mutex_lock(&s->lock);
	last = --s->refs == 0;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	vec_each(&s->inbox, b)
		buf_fini(b);
	vec_fini(&s->inbox);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->cond);
	free(s);
}

/* The call, safe from its handler's return until call_end; NULL when that has begun. */
static struct rpc_call *call_begin(struct cd_stream *s)
{
	struct rpc_call *c;

	pthread_mutex_lock(&s->lock);
	c = s->call;
	if (c)
		s->users++;
	pthread_mutex_unlock(&s->lock);
	return c;
}

static void call_end(struct cd_stream *s)
{
	pthread_mutex_lock(&s->lock);
	s->users--;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the side of the call that uses the stream ---- */

static void stream_key(const char *ns, const char *id, struct buf *out)
{
	buf_adds(out, ns);
	buf_addc(out, '\0');
	buf_adds(out, id);
}

int cd_streams_get(struct cd_streams *s, const char *ns, const char *id, struct cd_stream **out, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct cd_stream *stream;
	bool ok = false;

	stream_key(ns, id, &key);
	pthread_mutex_lock(&s->lock);
	stream = map_get(&s->open, buf_str(&key));
	if (stream) {
		pthread_mutex_lock(&stream->lock);
		ok = !stream->taken;
		stream->taken = true;
		stream->refs += ok;
		pthread_mutex_unlock(&stream->lock);
	}
	pthread_mutex_unlock(&s->lock);
	if (!stream)
		return err_set(err, ERR_NOT_FOUND, "stream \"%.100s\": not found", id);
	if (!ok)
		return err_set(err, ERR_PRECONDITION, "stream \"%.100s\" is in use", id);
	*out = stream;
	return 0;
}

int cd_stream_send(struct cd_stream *s, const ProtobufCMessage *msg, struct err *err)
{
	struct rpc_call *c = call_begin(s);
	struct arena a;
	int r;

	if (!c)
		return err_set(err, ERR_UNAVAILABLE, "the client has closed the stream");
	arena_init(&a, SIZE_MAX);
	r = rpc_send(c, &pb_any_new(&a, msg)->base, err);
	arena_fini(&a);
	call_end(s);
	return r;
}

struct waiting {
	struct cd_stream *stream;
	bool cancelled; /* stream->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->stream->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->stream->cond);
	pthread_mutex_unlock(&w->stream->lock);
}

/* 1 with the oldest message, 0 when none will come any more; -ERR_DEADLINE; -ERR_CANCELLED; -ERR_UNAVAILABLE. */
static int take(struct cd_stream *s, struct waiting *w, int64_t deadline_ns, struct buf *wire)
{
	struct timespec until = {deadline_ns / NS_PER_S, deadline_ns % NS_PER_S};
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (!s->inbox.n && s->call && !s->client_done && !w->cancelled && !r)
		r = deadline_ns == INT64_MAX ? pthread_cond_wait(&s->cond, &s->lock)
		                             : pthread_cond_clockwait(&s->cond, &s->lock, CLOCK_MONOTONIC, &until);
	if (w->cancelled)
		r = -ERR_CANCELLED;
	else if (s->inbox.n) {
		*wire = s->inbox.p[0];
		memmove(&s->inbox.p[0], &s->inbox.p[1], --s->inbox.n * sizeof(*wire));
		s->inbox_bytes -= wire->n + MESSAGE_BYTES;
		r = 1;
	} else if (r)
		r = -ERR_DEADLINE;
	else if (!s->client_done)
		r = -ERR_UNAVAILABLE; /* its call is over, and it never said that this was all */
	pthread_mutex_unlock(&s->lock);
	return r;
}

int cd_stream_recv(struct cd_stream *s, const ProtobufCMessageDescriptor *d, struct rpc_call *on_behalf,
                   int64_t deadline_ns, struct arena *a, void *out, struct err *err)
{
	struct waiting w = {.stream = s};
	AUTO(buf) struct buf wire = BUF_INIT;
	Pb__Any *any;
	int r;

	if (on_behalf)
		rpc_on_cancel(on_behalf, stop_waiting, &w);
	r = take(s, &w, deadline_ns, &wire);
	if (on_behalf)
		rpc_off_cancel(on_behalf, &w);
	if (r == -ERR_CANCELLED)
		return rpc_cancelled(on_behalf, err);
	if (r == -ERR_DEADLINE)
		return err_set(err, ERR_DEADLINE, "the client did not answer on its stream in time");
	if (r == -ERR_UNAVAILABLE)
		return err_set(err, ERR_UNAVAILABLE, "the client's stream broke off");
	if (r <= 0)
		return r;
	TRY(pb_unpack_in(a, &pb__any__descriptor, buf_str(&wire), &any, err));
	TRY(pb_any_unpack_in(a, any, d, out, err));
	return 1;
}

void cd_stream_close(struct cd_stream *s)
{
	struct rpc_call *c;

	if (!s)
		return;
	c = call_begin(s);
	if (c) {
		rpc_recv_stop(c);
		call_end(s);
	}
	unref(s);
}

/* ---- the side of the client ---- */

static int stream_open(struct cd_streams *all, struct rpc_call *c, struct str key, struct cd_stream **out,
                       struct err *err)
{
	struct cd_stream *s = xcalloc(1, sizeof(*s));
	bool exists;

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	s->call = c;
	s->refs = 1;
	pthread_mutex_lock(&all->lock);
	exists = map_has(&all->open, key);
	if (!exists)
		map_put(&all->open, key, s);
	pthread_mutex_unlock(&all->lock);
	if (exists) {
		unref(s);
		return err_set(err, ERR_EXISTS, "the stream: already exists");
	}
	*out = s;
	return 0;
}

/* Nobody gets it any more, whoever has it gets to know, and nobody uses the call behind our back. */
static void stream_end(struct cd_streams *all, struct cd_stream *s, struct str key)
{
	pthread_mutex_lock(&all->lock);
	map_del(&all->open, key);
	pthread_mutex_unlock(&all->lock);
	pthread_mutex_lock(&s->lock);
	s->call = NULL;
	pthread_cond_broadcast(&s->cond);
	while (s->users)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	unref(s);
}

/* The client has said all it wanted to: who got the stream, or is still to get it, may answer, and ends it. */
static int linger(struct rpc_call *c, struct cd_stream *s, struct err *err)
{
	struct waiting w = {.stream = s};

	rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&s->lock);
	s->client_done = true;
	pthread_cond_broadcast(&s->cond);
	while (!w.cancelled && !(s->taken && s->refs == 1))
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	rpc_off_cancel(c, &w);
	return rpc_cancelled(c, err);
}

/* Hands messages on until the client, or who got the stream, has had enough. */
static int pump(struct rpc_call *c, struct cd_stream *s, struct err *err)
{
	for (;;) {
		AUTO(buf) struct buf wire = BUF_INIT;
		bool full;
		int r = rpc_recv_raw(c, &wire, err);

		if (r <= 0)
			return r;
		pthread_mutex_lock(&s->lock);
		full = s->inbox_bytes + wire.n + MESSAGE_BYTES > INBOX_MAX;
		if (!full) {
			s->inbox_bytes += wire.n + MESSAGE_BYTES;
			vec_push(&s->inbox, wire);
			wire = BUF_INIT;
		}
		pthread_cond_broadcast(&s->cond);
		pthread_mutex_unlock(&s->lock);
		if (full)
			return err_set(err, ERR_EXHAUSTED, "more than %u bytes on the stream that nobody takes",
			               INBOX_MAX);
	}
}

static int acknowledge(struct rpc_call *c, struct err *err)
{
	Pb__Empty empty = PB__EMPTY__INIT;

	return rpc_send(c, &pb_any_new(rpc_arena(c), &empty.base)->base, err);
}

static int streaming_stream(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Streaming__StreamInit *init;
	struct cd_daemon *d = svc;
	AUTO(buf) struct buf key = BUF_INIT;
	struct cd_stream *s = NULL;
	const Pb__Any *any;
	const char *ns;
	int r;

	TRY(cd_call_ns(c, &ns, err));
	r = rpc_recv(c, &any, err);
	if (r <= 0)
		return r;
	TRY(pb_any_unpack_in(rpc_arena(c), any, &streaming__stream_init__descriptor, &init, err));
	if (!*init->id)
		return err_set(err, ERR_INVALID, "stream id must not be empty");
	stream_key(ns, init->id, &key);
	TRY(stream_open(d->streams, c, buf_str(&key), &s, err));
	r = acknowledge(c, err);
	if (r >= 0)
		r = pump(c, s, err);
	if (r >= 0)
		r = linger(c, s, err);
	stream_end(d->streams, s, buf_str(&key));
	return r;
}

static const struct rpc_method methods[] = {
    {"Stream", RPC_CLIENT_STREAM | RPC_SERVER_STREAM | RPC_LONG, streaming_stream},
};

const struct rpc_service cd_streaming_service = {&streaming__streaming__descriptor, methods, ARRAY_LEN(methods)};
