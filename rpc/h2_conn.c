#include "rpc/h2_call.h"

#include "base/clock.h"

#include <assert.h>

void h2_env_init(struct h2_env *env)
{
	*env = (struct h2_env){
	    .methods = RPC_METHODS_INIT,
	    .max_message_bytes = GRPC_MESSAGE_MAX,
	    .buffer_soft = H2_CONN_BUFFER_SOFT,
	    .buffer_hard = H2_CONN_BUFFER_HARD,
	    .peer_conns_max = H2_PEER_CONNS_MAX,
	    .peer_calls_max = H2_PEER_CALLS_MAX,
	    .peer_buffer_max = H2_PEER_BUFFER_MAX,
	    .peer_unsent_max = H2_PEER_UNSENT_MAX,
	};
	pthread_mutex_init(&env->lock, NULL);
}

void h2_env_fini(struct h2_env *env)
{
	assert(!env->ready && !env->peers);
	rpc_methods_fini(&env->methods);
	pthread_mutex_destroy(&env->lock);
}

void h2_env_service(struct h2_env *env)
{
	struct h2_call *ready;

	pthread_mutex_lock(&env->lock);
	ready = STEAL(env->ready);
	env->posted = false;
	while (ready) {
		struct h2_call *c = ready;
		struct h2_conn *conn = c->conn;

		/* While is_ready is set nobody else touches next_ready. */
		ready = c->next_ready;
		c->is_ready = false;
		pthread_mutex_unlock(&env->lock);
		if (conn) {
			h2_call_service(c);
			conn->output(conn->arg);
		}
		rpc_call_unref(&c->base);
		pthread_mutex_lock(&env->lock);
	}
	pthread_mutex_unlock(&env->lock);
	env->flush(env->flush_arg);
}

/* ---- callbacks of the session ---- */

static struct h2_call *call_of(nghttp2_session *session, int32_t stream_id)
{
	return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* Takes from what is left for frames that ask for nothing. */
static int charge(struct h2_conn *conn, unsigned cost)
{
	int64_t now;

	if (conn->control < cost) {
		now = clock_mono_ns();
		if (now - conn->control_at_ns >= H2_CONTROL_BURST * NS_PER_S / H2_CONTROL_RATE)
			conn->control = H2_CONTROL_BURST;
		else
			conn->control += (unsigned)((now - conn->control_at_ns) * H2_CONTROL_RATE / NS_PER_S);
		conn->control_at_ns = now;
	}
	if (conn->control < cost) {
		conn->flooded = true;
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	conn->control -= cost;
	return 0;
}

/* Floods of frames that cost their sender nothing: pings, settings, resets, credit, data without bytes. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	const struct h2_conn *conn = arg;

	if (conn->refusal)
		return charge(arg, H2_REFUSED_COST);
	if (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION)
		return 0;
	if (hd->type == NGHTTP2_DATA && (hd->length || (hd->flags & NGHTTP2_FLAG_END_STREAM)))
		return 0;
	return charge(arg, 1);
}

/* Frames of types that HTTP/2 does not have are ignored, as it wants. That there is this callback has on_begin_frame
 * called for them, which counts them. */
static int on_unknown_frame(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd, void *arg)
{
	return NGHTTP2_ERR_CANCEL;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	return charge(arg, H2_INVALID_COST);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2_conn *conn = arg;

	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, h2_call_new(conn, frame->hd.stream_id));
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *arg)
{
	struct h2_call *c = call_of(session, frame->hd.stream_id);

	if (c && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		h2_call_header(c, str_make(name, name_n), str_make(value, value_n));
	return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2_call *c = call_of(session, frame->hd.stream_id);
	struct h2_conn *conn = arg;

	if (frame->hd.type == NGHTTP2_SETTINGS)
		conn->greeted = true;
	if (!c || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		h2_call_headers_done(c);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		h2_call_input_end(c);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *arg)
{
	struct h2_call *c = call_of(session, stream_id);

	if (c)
		h2_call_data(c, str_make(data, n));
	else
		nghttp2_session_consume_connection(session, n);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *arg)
{
	struct h2_call *c = call_of(session, stream_id);

	if (c)
		h2_call_close(c);
	nghttp2_session_set_stream_user_data(session, stream_id, NULL);
	return 0;
}

/* The status went out and the client still has its side open: that it need not send more is said by a reset without
 * error (RFC 9113, 8.1). */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	int32_t id = frame->hd.stream_id;
	struct h2_conn *conn = arg;

	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
		conn->control = conn->control + H2_CONTROL_PER_FRAME < H2_CONTROL_BURST
		                    ? conn->control + H2_CONTROL_PER_FRAME
		                    : H2_CONTROL_BURST;
	if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    nghttp2_session_get_stream_remote_close(session, id) == 0)
		return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
	return 0;
}

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t n, int flags, void *arg)
{
	struct h2_conn *conn = arg;

	if (conn->pull_out->n >= conn->pull_max)
		return NGHTTP2_ERR_WOULDBLOCK;
	buf_add(conn->pull_out, data, n);
	return (ssize_t)n;
}

