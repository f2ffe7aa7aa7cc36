#include "rpc/testing/fixture.h"
#include "rpc/workers.h"

#include <pthread.h>
#include <stdio.h>

static int first_hook(struct rpc_call *c, void *arg, struct err *err)
{
	if (rpc_metadata(c, "refuse"))
		return err_set(err, ERR_PRECONDITION, "refused by the hook");
	return 0;
}

static struct grpc_fixture *start(struct rpc_server_opts opts)
{
	opts.before = first_hook;
	return grpc_start(opts);
}

static int setup(void **state)
{
	*state = start((struct rpc_server_opts){0});
	return 0;
}

static int teardown(void **state)
{
	grpc_stop(*state);
	return 0;
}

/* ---- unary ---- */

static void unary(void **state)
{
	struct grpc_fixture *f = *state;
	const char *methods[] = {"Unary", "Quick"};

	for (int i = 0; i < 100; i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		struct err err = ERR_INIT;
		EchoRequest req = echo_request();

		req.text = (char *)"hello";
		req.count = (uint32_t)i;
		assert_int_equal(rpc_call(f->client, ECHO, methods[i % 2], NULL, &req.base, &rsp, &err), 0);
		assert_string_equal(rsp->text, "hello");
		assert_int_equal(rsp->index, i);
	}
}

static void errors_keep_code_and_text(void **state)
{
	struct grpc_fixture *f = *state;
	const char *text = "50 % of \xc3\xa4 \"%41\": not found";

	for (int i = 1; i <= 16; i++) {
		struct err err = ERR_INIT;
		EchoRequest req = echo_request();

		req.code = (uint32_t)i;
		req.text = (char *)text;
		assert_int_equal(rpc_call(f->client, ECHO, i % 2 ? "Unary" : "Quick", NULL, &req.base, NULL, &err), -i);
		assert_int_equal(err.code, i);
		assert_string_equal(err.msg, text);
	}
}

static void unknown_methods(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_call_opts opts = {.service = "contentd.testing.Nobody"};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	assert_int_equal(rpc_call(f->client, ECHO, "Absent", NULL, &req.base, NULL, &err), -ERR_UNIMPLEMENTED);
	assert_string_equal(err.msg, "unknown method Absent for service contentd.testing.Echo");
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", &opts, &req.base, NULL, &err), -ERR_UNIMPLEMENTED);
	assert_string_equal(err.msg, "unknown service contentd.testing.Nobody");
}

static void metadata_first_value_wins(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_md md[] = {{"containerd-namespace", "first"}, {"containerd-namespace", "second"}};
	struct rpc_call_opts opts = {.md = md, .n_md = 2};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.key = (char *)"containerd-namespace";
	rpc_client_set_metadata(f->client, "containerd-namespace", "of the client");
	for (int i = 0; i < 2; i++) {
		AUTO(pb) EchoReply *rsp = NULL;

		assert_int_equal(rpc_call(f->client, ECHO, "Unary", i ? NULL : &opts, &req.base, &rsp, &err), 0);
		assert_string_equal(rsp->text, i ? "of the client" : "first");
	}
	rpc_client_set_metadata(f->client, "containerd-namespace", NULL);
	AUTO(pb) EchoReply *rsp = NULL;
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, &rsp, &err), 0);
	assert_string_equal(rsp->text, "none");
}

static void hook_can_refuse(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_md md = {"refuse", "yes"};
	struct rpc_call_opts opts = {.md = &md, .n_md = 1};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	assert_int_equal(rpc_call(f->client, ECHO, "Unary", &opts, &req.base, NULL, &err), -ERR_PRECONDITION);
	assert_string_equal(err.msg, "refused by the hook");
}

/* ---- streams ---- */

static void server_stream(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.count = 5000;
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Down", &req, false);
	for (int i = 0; i < 5000; i++) {
		AUTO(pb) EchoReply *rsp = must_recv(s);

		assert_int_equal(rsp->index, i);
	}
	assert_int_equal(status_of(s, &err), RPC_END);
}

