/*
 * The proxy with real sockets: a small HTTP server on one side, a client on the other, the proxy's loop in a thread of
 * its own. Times are only asserted where a network could not have been faster.
 */
#include "bench/netproxy/control.h"
#include "bench/netproxy/http.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SILENCE_MS 150 /* how long nothing has to come to count as silence */
#define ANSWER_MS 20000

/* Byte i of every body. */
static char pattern(size_t i)
{
	return (char)(i * 31 + (i >> 8));
}

/* --- the server: GET and HEAD /N answer N bytes, ranges included; PUT answers how many right bytes came; anything that
 * is not HTTP is echoed. --- */

static int listen_any(unsigned *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&at, n) && !listen(fd, 64));
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

static void send_all(int fd, struct str s)
{
	while (s.n) {
		ssize_t put = send(fd, s.p, s.n, MSG_NOSIGNAL);

		if (put <= 0)
			return;
		s = str_sub(s, (size_t)put, SIZE_MAX);
	}
}

static void serve_get(int fd, const struct http_msg *m)
{
	AUTO(buf) struct buf out = BUF_INIT;
	uint64_t n = 0, from = 0, to;
	struct str range = m->range;
	struct str word;

	str_u64(str_sub(m->target, 1, SIZE_MAX), 10, &n);
	to = n;
	if (str_skip(&range, STR("bytes=")) && str_split(&range, '-', &word) && str_u64(word, 10, &from) &&
	    str_u64(range, 10, &to))
		to++;
	buf_addf(&out, "HTTP/1.1 %s\r\nContent-Length: %llu\r\n\r\n", m->range.n ? "206 Partial" : "200 OK",
	         (unsigned long long)(to - from));
	if (str_eqc(m->method, "GET"))
		for (uint64_t i = from; i < to; i++)
			buf_addc(&out, pattern(i));
	send_all(fd, buf_str(&out));
}

static void serve_put(int fd, size_t right)
{
	AUTO_FREE char *text = xasprintf("%zu", right);
	AUTO_FREE char *answer = xasprintf("HTTP/1.1 201 Created\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);

	send_all(fd, str_of(answer));
}

static void *serve(void *arg)
{
	AUTO_FD int fd = (int)(intptr_t)arg;
	AUTO(http) struct http h = {0};
	AUTO(buf) struct buf method = BUF_INIT;
	size_t at = 0, right = 0;
	char in[65536];
	ssize_t got;

	http_init(&h, HTTP_REQUEST);
	while ((got = recv(fd, in, sizeof(in), 0)) > 0) {
		struct str rest = {in, (size_t)got};
		enum http_what what;
		struct str piece;

		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) {
			if (what == HTTP_OPAQUE)
				send_all(fd, piece);
			for (size_t i = 0; what == HTTP_BODY && i < piece.n; i++, at++)
				right += piece.p[i] == pattern(at);
			if (what == HTTP_END && str_eqc(h.msg.method, "PUT"))
				serve_put(fd, right);
			else if (what == HTTP_END)
				serve_get(fd, &h.msg);
		}
	}
	return NULL;
}

static void *serve_all(void *arg)
{
	int listener = (int)(intptr_t)arg;
	pthread_t threads[256];
	unsigned n = 0;
	int fd;

	while (n < ARRAY_LEN(threads) && (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		assert_int_equal(pthread_create(&threads[n++], NULL, serve, (void *)(intptr_t)fd), 0);
	while (n)
		pthread_join(threads[--n], NULL);
	return NULL;
}

/* --- the rig --- */

struct rig {
	int server_fd;
	struct loop *loop;
	struct proxy proxy;
	pthread_t server, looper;
	pthread_mutex_t lock;
	pthread_cond_t done;
};

static void *run_loop(void *arg)
{
	struct err err = ERR_INIT;

	assert_int_equal(loop_run(arg, &err), 0);
	return NULL;
}

static int rig_up(void **state)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	struct address any, server;
	struct err err = ERR_INIT;
	AUTO_FREE char *to = NULL;
	unsigned port;

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->done, NULL);
	r->server_fd = listen_any(&port);
	to = xasprintf("127.0.0.1:%u", port);
	assert_int_equal(address_parse("127.0.0.1:0", &any, &err), 0);
	assert_int_equal(address_parse(to, &server, &err), 0);
	assert_int_equal(loop_new(&r->loop, &err), 0);
	assert_int_equal(proxy_init(&r->proxy, r->loop, &any, &server, &err), 0);
	assert_int_equal(pthread_create(&r->server, NULL, serve_all, (void *)(intptr_t)r->server_fd), 0);
	assert_int_equal(pthread_create(&r->looper, NULL, run_loop, r->loop), 0);
	*state = r;
	return 0;
}

