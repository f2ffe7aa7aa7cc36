/*
 * The gRPC server, in a process of its own, against clients that mean it ill: what they can make it hold is bounded, and
 * others are served meanwhile and afterwards.
 */
#include "base/unix.h"
#include "rpc/h2_peer.h"
#include "rpc/testing/raw.h"
#include "rpc/workers.h"

#include <malloc.h>
#include <stdio.h>

#define MIB ((size_t)1 << 20)
#define CALLS_MAX 400

/* ---- the server ---- */

static void serve_with(const char *path, struct rpc_server_opts opts)
{
	static struct echo echo;
	struct rpc_service svc = echo_service(&echo);
	struct rpc_server *s = NULL;
	int fd;

	mallopt(M_ARENA_MAX, 2); /* as programs with a server do */
	OK(rpc_server_new(&opts, &s, err));
	OK(rpc_server_add(s, &svc, err));
	OK(unix_listen(path, SOCK_STREAM, 0600, &fd, err));
	OK(rpc_server_listen(s, fd, err));
	OK(rpc_server_start(s, err));
}

static void usual(const char *path)
{
	serve_with(path, (struct rpc_server_opts){0});
}

/* Bounds of bytes that a test reaches in no time: 1 MiB a connection, 8 MiB of requests and 4 MiB of answers a process. */
static void small(const char *path)
{
	serve_with(path, (struct rpc_server_opts){.max_buffered_bytes = MIB, .max_workers = 8});
}

static void few_calls(const char *path)
{
	serve_with(path, (struct rpc_server_opts){.max_calls = CALLS_MAX});
}

static void impatient(const char *path)
{
	serve_with(path, (struct rpc_server_opts){.greeting_ns = 100 * NS_PER_MS});
}

/* Others than the one who made this process. */
static int only_others(const struct ucred *peer, int fd, void *arg, struct err *err)
{
	return peer->pid == getppid() ? err_set(err, ERR_PERMISSION, "pid %d may not", (int)peer->pid) : 0;
}

static void refusing(const char *path)
{
	serve_with(path, (struct rpc_server_opts){.allow = only_others});
}

static void refusing_impatiently(const char *path)
{
	serve_with(path, (struct rpc_server_opts){.allow = only_others, .greeting_ns = 100 * NS_PER_MS});
}

static int setup(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, usual);
	*state = s;
	return 0;
}

static int setup_small(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, small);
	*state = s;
	return 0;
}

static int setup_few_calls(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, few_calls);
	*state = s;
	return 0;
}

static int setup_impatient(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, impatient);
	*state = s;
	return 0;
}

static int setup_refusing(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, refusing);
	*state = s;
	return 0;
}

static int setup_refusing_impatiently(void **state)
{
	struct served *s = xcalloc(1, sizeof(*s));

	serve(s, SOCK_STREAM, refusing_impatiently);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	unserve(*state);
	free(*state);
	return 0;
}

static bool is_served(const char *path)
{
	AUTO(rpc_client) struct rpc_client *c = NULL;
	AUTO(pb) EchoReply *rsp = NULL;
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + WAIT_NS};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.text = "still there";
	if (rpc_client_connect(path, &c, &err) < 0 || rpc_call(c, ECHO, "Unary", &opts, &req.base, &rsp, &err) < 0) {
		fprintf(stderr, "not served: %s\n", err.msg);
		return false;
	}
	return !strcmp(rsp->text, req.text);
}

static void assert_served(const struct served *s)
{
	assert_true(in_another_process(is_served, s->path));
}

/* ---- floods ---- */

/* CVE-2023-44487: calls that are reset as soon as they are made. */
static void rapid_reset(void **state)
{
	struct served *s = *state;
	EchoRequest req = echo_request();
	struct raw r = h2_dial(s->path);
	bool closed = false;

	for (uint32_t id = 1; id < 60000 && !closed; id += 2) {
		AUTO(buf) struct buf out = BUF_INIT;

		h2_call(&out, id, "Unary", &req, true);
		h2_frame(&out, H2_RST, 0, id, STR("\0\0\0\10"));
		closed = !raw_send(&r, buf_str(&out));
	}
	assert_true(closed);
	assert_true(h2_goaway(&r) > 0);
	raw_close(&r);
	assert_growth(s, 32 * MIB);
	assert_served(s);
}