static void server_stream_that_fails_late(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.count = 3;
	req.code = ERR_OUT_OF_RANGE;
	req.text = (char *)"too far";
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Down", &req, false);
	for (int i = 0; i < 3; i++)
		pb_free(must_recv(s));
	assert_int_equal(status_of(s, &err), -ERR_OUT_OF_RANGE);
	assert_string_equal(err.msg, "too far");
}

static void client_stream(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.data = bytes_of(100000);
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Up", NULL, true);
	for (int i = 0; i < 200; i++)
		assert_int_equal(rpc_stream_send(s, &req.base, &err), 0);
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	AUTO(pb) EchoReply *rsp = must_recv(s);
	assert_int_equal(rsp->index, 200 * 100000);
	assert_int_equal(status_of(s, &err), RPC_END);
	free(req.data.data);
}

static void bidi_ping_pong(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Chat", NULL, true);
	for (int i = 0; i < 500; i++) {
		AUTO(pb) EchoReply *rsp = NULL;

		req.text = (char *)(i % 2 ? "ping" : "");
		assert_int_equal(rpc_stream_send(s, &req.base, &err), 0);
		rsp = must_recv(s);
		assert_string_equal(rsp->text, req.text);
		assert_int_equal(rsp->index, i);
	}
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(status_of(s, &err), RPC_END);
}

static void undecoded_messages(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Raw", NULL, true);
	for (size_t n = 1; n < 5 << 20; n = n * 11 - 1) {
		AUTO(pb) EchoReply *rsp = NULL;

		req.data = bytes_of(n);
		assert_int_equal(rpc_stream_send(s, &req.base, &err), 0);
		rsp = must_recv(s);
		assert_bytes(rsp->data, req.data);
		free(req.data.data);
	}
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	assert_int_equal(status_of(s, &err), RPC_END);
}

/* The server ends the call while the client still has its side open. */
static void bidi_ended_by_server(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();
	int r;

	req.code = ERR_EXISTS;
	req.text = (char *)"there";
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Chat", &req, true);
	assert_int_equal(status_of(s, &err), -ERR_EXISTS);
	r = rpc_stream_send(s, &req.base, &err);
	assert_int_equal(r, -ERR_EXISTS);
	assert_string_equal(err.msg, "there");
}

static void chat_beside_a_unary_call(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();
	int echoes = 0, r;

	req.wait_ms = 20;
	AUTO(rpc_stream) struct rpc_stream *chat = open_stream(f->client, "Chat", &req, true);
	AUTO(rpc_stream) struct rpc_stream *slow = open_stream(f->client, "Slow", &req, false);
	for (;;) {
		AUTO(pb) EchoReply *rsp = NULL, *answer = NULL;

		while ((r = rpc_stream_try_recv(chat, &rsp, &err)) == RPC_MESSAGE) {
			pb_free(STEAL(rsp));
			echoes++;
			assert_int_equal(rpc_stream_send(chat, &req.base, &err), 0);
		}
		assert_int_equal(r, RPC_AGAIN);
		r = rpc_stream_try_recv(slow, &answer, &err);
		if (r == RPC_MESSAGE)
			break;
		assert_int_equal(r, RPC_AGAIN);
		assert_int_equal(rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + WAIT_NS, &err), 1);
	}
	assert_true(echoes > 0);
	assert_int_equal(status_of(slow, &err), RPC_END);
}

static void poll_watches_other_descriptors(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	struct pollfd extra = {.fd = fds[0], .events = POLLIN};
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Wait", &req, false);
	assert_int_equal(rpc_client_poll(f->client, &extra, 1, clock_mono_ns() + NS_PER_MS, &err), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(rpc_client_poll(f->client, &extra, 1, clock_mono_ns() + WAIT_NS, &err), 1);
	assert_int_equal(extra.revents, POLLIN);
	close(fds[0]);
	close(fds[1]);
}

/* ---- ends ---- */

static void deadline_reaches_both_sides(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + ARRIVES_NS};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	assert_int_equal(rpc_call(f->client, ECHO, "Wait", &opts, &req.base, NULL, &err), -ERR_DEADLINE);
	until(&f->echo.cancelled, 1);
	assert_true(f->echo.last_code == ERR_DEADLINE || f->echo.last_code == ERR_CANCELLED);
}

