#include "rpc/ttrpc.h"

#include "base/file.h"
#include "base/unix.h"
#include "rpc/io.h"
#include "rpc/testing/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

struct fixture {
	struct echo echo;
	struct ttrpc_server *server;
	struct ttrpc_client *client;
	atomic_int closed, disconnected, done;
	int type, peer_fd;
};

static void on_close(void *arg, const struct err *why)
{
	struct fixture *f = arg;

	assert_int_equal(why->code, ERR_UNAVAILABLE);
	atomic_fetch_add(&f->closed, 1);
}

static void on_disconnect(const struct ucred *peer, void *arg)
{
	struct fixture *f = arg;

	atomic_fetch_add(&f->disconnected, peer->pid == getpid());
}

static void start(struct fixture *f, struct ttrpc_server_opts opts)
{
	struct ttrpc_client_opts copts = {.on_close = on_close, .arg = f};
	struct rpc_service svc = echo_ttrpc_service(&f->echo);
	struct err err = ERR_INIT;
	int fds[2];

	opts.on_disconnect = on_disconnect;
	opts.arg = f;
	assert_int_equal(ttrpc_server_new(&opts, &f->server, &err), 0);
	assert_int_equal(ttrpc_server_add(f->server, &svc, &err), 0);
	assert_int_equal(ttrpc_server_start(f->server, &err), 0);
	assert_int_equal(socketpair(AF_UNIX, f->type | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(ttrpc_server_adopt(f->server, fds[0], &err), 0);
	assert_int_equal(ttrpc_client_new(fds[1], &copts, &f->client, &err), 0);
}

static int setup_stream(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->type = SOCK_STREAM;
	start(f, (struct ttrpc_server_opts){0});
	*state = f;
	return 0;
}

static int setup_packets(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->type = SOCK_SEQPACKET;
	start(f, (struct ttrpc_server_opts){0});
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ttrpc_client_free(f->client);
	ttrpc_server_free(f->server);
	free(f);
	return 0;
}

static struct ttrpc_req call(const char *method, const EchoRequest *msg)
{
	return (struct ttrpc_req){.svc = ECHO, .method = method, .msg = &msg->base};
}

/* ---- both kinds of socket ---- */

static void unary(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 200; i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		struct err err = ERR_INIT;
		EchoRequest msg = echo_request();
		struct ttrpc_req req = call(i % 2 ? "Unary" : "Quick", &msg);

		msg.text = (char *)"hello";
		msg.count = (uint32_t)i;
		assert_int_equal(ttrpc_call(f->client, &req, &rsp, NULL, &err), 0);
		assert_string_equal(rsp->text, "hello");
		assert_int_equal(rsp->index, i);
	}
}

/* An answer whose message is empty has no bytes at all, and is no error. */
static void empty_answer(void **state)
{
	struct fixture *f = *state;
	AUTO(pb) EchoReply *rsp = NULL;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);

	assert_int_equal(ttrpc_call(f->client, &req, &rsp, NULL, &err), 0);
	assert_string_equal(rsp->text, "");
}

static void errors(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);

	for (int i = 1; i <= 16; i++) {
		msg.code = (uint32_t)i;
		msg.text = (char *)"no \xc3\xa4 100%";
		assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -i);
		assert_string_equal(err.msg, "no \xc3\xa4 100%");
	}
	req.method = "Absent";
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_UNIMPLEMENTED);
	req.method = "Unary";
	req.service = "contentd.testing.Nobody";
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_UNIMPLEMENTED);
	assert_string_equal(err.msg, "unknown service contentd.testing.Nobody");
}

static void namespace_metadata(void **state)
{
	struct fixture *f = *state;
	AUTO(pb) EchoReply *rsp = NULL;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);

	msg.key = (char *)"containerd-namespace-ttrpc";
	req.ns = "k8s.io";
	assert_int_equal(ttrpc_call(f->client, &req, &rsp, NULL, &err), 0);
	assert_string_equal(rsp->text, "k8s.io");
}

