/* The handle on a network, with a real netproxy in front of the HTTP server of netproxy's rig. */
#include "bench/coldbench/net/net.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/netproxy/rig.h"

#include <fcntl.h>
#include <signal.h>

struct site {
	char dir[32];
	struct rig *rig;
	struct net *net;
};

static int site_up(void **state)
{
	struct site *s = xcalloc(1, sizeof(*s));
	AUTO_FREE char *server = NULL;

	strcpy(s->dir, "/tmp/coldbench-net.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	rig_up((void **)&s->rig);
	server = xasprintf("127.0.0.1:%u", s->rig->proxy.port);
	OK(net_start(server, 0, 0, s->dir, &s->net, err));
	*state = s;
	return 0;
}

static int site_down(void **state)
{
	struct site *s = *state;
	pid_t pid = s->net ? net_pid(s->net) : 0;

	net_stop(s->net);
	if (pid)
		assert_int_equal(kill(pid, 0), -1); /* it was there and has been reaped */
	rig_down((void **)&s->rig);
	assert_int_equal(rmdir(s->dir), 0); /* nothing is left */
	free(s);
	return 0;
}

static void get(int fd, const char *line, unsigned status)
{
	AUTO(response) struct response a = {0};

	ask(fd, line, &a);
	assert_int_equal(a.status, status);
}

static void test_what_happened(void **state)
{
	struct site *s = *state;
	AUTO(net_exchange_list) struct net_exchange_list list = {0};
	struct net_counters c[3];
	int64_t times[3];
	AUTO_FD int fd = -1;

	times[0] = clock_mono_ns();
	fd = dial_port(net_port(s->net));
	get(fd, "GET /1000 HTTP/1.1\r\nRange: bytes=0-9", 206);
	times[1] = clock_mono_ns();
	OK(net_set(s->net, 4, 100, err));
	get(fd, "GET /50000 HTTP/1.1", 200);
	times[2] = clock_mono_ns();
	OK(net_at(s->net, times, 3, c, err));
	OK(net_exchanges(s->net, &list, err));

	assert_int_equal(c[0].requests, 0);
	assert_int_equal(c[0].to_client_bytes, 0);
	assert_int_equal(c[2].time_ns, times[2]);
	assert_int_equal(c[2].requests, 2);
	assert_int_equal(c[2].connections, 1);
	assert_int_equal(c[2].round_trips, 3);
	assert_int_equal(c[1].round_trips, 2);
	assert_true(c[2].to_client_bytes > 50010 && c[2].to_client_bytes < 50300);
	assert_true(c[2].to_server_bytes > 50);

	assert_int_equal(list.items.n, 2);
	assert_int_equal(list.left_out, 0);
	assert_string_equal(list.items.p[0].method, "GET");
	assert_string_equal(list.items.p[0].target, "/1000");
	assert_string_equal(list.items.p[0].range, "bytes=0-9");
	assert_int_equal(list.items.p[0].status, 206);
	assert_int_equal(list.items.p[0].body_bytes, 10);
	assert_int_equal(list.items.p[0].depth, 2);
	assert_int_equal(list.items.p[1].depth, 3);
	assert_int_equal(list.items.p[1].connection, 1);
	assert_string_equal(list.items.p[1].range, "");
	assert_true(list.items.p[0].begun_ns > times[0] && list.items.p[0].end_ns < times[1]);
	assert_true(list.items.p[1].first_byte_ns - list.items.p[1].begun_ns >= 4 * NS_PER_MS);
	assert_true(list.items.p[1].end_ns - list.items.p[1].begun_ns >= 8 * NS_PER_MS);

	OK(net_reset(s->net, err));
	get(fd, "HEAD /7 HTTP/1.1", 200);
	times[2] = clock_mono_ns();
	OK(net_at(s->net, times + 2, 1, c, err));
	assert_int_equal(c[0].requests, 1);
	assert_int_equal(c[0].connections, 0);
	assert_int_equal(c[0].round_trips, 1);
}

static void test_many_moments(void **state)
{
	struct site *s = *state;
	struct net_counters c[300];
	int64_t times[300];
	AUTO_FD int fd = dial_port(net_port(s->net));

	get(fd, "GET /10 HTTP/1.1", 200);
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		times[i] = i < 200 ? 1 : clock_mono_ns();
	OK(net_at(s->net, times, ARRAY_LEN(times), c, err));
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		assert_int_equal(c[i].time_ns, times[i]);
		if (i < 200)
			assert_int_equal(c[i].requests, 0);
	}
	assert_int_equal(c[299].connections, 1);
}

static void test_faults(void **state)
{
	struct site *s = *state;
	AUTO_FD int fd = dial_port(net_port(s->net));
	uint64_t struck;

	OK(net_set_faults(s->net, "status=502 every=2 /33; status=404 1 /44", err));
	get(fd, "GET /33 HTTP/1.1", 200);
	get(fd, "GET /33 HTTP/1.1", 502);
	get(fd, "GET /44 HTTP/1.1", 404);
	OK(net_faults(s->net, &struck, err));
	assert_int_equal(struck, 2);
	OK(net_reset(s->net, err));
	OK(net_faults(s->net, &struck, err));
	assert_int_equal(struck, 0);
	/* Other rules take their place, and count anew. */
	OK(net_set_faults(s->net, "status=404 1 /44", err));
	get(fd, "GET /33 HTTP/1.1", 200);
	get(fd, "GET /33 HTTP/1.1", 200);
	get(fd, "GET /44 HTTP/1.1", 404);
	OK(net_set_faults(s->net, "status=404 1 /44", err));
	OK(net_set_faults(s->net, NULL, err));
	get(fd, "GET /44 HTTP/1.1", 200);
	FAILS(net_set_faults(s->net, "reset 1 /1; status=502 sometimes /33", err), ERR_INVALID);
	FAILS(net_set_faults(s->net, "status=502 1 /33\nstats", err), ERR_INVALID);
}

static void test_what_cannot_be_answered(void **state)
{
	struct site *s = *state;
	int64_t future = clock_mono_ns() + 3600 * NS_PER_S;
	struct net_counters c;

	FAILS(net_at(s->net, &future, 1, &c, err), ERR_OUT_OF_RANGE);
	FAILS(net_set(s->net, -1, 0, err), ERR_INVALID);
	kill(net_pid(s->net), SIGKILL);
	while (net_reset(s->net, NULL) == 0)
		usleep(1000);
	FAILS(net_reset(s->net, err), ERR_UNAVAILABLE);
}

static void test_a_start_that_fails(void **state)
{
	struct site *s = *state;
	struct net *other = NULL;

	FAILS(net_start("nowhere", 0, 0, s->dir, &other, err), ERR_UNAVAILABLE);
	assert_null(other);
}

#define SITE_TEST(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_what_happened),           SITE_TEST(test_many_moments),       SITE_TEST(test_faults),
	    SITE_TEST(test_what_cannot_be_answered), SITE_TEST(test_a_start_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
