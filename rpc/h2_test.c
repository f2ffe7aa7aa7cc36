/* The server's connection against a scripted client in memory: what a well-behaved client never sends. */
#include "rpc/grpc.h"
#include "rpc/h2.h"
#include "rpc/pb.h"
#include "rpc/testing/echo.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

typedef Contentd__Testing__EchoRequest EchoRequest;
typedef Contentd__Testing__EchoReply EchoReply;

/* What the client has seen of one stream. */
struct seen {
	char status[8], grpc_status[8], grpc_message[256], content_type[64];
	struct buf body;
	bool headers_then_end; /* one HEADERS frame said it all */
	unsigned n_headers;
	bool ended, closed;
	uint32_t error;
};

struct fixture {
	struct echo echo;
	struct h2_env env;
	struct h2_conn *server;
	nghttp2_session *client;
	struct buf to_server;
	struct seen seen[64]; /* by stream id / 2 */
	uint32_t goaway;
	bool got_goaway;
	int r; /* of the last h2_conn_feed */
};

static struct seen *seen_of(struct fixture *f, int32_t id)
{
	assert_in_range(id, 0, 127);
	return &f->seen[id / 2];
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_n,
                     const uint8_t *value, size_t value_n, uint8_t flags, void *arg)
{
	struct seen *seen = seen_of(arg, frame->hd.stream_id);
	struct str key = str_make(name, name_n), v = str_make(value, value_n);

	if (str_eqc(key, ":status"))
		str_copy(v, seen->status, sizeof(seen->status));
	else if (str_eqc(key, "grpc-status"))
		str_copy(v, seen->grpc_status, sizeof(seen->grpc_status));
	else if (str_eqc(key, "grpc-message"))
		str_copy(v, seen->grpc_message, sizeof(seen->grpc_message));
	else if (str_eqc(key, "content-type"))
		str_copy(v, seen->content_type, sizeof(seen->content_type));
	return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *arg)
{
	struct fixture *f = arg;
	struct seen *seen = seen_of(f, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_HEADERS)
		seen->n_headers++;
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		seen->ended = true;
	if (frame->hd.type == NGHTTP2_GOAWAY) {
		f->got_goaway = true;
		f->goaway = frame->goaway.error_code;
	}
	return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	buf_add(&seen_of(arg, id)->body, data, n);
	return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg)
{
	seen_of(arg, id)->closed = true;
	seen_of(arg, id)->error = error;
	return 0;
}

static ssize_t on_send(nghttp2_session *s, const uint8_t *data, size_t n, int flags, void *arg)
{
	buf_add(&((struct fixture *)arg)->to_server, data, n);
	return (ssize_t)n;
}

static void output(void *arg) {}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct rpc_service svc = echo_service(&f->echo);
	struct ucred peer = {.pid = 1};
	nghttp2_session_callbacks *cb;

	h2_env_init(&f->env);
	f->env.max_message_bytes = 1 << 20;
	assert_int_equal(rpc_methods_add(&f->env.methods, &svc, ~0u, NULL), 0);
	assert_int_equal(h2_conn_new(&f->env, &peer, NULL, output, NULL, &f->server, NULL), 0);
	assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	nghttp2_session_callbacks_set_send_callback(cb, on_send);
	assert_int_equal(nghttp2_session_client_new(&f->client, cb, f), 0);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(f->client, 0, NULL, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	h2_conn_free(f->server);
	nghttp2_session_del(f->client);
	h2_env_fini(&f->env);
	buf_fini(&f->to_server);
	for (size_t i = 0; i < ARRAY_LEN(f->seen); i++)
		buf_fini(&f->seen[i].body);
	free(f);
	return 0;
}

