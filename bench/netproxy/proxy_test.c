/*
 * The proxy with real sockets: what it forwards, how it behaves as a network, what it breaks. Times are only asserted
 * where a network could not have been faster.
 */
#include "bench/netproxy/rig.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"

#include <arpa/inet.h>
#include <errno.h>

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

/* How often the server was asked by one who got a reset. */
static unsigned asked_in_vain(struct rig *r, const char *fault)
{
	AUTO(response) struct response a = {0};
	unsigned before = requests_served();
	AUTO_FD int fd = dial(r);

	tell(r, fault, NULL);
	ask(fd, "GET /5 HTTP/1.1", &a);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.sys, ECONNRESET);
	return requests_served() - before;
}

static void test_fault_reset(void **state)
{
	struct rig *r = *state;

	assert_int_equal(asked_in_vain(r, "fault reset 1 /5"), 0);
	assert_works(r);
	assert_int_equal(asked_in_vain(r, "fault lose 1 /5"), 1);
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
	rig_halt(r);
	assert_int_equal(control_start(&r->proxy, path, &control, &err), 0);
	rig_go(r);

	exchange(path, "mark half way\n", &marked);
	assert_non_null(strstr(buf_cstr(&marked), "\"marks\":[{\"name\":\"half way\",\"time_ns\":"));
	exchange(path, "explode\n", &refused);
	assert_true(str_starts(buf_str(&refused), STR("{\"error\":\"no command 'explode'")));

	rig_halt(r);
	control_stop(control);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(rmdir(dir), 0);
	rig_go(r);
	rig_down((void **)&r);
}

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