static void sizes(void **state)
{
	struct fixture *f = *state;
	size_t max = f->type == SOCK_STREAM ? TTRPC_FRAME_MAX : TTRPC_PACKET_MAX;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);

	msg.data = bytes_of(max);
	for (size_t n = 1; n < max - 1000; n *= 7) {
		AUTO(pb) EchoReply *rsp = NULL;

		msg.data.len = n;
		assert_int_equal(ttrpc_call(f->client, &req, &rsp, NULL, &err), 0);
		assert_int_equal(rsp->data.len, n);
		assert_memory_equal(rsp->data.data, msg.data.data, n);
	}
	/* Just fits: the answer's envelope is smaller. */
	msg.data.len = max - 100;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), 0);
	msg.data.len = max;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_EXHAUSTED);
	msg.data.len = 10;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), 0);
	free(msg.data.data);
}

static void deadline(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Wait", &msg);

	req.deadline_ns = clock_mono_ns() + ARRIVES_NS;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_DEADLINE);
	until(&f->echo.cancelled, 1);
	assert_int_equal(f->echo.last_code, ERR_DEADLINE);
	unary(state);
}

static void on_done(void *arg, int rc, void *rsp, const struct err *why)
{
	struct fixture *f = arg;

	assert_true((rc == 0) == (rsp != NULL));
	assert_int_equal(-rc, why->code);
	atomic_fetch_add(&f->done, rc == 0 ? 1 : 100);
	pb_free(rsp);
}

static void async_calls(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Slow", &msg);

	msg.wait_ms = 5;
	for (int i = 0; i < 10; i++)
		assert_int_equal(ttrpc_call_async(f->client, &req, on_done, f, &err), 0);
	until(&f->done, 10);
	/* One that is late, one that outlives its connection. */
	msg.wait_ms = 600000;
	req.deadline_ns = clock_mono_ns() + 10 * NS_PER_MS;
	assert_int_equal(ttrpc_call_async(f->client, &req, on_done, f, &err), 0);
	until(&f->done, 110);
	req.deadline_ns = 0;
	assert_int_equal(ttrpc_call_async(f->client, &req, on_done, f, &err), 0);
	ttrpc_client_free(STEAL(f->client));
	assert_int_equal(f->done, 210);
	assert_int_equal(f->closed, 0);
}

struct caller {
	struct fixture *f;
	const char *method;
	int rc;
	struct err why;
};

static void *call_in_thread(void *arg)
{
	struct caller *c = arg;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call(c->method, &msg);

	msg.wait_ms = 600000;
	c->rc = ttrpc_call(c->f->client, &req, NULL, NULL, &c->why);
	return NULL;
}

/* Calls that wait for days do not hold up others, and end when the peer dies. */
static void death_of_the_server(void **state)
{
	struct fixture *f = *state;
	struct caller callers[20];
	pthread_t t[20];
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);

	for (int i = 0; i < 20; i++) {
		callers[i] = (struct caller){.f = f, .method = "Wait"};
		assert_int_equal(pthread_create(&t[i], NULL, call_in_thread, &callers[i]), 0);
	}
	until(&f->echo.running, 20);
	unary(state);
	assert_true(ttrpc_client_alive(f->client));
	ttrpc_server_stop(f->server);
	assert_int_equal(f->echo.running, 0);
	for (int i = 0; i < 20; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(callers[i].rc, -ERR_UNAVAILABLE);
	}
	until(&f->closed, 1);
	assert_false(ttrpc_client_alive(f->client));
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_UNAVAILABLE);
}

static void hold_thread(void *arg)
{
	sem_t *held = arg;

	sem_wait(held);
}