/* CVE-2025-8671: the server is made to reset the calls, by credit of nothing. */
static void made_to_reset(void **state)
{
	struct served *s = *state;
	EchoRequest req = echo_request();
	struct raw r = h2_dial(s->path);
	bool closed = false;

	req.wait_ms = 600000;
	for (uint32_t id = 1; id < 60000 && !closed; id += 2) {
		AUTO(buf) struct buf out = BUF_INIT;

		h2_call(&out, id, "Slow", &req, false);
		h2_frame(&out, H2_WINDOW, 0, id, STR("\0\0\0\0"));
		closed = !raw_send(&r, buf_str(&out));
	}
	assert_true(closed);
	raw_close(&r);
	assert_growth(s, 32 * MIB);
	assert_served(s);
}

/* Frames that cost nothing to send. Each kind ends its connection, whether the client reads the answers or not. */
static void frames_that_ask_for_nothing(void **state)
{
	struct served *s = *state;
	EchoRequest req = echo_request();
	AUTO(buf) struct buf call = BUF_INIT;
	const struct {
		const char *name;
		unsigned type, flags;
		uint32_t id;
		struct str payload;
	} kinds[] = {
	    {"ping", H2_PING, 0, 0, STR("12345678")},
	    {"answered ping", H2_PING, 1, 0, STR("12345678")},
	    {"settings", H2_SETTINGS, 0, 0, STR("\0\4\0\1\0\0")},
	    {"empty settings", H2_SETTINGS, 0, 0, STR_NONE},
	    {"priority", H2_PRIORITY, 0, 9, STR("\0\0\0\0\1")},
	    {"credit", H2_WINDOW, 0, 0, STR("\0\0\0\1")},
	    {"credit of a call", H2_WINDOW, 0, 1, STR("\0\0\0\1")},
	    {"empty data", H2_DATA, 0, 1, STR_NONE},
	    {"unknown type", 0xbe, 0, 0, STR("x")},
	};

	h2_call(&call, 1, "Chat", &req, false);
	for (size_t i = 0; i < 2 * ARRAY_LEN(kinds); i++) {
		struct raw r = h2_dial(s->path);
		AUTO(buf) struct buf frame = BUF_INIT;

		raw_send(&r, buf_str(&call));
		r.deaf = i % 2;
		h2_frame(&frame, kinds[i / 2].type, kinds[i / 2].flags, kinds[i / 2].id, kinds[i / 2].payload);
		if (!raw_flood(&r, buf_str(&frame), 200000))
			fail_msg("a flood of %s goes on and on", kinds[i / 2].name);
		raw_close(&r);
	}
	assert_growth(s, 32 * MIB);
	assert_served(s);
}

/* What real clients do stays far below: a ping for each answer, as grpc-go does while it measures the link. */
static void pings_of_a_busy_client(void **state)
{
	struct served *s = *state;
	EchoRequest req = echo_request();
	struct raw r = h2_dial(s->path);

	for (uint32_t id = 1; id < 20000; id += 2) {
		AUTO(buf) struct buf out = BUF_INIT;

		h2_call(&out, id, "Quick", &req, true);
		h2_frame(&out, H2_PING, 0, 0, STR("12345678"));
		h2_frame(&out, H2_WINDOW, 0, 0, STR("\0\0\0\1"));
		assert_true(raw_send(&r, buf_str(&out)));
		if (id % 512 == 1) {
			size_t before = r.in.n;

			raw_wait_bytes(&r, before + 1);
		}
	}
	raw_close(&r);
}