static int rig_down(void **state)
{
	struct rig *r = *state;

	loop_quit(r->loop);
	pthread_join(r->looper, NULL);
	proxy_fini(&r->proxy);
	loop_free(r->loop);
	shutdown(r->server_fd, SHUT_RDWR);
	pthread_join(r->server, NULL);
	close(r->server_fd);
	free(r);
	return 0;
}

/* A control command, carried out on the loop's thread. */
struct command {
	struct rig *rig;
	struct str line;
	struct buf answer;
	bool done;
};

static void execute(void *arg)
{
	struct command *c = arg;

	control_execute(&c->rig->proxy, c->line, &c->answer);
	pthread_mutex_lock(&c->rig->lock);
	c->done = true;
	pthread_cond_signal(&c->rig->done);
	pthread_mutex_unlock(&c->rig->lock);
}

static void tell(struct rig *r, const char *line, struct buf *answer)
{
	struct command c = {.rig = r, .line = str_of(line)};

	loop_post(r->loop, execute, &c);
	pthread_mutex_lock(&r->lock);
	while (!c.done)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
	if (answer)
		*answer = c.answer;
	else
		buf_fini(&c.answer);
}

/* One number of the top level of the counters. */
static int64_t counter(struct rig *r, const char *name)
{
	AUTO(json_reader) struct json_reader *j = NULL;
	AUTO(buf) struct buf answer = BUF_INIT;
	struct err err = ERR_INIT;
	int64_t value = -1;
	struct str key;

	tell(r, "stats", &answer);
	j = json_reader_new(buf_str(&answer));
	assert_int_equal(json_object_begin(j, &err), 0);
	while (json_object_next(j, &key, &err) == 1) {
		if (str_eqc(key, name))
			assert_int_equal(json_i64(j, &value, &err), 0);
		else
			assert_int_equal(json_skip(j, &err), 0);
	}
	return value;
}

/* --- the client --- */

struct response {
	unsigned status;
	struct buf body;
	size_t bytes; /* received in all */
	bool complete;
	int sys; /* of the read that failed */
};

static void response_fini(struct response *a)
{
	buf_fini(&a->body);
}
DEFINE_AUTO_FINI(response);

static int dial(struct rig *r)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)r->proxy.port),
	                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)));
	return fd;
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

/* Reads one response, until it is complete, the connection ends, or nothing comes. */
static void receive(int fd, bool head, struct response *a)
{
	AUTO(http) struct http h = {0};

	*a = (struct response){0};
	http_init(&h, HTTP_RESPONSE);
	while (!a->complete) {
		char in[65536];
		struct str rest, piece;
		enum http_what what;
		ssize_t got;

		assert_true(is_readable(fd, ANSWER_MS));
		got = recv(fd, in, sizeof(in), 0);
		if (got <= 0) {
			a->sys = got < 0 ? errno : 0;
			return;
		}
		a->bytes += (size_t)got;
		rest = str_make(in, (size_t)got);
		while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) {
			if (what == HTTP_HEAD && head)
				http_no_body(&h);
			if (what == HTTP_HEAD)
				a->status = h.msg.status;
			else if (what == HTTP_BODY)
				buf_addstr(&a->body, piece);
			else if (what == HTTP_END)
				a->complete = true;
		}
	}
}

