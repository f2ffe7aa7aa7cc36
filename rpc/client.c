#include "rpc/client.h"

#include "base/clock.h"
#include "base/unix.h"
#include "base/vec.h"
#include "rpc/grpc.h"
#include "rpc/msgq.h"
#include "rpc/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <sys/socket.h>

#define STREAM_WINDOW (1u << 20)
#define CONN_WINDOW (16u << 20)
#define QUEUED_MAX (1u << 20)
#define IO_BYTES (256u << 10)
#define EXTRA_MAX 16

struct rpc_stream {
	struct rpc_client *client;
	struct rpc_stream *next, *prev;
	int32_t id;
	const ProtobufCMessageDescriptor *rsp;
	int64_t deadline_ns;
	struct msgq in, out;
	size_t out_offset; /* sent of the first message */
	bool send_closed;
	struct grpc_cutter cutter;
	unsigned http_status;
	int grpc_status; /* -1: none seen */
	struct buf grpc_message;
	size_t held;          /* bytes received for which the server has no new credit yet */
	bool ended, reported; /* there is a status; the caller has got it */
	struct err status;
};

struct metadatum {
	char *key, *value;
};

struct rpc_client {
	int fd;
	nghttp2_session *session;
	struct buf in, out;
	size_t out_at;
	VEC(struct metadatum) md;
	struct rpc_stream *streams;
	struct err dead;   /* the connection is gone: why */
	unsigned n_events; /* messages received and calls ended so far */
};

/* ---- ends ---- */

static void stream_end(struct rpc_stream *s, enum err_code code, const char *message)
{
	if (s->ended)
		return;
	s->ended = true;
	s->client->n_events++;
	msgq_clear(&s->out);
	if (code != ERR_OK)
		err_set(&s->status, code, "%s", message);
}

static void client_die(struct rpc_client *c, const struct err *why)
{
	if (c->dead.code == ERR_OK)
		c->dead = *why;
	for (struct rpc_stream *s = c->streams; s; s = s->next)
		stream_end(s, ERR_UNAVAILABLE, c->dead.msg);
}

/* What the response's headers and trailers say. */
static void stream_end_by_headers(struct rpc_stream *s)
{
	AUTO(buf) struct buf text = BUF_INIT;

	if (s->grpc_status < 0 && s->http_status != 200) {
		buf_addf(&text, "HTTP status %u", s->http_status);
		stream_end(s, grpc_code_from_http(s->http_status), text.p);
	} else if (s->grpc_status < 0) {
		stream_end(s, ERR_INTERNAL, "the server ended the call without a status");
	} else if (s->grpc_status == 0 && grpc_cutter_partial(&s->cutter)) {
		stream_end(s, ERR_INTERNAL, "the answer ends inside a message");
	} else {
		grpc_message_decode(buf_str(&s->grpc_message), &text);
		stream_end(s, s->grpc_status > ERR_UNAUTHENTICATED ? ERR_UNKNOWN : (enum err_code)s->grpc_status,
		           buf_cstr(&text));
	}
}

/* ---- callbacks of the session ---- */

static struct rpc_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *arg)
{
	struct rpc_stream *s = stream_of(session, frame->hd.stream_id);
	struct str key = str_make(name, name_n), v = str_make(value, value_n);
	uint64_t number;

	if (!s)
		return 0;
	if (str_eqc(key, ":status") && str_u64(v, 10, &number)) {
		s->http_status = (unsigned)number;
	} else if (str_eqc(key, "grpc-status")) {
		s->grpc_status = str_u64(v, 10, &number) && number <= ERR_UNAUTHENTICATED ? (int)number : ERR_UNKNOWN;
	} else if (str_eqc(key, "grpc-message")) {
		buf_clear(&s->grpc_message);
		buf_addstr(&s->grpc_message, v);
	}
	return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct rpc_stream *s = stream_of(session, frame->hd.stream_id);