/* CVE-2024-28182: header blocks that never end. */
static void endless_headers(void **state)
{
	struct served *s = *state;
	struct raw r = h2_dial(s->path);
	AUTO(buf) struct buf first = BUF_INIT, more = BUF_INIT, block = BUF_INIT;

	h2_block(&block, "Unary");
	h2_frame(&first, H2_HEADERS, 0, 1, buf_str(&block));
	raw_send(&r, buf_str(&first));
	h2_frame(&more, H2_CONTINUATION, 0, 1, STR("\0\1a\1b"));
	assert_true(raw_flood(&r, buf_str(&more), 1000000));
	raw_close(&r);
	assert_growth(s, 16 * MIB);
	assert_served(s);
}

/* A header of 4000 bytes, put into HPACK's table once and named by a byte ten thousand times: 40 MB of headers. */
static void hpack_bomb(void **state)
{
	struct served *s = *state;
	AUTO(buf) struct buf block = BUF_INIT, out = BUF_INIT;

	h2_block(&block, "Unary");
	buf_add(&block, "\x40\1a\x7f\xa1\x1e", 6); /* indexed; a value of 127 + 3873 bytes */
	for (int i = 0; i < 4000; i++)
		buf_addc(&block, 'x');
	for (int i = 0; i < 10000; i++)
		buf_addc(&block, (char)(0x80 | 62));
	h2_frame(&out, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, buf_str(&block));
	for (int i = 0; i < 20; i++) {
		struct raw r = h2_dial(s->path);

		if (raw_send(&r, buf_str(&out)))
			while (!h2_count(&r, H2_HEADERS, 1) && !h2_count(&r, H2_RST, 1) && h2_goaway(&r) < 0 &&
			       raw_wait_bytes(&r, r.in.n + 1))
				;
		raw_close(&r);
	}
	assert_growth(s, 16 * MIB);
	assert_served(s);
}

/* ---- what is held ---- */

/* Answers that nobody reads. */
static void unread_answers(void **state)
{
	struct served *s = *state;
	enum { CONNS = 40, CALLS = 200 };
	EchoRequest req = echo_request();
	AUTO(buf) struct buf out = BUF_INIT;
	struct raw r[CONNS];
	unsigned answered = 0;

	req.data = bytes_of(16 << 10);
	h2_greet(&out, STR("\0\4\0\0\0\0")); /* no credit for answers */
	for (uint32_t i = 0; i < CALLS; i++)
		h2_call(&out, 2 * i + 1, "Unary", &req, true);
	for (int i = 0; i < CONNS; i++) {
		r[i] = raw_dial(s->path, SOCK_STREAM);
		assert_true(raw_send(&r[i], buf_str(&out)));
		/* Each call is answered, or refused; headers need no credit. */
		while (h2_count(&r[i], H2_HEADERS, 0) < CALLS && raw_wait_bytes(&r[i], r[i].in.n + 1))
			;
		assert_false(r[i].closed);
		answered += h2_count_bodies(&r[i]);
	}
	/* 4 MiB, and what was on its way when they were reached. */
	assert_in_range(answered, 200, 256 + 40);
	assert_growth(s, 32 * MIB);
	assert_served(s);
	for (int i = 0; i < CONNS; i++)
		raw_close(&r[i]);
	free(req.data.data);
}

/* The same with streams: each waits with a little. */
static void unread_streams(void **state)
{
	struct served *s = *state;
	enum { CALLS = 500 };
	EchoRequest req = echo_request();
	struct raw r = raw_dial(s->path, SOCK_STREAM);
	AUTO(buf) struct buf out = BUF_INIT;

	req.data = bytes_of(64 << 10);
	req.count = 1000;
	h2_greet(&out, STR("\0\4\0\0\0\0"));
	for (uint32_t i = 0; i < CALLS; i++)
		h2_call(&out, 2 * i + 1, "Down", &req, true);
	assert_true(raw_send(&r, buf_str(&out)));
	while (h2_count(&r, H2_HEADERS, 0) < CALLS && raw_wait_bytes(&r, r.in.n + 1))
		;
	assert_served(s);
	/* Until all have queued what they may. */
	for (size_t before = 0; served_growth(s) > before; usleep(200000))
		before = served_growth(s);
	assert_growth(s, 48 * MIB);
	raw_close(&r);
	free(req.data.data);
}

