#include "rpc/h2_call.h"

#include "base/clock.h"

#include <assert.h>
#include <stdio.h>

/* ---- queues; with base.lock held ---- */

static void out_push(struct h2_call *c, TAKE(struct buf *) message)
{
	atomic_fetch_add_explicit(&c->account->unsent, message->n, memory_order_relaxed);
	msgq_push(&c->out, message);
}

static struct buf out_pop(struct h2_call *c)
{
	struct buf b = msgq_pop(&c->out);

	atomic_fetch_sub_explicit(&c->account->unsent, b.n, memory_order_relaxed);
	return b;
}

static void out_clear(struct h2_call *c)
{
	atomic_fetch_sub_explicit(&c->account->unsent, c->out.bytes, memory_order_relaxed);
	msgq_clear(&c->out);
}

/* True when the client has to read before it gets more. Bounds what several calls hold, not exactly: calls that end at
 * the same moment may all find room. */
static bool is_unread(const struct h2_call *c)
{
	return atomic_load_explicit(&c->account->unsent, memory_order_relaxed) > c->env->peer_unsent_max;
}

/* ---- the handler's side (any thread) ---- */

/* Has the I/O thread look at the call. */
static void wake_io(struct h2_call *c)
{
	struct h2_env *env = c->env;
	bool post = false;

	if (!env->loop)
		return;
	pthread_mutex_lock(&env->lock);
	if (!c->is_ready) {
		c->is_ready = true;
		rpc_call_ref(&c->base);
		c->next_ready = env->ready;
		env->ready = c;
		post = !env->posted;
		env->posted = true;
	}
	pthread_mutex_unlock(&env->lock);
	if (post)
		loop_post(env->loop, (void (*)(void *))h2_env_service, env);
}

static bool input_wanted(struct rpc_call *base)
{
	struct h2_call *c = (struct h2_call *)base;

	return c->in.head || c->in_end || base->recv_stopped;
}

static int call_recv(struct rpc_call *base, struct buf *out, struct err *err)
{
	struct h2_call *c = (struct h2_call *)base;
	bool wake = false;
	int r = 0;

	pthread_mutex_lock(&base->lock);
	if (!input_wanted(base) && !base->cancelled)
		r = rpc_call_wait(base, input_wanted, err);
	if (!r)
		r = rpc_call_cancelled_locked(base, err);
	if (!r && c->in.head && !base->recv_stopped) {
		*out = msgq_pop(&c->in);
		c->taken += GRPC_PREFIX_BYTES + out->n;
		wake = c->wants_taken;
		c->wants_taken = false;
		r = 1;
	}
	pthread_mutex_unlock(&base->lock);
	if (wake)
		wake_io(c);
	return r;
}

/* With an empty queue there is always room, so that a stream waits for nobody but its own reader. */
static bool room_wanted(struct rpc_call *base)
{
	const struct h2_call *c = (const struct h2_call *)base;

	return c->out.bytes <= (is_unread(c) ? 0 : H2_QUEUED_MAX);
}

static int call_send(struct rpc_call *base, struct buf *msg, struct err *err)
{
	struct h2_call *c = (struct h2_call *)base;
	int r = 0;

	grpc_prefix_put(msg->p, msg->n - GRPC_PREFIX_BYTES);
	pthread_mutex_lock(&base->lock);
	if (base->workers && !room_wanted(base) && !base->cancelled)
		r = rpc_call_wait(base, room_wanted, err);
	if (!r)
		r = rpc_call_cancelled_locked(base, err);
	if (!r)
		out_push(c, msg);
	pthread_mutex_unlock(&base->lock);
	if (!r)
		wake_io(c);
	return r;
}

/* The first status stays: a call that was aborted keeps that one. */
static void set_status_locked(struct h2_call *c, enum err_code code, const char *message)
{
	if (c->finished)
		return;
	c->finished = true;
	c->code = code;
	if (message && *message)
		c->message = xstrdup(message);
}

