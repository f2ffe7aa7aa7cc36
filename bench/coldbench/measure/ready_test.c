#include "base/testing.h"
#include "bench/coldbench/measure/ready.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/unix.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#define SOON (clock_mono_ns() + 60 * NS_PER_S)

static void labels_are_parsed(void **state)
{
	struct ready r;

	OK(ready_parse(STR("line"), &r, err));
	assert_int_equal(r.kind, READY_LINE);
	OK(ready_parse(STR("exit"), &r, err));
	assert_int_equal(r.kind, READY_EXIT);
	OK(ready_parse(STR("tcp:6379"), &r, err));
	assert_int_equal(r.kind, READY_TCP);
	assert_int_equal(r.port, 6379);
	OK(ready_parse(STR("http:80/a/b?c"), &r, err));
	assert_int_equal(r.kind, READY_HTTP);
	assert_int_equal(r.port, 80);
	assert_string_equal(r.path, "/a/b?c");
	ready_fini(&r);
	OK(ready_parse(STR("file:/tmp/ready"), &r, err));
	assert_int_equal(r.kind, READY_FILE);
	assert_string_equal(r.path, "/tmp/ready");
	ready_fini(&r);
}

static void other_labels_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",        "lines",     "tcp:",   "tcp:0", "tcp:65536", "tcp:80/x", "tcp:-1",      "http:80",
	    "http:/x", "http:80x/", "file:x", "file:", "udp:80",    "exit ",    "http:80/a b", "http:80/\r\nX: y",
	    "tcp:80 "};
	struct ready r;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		FAILS(ready_parse(str_of(bad[i]), &r, err), ERR_INVALID);
		assert_null(r.path);
	}
}

/* ---- with a process that is this one, or a sleeping child; entering a namespace needs root ---- */

struct server {
	int fd;
	unsigned port;
	const char *answers[3]; /* one a connection */
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;

	for (size_t i = 0; i < 3 && s->answers[i]; i++) {
		char request[512];
		int fd = accept(s->fd, NULL, NULL);

		assert_true(fd >= 0);
		assert_true(recv(fd, request, sizeof(request), 0) > 0);
		send(fd, s->answers[i], strlen(s->answers[i]), MSG_NOSIGNAL);
		close(fd);
	}
	return NULL;
}

static void server_bind(struct server *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(s->fd >= 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
	s->port = ntohs(a.sin_port);
}

static void skip_unless_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void a_port_is_awaited(void **state)
{
	struct server s = {0};
	struct ready r = {.kind = READY_TCP};
	int64_t before_ns = clock_mono_ns(), at_ns = 0;

	skip_unless_root();
	server_bind(&s);
	r.port = s.port;
	FAILS(ready_wait(&r, getpid(), clock_mono_ns() + 50 * NS_PER_MS, -1, &at_ns, err), ERR_DEADLINE);
	assert_int_equal(listen(s.fd, 8), 0);
	OK(ready_wait(&r, getpid(), SOON, -1, &at_ns, err));
	assert_in_range(at_ns, before_ns, clock_mono_ns());
	close(s.fd);
}

static void an_http_answer_is_awaited(void **state)
{
	struct server s = {.answers = {"HTTP/1.1 503 Not yet\r\n\r\n", "HT", "HTTP/1.1 204 Fine\r\n\r\n"}};
	char path[] = "/x";
	struct ready r = {.kind = READY_HTTP, .path = path};
	int64_t at_ns = 0;

	skip_unless_root();
	server_bind(&s);
	r.port = s.port;
	assert_int_equal(listen(s.fd, 8), 0);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, &s), 0);
	OK(ready_wait(&r, getpid(), SOON, -1, &at_ns, err));
	pthread_join(s.thread, NULL); /* all three were asked for */
	close(s.fd);
}

static void a_file_is_awaited(void **state)
{
	char path[] = "/tmp/coldbench-ready.XXXXXX";
	struct ready r = {.kind = READY_FILE, .path = path};
	int64_t at_ns = 0;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	skip_unless_root();
	FAILS(ready_wait(&r, getpid(), clock_mono_ns() + 20 * NS_PER_MS, -1, &at_ns, err), ERR_DEADLINE);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	OK(ready_wait(&r, getpid(), SOON, -1, &at_ns, err));
	unlink(path);
}

static void who_ends_is_not_waited_for(void **state)
{
	const char *argv[] = {"sleep", "0.1", NULL};
	struct spawn s = {.argv = argv, .stdio = {-1, -1, -1}};
	char path[] = "/nothing/there";
	struct ready r = {.kind = READY_FILE, .path = path};
	int64_t at_ns;
	int status;
	pid_t pid;

	OK(spawn_start(&s, &pid, err));
	FAILS(ready_wait(&r, pid, SOON, -1, &at_ns, err), ERR_UNAVAILABLE);
	OK(spawn_wait(pid, &status, err));
}

static void waiting_is_cancelled(void **state)
{
	char path[] = "/nothing/there";
	struct ready r = {.kind = READY_FILE, .path = path};
	int64_t at_ns;
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	FAILS(ready_wait(&r, getpid(), SOON, pipes[0], &at_ns, err), ERR_CANCELLED);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(labels_are_parsed),    cmocka_unit_test(other_labels_are_refused),
	    cmocka_unit_test(a_port_is_awaited),    cmocka_unit_test(an_http_answer_is_awaited),
	    cmocka_unit_test(a_file_is_awaited),    cmocka_unit_test(who_ends_is_not_waited_for),
	    cmocka_unit_test(waiting_is_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