/* Messages that are announced and never completed, over many connections. */
static void half_messages(void **state)
{
	struct served *s = *state;
	enum { CONNS = 40, CALLS = 4, FRAMES = 60 };
	static const char zeros[16384];
	struct raw r[CONNS];
	AUTO(buf) struct buf out = BUF_INIT;

	for (uint32_t i = 0; i < CALLS; i++) {
		h2_call(&out, 2 * i + 1, "Unary", NULL, false);
		h2_frame(&out, H2_DATA, 0, 2 * i + 1, STR("\0\0\xff\xff\xff"));
		for (int j = 0; j < FRAMES; j++)
			h2_frame(&out, H2_DATA, 0, 2 * i + 1, str_make(zeros, sizeof(zeros)));
	}
	for (int i = 0; i < CONNS; i++) {
		r[i] = h2_dial(s->path);
		raw_send(&r[i], buf_str(&out));
	}
	assert_served(s);
	assert_growth(s, 48 * MIB);
	for (int i = 0; i < CONNS; i++)
		raw_close(&r[i]);
	assert_served(s);
}

/* Calls that wait for their client for ever have threads; their number has an end. */
static void waiting_calls(void **state)
{
	struct served *s = *state;
	enum { CONNS = 6, CALLS = 100 };
	struct raw r[CONNS];

	for (int i = 0; i < CONNS; i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		r[i] = h2_dial(s->path);
		for (uint32_t j = 0; j < CALLS; j++)
			h2_call(&out, 2 * j + 1, "Chat", NULL, false);
		assert_true(raw_send(&r[i], buf_str(&out)));
	}
	/* The last ones are refused at once. */
	while (!h2_count(&r[CONNS - 1], H2_HEADERS, 2 * CALLS - 1) &&
	       raw_wait_bytes(&r[CONNS - 1], r[CONNS - 1].in.n + 1))
		;
	assert_in_range(served_threads(s), 1, CALLS_MAX + 80);
	assert_served(s);
	assert_growth(s, 64 * MIB);
	for (int i = 0; i < CONNS; i++)
		raw_close(&r[i]);
	assert_served(s);
}

/* Calls whose client is gone count as long as their handlers run. */
static void handlers_that_are_slow_to_end(void **state)
{
	struct grpc_fixture *f = grpc_start((struct rpc_server_opts){.max_calls = CALLS_MAX, .max_workers = 4});
	EchoRequest req = echo_request();
	AUTO(buf) struct buf first = BUF_INIT;
	enum { CONNS = 6, FIRST = 10 };
	struct raw r[CONNS];
	int running = 0;

	/* A connection's places are taken by calls that nobody has reset yet: the others wait in the queue. */
	atomic_store(&f->echo.stuck, true);
	req.wait_ms = 1;
	for (uint32_t j = 0; j < FIRST; j++)
		h2_call(&first, 2 * j + 1, "Slow", &req, true);
	for (int i = 0; i < CONNS; i++) {
		r[i] = h2_dial(f->path);
		assert_true(raw_send(&r[i], buf_str(&first)));
		running += WORKERS_OWN + (i == 0 ? 3 : i == 1 ? 1 : 0);
		until(&f->echo.running, running);
	}
	for (int i = 0; i < CONNS; i++) {
		AUTO(buf) struct buf out = BUF_INIT;

		for (uint32_t j = FIRST; j < 110; j++) {
			h2_call(&out, 2 * j + 1, "Slow", &req, true);
			h2_frame(&out, H2_RST, 0, 2 * j + 1, STR("\0\0\0\10"));
		}
		assert_true(raw_send(&r[i], buf_str(&out)));
		/* An answer after all of it. */
		buf_clear(&out);
		h2_frame(&out, H2_PING, 0, 0, STR("12345678"));
		assert_true(raw_send(&r[i], buf_str(&out)));
		while (!h2_count(&r[i], H2_PING, 0) && raw_wait_bytes(&r[i], r[i].in.n + 1))
			;
	}
	FAILS(rpc_call(f->client, ECHO, "Quick", NULL, &req.base, NULL, err), ERR_EXHAUSTED);
	/* It has places of its own. */
	assert_true(in_another_process(is_served, f->path));
	atomic_store(&f->echo.stuck, false);
	until(&f->echo.running, 0);
	for (int i = 0; i < CONNS; i++)
		raw_close(&r[i]);
	/* They have left the queue when the last has. */
	int64_t end = clock_mono_ns() + WAIT_NS;
	while (rpc_call(f->client, ECHO, "Quick", NULL, &req.base, NULL, NULL) < 0)
		assert_true(clock_mono_ns() < end);
	grpc_stop(f);
}