/* Whoever finds out by sending knows it at once, though the I/O thread has not got to it. */
static void a_peer_that_is_just_gone(void **state)
{
	struct fixture *f = *state;
	AUTO(rpc_io) struct rpc_io *io = NULL;
	AUTO(ttrpc_client) struct ttrpc_client *c = NULL;
	struct ttrpc_client_opts opts = {0};
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);
	sem_t held;
	int fds[2];

	assert_int_equal(sem_init(&held, 0, 0), 0);
	assert_int_equal(rpc_io_new(&io, &err), 0);
	opts.io = io;
	assert_int_equal(socketpair(AF_UNIX, f->type | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(ttrpc_client_new(fds[1], &opts, &c, &err), 0);
	loop_post(rpc_io_loop(io), hold_thread, &held);
	close(fds[0]);
	assert_true(ttrpc_client_alive(c));
	assert_int_equal(ttrpc_call(c, &req, NULL, NULL, &err), -ERR_UNAVAILABLE);
	assert_false(ttrpc_client_alive(c));
	sem_post(&held);
	ttrpc_client_free(STEAL(c));
	sem_destroy(&held);
}

/* A client that repeats what was cut off, but not what was answered, loses nothing to a server that stops quietly. */
static void quiet_end_of_the_server(void **state)
{
	struct fixture f = {.type = SOCK_STREAM};
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Wait", &msg);
	struct err err = ERR_INIT;
	pthread_t t;
	struct caller waiting = {.f = &f, .method = "Wait"};

	start(&f, (struct ttrpc_server_opts){.quiet_stop = true});
	assert_int_equal(pthread_create(&t, NULL, call_in_thread, &waiting), 0);
	until(&f.echo.running, 1);
	ttrpc_server_stop(f.server);
	pthread_join(t, NULL);
	assert_int_equal(waiting.rc, -ERR_UNAVAILABLE);
	until(&f.closed, 1);
	assert_int_equal(ttrpc_call(f.client, &req, NULL, NULL, &err), -ERR_UNAVAILABLE);
	if (strstr(waiting.why.msg, "the server is stopping"))
		fail_msg("it was answered: %s", waiting.why.msg);
	ttrpc_client_free(f.client);
	ttrpc_server_free(f.server);
}

static void death_of_the_client(void **state)
{
	struct fixture *f = *state;
	struct caller caller = {.f = f, .method = "Wait"};
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, call_in_thread, &caller), 0);
	until(&f->echo.running, 1);
	ttrpc_client_free(STEAL(f->client));
	pthread_join(t, NULL);
	assert_int_equal(caller.rc, -ERR_UNAVAILABLE);
	until(&f->echo.cancelled, 1);
	assert_int_equal(f->echo.last_code, ERR_CANCELLED);
	until(&f->disconnected, 1);
}

struct hammer {
	struct fixture *f;
	int failed;
};

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	for (int i = 0; i < 300; i++) {
		AUTO(pb) EchoReply *rsp = NULL;
		EchoRequest msg = echo_request();
		struct ttrpc_req req = call(i % 3 ? "Unary" : "Quick", &msg);

		msg.count = (uint32_t)i;
		msg.data = bytes_of((size_t)i * 100);
		h->failed += ttrpc_call(h->f->client, &req, &rsp, NULL, NULL) != 0 || rsp->index != (uint64_t)i ||
		             rsp->data.len != msg.data.len;
		free(msg.data.data);
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct fixture *f = *state;
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

struct seen {
	uint64_t next;
	size_t bytes;
	unsigned pause_us;
	bool wrong;
};

static void on_progress(void *arg, struct str wire)
{
	struct seen *seen = arg;
	AUTO(pb) EchoReply *p = NULL;

	if (pb_unpack(&contentd__testing__echo_reply__descriptor, wire, &p, NULL) < 0 || p->index != seen->next)
		seen->wrong = true;
	seen->next++;
	seen->bytes += p ? p->data.len : 0;
	if (seen->pause_us)
		usleep(seen->pause_us);
}

static void progress(void **state)
{
	struct fixture *f = *state;
	AUTO(pb) EchoReply *rsp = NULL;
	struct seen seen = {0};
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Progress", &msg);

	/* 20 MB: more than any queue holds. */
	msg.count = 500;
	msg.data = bytes_of(40000);
	msg.text = (char *)"end";
	req.progress = on_progress;
	req.arg = &seen;
	assert_int_equal(ttrpc_call(f->client, &req, &rsp, NULL, &err), 0);
	assert_string_equal(rsp->text, "end");
	assert_int_equal(seen.next, 500);
	assert_int_equal(seen.bytes, 500 * 40000);
	assert_false(seen.wrong);
	/* Nobody listens: it is dropped. */
	req.progress = NULL;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), 0);
	free(msg.data.data);
}