static void call_finish(struct rpc_call *base, int rc, const struct err *err)
{
	struct h2_call *c = (struct h2_call *)base;
	const char *message = rc < 0 ? err->msg : NULL;

	pthread_mutex_lock(&base->lock);
	if (rc >= 0 && base->reply.n && is_unread(c)) {
		rc = -(int)ERR_EXHAUSTED;
		message = "too many unread answers";
	}
	if (rc >= 0 && base->reply.n && !c->finished) {
		grpc_prefix_put(base->reply.p, base->reply.n - GRPC_PREFIX_BYTES);
		out_push(c, &base->reply);
	}
	set_status_locked(c, rc < 0 ? (enum err_code) - rc : ERR_OK, message);
	pthread_mutex_unlock(&base->lock);
	if (base->workers && !(base->method->flags & RPC_INLINE))
		wake_io(c);
}

static void call_free(struct rpc_call *base)
{
	struct h2_call *c = (struct h2_call *)base;

	assert(!c->conn && !c->timer);
	msgq_clear(&c->in);
	out_clear(c);
	atomic_fetch_sub(&c->account->calls, 1);
	h2_peer_unref(c->account);
	grpc_cutter_fini(&c->cutter);
	free(c->path);
	free(c->content_type);
	free(c->encoding);
	free(c->message);
	rpc_call_fini(base);
	free(c);
}

static const struct rpc_call_ops ops = {call_recv, call_send, call_finish, call_free};

/* ---- life on the I/O thread ---- */

struct h2_call *h2_call_new(struct h2_conn *conn, int32_t stream_id)
{
	struct h2_call *c = xcalloc(1, sizeof(*c));

	rpc_call_init(&c->base, &ops);
	c->base.hook = &conn->env->hook;
	c->base.workers = conn->env->workers;
	c->base.share = conn->share;
	c->base.peer = conn->peer;
	c->base.max_message_bytes = conn->env->max_message_bytes;
	c->base.reply_prefix_bytes = GRPC_PREFIX_BYTES;
	c->env = conn->env;
	c->account = h2_peer_ref(conn->account);
	atomic_fetch_add(&c->account->calls, 1);
	c->conn = conn;
	c->stream_id = stream_id;
	msgq_init(&c->in);
	msgq_init(&c->out);
	c->next = conn->calls;
	if (c->next)
		c->next->prev = c;
	conn->calls = c;
	conn->n_calls++;
	return c;
}

static void relax(struct h2_conn *conn);

static void discharge(struct h2_call *c, size_t n)
{
	c->charged -= n;
	c->conn->buffered -= n;
	c->account->buffered -= n;
}

static void timer_drop(struct h2_call *c)
{
	if (c->timer)
		loop_timer_free(c->timer);
	c->timer = NULL;
}

void h2_call_close(struct h2_call *c)
{
	struct h2_conn *conn = c->conn;

	timer_drop(c);
	discharge(c, c->charged);
	if (conn->privileged == c)
		conn->privileged = NULL;
	if (c->prev)
		c->prev->next = c->next;
	else
		conn->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	conn->n_calls--;
	c->conn = NULL;

	pthread_mutex_lock(&c->base.lock);
	if (!c->finished)
		rpc_call_cancel_locked(&c->base, ERR_CANCELLED);
	c->finished = true;
	out_clear(c);
	pthread_mutex_unlock(&c->base.lock);
	rpc_call_unref(&c->base);
	relax(conn);
}

/* ---- request ---- */

void h2_call_header(struct h2_call *c, struct str name, struct str value)
{
	/* As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113, 6.5.2). */
	c->header_bytes += name.n + value.n + 32;
	if (c->header_bytes > H2_HEADERS_MAX)
		return;
	if (str_eqc(name, ":path") && !c->path) {
		c->path = str_dup(value);
	} else if (str_eqc(name, ":method")) {
		c->is_post = str_eqc(value, "POST");
	} else if (str_eqc(name, "content-type") && !c->content_type) {
		c->content_type = str_dup(value);
	} else if (str_eqc(name, "grpc-encoding") && !c->encoding) {
		c->encoding = str_dup(value);
	} else if (str_eqc(name, "grpc-timeout") && !c->has_timeout) {
		int64_t ns, now = clock_mono_ns();

		c->has_timeout = true;
		if (!grpc_timeout_parse(value, &ns))
			c->bad_timeout = true;
		else if (ns < INT64_MAX - now)
			c->base.deadline_ns = now + ns;
	} else if (name.n && name.p[0] != ':') {
		rpc_call_add_metadata(&c->base, name, value);
	}
}