static void ask(int fd, const char *line, struct response *a)
{
	AUTO_FREE char *text = xasprintf("%s\r\nHost: test\r\n\r\n", line);

	send_all(fd, str_of(text));
	receive(fd, !strncmp(line, "HEAD", 4), a);
}

static size_t wrong_bytes(const struct buf *body, size_t from, size_t *where)
{
	size_t wrong = 0;

	for (size_t i = 0; i < body->n; i++) {
		if (body->p[i] == pattern(from + i))
			continue;
		wrong++;
		*where = i;
	}
	return wrong;
}

static void assert_answer(const struct response *a, unsigned status, size_t n)
{
	size_t where = 0;

	assert_true(a->complete);
	assert_int_equal(a->status, status);
	assert_int_equal(a->body.n, n);
	assert_int_equal(wrong_bytes(&a->body, 0, &where), 0);
}

/* Asks on a connection of its own and expects a good answer. */
static void assert_works(struct rig *r)
{
	AUTO(response) struct response a = {0};
	AUTO_FD int fd = dial(r);

	ask(fd, "GET /1000 HTTP/1.1", &a);
	assert_answer(&a, 200, 1000);
}

/* --- tests --- */

static void test_counts(void **state)
{
	static const size_t sizes[] = {10, 0, 3000000};
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);
	size_t received = 0;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		AUTO_FREE char *line = xasprintf("GET /%zu HTTP/1.1", sizes[i]);
		AUTO(response) struct response a = {0};

		ask(fd, line, &a);
		assert_answer(&a, 200, sizes[i]);
		received += a.bytes;
	}
	assert_int_equal(counter(r, "connections"), 1);
	assert_int_equal(counter(r, "open"), 1);
	assert_int_equal(counter(r, "requests"), 3);
	assert_int_equal(counter(r, "body_bytes"), 3000010);
	assert_int_equal(counter(r, "to_client_bytes"), received);
	assert_int_equal(counter(r, "to_server_bytes"),
	                 3 * strlen(" HTTP/1.1\r\nHost: test\r\n\r\n") + strlen("GET /10GET /0GET /3000000"));
	tell(r, "reset", NULL);
	assert_int_equal(counter(r, "requests"), 0);
	assert_int_equal(counter(r, "to_client_bytes"), 0);
}

static void test_network_is_no_faster_than_set(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO_FD int fd = -1;
	int64_t begin, first, second;

	tell(r, "net 20 80", NULL); /* 10 bytes a microsecond */
	begin = clock_mono_ns();
	fd = dial(r);
	ask(fd, "GET /1 HTTP/1.1", &a);
	first = clock_mono_ns();
	ask(fd, "GET /1000000 HTTP/1.1", &b);
	second = clock_mono_ns();
	assert_answer(&a, 200, 1);
	assert_answer(&b, 200, 1000000);
	assert_true(first - begin >= 40 * NS_PER_MS); /* set-up and request */
	assert_true(second - first >= 120 * NS_PER_MS);
}

static void test_upload(void **state)
{
	const size_t n = 5000000;
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(buf) struct buf out = BUF_INIT;
	AUTO_FD int fd = dial(r);

	tell(r, "net 1 2000", NULL);
	buf_addf(&out, "PUT /x HTTP/1.1\r\nContent-Length: %zu\r\n\r\n", n);
	for (size_t i = 0; i < n; i++)
		buf_addc(&out, pattern(i));
	send_all(fd, buf_str(&out));
	receive(fd, false, &a);
	assert_int_equal(a.status, 201);
	assert_string_equal(buf_cstr(&a.body), "5000000");
}