/* ---- connections ---- */

static void too_many_connections(void **state)
{
	struct served *s = *state;
	enum { N = H2_PEER_CONNS_MAX + 50 };
	static struct raw r[N];
	int refused = 0;
	size_t fds;

	assert_served(s);
	fds = served_fds(s);
	for (int i = 0; i < N; i++) {
		r[i] = raw_dial(s->path, SOCK_STREAM);
		raw_send(&r[i], STR(H2_PREFACE "\0\0\0\4\0\0\0\0\0"));
		/* The server's settings, or the end. */
		refused += !raw_wait_bytes(&r[i], 9);
	}
	assert_int_equal(refused, 50);
	assert_served(s);
	for (int i = 0; i < N; i++)
		raw_close(&r[i]);
	await_fds(s, fds);
	assert_growth(s, 32 * MIB);
	/* This process has its connections again. */
	assert_true(is_served(s->path));
}

/* False when the server has closed. */
static bool is_answered(struct raw *r, uint32_t id)
{
	AUTO(buf) struct buf out = BUF_INIT;
	EchoRequest req = echo_request();

	h2_call(&out, id, "Quick", &req, true);
	if (raw_send(r, buf_str(&out)))
		while (h2_count(r, H2_HEADERS, id) < 2 && raw_wait_bytes(r, r->in.n + 1))
			;
	return h2_count(r, H2_HEADERS, id) == 2;
}

static void connections_that_say_nothing(void **state)
{
	struct served *s = *state;
	struct raw good = h2_dial(s->path), silent, half, without_settings;

	/* On a busy machine it may be too late itself. */
	for (int tries = 0; tries < 100 && !is_answered(&good, 1); tries++) {
		raw_close(&good);
		good = h2_dial(s->path);
	}
	silent = raw_dial(s->path, SOCK_STREAM);
	half = raw_dial(s->path, SOCK_STREAM);
	without_settings = raw_dial(s->path, SOCK_STREAM);
	raw_send(&half, STR("PRI * HTTP/2.0\r\n"));
	raw_send(&without_settings, STR(H2_PREFACE));
	raw_wait_closed(&silent);
	raw_wait_closed(&half);
	raw_wait_closed(&without_settings);
	/* One that has greeted may be idle as long as it likes. */
	assert_true(is_answered(&good, 3));
	raw_close(&silent);
	raw_close(&half);
	raw_close(&without_settings);
	raw_close(&good);
	assert_served(s);
}

/* Who may not call is told so, at a price that stays small whatever he does: no worker, no memory, no more than a few
 * calls and a megabyte of what he sends, and an end. */