/* A refusal in HTTP's terms, for what is not gRPC at all. */
static void refuse_http(struct h2_call *c, const char *status)
{
	nghttp2_nv nv = {(uint8_t *)":status", (uint8_t *)status, 7, 3, NGHTTP2_NV_FLAG_NONE};

	c->headers_sent = c->status_sent = true;
	pthread_mutex_lock(&c->base.lock);
	c->finished = true;
	pthread_mutex_unlock(&c->base.lock);
	nghttp2_submit_response(c->conn->session, c->stream_id, &nv, 1, NULL);
}

static void on_deadline(void *arg)
{
	struct h2_call *c = arg;
	struct h2_conn *conn = c->conn;
	struct h2_env *env = c->env;

	h2_call_abort(c, ERR_DEADLINE, "context deadline exceeded");
	conn->output(conn->arg);
	env->flush(env->flush_arg);
}

static int arm_deadline(struct h2_call *c, struct err *err)
{
	if (c->base.deadline_ns == INT64_MAX || !c->env->loop)
		return 0;
	TRY(loop_timer_new(c->env->loop, on_deadline, c, &c->timer, err));
	loop_timer_set(c->timer, c->base.deadline_ns);
	return 0;
}

static int check_headers(struct h2_call *c, struct err *err)
{
	if (c->conn->refusal)
		return err_set(err, c->conn->refusal->code, "%s", c->conn->refusal->msg);
	if (c->header_bytes > H2_HEADERS_MAX)
		return err_set(err, ERR_EXHAUSTED, "request headers exceed %d bytes", H2_HEADERS_MAX);
	if (c->bad_timeout)
		return err_set(err, ERR_INTERNAL, "malformed grpc-timeout");
	if (c->encoding && strcmp(c->encoding, "identity") != 0)
		return err_set(err, ERR_UNIMPLEMENTED, "grpc: Decompressor is not installed for grpc-encoding \"%s\"",
		               c->encoding);
	if (atomic_load(&c->account->calls) > c->env->peer_calls_max)
		return err_set(err, ERR_EXHAUSTED, "more than %u calls of this client are running",
		               c->env->peer_calls_max);
	if (c->conn->stopping)
		return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
	if (!c->path || c->path[0] != '/')
		return err_set(err, ERR_UNIMPLEMENTED, "malformed method name");
	TRY(rpc_methods_find(&c->env->methods, str_of(c->path + 1), &c->base.method, err));
	return arm_deadline(c, err);
}

static void start(struct h2_call *c)
{
	struct err err = ERR_INIT;

	if (c->base.workers && !(c->base.method->flags & RPC_INLINE)) {
		if (rpc_call_submit(&c->base, &err) < 0)
			h2_call_abort(c, err.code, err.msg);
		return;
	}
	rpc_call_run(&c->base);
	h2_call_service(c);
}

void h2_call_headers_done(struct h2_call *c)
{
	struct err err = ERR_INIT;

	if (c->header_bytes <= H2_HEADERS_MAX && !c->is_post) {
		refuse_http(c, "405");
		return;
	}
	if (c->header_bytes <= H2_HEADERS_MAX && !grpc_content_type_ok(str_of(c->content_type))) {
		refuse_http(c, "415");
		return;
	}
	if (check_headers(c, &err) < 0)
		h2_call_abort(c, err.code, err.msg);
	else if ((c->base.method->flags & RPC_CLIENT_STREAM) && c->base.workers)
		start(c);
}

static bool is_finished(struct h2_call *c)
{
	bool finished;

	pthread_mutex_lock(&c->base.lock);
	finished = c->finished;
	pthread_mutex_unlock(&c->base.lock);
	return finished;
}

void h2_call_input_end(struct h2_call *c)
{
	bool stream;

	if (c->input_ended || is_finished(c))
		return;
	c->input_ended = true;
	stream = c->base.method->flags & RPC_CLIENT_STREAM;
	if (grpc_cutter_partial(&c->cutter)) {
		h2_call_abort(c, ERR_INTERNAL, "the request ends inside a message");
		return;
	}
	if (!stream && c->n_messages != 1) {
		h2_call_abort(c, ERR_INTERNAL, "a unary request has one message");
		return;
	}
	pthread_mutex_lock(&c->base.lock);
	c->in_end = true;
	if (!stream)
		c->base.request = msgq_pop(&c->in);
	pthread_cond_broadcast(&c->base.cond);
	pthread_mutex_unlock(&c->base.lock);
	if (!stream || !c->base.workers)
		start(c);
}