/* The server keeps to the deadline by itself, also when the handler does not. */
static void deadline_of_a_stuck_handler(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_md md = {"grpc-timeout", "500m"};
	struct rpc_call_opts opts = {.md = &md, .n_md = 1};
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	atomic_store(&f->echo.stuck, true);
	assert_int_equal(rpc_call(f->client, ECHO, "Slow", &opts, &req.base, NULL, &err), -ERR_DEADLINE);
	assert_string_equal(err.msg, "context deadline exceeded");
	assert_int_equal(atomic_load(&f->echo.cancelled), 0);
	atomic_store(&f->echo.stuck, false);
	until(&f->echo.cancelled, 1);
	assert_int_equal(f->echo.last_code, ERR_DEADLINE);
}

static void cancel_reaches_the_handler(void **state)
{
	struct grpc_fixture *f = *state;
	const char *methods[] = {"Wait", "Slow", "Chat", "Up", "Down"};
	EchoRequest req = echo_request();

	req.wait_ms = 600000;
	req.count = UINT32_MAX;
	req.data = bytes_of(1000);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		struct rpc_stream *s = open_stream(f->client, methods[i], &req, true);
		struct err err = ERR_INIT;

		if (i != 2 && i != 3)
			assert_int_equal(rpc_stream_close_send(s, &err), 0);
		while (!atomic_load(&f->echo.running))
			rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
		rpc_stream_free(s);
		until(&f->echo.cancelled, (int)i + 1);
		assert_int_equal(f->echo.last_code, ERR_CANCELLED);
		until(&f->echo.running, 0);
	}
	free(req.data.data);
}

static void connection_loss_cancels(void **state)
{
	struct grpc_fixture *f = *state;
	struct rpc_client *other = grpc_dial(f->path);
	EchoRequest req = echo_request();
	struct rpc_stream *s = open_stream(other, "Wait", &req, false);

	while (!atomic_load(&f->echo.running))
		rpc_client_poll(other, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	rpc_stream_free(s);
	rpc_client_free(other);
	until(&f->echo.cancelled, 1);
	unary(state);
}

static void *stop_server(void *arg)
{
	rpc_server_stop(arg, WAIT_NS);
	return NULL;
}

/* Long calls end at once, short ones are waited for, new ones are refused. */
static void stop_with_grace(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();
	pthread_t t;

	req.wait_ms = 200;
	req.text = (char *)"done";
	AUTO(rpc_stream) struct rpc_stream *wait = open_stream(f->client, "Wait", &req, false);
	AUTO(rpc_stream) struct rpc_stream *slow = open_stream(f->client, "Slow", &req, false);
	while (atomic_load(&f->echo.running) < 2)
		rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	assert_int_equal(pthread_create(&t, NULL, stop_server, f->server), 0);
	assert_int_equal(status_of(wait, &err), -ERR_UNAVAILABLE);
	AUTO(pb) EchoReply *rsp = must_recv(slow);
	assert_string_equal(rsp->text, "done");
	assert_int_equal(status_of(slow, &err), RPC_END);
	pthread_join(t, NULL);
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, NULL, &err), -ERR_UNAVAILABLE);
}

static void stop_without_grace(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.wait_ms = 600000;
	AUTO(rpc_stream) struct rpc_stream *slow = open_stream(f->client, "Slow", &req, false);
	AUTO(rpc_stream) struct rpc_stream *chat = open_stream(f->client, "Chat", &req, true);
	while (atomic_load(&f->echo.running) < 2)
		rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	rpc_server_stop(f->server, 0);
	assert_int_equal(atomic_load(&f->echo.running), 0);
	assert_int_equal(status_of(slow, &err), -ERR_UNAVAILABLE);
	while (status_of(chat, &err) == RPC_MESSAGE)
		;
	assert_int_equal(err.code, ERR_UNAVAILABLE);
}

