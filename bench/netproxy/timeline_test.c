/*
 * What the proxy can tell afterwards, with real sockets: counters at moments, exchanges, chains of round trips; and
 * faults that have to do with time. Times are only asserted where a network could not have been faster.
 */
#include "bench/netproxy/rig.h"

#include "base/clock.h"

/* What is known of the i-th exchange since the reset; the loop stands still. */
static const struct record *record(struct rig *r, size_t i)
{
	assert_true(i < r->proxy.records.items.n);
	return &r->proxy.records.items.p[i];
}

/* Asks for n bytes and expects them. */
static void get(int fd, size_t n)
{
	AUTO_FREE char *line = xasprintf("GET /%zu HTTP/1.1", n);
	AUTO(response) struct response a = {0};

	ask(fd, line, &a);
	assert_answer(&a, 200, n);
}

static void request(int fd, size_t n)
{
	AUTO_FREE char *text = xasprintf("GET /%zu HTTP/1.1\r\n\r\n", n);

	send_all(fd, str_of(text));
}

static void answer(int fd, size_t n)
{
	AUTO(response) struct response a = {0};

	receive(fd, false, &a);
	assert_answer(&a, 200, n);
}

static void test_counters_of_the_past(void **state)
{
	struct rig *r = *state;
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *line = NULL;
	int64_t times[4];
	AUTO_FD int fd = -1;

	tell(r, "net 10 0", NULL);
	times[0] = clock_mono_ns();
	fd = dial(r);
	get(fd, 10);
	times[1] = clock_mono_ns();
	get(fd, 1000);
	times[2] = clock_mono_ns();
	get(fd, 1000000);
	times[3] = clock_mono_ns();
	line = xasprintf("at %lld %lld %lld %lld 0", (long long)times[0], (long long)times[1], (long long)times[2],
	                 (long long)times[3]);
	tell(r, line, &text);
	assert_true(str_starts(buf_str(&text), STR("{\"at\":[{\"time_ns\":")));
	rig_halt(r);
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		static const uint64_t body_bytes[] = {0, 10, 1010, 1001010};
		struct moment m = history_at(&r->proxy.history, times[i]);
		size_t head_bytes = (size_t)(m.to_client_bytes - body_bytes[i]);

		assert_int_equal(m.requests, i);
		assert_int_equal(m.connections, i ? 1 : 0);
		assert_int_equal(trips_at(&r->proxy.trips, times[i]), i ? i + 1 : 0);
		assert_true(m.to_client_bytes >= body_bytes[i] && head_bytes <= i * 50);
	}
	rig_go(r);
}

static void test_exchanges(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO(response) struct response c = {0};
	const struct record *e;
	int64_t begin;
	AUTO_FD int fd = -1;

	tell(r, "net 20 80", NULL); /* 10 bytes a microsecond */
	begin = clock_mono_ns();
	fd = dial(r);
	ask(fd, "GET /500000 HTTP/1.1\r\nRange: bytes=100000-299999", &a);
	ask(fd, "HEAD /77 HTTP/1.1", &b);
	tell(r, "fault status=404 1 /gone", NULL);
	ask(fd, "GET /gone HTTP/1.1", &c);
	assert_int_equal(c.status, 404);
	rig_halt(r);
	assert_int_equal(r->proxy.records.items.n, 3);

	e = record(r, 0);
	assert_string_equal(e->method, "GET");
	assert_string_equal(e->target, "/500000");
	assert_string_equal(e->range, "bytes=100000-299999");
	assert_int_equal(e->status, 206);
	assert_int_equal(e->body_bytes, 200000);
	assert_int_equal(e->connection, 1);
	/* A round trip of set-up, then one for the request, then the body. */
	assert_true(e->begun_ns >= begin + 20 * NS_PER_MS);
	assert_true(e->first_byte_ns >= e->begun_ns + 20 * NS_PER_MS);
	assert_true(e->end_ns >= e->begun_ns + 40 * NS_PER_MS);

	e = record(r, 1);
	assert_string_equal(e->method, "HEAD");
	assert_string_equal(e->range, "");
	assert_int_equal(e->status, 200);
	assert_int_equal(e->body_bytes, 0);
	assert_true(e->begun_ns >= record(r, 0)->end_ns - NS_PER_MS);
	assert_true(e->first_byte_ns >= e->begun_ns + 20 * NS_PER_MS && e->end_ns >= e->first_byte_ns);

	e = record(r, 2);
	assert_int_equal(e->status, 404);
	assert_true(e->body_bytes > 0 && e->end_ns >= e->begun_ns + 20 * NS_PER_MS);
	rig_go(r);
}