/* Our own server hears that nobody waits any more. */
static void giving_up(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Slow", &msg);

	/* The server knows no deadline: this is what on_behalf and a local deadline come down to. */
	msg.wait_ms = 600000;
	req.can_cancel = true;
	req.deadline_ns = clock_mono_ns() + ARRIVES_NS;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_DEADLINE);
	until(&f->echo.cancelled, 1);
	unary(state);
}

/* ---- descriptors ---- */

static void descriptors(void **state)
{
	struct fixture *f = *state;

	for (unsigned n = 0; n <= TTRPC_FDS_MAX; n += 4) {
		AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;
		AUTO(pb) EchoReply *rsp = NULL;
		AUTO_FD int file = -1;
		struct err err = ERR_INIT;
		EchoRequest msg = echo_request();
		struct ttrpc_req req = call("Fds", &msg);
		int send[TTRPC_FDS_MAX];

		assert_int_equal(memfd_of("test", STR("content"), &file, &err), 0);
		for (unsigned i = 0; i < n; i++)
			send[i] = file;
		req.fds = send;
		req.n_fds = n;
		msg.count = n;
		msg.data = (ProtobufCBinaryData){4, (uint8_t *)"back"};
		assert_int_equal(ttrpc_call(f->client, &req, &rsp, &fds, &err), 0);
		assert_string_equal(rsp->text, n ? "content" : "");
		assert_int_equal(fds.n, n);
		for (unsigned i = 0; i < n; i++) {
			char got[8] = "";

			assert_int_equal(pread(fds.fd[i], got, sizeof(got), 0), 4);
			assert_string_equal(got, "back");
			assert_int_equal(fcntl(fds.fd[i], F_GETFD), FD_CLOEXEC);
		}
	}
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int i = 0; i < 1024; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

/* Whatever is not taken is closed: request and answer, on success and failure. */
static void descriptors_do_not_leak(void **state)
{
	struct fixture *f = *state;
	AUTO_FD int file = -1;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Fds", &msg);
	unsigned before;
	int send[4];

	assert_int_equal(memfd_of("test", STR("content"), &file, &err), 0);
	for (int i = 0; i < 4; i++)
		send[i] = file;
	req.fds = send;
	req.n_fds = 4;
	msg.count = 4;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), 0);
	unary(state);
	before = open_fds();
	for (int i = 0; i < 10; i++) {
		assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), 0);
		msg.count = TTRPC_FDS_MAX + 1;
		assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_EXHAUSTED);
		req.method = "Absent";
		assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_UNIMPLEMENTED);
		req.method = "Fds";
		msg.count = 4;
	}
	/* A call's own end comes just after its answer. */
	for (int64_t end = clock_mono_ns() + WAIT_NS; open_fds() != before && clock_mono_ns() < end;)
		usleep(1000);
	assert_int_equal(open_fds(), before);
}

static void no_descriptors_on_a_stream(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Fds", &msg);
	int one = 1;

	req.fds = &one;
	req.n_fds = 1;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_PRECONDITION);
	req.n_fds = 0;
	msg.count = 1;
	assert_int_equal(ttrpc_call(f->client, &req, NULL, NULL, &err), -ERR_PRECONDITION);
}

/* ---- on behalf of a call of our own ---- */

struct relay {
	struct ttrpc_client *client;
	atomic_int ended, code;
};