/* Carries bytes to and fro until both sides are silent; to the server `piece` at a time. */
static void pump_pieces(struct fixture *f, size_t piece)
{
	for (;;) {
		AUTO(buf) struct buf out = BUF_INIT;
		struct str in;

		assert_int_equal(nghttp2_session_send(f->client), 0);
		for (in = buf_str(&f->to_server); in.n && f->r >= 0; in = str_sub(in, piece, SIZE_MAX))
			f->r = h2_conn_feed(f->server, str_sub(in, 0, piece), NULL);
		buf_clear(&f->to_server);
		h2_conn_pull(f->server, &out, 1 << 20, NULL);
		if (!out.n)
			return;
		assert_true(nghttp2_session_mem_recv(f->client, (uint8_t *)out.p, out.n) >= 0);
	}
}

static void pump(struct fixture *f)
{
	pump_pieces(f, SIZE_MAX);
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *dst, size_t max, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
	struct str *body = source->ptr;
	struct str part = str_sub(*body, 0, max);

	if (part.n)
		memcpy(dst, part.p, part.n);
	*body = str_sub(*body, part.n, SIZE_MAX);
	if (!body->n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)part.n;
}

struct header {
	const char *name, *value; /* value NULL: leave the default out */
};

/* Starts a request; the body (with its prefixes) must live until it is sent. */
static int32_t post(struct fixture *f, const struct header *extra, size_t n_extra, struct str *body)
{
	struct header h[96] = {
	    {":method", "POST"},         {":scheme", "http"}, {":path", "/" ECHO_SERVICE "/Unary"},
	    {":authority", "localhost"}, {"te", "trailers"},  {"content-type", "application/grpc"},
	};
	nghttp2_data_provider p = {.source.ptr = body, .read_callback = read_body};
	nghttp2_nv nv[96];
	size_t n = 6, n_nv = 0;
	int32_t id;

	for (size_t i = 0; i < n_extra; i++) {
		size_t j = 0;

		while (j < 6 && strcmp(h[j].name, extra[i].name) != 0)
			j++;
		h[j < 6 ? j : n++] = extra[i];
	}
	for (size_t i = 0; i < n; i++)
		if (h[i].value)
			nv[n_nv++] = (nghttp2_nv){(uint8_t *)h[i].name, (uint8_t *)h[i].value, strlen(h[i].name),
			                          strlen(h[i].value), 0};
	id = nghttp2_submit_request(f->client, NULL, nv, n_nv, body ? &p : NULL, NULL);
	assert_true(id > 0);
	return id;
}

static void add_message(struct buf *body, const EchoRequest *req)
{
	size_t at = body->n;

	buf_addz(body, GRPC_PREFIX_BYTES);
	pb_pack(&req->base, body);
	grpc_prefix_put(body->p + at, body->n - at - GRPC_PREFIX_BYTES);
}

static struct buf message(const char *text, size_t data)
{
	EchoRequest req = CONTENTD__TESTING__ECHO_REQUEST__INIT;
	struct buf b = BUF_INIT;

	req.text = (char *)text;
	req.data.len = data;
	req.data.data = xcalloc(1, data + 1);
	add_message(&b, &req);
	free(req.data.data);
	return b;
}

static struct seen *request(struct fixture *f, const struct header *extra, size_t n_extra, struct str body)
{
	int32_t id = post(f, extra, n_extra, body.n ? &body : NULL);

	pump(f);
	return seen_of(f, id);
}

/* ---- shapes of answers ---- */

static void answer_and_status(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf body = message("hi", 0);
	struct seen *s = request(f, NULL, 0, buf_str(&body));

	assert_string_equal(s->status, "200");
	assert_string_equal(s->content_type, "application/grpc");
	assert_string_equal(s->grpc_status, "0");
	assert_string_equal(s->grpc_message, "");
	assert_int_equal(s->n_headers, 2);
	assert_int_equal(s->body.n, 9);
	assert_memory_equal(s->body.p, "\0\0\0\0\4\x0a\2hi", 9);
	assert_true(s->ended && s->closed);
	assert_int_equal(s->error, NGHTTP2_NO_ERROR);
}