/* ---- sizes ---- */

static void big_messages(void **state)
{
	struct grpc_fixture *f = *state;
	const size_t sizes[] = {0, 16 << 10, (1 << 20) - 3, 5 << 20, 15 << 20};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		struct err err = ERR_INIT;
		EchoRequest req = echo_request();

		req.data = bytes_of(sizes[i]);
		assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, &rsp, &err), 0);
		assert_bytes(rsp->data, req.data);
		free(req.data.data);
	}
}

static void oversized_messages(void **state)
{
	struct grpc_fixture *f = start((struct rpc_server_opts){.max_message_bytes = 1 << 20});
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.data = bytes_of(2 << 20);
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, NULL, &err), -ERR_EXHAUSTED);
	/* The answer is a little larger than the request. */
	req.data.len = (1 << 20) - 8;
	req.count = UINT32_MAX;
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, NULL, &err), -ERR_EXHAUSTED);
	req.data.len = 1000;
	assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, NULL, &err), 0);
	free(req.data.data);
	grpc_stop(f);
}

/* A client that does not read a stream blocks its handler, and nothing else. */
static void unread_stream(void **state)
{
	struct grpc_fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.data = bytes_of(100000);
	req.count = 400;
	AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, "Down", &req, false);
	for (int i = 0; i < 50; i++) {
		EchoRequest small = echo_request();

		assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &small.base, NULL, &err), 0);
	}
	assert_int_equal(atomic_load(&f->echo.running), 1);
	for (int i = 0; i < 400; i++) {
		AUTO(pb) EchoReply *rsp = must_recv(s);

		assert_int_equal(rsp->index, i);
		assert_bytes(rsp->data, req.data);
	}
	assert_int_equal(status_of(s, &err), RPC_END);
	free(req.data.data);
}

/* Handlers that do not read: their senders are paused by the connection's bound, all data arrives in the end. */
static void unread_requests(void **state)
{
	struct grpc_fixture *f = start((struct rpc_server_opts){.max_buffered_bytes = 2 << 20});
	enum { CALLS = 8, MESSAGES = 3, BYTES = 900000 };
	struct rpc_stream *s[CALLS];
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.data = bytes_of(BYTES);
	atomic_store(&f->echo.hold, true);
	for (int i = 0; i < CALLS; i++) {
		s[i] = open_stream(f->client, "Up", NULL, true);
		for (int j = 0; j < (i ? 1 : 2); j++)
			assert_int_equal(rpc_stream_send(s[i], &req.base, &err), 0);
	}
	/* As much as may be sent while nobody reads. */
	rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + 100 * NS_PER_MS, &err);
	atomic_store(&f->echo.hold, false);
	for (int i = 0; i < CALLS; i++)
		for (int j = i ? 1 : 2; j < MESSAGES; j++)
			assert_int_equal(rpc_stream_send(s[i], &req.base, &err), 0);
	for (int i = 0; i < CALLS; i++)
		assert_int_equal(rpc_stream_close_send(s[i], &err), 0);
	for (int i = 0; i < CALLS; i++) {
		AUTO(pb) EchoReply *rsp = must_recv(s[i]);

		assert_int_equal(rsp->index, MESSAGES * BYTES);
		assert_int_equal(status_of(s[i], &err), RPC_END);
		rpc_stream_free(s[i]);
	}
	free(req.data.data);
	grpc_stop(f);
}