static void test_an_answer_that_the_close_ends(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO(response) struct response b = {0};
	AUTO_FD int fd = dial(r);
	AUTO_FD int cut = dial(r);

	ask(fd, "GET /5000?close HTTP/1.1", &a);
	assert_int_equal(a.body.n, 5000);
	tell(r, "fault truncate=10 1 /6000", NULL);
	ask(cut, "GET /6000 HTTP/1.1", &b);
	assert_int_equal(b.body.n, 10);
	rig_halt(r);
	assert_int_equal(record(r, 0)->body_bytes, 5000);
	assert_true(record(r, 0)->end_ns >= record(r, 0)->first_byte_ns && record(r, 0)->first_byte_ns > 0);
	assert_int_equal(record(r, 1)->body_bytes, 10);
	assert_true(record(r, 1)->first_byte_ns > 0);
	assert_int_equal(record(r, 1)->end_ns, 0); /* never complete */
	rig_go(r);
}

static void test_chains(void **state)
{
	/* Two connections side by side; four requests, one after the other. */
	static const unsigned depths[] = {2, 3, 4, 5};
	struct rig *r = *state;
	AUTO_FD int one = dial(r);
	AUTO_FD int two = dial(r);
	AUTO_FD int late = -1;

	get(one, 10);
	get(one, 10);
	get(two, 10);
	get(one, 10);
	late = dial(r);
	get(late, 10); /* the set-up is a link of its own */
	rig_halt(r);
	for (size_t i = 0; i < ARRAY_LEN(depths); i++)
		assert_int_equal(record(r, i)->depth, depths[i]);
	assert_int_equal(record(r, 4)->depth, 7);
	assert_int_equal(record(r, 4)->connection, 3);
	rig_go(r);
	assert_int_equal(counter(r, "round_trips"), 7);
	tell(r, "reset", NULL);
	assert_int_equal(counter(r, "round_trips"), 0);
	get(two, 10); /* over what is already there */
	assert_int_equal(counter(r, "round_trips"), 1);
}

static void test_requests_sent_together(void **state)
{
	struct rig *r = *state;
	AUTO(response) struct response a = {0};
	AUTO_FD int one = dial(r);
	AUTO_FD int two = dial(r);
	size_t got = 0;

	tell(r, "net 30 0", NULL);
	rig_halt(r); /* no answer comes between them, however slow this thread is */
	for (int i = 0; i < 3; i++)
		request(one, 100);
	request(two, 5);
	rig_go(r);
	answer(two, 5);
	while (got < 3 * (strlen("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") + 100)) {
		char in[100];
		ssize_t n = recv(one, in, sizeof(in), 0);

		assert_true(n > 0);
		got += (size_t)n;
	}
	get(one, 7);
	rig_halt(r);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(record(r, i)->depth, 2);
	assert_int_equal(record(r, 4)->depth, 3);
	for (size_t i = 0; i < 5; i++)
		assert_true(record(r, i)->end_ns > 0);
	rig_go(r);
}

static void test_a_request_while_an_answer_streams(void **state)
{
	struct rig *r = *state;
	AUTO_FD int streaming = dial(r);
	AUTO_FD int other = dial(r);
	char c;

	tell(r, "net 0 80", NULL);
	request(streaming, 3000000); /* 300 ms */
	assert_int_equal(recv(streaming, &c, 1, MSG_PEEK), 1);
	get(other, 10);
	get(other, 10);
	answer(streaming, 3000000);
	rig_halt(r);
	assert_int_equal(record(r, 0)->depth, 2);
	assert_int_equal(record(r, 1)->depth, 3);
	assert_int_equal(record(r, 2)->depth, 4);
	assert_true(record(r, 0)->end_ns > record(r, 2)->end_ns);
	rig_go(r);
}

static void test_reset_forgets_what_is_under_way(void **state)
{
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);
	AUTO(buf) struct buf text = BUF_INIT;

	get(fd, 10);
	tell(r, "fault stall=100 1 /20", NULL);
	request(fd, 20);
	while (counter(r, "requests") < 2)
		usleep(1000);
	tell(r, "reset", NULL);
	answer(fd, 20);
	tell(r, "exchanges", &text);
	assert_string_equal(buf_cstr(&text), "{\"exchanges\":[],\"left_out\":0}\n");
	assert_int_equal(counter(r, "round_trips"), 0);
	get(fd, 30);
	rig_halt(r);
	assert_int_equal(record(r, 0)->depth, 1);
	assert_string_equal(record(r, 0)->target, "/30");
	rig_go(r);
}