static void status_alone_is_one_frame(void **state)
{
	struct fixture *f = *state;
	struct header h = {":path", "/" ECHO_SERVICE "/Nope%"};
	AUTO(buf) struct buf body = message("", 0);
	struct seen *s = request(f, &h, 1, buf_str(&body));

	assert_int_equal(s->n_headers, 1);
	assert_true(s->ended);
	assert_string_equal(s->status, "200");
	assert_string_equal(s->grpc_status, "12");
	assert_string_equal(s->grpc_message, "unknown method Nope%25 for service " ECHO_SERVICE);
}

static void byte_by_byte(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf body = message("slowly", 1000);
	struct str rest = buf_str(&body);
	int32_t id = post(f, NULL, 0, &rest);

	pump_pieces(f, 1);
	assert_string_equal(seen_of(f, id)->grpc_status, "0");
	assert_int_equal(seen_of(f, id)->body.n, body.n);
}

/* The status goes out while the client's side is open: then a reset without error says to stop sending. */
static void early_status(void **state)
{
	struct fixture *f = *state;
	struct header h = {":path", "/" ECHO_SERVICE "/Nope"};
	AUTO(buf) struct buf body = message("", 4 << 20);
	struct seen *s = request(f, &h, 1, buf_str(&body));

	assert_string_equal(s->grpc_status, "12");
	assert_true(s->closed);
	assert_int_equal(s->error, NGHTTP2_NO_ERROR);
	AUTO(buf) struct buf small = message("", 0);
	assert_string_equal(request(f, NULL, 0, buf_str(&small))->grpc_status, "0");
}

/* ---- what is refused ---- */

static void not_grpc(void **state)
{
	struct fixture *f = *state;
	const struct header bad[] = {
	    {"content-type", "application/json"}, {"content-type", NULL}, {"content-type", "application/grpcx"}};
	struct header get[] = {{":method", "GET"}};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(buf) struct buf body = message("", 0);
		struct seen *s = request(f, &bad[i], 1, buf_str(&body));

		assert_string_equal(s->status, "415");
		assert_true(s->ended);
	}
	assert_string_equal(request(f, get, 1, STR_NONE)->status, "405");
	AUTO(buf) struct buf body = message("", 0);
	struct header proto = {"content-type", "application/grpc+proto"};
	assert_string_equal(request(f, &proto, 1, buf_str(&body))->grpc_status, "0");
}