/* Windows already granted let more arrive than the bound allows: from four times the bound on calls are refused. */
static void flood_of_unread_requests(void **state)
{
	struct grpc_fixture *f = start((struct rpc_server_opts){.max_buffered_bytes = 1 << 20});
	enum { CALLS = 8, BYTES = 900000 };
	struct rpc_stream *s[CALLS];
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();
	int refused = 0;

	req.data = bytes_of(BYTES);
	atomic_store(&f->echo.hold, true);
	for (int i = 0; i < CALLS; i++)
		s[i] = open_stream(f->client, "Up", &req, false);
	while (rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + WAIT_NS, &err) == 0)
		;
	atomic_store(&f->echo.hold, false);
	for (int i = 0; i < CALLS; i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		int r = rpc_stream_recv(s[i], clock_mono_ns() + WAIT_NS, &rsp, &err);

		assert_true(r == RPC_MESSAGE || r == -ERR_EXHAUSTED);
		refused += r != RPC_MESSAGE;
		rpc_stream_free(s[i]);
	}
	assert_in_range(refused, 1, CALLS - 4);
	free(req.data.data);
	grpc_stop(f);
}

/* ---- numbers ---- */

static void many_calls_at_once(void **state)
{
	struct grpc_fixture *f = *state;
	enum { CALLS = 600 };
	static struct rpc_stream *s[CALLS];
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	req.count = 20;
	req.data = bytes_of(200);
	for (int i = 0; i < CALLS; i++)
		s[i] = open_stream(f->client, i % 3 ? "Down" : "Unary", &req, false);
	for (int i = 0; i < CALLS; i++) {
		for (int j = 0; j < (i % 3 ? 20 : 1); j++)
			pb_free(must_recv(s[i]));
		assert_int_equal(status_of(s[i], &err), RPC_END);
		rpc_stream_free(s[i]);
	}
	free(req.data.data);
}

/* Calls that wait for days, and calls that wait for their client, leave the pool to the others. */
static void waiting_calls_do_not_starve(void **state)
{
	struct grpc_fixture *f = start((struct rpc_server_opts){.max_workers = 2});
	enum { WAITS = 100, CHATS = 50, SLOWS = 10 };
	static struct rpc_stream *s[WAITS + CHATS + SLOWS];
	struct err err = ERR_INIT;
	EchoRequest req = echo_request();

	for (int i = 0; i < WAITS + CHATS; i++)
		s[i] = open_stream(f->client, i < WAITS ? "Wait" : "Chat", &req, i >= WAITS);
	while (atomic_load(&f->echo.running) < WAITS + CHATS)
		rpc_client_poll(f->client, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	for (int i = 0; i < 20; i++)
		assert_int_equal(rpc_call(f->client, ECHO, "Unary", NULL, &req.base, NULL, &err), 0);

	/* The others are bounded: never more at a time than the pool and the connection have places. */
	req.wait_ms = 5;
	for (int i = WAITS + CHATS; i < WAITS + CHATS + SLOWS; i++)
		s[i] = open_stream(f->client, "Slow", &req, false);
	for (int i = WAITS + CHATS; i < WAITS + CHATS + SLOWS; i++)
		pb_free(must_recv(s[i]));
	assert_in_range(atomic_load(&f->echo.max_running), WAITS + CHATS + 1, WAITS + CHATS + 2 + WORKERS_OWN);
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		rpc_stream_free(s[i]);
	until(&f->echo.running, 0);
	grpc_stop(f);
}

/* One client has as many slow calls as it likes; another one's short call is answered. Then the pool is full, by several:
 * still. */
static void slow_calls_of_others(void **state)
{
	struct grpc_fixture *f = *state;
	enum { SLOWS = 200, CLIENTS = 4 };
	static struct rpc_stream *s[CLIENTS][SLOWS];
	struct rpc_client *slow[CLIENTS];
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + WAIT_NS};
	EchoRequest req = echo_request();

	req.wait_ms = 600000;
	for (int i = 0; i < CLIENTS; i++) {
		int places[] = {64 - 64 / 4 + WORKERS_OWN, 64 / 4 + WORKERS_OWN, WORKERS_OWN, WORKERS_OWN};
		int before = atomic_load(&f->echo.running);

		slow[i] = grpc_dial(f->path);
		for (int j = 0; j < SLOWS; j++)
			s[i][j] = open_stream(slow[i], "Slow", &req, false);
		while (atomic_load(&f->echo.running) < before + places[i])
			rpc_client_poll(slow[i], NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
		OK(rpc_call(f->client, ECHO, "Unary", &opts, &req.base, NULL, err));
		assert_int_equal(atomic_load(&f->echo.running), before + places[i]);
	}
	for (int i = 0; i < CLIENTS; i++) {
		for (int j = 0; j < SLOWS; j++)
			rpc_stream_free(s[i][j]);
		rpc_client_free(slow[i]);
	}
	until(&f->echo.running, 0);
}

struct hammer {
	struct grpc_fixture *f;
	int failed;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;
	AUTO(rpc_client) struct rpc_client *c = NULL;

	if (rpc_client_connect(h->f->path, &c, NULL) < 0) {
		h->failed++;
		return NULL;
	}
	for (int i = 0; i < 200; i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		EchoRequest req = echo_request();
		struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + (i % 7 ? WAIT_NS : NS_PER_MS)};
		int r;

		req.wait_ms = i % 7 ? 0 : 5;
		r = rpc_call(c, ECHO, i % 7 ? (i % 2 ? "Unary" : "Quick") : "Slow", &opts, &req.base, &rsp, NULL);
		/* On a busy machine the late answer may be there before anybody looks at the clock. */
		h->failed += r != 0 && (i % 7 || r != -ERR_DEADLINE);
	}
	return NULL;
}