static int relay_wait(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct relay *relay = svc;
	struct ttrpc_req req = call("Wait", request);
	int r;

	req.on_behalf = c;
	req.can_cancel = true;
	r = ttrpc_call(relay->client, &req, NULL, NULL, err);
	atomic_store(&relay->code, -r);
	atomic_fetch_add(&relay->ended, 1);
	return r;
}

static const struct rpc_method relay_methods[] = {{"Wait", RPC_LONG, relay_wait}};

/* Cancelling the gRPC call ends the ttrpc call behind it, and the handler behind that. */
static void cancellation_travels(void **state)
{
	struct fixture *f = *state;
	struct relay relay = {.client = f->client};
	struct rpc_service svc = {ECHO, relay_methods, 1, &relay};
	AUTO(rpc_server) struct rpc_server *server = NULL;
	AUTO(rpc_client) struct rpc_client *client = NULL;
	struct rpc_stream *s = NULL;
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/rpc_ttrpc_test.%d", getpid());
	assert_int_equal(unix_listen(path, SOCK_STREAM, 0600, &fd, &err), 0);
	assert_int_equal(rpc_server_new(NULL, &server, &err), 0);
	assert_int_equal(rpc_server_add(server, &svc, &err), 0);
	assert_int_equal(rpc_server_listen(server, fd, &err), 0);
	assert_int_equal(rpc_server_start(server, &err), 0);
	assert_int_equal(rpc_client_connect(path, &client, &err), 0);
	unlink(path);

	assert_int_equal(rpc_stream_open(client, ECHO, "Wait", NULL, &s, &err), 0);
	assert_int_equal(rpc_stream_send(s, &msg.base, &err), 0);
	assert_int_equal(rpc_stream_close_send(s, &err), 0);
	while (!atomic_load(&f->echo.running))
		rpc_client_poll(client, NULL, 0, clock_mono_ns() + NS_PER_MS, NULL);
	rpc_stream_free(s);
	until(&relay.ended, 1);
	assert_int_equal(relay.code, ERR_CANCELLED);
	until(&f->echo.cancelled, 1);
	assert_int_equal(f->echo.last_code, ERR_CANCELLED);

	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + ARRIVES_NS};
	assert_int_equal(rpc_call(client, ECHO, "Wait", &opts, &msg.base, NULL, &err), -ERR_DEADLINE);
	until(&relay.ended, 2);
	/* Whichever the server hears of first: its own clock, or the client that gives up. */
	assert_true(relay.code == ERR_DEADLINE || relay.code == ERR_CANCELLED);
	until(&f->echo.cancelled, 2);
}

/* ---- listening, a shared thread ---- */

static bool nobody(const struct ucred *peer, void *arg)
{
	return peer->pid != getpid();
}

static void listening(void **state)
{
	AUTO(rpc_io) struct rpc_io *io = NULL;
	struct ttrpc_server *server = NULL;
	struct echo echo = {0};
	struct rpc_service svc = echo_ttrpc_service(&echo);
	struct err err = ERR_INIT;
	EchoRequest msg = echo_request();
	struct ttrpc_req req = call("Unary", &msg);
	char path[64];

	assert_int_equal(rpc_io_new(&io, &err), 0);
	for (int i = 0; i < 3; i++) {
		struct ttrpc_server_opts opts = {.io = io, .allow = i == 2 ? nobody : NULL};
		struct ttrpc_client_opts copts = {.io = io};
		struct ttrpc_client *client = NULL;
		int type = i == 1 ? SOCK_SEQPACKET : SOCK_STREAM, fd;

		snprintf(path, sizeof(path), "/tmp/rpc_ttrpc_test.%d.%d", getpid(), i);
		assert_int_equal(unix_listen(path, type, 0600, &fd, &err), 0);
		assert_int_equal(ttrpc_server_new(&opts, &server, &err), 0);
		assert_int_equal(ttrpc_server_add(server, &svc, &err), 0);
		assert_int_equal(ttrpc_server_listen(server, fd, &err), 0);
		assert_int_equal(ttrpc_server_start(server, &err), 0);
		assert_int_equal(unix_connect(path, type, &fd, &err), 0);
		assert_int_equal(ttrpc_client_new(fd, &copts, &client, &err), 0);
		assert_int_equal(ttrpc_call(client, &req, NULL, NULL, &err), i == 2 ? -ERR_UNAVAILABLE : 0);
		ttrpc_client_free(client);
		ttrpc_server_free(server);
		unlink(path);
	}
}