static void clients_without_permission(void **state)
{
	struct served *s = *state;
	enum { N = 300, CALLS = 200, SILENT = 40, SILENT_MAX = 32 };
	static const char zeros[16384];
	static struct raw r[N];
	EchoRequest req = echo_request();
	AUTO(buf) struct buf calls = BUF_INIT, call = BUF_INIT, data = BUF_INIT, block = BUF_INIT;
	struct raw flood;
	unsigned kept = 0;

	for (int i = 0; i < 3; i++) {
		AUTO(rpc_client) struct rpc_client *c = grpc_dial(s->path);

		FAILS(rpc_call(c, ECHO, "Unary", NULL, &req.base, NULL, err), ERR_PERMISSION);
	}
	/* Bytes without end, of a call that has its answer. */
	flood = h2_dial(s->path);
	h2_call(&call, 1, "Chat", NULL, false);
	h2_frame(&data, H2_DATA, 0, 1, str_make(zeros, sizeof(zeros)));
	assert_true(raw_send(&flood, buf_str(&call)));
	while (!h2_count(&flood, H2_RST, 1) && raw_wait_bytes(&flood, flood.in.n + 1))
		;
	assert_true(raw_flood(&flood, buf_str(&data), 1000));
	raw_close(&flood);

	/* Calls without end, one after the other, */
	flood = h2_dial(s->path);
	h2_block(&block, "Unary");
	for (uint32_t id = 1; id < 4000 && !flood.closed; id += 2) {
		AUTO(buf) struct buf out = BUF_INIT;

		h2_frame(&out, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, id, buf_str(&block));
		if (raw_send(&flood, buf_str(&out)))
			while (!h2_count(&flood, H2_HEADERS, id) && raw_wait_bytes(&flood, flood.in.n + 1))
				;
	}
	assert_true(flood.closed);
	raw_close(&flood);

	/* and many at once, of many connections. */
	for (uint32_t i = 0; i < CALLS; i++)
		h2_call(&calls, 2 * i + 1, "Wait", &req, true);
	for (int i = 0; i < N; i++) {
		r[i] = h2_dial(s->path);
		raw_send(&r[i], buf_str(&calls));
	}
	assert_served(s);
	assert_in_range(served_threads(s), 1, 10); /* those of the server and its tools: no worker for each of them */
	assert_growth(s, 16 * MIB);
	for (int i = 0; i < N; i++) {
		raw_wait_closed(&r[i]);
		raw_close(&r[i]);
	}

	/* Connections that stay: a few. */
	for (int i = 0; i < SILENT; i++) {
		r[i] = h2_dial(s->path);
		kept += raw_wait_bytes(&r[i], 9);
	}
	assert_int_equal(kept, SILENT_MAX);
	assert_served(s);
	for (int i = 0; i < SILENT; i++)
		raw_close(&r[i]);
}

/* One that is silent is closed, too. */
static void silence_without_permission(void **state)
{
	struct served *s = *state;
	struct raw r = h2_dial(s->path);

	raw_wait_closed(&r);
	raw_close(&r);
}

/* Clients that vanish at any moment leave nothing behind. */
static void clients_that_vanish(void **state)
{
	struct served *s = *state;
	AUTO(buf) struct buf out = BUF_INIT;
	EchoRequest req = echo_request();
	size_t fds;

	req.wait_ms = 600000;
	req.data = bytes_of(3000);
	h2_greet(&out, STR_NONE);
	h2_call(&out, 1, "Slow", &req, true);
	h2_call(&out, 3, "Chat", &req, false);
	h2_call(&out, 5, "Wait", &req, true);
	assert_served(s);
	fds = served_fds(s);
	for (size_t n = 0; n < out.n; n += 7) {
		struct raw r = raw_dial(s->path, SOCK_STREAM);

		raw_send(&r, str_sub(buf_str(&out), 0, n));
		raw_close(&r);
	}
	assert_served(s);
	await_fds(s, fds);
	assert_growth(s, 48 * MIB);
	free(req.data.data);
}

/* ---- what is no HTTP/2, or not by its rules ---- */