/* ---- flow control ---- */

/* Accounts for what the handler has taken. Returns what is still unread. */
static size_t collect_taken(struct h2_call *c)
{
	size_t taken, unread;

	pthread_mutex_lock(&c->base.lock);
	taken = c->taken;
	c->taken = 0;
	unread = c->in.bytes;
	pthread_mutex_unlock(&c->base.lock);
	discharge(c, taken);
	return unread;
}

/* Has the handler wake this thread when it takes a message. */
static void watch(struct h2_call *c)
{
	bool missed;

	pthread_mutex_lock(&c->base.lock);
	c->wants_taken = true;
	missed = c->taken > 0;
	pthread_mutex_unlock(&c->base.lock);
	if (missed)
		wake_io(c);
}

/* `unread` counts whole messages: a handler that has none waits for the one that is arriving, which must get its credit
 * however large it is. */
static bool may_send(struct h2_call *c, size_t unread)
{
	struct h2_conn *conn = c->conn;
	bool starves = grpc_cutter_partial(&c->cutter) && !unread;

	if (conn->privileged == c && !starves)
		conn->privileged = NULL;
	if (unread > H2_UNREAD_MAX)
		return false;
	if (conn->buffered <= conn->env->buffer_soft)
		return true;
	if (!conn->full) {
		/* From now on any call that takes a message may end the shortage. */
		conn->full = true;
		for (struct h2_call *other = conn->calls; other; other = other->next)
			watch(other);
	}
	if (starves && !conn->privileged)
		conn->privileged = c;
	return conn->privileged == c;
}

static void credit_one(struct h2_call *c)
{
	bool may = may_send(c, collect_taken(c));

	if (may && c->credit) {
		nghttp2_session_consume_stream(c->conn->session, c->stream_id, c->credit);
		c->credit = 0;
	}
	if (!may || c->conn->full)
		watch(c);
}

/* After bytes have left the connection's buffers, or the privileged call has got its message. */
static void relax(struct h2_conn *conn)
{
	if (!conn->full || (conn->buffered > conn->env->buffer_soft && conn->privileged))
		return;
	conn->full = conn->buffered > conn->env->buffer_soft;
	for (struct h2_call *c = conn->calls; c; c = c->next)
		if (c->credit)
			credit_one(c);
}

void h2_call_data(struct h2_call *c, struct str bytes)
{
	struct h2_conn *conn = c->conn;
	struct err err = ERR_INIT;
	int r = 0;

	nghttp2_session_consume_connection(conn->session, bytes.n);
	if (is_finished(c)) {
		nghttp2_session_consume_stream(conn->session, c->stream_id, bytes.n);
		return;
	}
	c->credit += bytes.n;
	if (conn->buffered + bytes.n > conn->env->buffer_hard) {
		h2_call_abort(c, ERR_EXHAUSTED, "too many unread bytes on this connection");
		return;
	}
	if (c->account->buffered + bytes.n > conn->env->peer_buffer_max) {
		h2_call_abort(c, ERR_EXHAUSTED, "too many unread bytes of this client");
		return;
	}
	c->charged += bytes.n;
	conn->buffered += bytes.n;
	c->account->buffered += bytes.n;
	for (;;) {
		AUTO(buf) struct buf message = BUF_INIT;

		r = grpc_cut(&c->cutter, &bytes, conn->env->max_message_bytes, &message, &err);
		if (r <= 0)
			break;
		if (++c->n_messages > 1 && !(c->base.method->flags & RPC_CLIENT_STREAM)) {
			r = err_set(&err, ERR_INTERNAL, "a unary request has one message");
			break;
		}
		pthread_mutex_lock(&c->base.lock);
		msgq_push(&c->in, &message);
		pthread_cond_broadcast(&c->base.cond);
		pthread_mutex_unlock(&c->base.lock);
	}
	if (r < 0) {
		h2_call_abort(c, err.code, err.msg);
		return;
	}
	credit_one(c);
	relax(conn);
}

/* ---- response ---- */

