/*
 * The gRPC and ttrpc servers under clients that call, cancel, let deadlines pass and disconnect at random, while servers
 * stop and others take their place. Nothing is checked but that nobody hangs, that what comes is right, and what the
 * sanitizers say: it is made for them. SEED and SECONDS of the environment choose another run.
 */
#include "base/random.h"
#include "base/unix.h"
#include "rpc/testing/fixture.h"
#include "rpc/ttrpc.h"

#include <pthread.h>
#include <stdio.h>

#define THREADS 6
#define LONG_NS (60 * NS_PER_S) /* a deadline for what ends otherwise */

struct stress {
	char path[64], ttrpc_path[64];
	atomic_bool over;
	atomic_uint calls;
	uint64_t seed;
};

struct thread {
	struct stress *s;
	uint64_t state;
	pthread_t id;
};

/* xorshift64*: a run can be repeated as far as threads allow. */
static unsigned pick(struct thread *t, unsigned n)
{
	t->state ^= t->state >> 12;
	t->state ^= t->state << 25;
	t->state ^= t->state >> 27;
	return (unsigned)(t->state * 2685821657736338717ull >> 33) % n;
}

/* ---- clients; each asserts only what holds whatever the server does meanwhile ---- */

/* cmocka's assertions belong to its own thread. */
static void check(bool holds, const char *method, int r, const struct err *err)
{
	if (holds)
		return;
	fprintf(stderr, "%s: %d, %s\n", method, r, err->msg);
	abort();
}

static bool fits(int r, const struct err *err)
{
	return r >= 0 || err->code == ERR_UNAVAILABLE || err->code == ERR_CANCELLED || err->code == ERR_DEADLINE ||
	       err->code == ERR_EXHAUSTED;
}

static void grpc_stream(struct thread *t, struct rpc_client *c, const char *method)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	struct rpc_call_opts opts = {.deadline_ns = clock_mono_ns() + (pick(t, 3) ? LONG_NS : NS_PER_MS)};
	EchoRequest req = echo_request();
	AUTO_FREE uint8_t *bytes = NULL;
	struct err err = ERR_INIT;
	unsigned n = 1 + pick(t, 20);
	int r = 0;

	req.data = bytes_of(pick(t, 50000));
	bytes = req.data.data;
	req.count = pick(t, 50);
	req.wait_ms = pick(t, 5);
	if (rpc_stream_open(c, ECHO, method, &opts, &s, &err) < 0)
		return;
	while (n-- && r >= 0) {
		r = rpc_stream_send(s, &req.base, &err);
		if (pick(t, 2))
			rpc_client_poll(c, NULL, 0, clock_mono_ns(), NULL);
		if (!strcmp(method, "Down") || !strcmp(method, "Wait"))
			break;
	}
	/* Some go without a word. */
	if (pick(t, 3) && rpc_stream_close_send(s, &err) >= 0 && strcmp(method, "Wait"))
		do {
			AUTO(pb) EchoReply *rsp = NULL;

			r = rpc_stream_recv(s, INT64_MAX, &rsp, &err);
		} while (r == RPC_MESSAGE);
	check(fits(r, &err), method, r, &err);
}

static void *grpc_client(void *arg)
{
	static const char *const streams[] = {"Down", "Chat", "Raw", "Up", "Wait"};
	struct thread *t = arg;

	while (!atomic_load(&t->s->over)) {
		AUTO(rpc_client) struct rpc_client *c = NULL;

		if (rpc_client_connect(t->s->path, &c, NULL) < 0)
			usleep(1000);
		for (unsigned n = pick(t, 30); c && n; n--) {
			struct rpc_call_opts opts = {.deadline_ns =
			                                 clock_mono_ns() + (pick(t, 4) ? LONG_NS : NS_PER_MS)};
			AUTO(pb) EchoReply *rsp = NULL;
			EchoRequest req = echo_request();
			struct err err = ERR_INIT;
			int r;

			atomic_fetch_add(&t->s->calls, 1);
			if (pick(t, 2)) {
				grpc_stream(t, c, streams[pick(t, ARRAY_LEN(streams))]);
				continue;
			}
			req.text = "stress";
			req.wait_ms = pick(t, 4);
			r = rpc_call(c, ECHO, (const char *[]){"Unary", "Quick", "Slow"}[pick(t, 3)], &opts, &req.base,
			             &rsp, &err);
			check(fits(r, &err) && (r < 0 || !strcmp(rsp->text, "stress")), "unary", r, &err);
		}
	}
	return NULL;
}