static void test_more_exchanges_than_are_kept(void **state)
{
	const unsigned batch = 64;
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);
	AUTO(buf) struct buf out = BUF_INIT;

	for (unsigned i = 0; i < batch; i++)
		buf_adds(&out, "HEAD /1 HTTP/1.1\r\n\r\n");
	for (unsigned i = 0; i < RECORDS_MAX / batch + 1; i++) {
		size_t want = batch * strlen("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
		char in[8192];

		send_all(fd, buf_str(&out));
		while (want) {
			ssize_t n = recv(fd, in, want < sizeof(in) ? want : sizeof(in), 0);

			assert_true(n > 0);
			want -= (size_t)n;
		}
	}
	rig_halt(r);
	assert_int_equal(r->proxy.records.items.n, RECORDS_MAX);
	assert_int_equal(r->proxy.records.left_out, batch);
	/* Chains are followed all the same. */
	assert_true(trips_at(&r->proxy.trips, clock_mono_ns()) > record(r, RECORDS_MAX - 1)->depth);
	rig_go(r);
	assert_int_equal(counter(r, "requests"), RECORDS_MAX + batch);
}

static void test_stall_for_a_time(void **state)
{
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);
	AUTO_FD int other = dial(r);
	int64_t begin = clock_mono_ns();

	tell(r, "fault stall=80 1 /5", NULL);
	request(fd, 5);
	get(other, 6); /* is not held up */
	answer(fd, 5);
	assert_true(clock_mono_ns() - begin >= 80 * NS_PER_MS);
	get(fd, 5);
	assert_int_equal(counter(r, "faults"), 1);
	rig_halt(r);
	assert_true(record(r, 0)->first_byte_ns - record(r, 0)->begun_ns >= 80 * NS_PER_MS);
	rig_go(r);
}

static void test_a_client_that_leaves_a_stall(void **state)
{
	struct rig *r = *state;
	int fd = dial(r);

	tell(r, "fault stall=30 all /5", NULL);
	request(fd, 5);
	while (!counter(r, "faults"))
		usleep(1000);
	close(fd);
	while (counter(r, "open"))
		usleep(1000);
	assert_works(r);
}

static void test_every_second_fails(void **state)
{
	struct rig *r = *state;
	AUTO_FD int fd = dial(r);

	tell(r, "fault status=503 every=2,for=60000 /9", NULL);
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 1; i <= 3; i++) {
			AUTO(response) struct response a = {0};

			ask(fd, "GET /9 HTTP/1.1", &a);
			assert_int_equal(a.status, i % 2 ? 200 : 503);
		}
		tell(r, "reset", NULL); /* begins the schedule anew */
	}
}

static void assert_refused(struct rig *r, const char *line)
{
	AUTO(buf) struct buf text = BUF_INIT;

	tell(r, line, &text);
	if (!str_starts(buf_str(&text), STR("{\"error\":\"")))
		fail_msg("'%s' is answered with %s", line, buf_cstr(&text));
}

static void test_rubbish_is_refused(void **state)
{
	static const char *const lines[] = {
	    "at",
	    "at x",
	    "at -1",
	    "at 1  2",
	    "at 1x",
	    "at 99999999999999999999",
	    "at 9000000000000000000", /* has not come */
	    "exchange",
	    "",
	};
	struct rig *r = *state;
	AUTO(buf) struct buf many = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		assert_refused(r, lines[i]);
	buf_adds(&many, "at");
	for (int i = 0; i < 1000; i++)
		buf_adds(&many, " 1");
	assert_refused(r, buf_cstr(&many));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    RIG_TEST(test_counters_of_the_past),
	    RIG_TEST(test_exchanges),
	    RIG_TEST(test_an_answer_that_the_close_ends),
	    RIG_TEST(test_chains),
	    RIG_TEST(test_requests_sent_together),
	    RIG_TEST(test_a_request_while_an_answer_streams),
	    RIG_TEST(test_reset_forgets_what_is_under_way),
	    RIG_TEST(test_more_exchanges_than_are_kept),
	    RIG_TEST(test_stall_for_a_time),
	    RIG_TEST(test_a_client_that_leaves_a_stall),
	    RIG_TEST(test_every_second_fails),
	    RIG_TEST(test_rubbish_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