static void test_bytes_that_are_not_http(void **state)
{
	static const char hello[] = "\x16\x03\x01 no request";
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);
	AUTO(buf) struct buf got = BUF_INIT;
	struct err err = ERR_INIT;

	/* The end that the client sends reaches the server, and the server's the client. */
	send_all(fd, STR("\x16\x03\x01 no request"));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(fd_read_all(fd, 1000, &got, &err), 0);
	assert_string_equal(buf_cstr(&got), hello);
	assert_int_equal(counter(r, "requests"), 0);
}

static void test_fault_status(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO(response) struct response c = {0};
	AUTO_FD int fd = dial(r);

	tell(r, "fault status=503 2 /77", NULL);
	ask(fd, "GET /77 HTTP/1.1", &a);
	assert_true(a.complete);
	assert_int_equal(a.status, 503);
	ask(fd, "HEAD /77 HTTP/1.1", &b);
	assert_int_equal(b.status, 503);
	assert_int_equal(b.body.n, 0);
	ask(fd, "GET /77 HTTP/1.1", &c);
	assert_answer(&c, 200, 77);
	assert_int_equal(counter(r, "faults"), 2);
}

static void test_fault_flip(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO_FD int fd = dial(r);
	size_t where = 0;

	tell(r, "fault flip=50% 1 GET /1000000", NULL);
	ask(fd, "GET /1000000 HTTP/1.1", &a);
	assert_true(a.complete);
	assert_int_equal(a.body.n, 1000000);
	assert_int_equal(wrong_bytes(&a.body, 0, &where), 1);
	assert_int_equal(where, 500000);
	ask(fd, "GET /1000000 HTTP/1.1", &b);
	assert_answer(&b, 200, 1000000);
}

static void test_fault_truncate(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO_FD int fd = dial(r);
	size_t where = 0;

	tell(r, "fault truncate=300000 1 /1000000", NULL);
	ask(fd, "GET /1000000 HTTP/1.1", &a);
	assert_false(a.complete);
	assert_int_equal(a.sys, 0); /* an orderly end, too early */
	assert_int_equal(a.body.n, 300000);
	assert_int_equal(wrong_bytes(&a.body, 0, &where), 0);
	assert_works(r);
}

static void test_fault_reset(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO_FD int fd = dial(r);

	tell(r, "fault reset 1 /5", NULL);
	ask(fd, "GET /5 HTTP/1.1", &a);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.sys, ECONNRESET);
	assert_works(r);
}

static void test_fault_stall(void **state)
{
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);

	tell(r, "fault stall all /5", NULL);
	send_all(fd, STR("GET /5 HTTP/1.1\r\n\r\n"));
	assert_false(is_readable(fd, SILENCE_MS));
	assert_works(r);
	assert_int_equal(counter(r, "faults"), 1);
}

static void test_fault_norange(void **state)
{
	static const char line[] = "GET /1000 HTTP/1.1\r\nRange: bytes=10-19\r\nX: y";
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO_FD int fd = dial(r);
	size_t where = 0;

	/* The description that rules look at ends with the range. */
	tell(r, "fault norange 1 GET /1000 bytes=10-", NULL);
	ask(fd, line, &a);
	assert_answer(&a, 200, 1000);
	ask(fd, line, &b);
	assert_int_equal(b.status, 206);
	assert_int_equal(b.body.n, 10);
	assert_int_equal(wrong_bytes(&b.body, 10, &where), 0);
}