	if (s && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		stream_end_by_headers(s);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	struct rpc_stream *s = stream_of(session, id);
	struct str bytes = str_make(data, n);
	struct err err = ERR_INIT;
	int r = 1;

	nghttp2_session_consume_connection(session, n);
	if (!s || s->ended)
		return 0;
	while (r > 0) {
		AUTO(buf) struct buf message = BUF_INIT;

		r = grpc_cut(&s->cutter, &bytes, GRPC_MESSAGE_MAX, &message, &err);
		if (r > 0) {
			msgq_push(&s->in, &message);
			s->client->n_events++;
		}
	}
	if (r < 0) {
		stream_end(s, err.code, err.msg);
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
		return 0;
	}
	/* A caller that does not read pauses the server. Only whole messages count: one that is larger than the window
	 * gets its credit. */
	if (s->in.bytes <= STREAM_WINDOW)
		nghttp2_session_consume_stream(session, id, n);
	else
		s->held += n;
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *arg)
{
	struct rpc_stream *s = stream_of(session, id);
	char text[64];

	if (!s)
		return 0;
	if (!s->ended) {
		snprintf(text, sizeof(text), "the server has reset the call (HTTP/2 error %u)", error_code);
		stream_end(s, grpc_code_from_h2(error_code), text);
	}
	nghttp2_session_set_stream_user_data(session, id, NULL);
	s->id = 0;
	return 0;
}

static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct rpc_stream *s = stream_of(session, frame->hd.stream_id);

	if (s && frame->hd.type == NGHTTP2_HEADERS)
		stream_end(s, ERR_UNAVAILABLE, nghttp2_strerror(error));
	return 0;
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t n, int flags, void *arg)
{
	struct rpc_client *c = arg;

	if (c->out.n >= IO_BYTES)
		return NGHTTP2_ERR_WOULDBLOCK;
	buf_add(&c->out, data, n);
	return (ssize_t)n;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *dst, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
	struct rpc_stream *s = source->ptr;
	size_t n = 0;

	while (n < max && s->out.head) {
		struct buf *first = &s->out.head->bytes;
		struct str part = str_sub(buf_str(first), s->out_offset, max - n);

		memcpy(dst + n, part.p, part.n);
		n += part.n;
		s->out_offset += part.n;
		if (s->out_offset == first->n) {
			struct buf b = msgq_pop(&s->out);

			buf_fini(&b);
			s->out_offset = 0;
		}
	}
	if (!s->out.head && s->send_closed)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (!n)
		return NGHTTP2_ERR_DEFERRED;
	return (ssize_t)n;
}

/* ---- connection ---- */

static int make_session(struct rpc_client *c, struct err *err)
{
	static const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	int r;

	if (nghttp2_session_callbacks_new(&cb))
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	if (nghttp2_option_new(&opt)) {
		nghttp2_session_callbacks_del(cb);
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	}
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_frame_not_send);
	nghttp2_session_callbacks_set_send_callback(cb, on_send);
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	/* Go's servers send messages that end in a blank as they are. */
	nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(opt, 1);
	r = nghttp2_session_client_new2(&c->session, cb, c, opt);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
	if (r || nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) ||
	    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW))
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	return 0;
}

int rpc_client_new(int fd, struct rpc_client **out, struct err *err)
{
	AUTO(rpc_client) struct rpc_client *c = xcalloc(1, sizeof(*c));
	int flags = fcntl(fd, F_GETFL);

	c->fd = fd;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return err_errno(err, errno, "make the connection non-blocking");
	TRY(make_session(c, err));
	*out = STEAL(c);
	return 0;
}

int rpc_client_connect(const char *path, struct rpc_client **out, struct err *err)
{
	int fd;

	TRY(unix_connect(path, SOCK_STREAM, &fd, err));
	return rpc_client_new(fd, out, err);
}

