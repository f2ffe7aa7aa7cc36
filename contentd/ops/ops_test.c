/* Locks, notifications, and the metrics listener: with real sockets and files. */
#include "base/file.h"
#include "base/testing.h"
#include "base/unix.h"
#include "contentd/ops/http_head.h"
#include "contentd/ops/lock.h"
#include "contentd/ops/metrics_server.h"
#include "contentd/ops/notify.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#define PAGE "page_total 1\n"

static char dir[64];

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/contentd_ops_test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	AUTO_FD int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir_remove(tmp, dir + strlen("/tmp/"), NULL);
}

/* ---- locks ---- */

static void a_directory_has_one_user(void **state)
{
	AUTO_FREE char *pid = xasprintf("pid %d", (int)getpid());
	struct err err = ERR_INIT;
	int one = -1, two = -1;

	assert_int_equal(cd_dir_lock(dir, &one, &err), 0);
	assert_int_equal(cd_dir_lock(dir, &two, &err), -ERR_EXISTS);
	assert_non_null(strstr(err.msg, pid));
	close(one);
	assert_int_equal(cd_dir_lock(dir, &two, &err), 0);
	close(two);
}

static void others_may_not_write_it(void **state)
{
	struct err err = ERR_INIT;
	int fd = -1;

	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(cd_dir_lock(dir, &fd, &err), -ERR_PERMISSION);
	assert_non_null(strstr(err.msg, "0777"));
	assert_int_equal(chmod(dir, 0755), 0);
	assert_int_equal(cd_dir_lock(dir, &fd, &err), 0);
	close(fd);
	if (geteuid())
		return;
	assert_int_equal(chown(dir, 12345, 0), 0);
	assert_int_equal(cd_dir_lock(dir, &fd, &err), -ERR_PERMISSION);
	assert_non_null(strstr(err.msg, "12345"));
	assert_int_equal(chown(dir, 0, 0), 0);
}

/* ---- notifications ---- */

/* A datagram socket as systemd has it, and what arrives there. */
static int listen_notify(const struct sockaddr_un *a, socklen_t n)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)a, n), 0);
	return fd;
}

static void assert_notified(int fd, const char *text)
{
	char got[256] = "";
	ssize_t n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);

	assert_int_equal(n, (int)strlen(text));
	assert_string_equal(got, text);
}

static void systemd_is_told(void **state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	AUTO_FREE char *pid = xasprintf("%d", (int)getpid());
	AUTO_FD int fd = -1;

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify", dir);
	fd = listen_notify(&a, sizeof(a));
	cd_notify("READY=1"); /* to nobody: there is no NOTIFY_SOCKET */
	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	cd_notify_init();
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_int_equal(cd_notify_watchdog_ns(), 0); /* it is for another process */
	cd_notify("READY=1\nSTATUS=%s", "well");
	assert_notified(fd, "READY=1\nSTATUS=well");

	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	cd_notify_init();
	assert_int_equal(cd_notify_watchdog_ns(), 1500000000);
}

static void an_abstract_socket_is_fine(void **state)
{
	AUTO_FREE char *name = xasprintf("@contentd-ops-test-%d", (int)getpid());
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	AUTO_FD int fd = -1;

	memcpy(a.sun_path, name, strlen(name));
	a.sun_path[0] = '\0';
	fd = listen_notify(&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)));
	setenv("NOTIFY_SOCKET", name, 1);
	cd_notify_init();
	cd_notify("STOPPING=1");
	assert_notified(fd, "STOPPING=1");
}

/* ---- heads of requests ---- */