void h2_call_abort(struct h2_call *c, enum err_code code, const char *message)
{
	pthread_mutex_lock(&c->base.lock);
	if (!c->finished) {
		rpc_call_cancel_locked(&c->base, code);
		set_status_locked(c, code, message);
		/* What was not begun will not be sent; a message that is half out must be completed. */
		if (c->out_offset) {
			struct buf first = out_pop(c);

			out_clear(c);
			out_push(c, &first);
		} else {
			out_clear(c);
		}
		msgq_clear(&c->in);
		c->taken = 0;
	}
	pthread_mutex_unlock(&c->base.lock);
	timer_drop(c);
	grpc_cutter_fini(&c->cutter);
	discharge(c, c->charged);
	if (c->conn->privileged == c)
		c->conn->privileged = NULL;
	relax(c->conn);
	h2_call_service(c);
}

#define NV(name_, value_, value_n)                                                                                     \
	((nghttp2_nv){(uint8_t *)(name_), (uint8_t *)(value_), sizeof(name_) - 1, (value_n), NGHTTP2_NV_FLAG_NONE})

/* grpc-status and grpc-message; the texts must live until the frame is submitted. */
static size_t status_headers(struct h2_call *c, nghttp2_nv *nv, char code[static 4], struct buf *message)
{
	size_t n = 0;

	snprintf(code, 4, "%u", (unsigned)c->code & 0xff);
	nv[n++] = NV("grpc-status", code, strlen(code));
	if (c->message) {
		grpc_message_encode(str_of(c->message), message);
		nv[n++] = NV("grpc-message", message->p, message->n);
	}
	return n;
}

int h2_call_submit_status(struct h2_call *c)
{
	AUTO(buf) struct buf message = BUF_INIT;
	nghttp2_nv nv[2];
	char code[4];
	size_t n = status_headers(c, nv, code, &message);

	c->status_sent = true;
	return nghttp2_submit_trailer(c->conn->session, c->stream_id, nv, n);
}

static ssize_t read_body(nghttp2_session *session, int32_t stream_id, uint8_t *dst, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data)
{
	struct h2_call *c = source->ptr;
	bool eof;
	size_t n = h2_call_body(c, max, &eof);

	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (!n && !eof)
		return NGHTTP2_ERR_DEFERRED;
	if (eof) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (h2_call_submit_status(c))
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return (ssize_t)n;
}

static void submit_headers(struct h2_call *c, bool with_body)
{
	AUTO(buf) struct buf message = BUF_INIT;
	nghttp2_data_provider body = {.source.ptr = c, .read_callback = read_body};
	nghttp2_nv nv[4] = {NV(":status", "200", 3), NV("content-type", "application/grpc", 16)};
	char code[4];
	size_t n = 2;

	if (!with_body) {
		n += status_headers(c, nv + n, code, &message);
		c->status_sent = true;
	}
	c->headers_sent = true;
	nghttp2_submit_response(c->conn->session, c->stream_id, nv, n, with_body ? &body : NULL);
}

void h2_call_service(struct h2_call *c)
{
	bool has_body, finished;

	if (!c->conn)
		return;
	if (c->credit || c->conn->full) {
		credit_one(c);
		relax(c->conn);
	}
	pthread_mutex_lock(&c->base.lock);
	has_body = c->out.head;
	finished = c->finished;
	pthread_mutex_unlock(&c->base.lock);
	if (finished)
		timer_drop(c);
	if (c->status_sent || (!has_body && !finished))
		return;
	if (!c->headers_sent)
		submit_headers(c, has_body);
	else
		nghttp2_session_resume_data(c->conn->session, c->stream_id);
}

size_t h2_call_body(struct h2_call *c, size_t max, bool *eof)
{
	size_t n;

	pthread_mutex_lock(&c->base.lock);
	n = c->out.bytes - c->out_offset;
	*eof = n <= max && c->finished;
	pthread_mutex_unlock(&c->base.lock);
	return n < max ? n : max;
}

void h2_call_body_take(struct h2_call *c, size_t n, struct buf *out)
{
	pthread_mutex_lock(&c->base.lock);
	while (n) {
		struct buf *first = &c->out.head->bytes;
		size_t part = first->n - c->out_offset;

		if (part > n)
			part = n;
		buf_add(out, first->p + c->out_offset, part);
		c->out_offset += part;
		n -= part;
		if (c->out_offset == first->n) {
			struct buf b = out_pop(c);

			buf_fini(&b);
			c->out_offset = 0;
		}
	}
	if (c->out.bytes <= H2_QUEUED_MAX)
		pthread_cond_broadcast(&c->base.cond);
	pthread_mutex_unlock(&c->base.lock);
}