void rpc_client_free(struct rpc_client *c)
{
	if (!c)
		return;
	nghttp2_session_del(c->session);
	close(c->fd);
	vec_each(&c->md, m) {
		free(m->key);
		free(m->value);
	}
	vec_fini(&c->md);
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

void rpc_client_set_metadata(struct rpc_client *c, const char *key, const char *value)
{
	for (size_t i = 0; i < c->md.n; i++) {
		if (strcmp(c->md.p[i].key, key) != 0)
			continue;
		free(c->md.p[i].key);
		free(c->md.p[i].value);
		vec_swap_remove(&c->md, i);
		break;
	}
	if (value && *value)
		vec_push(&c->md, ((struct metadatum){xstrdup(key), xstrdup(value)}));
}

/* ---- pumping ---- */

/* Writes what can be written without waiting; *blocked when there is more. */
static int client_write(struct rpc_client *c, bool *blocked, struct err *err)
{
	*blocked = false;
	for (;;) {
		ssize_t n;
		int r;

		if (c->out_at == c->out.n) {
			buf_clear(&c->out);
			c->out_at = 0;
			r = nghttp2_session_send(c->session);
			if (r)
				return err_set(err, ERR_INTERNAL, "HTTP/2: %s", nghttp2_strerror(r));
			if (!c->out.n)
				return 0;
		}
		n = send(c->fd, c->out.p + c->out_at, c->out.n - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			*blocked = true;
			return 0;
		}
		if (n < 0)
			return err_set(err, ERR_UNAVAILABLE, "send to the server: %s", strerror(errno));
		c->out_at += (size_t)n;
	}
}

static int client_read(struct rpc_client *c, struct err *err)
{
	char *room = buf_reserve(&c->in, IO_BYTES);
	ssize_t n = recv(c->fd, room, IO_BYTES, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return err_set(err, ERR_UNAVAILABLE, "receive from the server: %s", strerror(errno));
	if (n == 0)
		return err_set(err, ERR_UNAVAILABLE, "the server has closed the connection");
	n = nghttp2_session_mem_recv(c->session, (uint8_t *)room, (size_t)n);
	if (n < 0)
		return err_set(err, ERR_UNAVAILABLE, "HTTP/2: %s", nghttp2_strerror((int)n));
	return 0;
}

/* Ends the calls whose time is over; the earliest deadline of the others. */
static int64_t expire(struct rpc_client *c)
{
	int64_t now = clock_mono_ns(), first = INT64_MAX;

	for (struct rpc_stream *s = c->streams; s; s = s->next) {
		if (s->ended)
			continue;
		if (s->deadline_ns > now) {
			if (s->deadline_ns < first)
				first = s->deadline_ns;
			continue;
		}
		stream_end(s, ERR_DEADLINE, "the server did not answer in time");
		if (s->id)
			nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
	}
	return first;
}

static int timeout_ms(int64_t deadline_ns)
{
	int64_t left;

	if (deadline_ns == INT64_MAX)
		return -1;
	left = deadline_ns - clock_mono_ns();
	if (left <= 0)
		return 0;
	return left > 3600 * NS_PER_S ? 3600000 : (int)((left + NS_PER_MS - 1) / NS_PER_MS);
}

/* One round: write, wait, read. 1 when an extra descriptor is ready, 0 otherwise. */
static int pump(struct rpc_client *c, struct pollfd *extra, size_t n_extra, int64_t deadline_ns, struct err *err)
{
	struct pollfd fds[1 + EXTRA_MAX];
	unsigned n_events = c->n_events;
	int64_t first = expire(c);
	bool blocked;
	int r;

	TRY(client_write(c, &blocked, err));
	/* A call that ended just now: somebody waits to hear it. */
	if (c->n_events != n_events)
		first = 0;
	fds[0] = (struct pollfd){.fd = c->fd, .events = (short)(POLLIN | (blocked ? POLLOUT : 0))};
	for (size_t i = 0; i < n_extra; i++)
		fds[i + 1] = extra[i];
	r = poll(fds, (nfds_t)(1 + n_extra), timeout_ms(first < deadline_ns ? first : deadline_ns));
	if (r < 0 && errno != EINTR)
		return err_errno(err, errno, "poll");
	if (r > 0 && fds[0].revents)
		TRY(client_read(c, err));
	expire(c);
	TRY(client_write(c, &blocked, err));
	for (size_t i = 0; i < n_extra; i++)
		extra[i].revents = r > 0 ? fds[i + 1].revents : 0;
	return r > 0 && r > (fds[0].revents != 0);
}

/* As pump; a connection that breaks ends all calls. */
static int pump_or_die(struct rpc_client *c, struct pollfd *extra, size_t n_extra, int64_t deadline_ns, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	if (c->dead.code != ERR_OK)
		return err_set(err, c->dead.code, "%s", c->dead.msg);
	r = pump(c, extra, n_extra, deadline_ns, &why);
	if (r >= 0)
		return r;
	client_die(c, &why);
	return err_set(err, why.code, "%s", why.msg);
}

static bool anything_to_receive(const struct rpc_client *c)
{
	for (const struct rpc_stream *s = c->streams; s; s = s->next)
		if (s->in.head || (s->ended && !s->reported))
			return true;
	return false;
}

int rpc_client_poll(struct rpc_client *c, struct pollfd *extra, size_t n_extra, int64_t deadline_ns, struct err *err)
{
	int r;

	if (n_extra > EXTRA_MAX)
		return err_set(err, ERR_INVALID, "at most %d descriptors", EXTRA_MAX);
	for (size_t i = 0; i < n_extra; i++)
		extra[i].revents = 0;
	for (;;) {
		if (anything_to_receive(c))
			return 1;
		r = pump_or_die(c, extra, n_extra, deadline_ns, err);
		if (r)
			return r;
		if (!anything_to_receive(c) && clock_mono_ns() >= deadline_ns)
			return 0;
	}
}

/* ---- calls ---- */

#define NV(name_, value_, value_n)                                                                                     \
	((nghttp2_nv){(uint8_t *)(name_), (uint8_t *)(value_), strlen(name_), (value_n), NGHTTP2_NV_FLAG_NONE})

static int submit(struct rpc_stream *s, const char *path, const struct rpc_call_opts *opts, struct err *err)
{
	nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
	VEC(nghttp2_nv) nv = VEC_INIT;
	char timeout[24];
	int32_t id;

	vec_push(&nv, NV(":method", "POST", 4));
	vec_push(&nv, NV(":scheme", "http", 4));
	vec_push(&nv, NV(":path", path, strlen(path)));
	vec_push(&nv, NV(":authority", "localhost", 9));
	vec_push(&nv, NV("te", "trailers", 8));
	vec_push(&nv, NV("content-type", "application/grpc", 16));
	if (s->deadline_ns != INT64_MAX) {
		grpc_timeout_format(s->deadline_ns - clock_mono_ns(), timeout);
		vec_push(&nv, NV("grpc-timeout", timeout, strlen(timeout)));
	}
	for (size_t i = 0; opts && i < opts->n_md; i++)
		vec_push(&nv, NV(opts->md[i].key, opts->md[i].value, strlen(opts->md[i].value)));
	vec_each(&s->client->md, m)
		vec_push(&nv, NV(m->key, m->value, strlen(m->value)));
	id = nghttp2_submit_request(s->client->session, NULL, nv.p, nv.n, &body, s);
	vec_fini(&nv);
	if (id < 0)
		return err_set(err, ERR_UNAVAILABLE, "start a call: %s", nghttp2_strerror(id));
	s->id = id;
	return 0;
}

int rpc_stream_open(struct rpc_client *c, const ProtobufCServiceDescriptor *svc, const char *method,
                    const struct rpc_call_opts *opts, struct rpc_stream **out, struct err *err)
{
	const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(svc, method);
	AUTO_FREE char *path = xasprintf("/%s/%s", (opts ? opts->service : NULL) ?: svc->name, method);
	struct rpc_stream *s;
	int r;

	if (!m)
		return err_set(err, ERR_INVALID, "%s is not a method of its service", path);
	if (c->dead.code != ERR_OK)
		return err_set(err, c->dead.code, "%s", c->dead.msg);
	s = xcalloc(1, sizeof(*s));
	s->client = c;
	s->rsp = m->output;
	s->grpc_status = -1;
	msgq_init(&s->in);
	msgq_init(&s->out);
	s->deadline_ns = opts && opts->deadline_ns ? opts->deadline_ns : INT64_MAX;
	r = submit(s, path, opts, err);
	if (r < 0) {
		free(s);
		return r;
	}
	s->next = c->streams;
	if (s->next)
		s->next->prev = s;
	c->streams = s;
	*out = s;
	return 0;
}

void rpc_stream_free(struct rpc_stream *s)
{
	struct rpc_client *c;
	struct err err = ERR_INIT;
	bool blocked;

	if (!s)
		return;
	c = s->client;
	if (s->id) {
		nghttp2_session_set_stream_user_data(c->session, s->id, NULL);
		/* Also drops a request that was not sent yet, and with it the pointer to this stream. */
		nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
		msgq_clear(&s->out);
		s->send_closed = true;
		if (c->dead.code == ERR_OK && client_write(c, &blocked, &err) < 0)
			client_die(c, &err);
	}
	if (s->prev)
		s->prev->next = s->next;
	else
		c->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	msgq_clear(&s->in);
	msgq_clear(&s->out);
	grpc_cutter_fini(&s->cutter);
	buf_fini(&s->grpc_message);
	free(s);
}

static int stream_status(struct rpc_stream *s, struct err *err)
{
	s->reported = true;
	if (s->status.code == ERR_OK)
		return 0;
	return err_set(err, s->status.code, "%s", s->status.msg);
}

int rpc_stream_send(struct rpc_stream *s, const ProtobufCMessage *msg, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;

	buf_addz(&wire, GRPC_PREFIX_BYTES);
	pb_pack(msg, &wire);
	if (wire.n - GRPC_PREFIX_BYTES > GRPC_MESSAGE_MAX)
		return err_set(err, ERR_EXHAUSTED, "message of %zu bytes exceeds the limit of %u", wire.n,
		               GRPC_MESSAGE_MAX);
	grpc_prefix_put(wire.p, wire.n - GRPC_PREFIX_BYTES);
	while (!s->ended && s->out.bytes > QUEUED_MAX)
		TRY(pump_or_die(s->client, NULL, 0, INT64_MAX, err));
	if (s->ended) {
		TRY(stream_status(s, err));
		return err_set(err, ERR_UNAVAILABLE, "the server has ended the call");
	}
	msgq_push(&s->out, &wire);
	nghttp2_session_resume_data(s->client->session, s->id);
	return 0;
}

int rpc_stream_close_send(struct rpc_stream *s, struct err *err)
{
	s->send_closed = true;
	if (s->id)
		nghttp2_session_resume_data(s->client->session, s->id);
	return 0;
}

static int take_message(struct rpc_stream *s, void *out, struct err *err)
{
	AUTO(buf) struct buf wire = msgq_pop(&s->in);

	if (s->held && s->id && s->in.bytes <= STREAM_WINDOW) {
		nghttp2_session_consume_stream(s->client->session, s->id, s->held);
		s->held = 0;
	}
	TRY(pb_unpack(s->rsp, buf_str(&wire), out, err));
	return RPC_MESSAGE;
}

int rpc_stream_try_recv(struct rpc_stream *s, void *out, struct err *err)
{
	if (s->in.head)
		return take_message(s, out, err);
	if (s->ended) {
		TRY(stream_status(s, err));
		return RPC_END;
	}
	return RPC_AGAIN;
}

int rpc_stream_recv(struct rpc_stream *s, int64_t deadline_ns, void *out, struct err *err)
{
	for (;;) {
		int r = rpc_stream_try_recv(s, out, err);

		if (r != RPC_AGAIN)
			return r;
		if (clock_mono_ns() >= deadline_ns)
			return err_set(err, ERR_DEADLINE, "nothing was received in time");
		/* Its error is the stream's too. */
		pump_or_die(s->client, NULL, 0, deadline_ns, NULL);
	}
}

int rpc_call(struct rpc_client *c, const ProtobufCServiceDescriptor *svc, const char *method,
             const struct rpc_call_opts *opts, const ProtobufCMessage *req, void *rsp, struct err *err)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	AUTO(pb) ProtobufCMessage *answer = NULL, *second = NULL;
	int r;

	TRY(rpc_stream_open(c, svc, method, opts, &s, err));
	TRY(rpc_stream_send(s, req, err));
	TRY(rpc_stream_close_send(s, err));
	r = rpc_stream_recv(s, INT64_MAX, &answer, err);
	if (r == RPC_END)
		return err_set(err, ERR_INTERNAL, "%s: the server sent no answer", method);
	TRY(r);
	r = rpc_stream_recv(s, INT64_MAX, &second, err);
	if (r == RPC_MESSAGE)
		return err_set(err, ERR_INTERNAL, "%s: the server sent two answers", method);
	TRY(r);
	if (rsp)
		*(ProtobufCMessage **)rsp = STEAL(answer);
	return 0;
}