static void test_down_resets(void **state)
{
	struct rig *r = *state;
	AUTO_FD int old = dial(r);
	AUTO_FD int fresh = -1;
	AUTO(response) struct response a = {0};
	char c;

	ask(old, "GET /5 HTTP/1.1", &a);
	assert_answer(&a, 200, 5);
	tell(r, "down", NULL);
	assert_true(is_readable(old, ANSWER_MS));
	assert_int_equal(recv(old, &c, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	fresh = dial(r);
	assert_true(is_readable(fresh, ANSWER_MS));
	assert_int_equal(recv(fresh, &c, 1, 0), -1);
	tell(r, "up", NULL);
	assert_works(r);
}

static void test_silence_loses_nothing(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO_FD int fd = dial(r);

	tell(r, "down silent", NULL);
	send_all(fd, STR("GET /70000 HTTP/1.1\r\n\r\n"));
	assert_false(is_readable(fd, SILENCE_MS));
	tell(r, "up", NULL);
	receive(fd, false, &a);
	assert_answer(&a, 200, 70000);
}

static void test_server_that_is_not_there(void **state)
{
	struct rig *r = *state;
	AUTO_FD int fd = -1;
	unsigned port;
	char c;

	/* A port that was just let go. */
	close(listen_any(&port));
	r->proxy.server.v4.sin_port = htons((uint16_t)port);
	tell(r, "stats", NULL); /* so that the loop's thread sees it */
	fd = dial(r);
	assert_true(is_readable(fd, ANSWER_MS));
	assert_true(recv(fd, &c, 1, 0) < 0);
	assert_int_equal(errno, ECONNRESET);
}

static void test_many_connections(void **state)
{
	struct rig *r = *state;
	int fds[50];

	tell(r, "net 1 1000", NULL);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		fds[i] = dial(r);
		send_all(fds[i], STR("GET /200000 HTTP/1.1\r\n\r\n"));
	}
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		AUTO(response) struct response a = {0};

		/* Some leave in the middle. */
		if (i % 5 == 0) {
			close(fds[i]);
			continue;
		}
		receive(fds[i], false, &a);
		assert_answer(&a, 200, 200000);
		close(fds[i]);
	}
	assert_works(r);
}

static void exchange(const char *path, const char *line, struct buf *answer)
{
	struct err err = ERR_INIT;
	AUTO_FD int fd = -1;

	assert_int_equal(unix_connect(path, SOCK_STREAM, &fd, &err), 0);
	send_all(fd, str_of(line));
	assert_int_equal(fd_read_all(fd, 1 << 20, answer, &err), 0);
}

static void test_control_socket(void **state)
{
	char dir[] = "/tmp/netproxy-test.XXXXXX";
	AUTO_FREE char *path = NULL;
	AUTO(buf) struct buf marked = BUF_INIT;
	AUTO(buf) struct buf refused = BUF_INIT;
	struct control *control = NULL;
	struct err err = ERR_INIT;
	struct rig *r;

	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/sock", dir);
	rig_up((void **)&r);
	loop_quit(r->loop);
	pthread_join(r->looper, NULL);
	assert_int_equal(control_start(&r->proxy, path, &control, &err), 0);
	assert_int_equal(pthread_create(&r->looper, NULL, run_loop, r->loop), 0);

	exchange(path, "mark half way\n", &marked);
	assert_non_null(strstr(buf_cstr(&marked), "\"marks\":[{\"name\":\"half way\",\"time_ns\":"));
	exchange(path, "explode\n", &refused);
	assert_true(str_starts(buf_str(&refused), STR("{\"error\":\"no command 'explode'")));

	loop_quit(r->loop);
	pthread_join(r->looper, NULL);
	control_stop(control);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(pthread_create(&r->looper, NULL, run_loop, r->loop), 0);
	rig_down((void **)&r);
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    RIG_TEST(test_counts),
	    RIG_TEST(test_network_is_no_faster_than_set),
	    RIG_TEST(test_upload),
	    RIG_TEST(test_bytes_that_are_not_http),
	    RIG_TEST(test_fault_status),
	    RIG_TEST(test_fault_flip),
	    RIG_TEST(test_fault_truncate),
	    RIG_TEST(test_fault_reset),
	    RIG_TEST(test_fault_stall),
	    RIG_TEST(test_fault_norange),
	    RIG_TEST(test_down_resets),
	    RIG_TEST(test_silence_loses_nothing),
	    RIG_TEST(test_server_that_is_not_there),
	    RIG_TEST(test_many_connections),
	    cmocka_unit_test(test_control_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