/* Body bytes go from the call's queue to the output directly. Never refused, so that what read_body promised is there:
 * the output passes its bound by at most one frame. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *frame_header, size_t n,
                        nghttp2_data_source *source, void *arg)
{
	struct h2_conn *conn = arg;

	buf_add(conn->pull_out, frame_header, 9);
	h2_call_body_take(source->ptr, n, conn->pull_out);
	return 0;
}

static int make_session(struct h2_conn *c, struct err *err)
{
	nghttp2_session_callbacks *cb;
	nghttp2_option *opt;
	int r;

	if (nghttp2_session_callbacks_new(&cb))
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	if (nghttp2_option_new(&opt)) {
		nghttp2_session_callbacks_del(cb);
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	}
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_unpack_extension_callback(cb, on_unknown_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_send_callback(cb, on_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
	for (unsigned type = NGHTTP2_CONTINUATION + 1; type < 256; type++)
		nghttp2_option_set_user_recv_extension_type(opt, (uint8_t)type);
	nghttp2_option_set_no_auto_window_update(opt, 1);
	nghttp2_option_set_no_closed_streams(opt, 1);
	nghttp2_option_set_stream_reset_rate_limit(opt, H2_RESET_BURST, H2_RESET_RATE);
	r = nghttp2_session_server_new2(&c->session, cb, c, opt);
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
	return r ? err_set(err, ERR_EXHAUSTED, "new connection: %s", nghttp2_strerror(r)) : 0;
}

/* What the client is told at once: how much it may do at a time. */
static int submit_settings(struct h2_conn *c, struct err *err)
{
	const nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->refusal ? H2_REFUSED_STREAMS : H2_STREAMS_MAX},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->refusal ? H2_REFUSED_WINDOW : H2_STREAM_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADERS_MAX},
	    {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};

	if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) ||
	    (!c->refusal && nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, H2_CONN_WINDOW)))
		return err_set(err, ERR_EXHAUSTED, "no memory for a connection");
	return 0;
}

int h2_conn_new(struct h2_env *env, const struct ucred *peer, const struct err *refusal, void (*output)(void *arg),
                void *arg, struct h2_conn **out, struct err *err)
{
	AUTO(h2_conn) struct h2_conn *c = xcalloc(1, sizeof(*c));

	c->env = env;
	c->peer = *peer;
	if (refusal) {
		c->refusal = xmalloc(sizeof(*refusal));
		*c->refusal = *refusal;
	}
	c->output = output;
	c->arg = arg;
	c->control = H2_CONTROL_BURST;
	c->control_at_ns = clock_mono_ns();
	TRY(h2_peer_connect(env, peer->pid, &c->account, err));
	if (env->workers)
		c->share = worker_share_new(env->workers);
	TRY(make_session(c, err));
	TRY(submit_settings(c, err));
	*out = STEAL(c);
	return 0;
}

void h2_conn_free(struct h2_conn *c)
{
	if (!c)
		return;
	/* nghttp2_session_del does not report streams as closed. */
	while (c->calls)
		h2_call_close(c->calls);
	nghttp2_session_del(c->session);
	worker_share_free(c->share);
	if (c->account)
		h2_peer_disconnect(c->env, c->account);
	free(c->refusal);
	free(c);
}

int h2_conn_feed(struct h2_conn *c, struct str bytes, struct err *err)
{
	ssize_t r = 0;

	/* By bytes, too: nghttp2 does not tell of frames for calls that are over. */
	if (c->refusal && (c->refused_bytes += bytes.n) > H2_REFUSED_BYTES)
		c->flooded = true;
	else
		r = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes.p, bytes.n);
	if (c->flooded)
		r = nghttp2_session_terminate_session(c->session, NGHTTP2_ENHANCE_YOUR_CALM);
	return r < 0 ? err_set(err, ERR_INVALID, "HTTP/2: %s", nghttp2_strerror((int)r)) : 0;
}

int h2_conn_pull(struct h2_conn *c, struct buf *out, size_t max_bytes, struct err *err)
{
	int r;

	c->pull_out = out;
	c->pull_max = max_bytes;
	r = nghttp2_session_send(c->session);
	c->pull_out = NULL;
	return r ? err_set(err, ERR_INTERNAL, "HTTP/2: %s", nghttp2_strerror(r)) : 0;
}

bool h2_conn_greeted(const struct h2_conn *c)
{
	return c->greeted;
}

bool h2_conn_done(const struct h2_conn *c)
{
	return !nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session);
}

void h2_conn_stop(struct h2_conn *c, bool all)
{
	if (!c->stopping)
		nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
		                      nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR, NULL, 0);
	c->stopping = true;
	for (struct h2_call *call = c->calls, *next; call; call = next) {
		next = call->next;
		if (all || (call->base.method && (call->base.method->flags & RPC_LONG)))
			h2_call_abort(call, ERR_UNAVAILABLE, "the server is stopping");
	}
}

size_t h2_conn_calls(const struct h2_conn *c)
{
	return c->n_calls;
}