/* ---- a server that meets nonsense ---- */

static void send_frame(int fd, uint32_t id, int type, int flags, const char *data, size_t n)
{
	unsigned char h[10] = {n >> 24, n >> 16, n >> 8, n, id >> 24, id >> 16, id >> 8, id, type, flags};

	assert_int_equal(send(fd, h, 10, 0), 10);
	assert_int_equal(send(fd, data, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* The status of the next response. */
static int next_status(int fd, uint32_t id)
{
	AUTO_FREE unsigned char *data = NULL;
	unsigned char h[10];
	size_t n;

	assert_int_equal(recv(fd, h, 10, MSG_WAITALL), 10);
	n = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
	assert_int_equal(h[8], 2);
	assert_int_equal((uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7], id);
	data = xmalloc(n + 1);
	assert_int_equal(recv(fd, data, n, MSG_WAITALL), n);
	/* Field 1, a message whose field 1 is a varint: the code. */
	return n > 4 && data[0] == 0x0a && data[2] == 0x08 ? data[3] : 0;
}

static void nonsense(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE char *big = xcalloc(1, TTRPC_FRAME_MAX + 1);
	struct err err = ERR_INIT;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(ttrpc_server_adopt(f->server, fds[0], &err), 0);
	send_frame(fds[1], 2, 1, 0, "", 0);
	assert_int_equal(next_status(fds[1], 2), ERR_INVALID);
	send_frame(fds[1], 5, 1, 0, "", 0);
	assert_int_equal(next_status(fds[1], 5), ERR_UNIMPLEMENTED);
	send_frame(fds[1], 3, 1, 0, "", 0);
	assert_int_equal(next_status(fds[1], 3), ERR_INVALID);
	send_frame(fds[1], 7, 1, 0, "\xff\xff\xff", 3);
	assert_int_equal(next_status(fds[1], 7), ERR_INVALID);
	send_frame(fds[1], 9, 1, 2, "", 0);
	assert_int_equal(next_status(fds[1], 9), ERR_UNIMPLEMENTED);
	send_frame(fds[1], 9, 3, 5, "", 0);
	send_frame(fds[1], 1, 77, 0, "abc", 3);
	send_frame(fds[1], 11, 1, 0, big, TTRPC_FRAME_MAX + 1);
	assert_int_equal(next_status(fds[1], 11), ERR_EXHAUSTED);
	close(fds[1]);
	until(&f->disconnected, 1);
	unary(state);
}

#define S(fn)                                                                                                          \
	{                                                                                                              \
		"stream: " #fn, fn, setup_stream, teardown, NULL                                                       \
	}
#define P(fn)                                                                                                          \
	{                                                                                                              \
		"packets: " #fn, fn, setup_packets, teardown, NULL                                                     \
	}
#define BOTH(fn) S(fn), P(fn)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    BOTH(unary),
	    BOTH(empty_answer),
	    BOTH(errors),
	    BOTH(namespace_metadata),
	    BOTH(sizes),
	    BOTH(deadline),
	    BOTH(async_calls),
	    BOTH(death_of_the_server),
	    BOTH(a_peer_that_is_just_gone),
	    BOTH(death_of_the_client),
	    cmocka_unit_test(quiet_end_of_the_server),
	    BOTH(many_threads),
	    BOTH(progress),
	    BOTH(giving_up),
	    P(descriptors),
	    P(descriptors_do_not_leak),
	    S(no_descriptors_on_a_stream),
	    BOTH(cancellation_travels),
	    cmocka_unit_test(listening),
	    S(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