static void *ttrpc_caller(void *arg)
{
	static const char *const methods[] = {"Unary", "Quick", "Slow", "Wait"};
	struct thread *t = arg;

	while (!atomic_load(&t->s->over)) {
		AUTO(ttrpc_client) struct ttrpc_client *c = NULL;
		int fd;

		if (unix_connect(t->s->ttrpc_path, SOCK_STREAM, &fd, NULL) < 0 ||
		    ttrpc_client_new(fd, NULL, &c, NULL) < 0) {
			usleep(1000);
			continue;
		}
		for (unsigned n = pick(t, 30); n; n--) {
			AUTO(pb) EchoReply *rsp = NULL;
			EchoRequest msg = echo_request();
			struct err err = ERR_INIT;
			struct ttrpc_req req = {
			    .svc = ECHO, .method = methods[pick(t, 4)], .msg = &msg.base, .can_cancel = pick(t, 2)};
			int r;

			msg.text = "stress";
			msg.wait_ms = pick(t, 4);
			req.deadline_ns = clock_mono_ns() + (req.method[0] == 'W' || !pick(t, 4) ? NS_PER_MS : LONG_NS);
			atomic_fetch_add(&t->s->calls, 1);
			r = ttrpc_call(c, &req, &rsp, NULL, &err);
			check(fits(r, &err) && (r < 0 || req.method[0] == 'W' || !strcmp(rsp->text, "stress")),
			      req.method, r, &err);
		}
	}
	return NULL;
}

/* ---- servers ---- */

static int listen_again(const char *path)
{
	int fd;

	unlink(path);
	OK(unix_listen(path, SOCK_STREAM, 0600, &fd, err));
	return fd;
}

static void one_life(struct stress *s, struct thread *t)
{
	struct echo echo = {0};
	struct rpc_service grpc = echo_service(&echo), ttrpc = echo_ttrpc_service(&echo);
	struct rpc_server_opts opts = {.max_workers = 1 + pick(t, 8), .max_buffered_bytes = pick(t, 2) ? 65536 : 0};
	AUTO(rpc_server) struct rpc_server *g = NULL;
	AUTO(ttrpc_server) struct ttrpc_server *r = NULL;

	OK(rpc_server_new(&opts, &g, err));
	OK(rpc_server_add(g, &grpc, err));
	OK(rpc_server_listen(g, listen_again(s->path), err));
	OK(rpc_server_start(g, err));
	OK(ttrpc_server_new(NULL, &r, err));
	OK(ttrpc_server_add(r, &ttrpc, err));
	OK(ttrpc_server_listen(r, listen_again(s->ttrpc_path), err));
	OK(ttrpc_server_start(r, err));
	usleep(1000 * pick(t, 300));
	rpc_server_stop(g, pick(t, 2) ? 0 : (int64_t)pick(t, 100) * NS_PER_MS);
	ttrpc_server_stop(r);
	assert_int_equal(atomic_load(&echo.running), 0);
}

static unsigned long from_env(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}

static void random_ends(void **state)
{
	struct stress s = {.seed = from_env("SEED", random_u64())};
	struct thread t[2 * THREADS], self = {&s, s.seed | 1, 0};
	int64_t end = clock_mono_ns() + (int64_t)from_env("SECONDS", 3) * NS_PER_S;
	unsigned lives = 0;

	printf("SEED=%llu\n", (unsigned long long)s.seed);
	socket_path(s.path);
	socket_path(s.ttrpc_path);
	for (int i = 0; i < 2 * THREADS; i++) {
		t[i] = (struct thread){&s, (s.seed + (uint64_t)i * 0x9e3779b97f4a7c15) | 1, 0};
		assert_int_equal(pthread_create(&t[i].id, NULL, i % 2 ? grpc_client : ttrpc_caller, &t[i]), 0);
	}
	while (clock_mono_ns() < end) {
		one_life(&s, &self);
		lives++;
	}
	atomic_store(&s.over, true);
	for (int i = 0; i < 2 * THREADS; i++)
		pthread_join(t[i].id, NULL);
	printf("%u calls, %u lives of the servers\n", atomic_load(&s.calls), lives);
	assert_true(atomic_load(&s.calls) > 0);
	unlink(s.path);
	unlink(s.ttrpc_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_ends)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