static void broken_frames(void **state)
{
	struct served *s = *state;
	const struct str bad[] = {
	    STR("\0\0\4\0\0\0\0\0\0abcd"),                 /* DATA on stream 0 */
	    STR("\0\0\4\0\0\0\0\0\1abcd"),                 /* on an idle stream */
	    STR("\0\0\1\1\4\0\0\0\2\x83"),                 /* a call with an even id */
	    STR("\0\0\1\1\4\0\0\0\1\xff"),                 /* HPACK without sense */
	    STR("\0\0\2\1\x0c\0\0\0\1\xff\x83"),           /* more padding than frame */
	    STR("\0\0\1\1\4\0\0\0\1\x83"),                 /* a call without path */
	    STR("\xff\xff\xff\0\0\0\0\0\1"),               /* a frame of 16 MiB */
	    STR("\0\0\4\5\4\0\0\0\1\0\0\0\2"),             /* PUSH_PROMISE from a client */
	    STR("\0\0\4\x8\0\0\0\0\0\x7f\xff\xff\xff"),    /* credit beyond 2^31 - 1 */
	    STR("\0\0\5\4\0\0\0\0\0\0\4\0\0\0"),           /* settings of 5 bytes */
	    STR("\0\0\6\4\0\0\0\0\0\0\5\0\0\0\1"),         /* frames of at most a byte */
	    STR("\0\0\6\4\0\0\0\0\0\0\4\xff\xff\xff\xff"), /* a window beyond all */
	    STR("\0\0\1\6\0\0\0\0\0x"),                    /* a ping of a byte */
	    STR("\0\0\4\3\0\0\0\0\x8\0\0\0\0"),            /* reset of an idle stream */
	    STR("\0\0\1\x9\4\0\0\0\1x"),                   /* CONTINUATION of nothing */
	    STR("\0\0\0\1\0\0\0\0\1\0\0\x8\6\0\0\0\0\0"
	        "12345678"), /* something between a block's parts */
	};
	const struct str no_http2[] = {
	    STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), STR("\x16\3\1\2\0\1\0\1\xfc\3\3"), /* TLS */
	    STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\rx"), STR("\0\0\0\xa\0\0\0\1\1\0"),        /* ttrpc */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct raw r = h2_dial(s->path);
		AUTO(buf) struct buf out = BUF_INIT;
		EchoRequest req = echo_request();

		raw_send(&r, bad[i]);
		/* The connection ends, or the call is reset and another one is served. */
		h2_call(&out, 11, "Quick", &req, true);
		if (raw_send(&r, buf_str(&out)))
			while (h2_count(&r, H2_HEADERS, 11) < 2 && raw_wait_bytes(&r, r.in.n + 1))
				;
		assert_true(r.closed || h2_count(&r, H2_HEADERS, 11) == 2);
		raw_close(&r);
	}
	for (size_t i = 0; i < ARRAY_LEN(no_http2); i++) {
		struct raw r = raw_dial(s->path, SOCK_STREAM);

		raw_send(&r, no_http2[i]);
		raw_wait_closed(&r);
		raw_close(&r);
	}
	assert_served(s);
}

/* Text that Go's protobuf would not read again must not get in: one bad label would break everybody's List. */
static void text_that_is_none(void **state)
{
	struct served *s = *state;
	AUTO(rpc_client) struct rpc_client *c = grpc_dial(s->path);
	EchoRequest req = echo_request();

	req.text = "\xff\xfe";
	FAILS(rpc_call(c, ECHO, "Unary", NULL, &req.base, NULL, err), ERR_INVALID);
	FAILS(rpc_call(c, ECHO, "Quick", NULL, &req.base, NULL, err), ERR_INVALID);
	AUTO(rpc_stream) struct rpc_stream *chat = open_stream(c, "Chat", &req, true);
	FAILS(status_of(chat, err), ERR_INVALID);
	req.text = "\xc3\xa4 \xf0\x9f\x90\xb3";
	OK(rpc_call(c, ECHO, "Unary", NULL, &req.base, NULL, err));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define SMALL(fn) cmocka_unit_test_setup_teardown(fn, setup_small, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(rapid_reset),
	    T(made_to_reset),
	    T(frames_that_ask_for_nothing),
	    T(pings_of_a_busy_client),
	    T(endless_headers),
	    T(hpack_bomb),
	    SMALL(unread_answers),
	    SMALL(unread_streams),
	    SMALL(half_messages),
	    cmocka_unit_test_setup_teardown(waiting_calls, setup_few_calls, teardown),
	    T(too_many_connections),
	    cmocka_unit_test_setup_teardown(connections_that_say_nothing, setup_impatient, teardown),
	    cmocka_unit_test_setup_teardown(clients_without_permission, setup_refusing, teardown),
	    cmocka_unit_test_setup_teardown(silence_without_permission, setup_refusing_impatiently, teardown),
	    T(clients_that_vanish),
	    T(broken_frames),
	    T(text_that_is_none),
	    /* The server is in this process: last, because the others fork without threads. */
	    cmocka_unit_test(handlers_that_are_slow_to_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