static void heads(void **state)
{
	static const struct {
		const char *text;
		int status;
		const char *path;
	} cases[] = {
	    {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, "/metrics"},
	    {"HEAD /metrics?a=b HTTP/1.0\r\n\r\n", 200, "/metrics"},
	    {"GET / HTTP/1.1\n\n", 200, "/"},
	    {"GET /metrics HTTP/1.1\r\nHost: x\r\n", 0, NULL},
	    {"GET /metrics", 0, NULL},
	    {"", 0, NULL},
	    {"POST /metrics HTTP/1.1\r\n\r\n", 405, NULL},
	    {"GET metrics HTTP/1.1\r\n\r\n", 400, NULL},
	    {"GET /metrics\r\n\r\n", 400, NULL},
	    {"GET  /metrics HTTP/1.1\r\n\r\n", 400, NULL},
	    {"GET /metrics HTTP/1.1 x\r\n\r\n", 400, NULL},
	    {"GET /met\trics HTTP/1.1\r\n\r\n", 400, NULL},
	    {"\r\n\r\n", 400, NULL},
	    {"PRI * HTTP/2.0\r\n\r\n", 400, NULL},
	    {"GET / HTTP/2.0\r\n\r\n", 505, NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct http_head h = {0};
		int status = http_head_parse(str_of(cases[i].text), &h);

		if (status != cases[i].status || (cases[i].path && !str_eqc(h.path, cases[i].path)))
			fail_msg("%s: %d, path " STR_FMT, cases[i].text, status, STR_ARG(h.path));
	}
}

static void heads_are_bounded(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct http_head h;

	buf_adds(&b, "GET /metrics HTTP/1.1\r\nX: ");
	while (b.n < HTTP_HEAD_BYTES_MAX - 1)
		buf_addc(&b, 'x');
	assert_int_equal(http_head_parse(buf_str(&b), &h), 0);
	buf_addc(&b, 'x');
	assert_int_equal(http_head_parse(buf_str(&b), &h), 431);
}

/* ---- the listener ---- */

static void print_page(void *arg, struct buf *out)
{
	buf_adds(out, PAGE);
}

static struct cd_metrics_server *start_unix(char path[static 108])
{
	struct cd_metrics_server *s = NULL;
	struct err err = ERR_INIT;

	snprintf(path, 108, "%s/m.sock", dir);
	if (cd_metrics_server_start(path, print_page, NULL, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static void ask(int fd, const char *request, struct buf *out)
{
	assert_int_equal(fd_write_all(fd, str_of(request), NULL), 0);
	assert_int_equal(fd_read_all(fd, 1 << 20, out, NULL), 0);
}

static void assert_answer(const char *path, const char *request, const char *begin, const char *end)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FD int fd = -1;

	assert_int_equal(unix_connect(path, SOCK_STREAM, &fd, NULL), 0);
	ask(fd, request, &b);
	if (!str_starts(buf_str(&b), str_of(begin)) || !str_ends(buf_str(&b), str_of(end)))
		fail_msg("%s: %s", request, buf_cstr(&b));
}

static void the_page(void **state)
{
	AUTO(cd_metrics_server) struct cd_metrics_server *s = NULL;
	char path[108];

	s = start_unix(path);
	assert_answer(path, "GET /metrics HTTP/1.1\r\n\r\n",
	              "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
	              "Content-Length: 13\r\nConnection: close\r\n\r\n",
	              "\r\n\r\n" PAGE);
	assert_answer(path, "HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n\r\n");
	assert_answer(path, "GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 404 ", "Not Found\n");
	assert_answer(path, "PUT /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ", "Method Not Allowed\n");
	assert_answer(path, "junk\r\n\r\n", "HTTP/1.1 400 ", "Bad Request\n");
}

static void over_tcp(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	AUTO(cd_metrics_server) struct cd_metrics_server *s = NULL;
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FD int fd = -1;

	assert_int_equal(cd_metrics_server_start("127.0.0.1:0", print_page, NULL, &s, NULL), 0);
	assert_int_not_equal(cd_metrics_server_port(s), 0);
	a.sin_port = htons((uint16_t)cd_metrics_server_port(s));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ask(fd, "GET /metrics HTTP/1.0\r\n\r\n", &b);
	assert_true(str_ends(buf_str(&b), STR("\r\n\r\n" PAGE)));
}

static void addresses(void **state)
{
	static const char *const good[] = {"/a", "127.0.0.1:9100", "[::1]:9100", "0.0.0.0:0"};
	static const char *const bad[] = {"",        "9100", ":9100", "localhost:9100", "127.0.0.1", "127.0.0.1:65536",
	                                  "::1:9100"};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(cd_metrics_address_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(cd_metrics_address_check(bad[i], NULL), -ERR_INVALID);
}

/* Fewer than its places are silent; the others wait in the kernel's queue and are served as places fall free. */
static void silent_clients_hold_up_nobody(void **state)
{
	AUTO(cd_metrics_server) struct cd_metrics_server *s = NULL;
	char path[108];
	int silent[20];

	s = start_unix(path);
	for (size_t i = 0; i < 15; i++)
		assert_int_equal(unix_connect(path, SOCK_STREAM, &silent[i], NULL), 0);
	for (size_t i = 0; i < 5; i++)
		assert_answer(path, "GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", PAGE);
	for (size_t i = 15; i < 20; i++)
		assert_int_equal(unix_connect(path, SOCK_STREAM, &silent[i], NULL), 0);
	for (size_t i = 0; i < 20; i++)
		close(silent[i]);
	assert_answer(path, "GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_directory_has_one_user),
	    cmocka_unit_test(others_may_not_write_it),
	    cmocka_unit_test(systemd_is_told),
	    cmocka_unit_test(an_abstract_socket_is_fine),
	    cmocka_unit_test(heads),
	    cmocka_unit_test(heads_are_bounded),
	    cmocka_unit_test(the_page),
	    cmocka_unit_test(over_tcp),
	    cmocka_unit_test(addresses),
	    cmocka_unit_test(silent_clients_hold_up_nobody),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