static void many_connections(void **state)
{
	struct grpc_fixture *f = *state;
	struct hammer h[8];
	pthread_t t[8];

	for (int i = 0; i < 8; i++) {
		h[i] = (struct hammer){f, 0};
		assert_int_equal(pthread_create(&t[i], NULL, hammer, &h[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(h[i].failed, 0);
	}
}

static int nobody(const struct ucred *peer, int fd, void *arg, struct err *err)
{
	return err_set(err, ERR_PERMISSION, "uid %u may not", peer->uid);
}

static void refused_peer(void **state)
{
	struct grpc_fixture *f = start((struct rpc_server_opts){.allow = nobody});
	char text[64];
	EchoRequest req = echo_request();
	struct err err = ERR_INIT;

	snprintf(text, sizeof(text), "uid %u may not", getuid());
	for (int i = 0; i < 10; i++) {
		const char *methods[] = {"Unary", "Quick", "Wait", "Absent"};

		assert_int_equal(rpc_call(f->client, ECHO, methods[i % 4], NULL, &req.base, NULL, &err),
		                 -ERR_PERMISSION);
		assert_string_equal(err.msg, text);
	}
	for (int i = 0; i < 2; i++) {
		AUTO(rpc_stream) struct rpc_stream *s = open_stream(f->client, i ? "Down" : "Chat", &req, !i);

		assert_int_equal(status_of(s, &err), -ERR_PERMISSION);
	}
	grpc_stop(f);
}

static void nobody_serves(void **state)
{
	struct rpc_client *c = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(rpc_client_connect("/tmp/rpc_server_test.absent", &c, &err), -ERR_UNAVAILABLE);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(unary),
	    T(errors_keep_code_and_text),
	    T(unknown_methods),
	    T(metadata_first_value_wins),
	    T(hook_can_refuse),
	    T(server_stream),
	    T(server_stream_that_fails_late),
	    T(client_stream),
	    T(bidi_ping_pong),
	    T(undecoded_messages),
	    T(bidi_ended_by_server),
	    T(chat_beside_a_unary_call),
	    T(poll_watches_other_descriptors),
	    T(deadline_reaches_both_sides),
	    T(deadline_of_a_stuck_handler),
	    T(cancel_reaches_the_handler),
	    T(connection_loss_cancels),
	    T(stop_with_grace),
	    T(stop_without_grace),
	    T(big_messages),
	    cmocka_unit_test(oversized_messages),
	    T(unread_stream),
	    cmocka_unit_test(unread_requests),
	    cmocka_unit_test(flood_of_unread_requests),
	    T(many_calls_at_once),
	    cmocka_unit_test(waiting_calls_do_not_starve),
	    T(slow_calls_of_others),
	    T(many_connections),
	    cmocka_unit_test(refused_peer),
	    cmocka_unit_test(nobody_serves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