static void refused_headers(void **state)
{
	struct fixture *f = *state;
	const struct {
		struct header h;
		const char *status;
	} cases[] = {
	    {{"grpc-encoding", "gzip"}, "12"},
	    {{"grpc-encoding", "identity"}, "0"},
	    {{"grpc-timeout", "5"}, "13"},
	    {{"grpc-timeout", "123456789S"}, "13"},
	    {{"grpc-timeout", "5x"}, "13"},
	    {{"grpc-timeout", "99999999H"}, "0"},
	    {{":path", "/nothing"}, "12"},
	    {{":path", "/a.B/C"}, "12"},
	    {{":path", "/"}, "12"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(buf) struct buf body = message("", 0);

		assert_string_equal(request(f, &cases[i].h, 1, buf_str(&body))->grpc_status, cases[i].status);
	}
}

static void long_headers(void **state)
{
	struct fixture *f = *state;
	char value[1000];
	struct header h[9];
	AUTO(buf) struct buf body = message("", 0), again = message("", 0);

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	for (int i = 0; i < 9; i++)
		h[i] = (struct header){"x-some", value};
	assert_string_equal(request(f, h, 9, buf_str(&body))->grpc_status, "8");
	assert_string_equal(request(f, h, 7, buf_str(&again))->grpc_status, "0");
}

static void refused_bodies(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf two = message("a", 0), big = message("", 2 << 20), cut = message("abc", 0);
	AUTO(buf) struct buf compressed = message("a", 0), flags = message("a", 0), junk = message("abcdef", 0);
	AUTO(buf) struct buf announced = BUF_INIT;
	EchoRequest req = CONTENTD__TESTING__ECHO_REQUEST__INIT;

	add_message(&two, &req);
	compressed.p[0] = 1;
	flags.p[0] = 7;
	memset(junk.p + 5, 0xff, junk.n - 5);
	buf_add(&announced, "\0\xff\xff\xff\xff", 5);
	assert_string_equal(request(f, NULL, 0, buf_str(&two))->grpc_status, "13");
	assert_string_equal(request(f, NULL, 0, STR_NONE)->grpc_status, "13");
	assert_string_equal(request(f, NULL, 0, str_sub(buf_str(&cut), 0, cut.n - 1))->grpc_status, "13");
	assert_string_equal(request(f, NULL, 0, buf_str(&big))->grpc_status, "8");
	assert_string_equal(request(f, NULL, 0, buf_str(&announced))->grpc_status, "8");
	assert_string_equal(request(f, NULL, 0, buf_str(&compressed))->grpc_status, "12");
	assert_string_equal(request(f, NULL, 0, buf_str(&flags))->grpc_status, "13");
	assert_string_equal(request(f, NULL, 0, buf_str(&junk))->grpc_status, "3");
	/* The same in a stream. */
	struct header chat = {":path", "/" ECHO_SERVICE "/Chat"};
	assert_string_equal(request(f, &chat, 1, str_sub(buf_str(&cut), 0, cut.n - 1))->grpc_status, "13");
	assert_string_equal(request(f, &chat, 1, buf_str(&junk))->grpc_status, "3");
	assert_string_equal(request(f, &chat, 1, buf_str(&two))->grpc_status, "0");
}

/* Two bytes of wire for each of a million fields: refused before the memory is taken. */
static void memory_bomb(void **state)
{
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO(pb) Kv__Entry *out = NULL;
	struct err err = ERR_INIT;
	struct arena a;
	void *m;

	for (int i = 0; i < 1 << 20; i++)
		buf_add(&wire, "\x2a\0", 2);
	/* Field 5 is unknown to both types: unknown fields are kept, and charged. */
	arena_init(&a, pb_memory_limit(wire.n));
	assert_int_equal(pb_unpack_in(&a, &contentd__testing__echo_reply__descriptor, buf_str(&wire), &m, &err),
	                 -ERR_INVALID);
	assert_true(a.used_bytes <= pb_memory_limit(wire.n));
	arena_fini(&a);
	assert_int_equal(pb_unpack(&kv__entry__descriptor, buf_str(&wire), &out, &err), -ERR_INVALID);
}

/* ---- floods ---- */

static void rapid_reset(void **state)
{
	struct fixture *f = *state;
	int i;

	pump(f);
	/* Each call is reset as soon as it is there. */
	for (i = 0; i < 20000 && !h2_conn_done(f->server); i++) {
		AUTO(buf) struct buf frames = BUF_INIT;
		uint32_t id = (uint32_t)(2 * i + 1);
		const char path[] = "/" ECHO_SERVICE "/Chat";
		AUTO(buf) struct buf block = BUF_INIT;
		AUTO(buf) struct buf out = BUF_INIT;

		buf_add(&block, "\x83\x86\1\1x\4", 6); /* :method POST, :scheme http, :authority, :path literal */
		buf_addc(&block, (char)(sizeof(path) - 1));
		buf_add(&block, path, sizeof(path) - 1);
		buf_add(&block,
		        "\x0f\x10\x10"
		        "application/grpc",
		        19);
		buf_addc(&frames, 0);
		buf_addc(&frames, 0);
		buf_addc(&frames, (char)block.n);
		buf_add(&frames, "\1\4", 2);
		buf_be32(&frames, id);
		buf_addstr(&frames, buf_str(&block));
		buf_add(&frames, "\0\0\4\3\0", 5);
		buf_be32(&frames, id);
		buf_be32(&frames, NGHTTP2_CANCEL);
		assert_int_equal(h2_conn_feed(f->server, buf_str(&frames), NULL), 0);
		h2_conn_pull(f->server, &out, 1 << 20, NULL);
		assert_in_range(h2_conn_calls(f->server), 0, 1);
	}
	assert_in_range(i, H2_RESET_BURST, 19999);
}

static void ping_flood(void **state)
{
	struct fixture *f = *state;
	int i, r = 0;

	pump(f);
	/* Nobody reads the answers. */
	for (i = 0; i < 100000 && r >= 0; i++)
		r = h2_conn_feed(f->server,
		                 STR("\0\0\10\6\0\0\0\0\0"
		                     "12345678"),
		                 NULL);
	assert_true(r < 0);
}

static void not_http2(void **state)
{
	struct fixture *f = *state;
	struct h2_conn *c = NULL;
	struct ucred peer = {0};

	assert_int_equal(h2_conn_new(&f->env, &peer, NULL, output, NULL, &c, NULL), 0);
	assert_true(h2_conn_feed(c, STR("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), NULL) < 0);
	h2_conn_free(c);
}

static void stopping(void **state)
{
	struct fixture *f = *state;
	AUTO(buf) struct buf body = message("", 0);

	assert_string_equal(request(f, NULL, 0, buf_str(&body))->grpc_status, "0");
	h2_conn_stop(f->server, false);
	pump(f);
	assert_true(f->got_goaway);
	assert_int_equal(f->goaway, NGHTTP2_NO_ERROR);
	assert_true(h2_conn_done(f->server));
}

/* ---- grpc.h ---- */

static void timeouts(void **state)
{
	const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
	    {1, "1n"},
	    {-5, "1n"},
	    {99999998, "99999998n"},
	    {1000000000, "1000000u"},
	    {123456789012, "123457m"},
	    {3600000000000, "3600000m"},
	    {INT64_MAX, "2562048H"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[24];
		int64_t back;

		grpc_timeout_format(cases[i].ns, text);
		assert_true(grpc_timeout_parse(str_of(text), &back));
		assert_true(back >= cases[i].ns);
		assert_true(strlen(text) <= 9);
	}
	int64_t ns;
	assert_true(grpc_timeout_parse(STR("15S"), &ns) && ns == 15000000000);
	assert_true(grpc_timeout_parse(STR("2M"), &ns) && ns == 120000000000);
	assert_false(grpc_timeout_parse(STR(""), &ns));
	assert_false(grpc_timeout_parse(STR("S"), &ns));
	assert_false(grpc_timeout_parse(STR("-1S"), &ns));
	assert_false(grpc_timeout_parse(STR("1.5S"), &ns));
}

static void percent(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT, back = BUF_INIT;

	grpc_message_encode(STR("a%b\n\xc3\xa4~"), &out);
	assert_string_equal(out.p, "a%25b%0A%C3%A4~");
	grpc_message_decode(buf_str(&out), &back);
	assert_string_equal(back.p, "a%b\n\xc3\xa4~");
	buf_clear(&out);
	grpc_message_encode(STR(" a b "), &out);
	assert_string_equal(out.p, "%20a b%20");
	buf_clear(&back);
	grpc_message_decode(STR("%4g%%41%"), &back);
	assert_string_equal(back.p, "%4g%A%");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(answer_and_status),
	    T(status_alone_is_one_frame),
	    T(byte_by_byte),
	    T(early_status),
	    T(not_grpc),
	    T(refused_headers),
	    T(long_headers),
	    T(refused_bodies),
	    cmocka_unit_test(memory_bomb),
	    T(rapid_reset),
	    T(ping_flood),
	    T(not_http2),
	    T(stopping),
	    cmocka_unit_test(timeouts),
	    cmocka_unit_test(percent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
