/* Blobs: ranges, streams, servers that lie, and what a request survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/testworld.h"

#include <cmocka.h>
#include <stdio.h>

static void blob_ranges(void **state)
{
	static const uint64_t ranges[][2] = {{0, 1}, {0, BLOB_BYTES}, {1000, 70000}, {BLOB_BYTES - 1, 1}};
	AUTO(world) struct world *w = world_new(serve_blob, NULL);

	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, ranges[i][0], ranges[i][1]);

		run(w, &q, &r);
		assert_int_equal(r.result, 0);
		assert_int_equal(r.offset, ranges[i][0]);
		assert_int_equal(r.blob_size, BLOB_BYTES);
		assert_body(w, &r.body, ranges[i][0], ranges[i][1]);
	}
	/* One connection, kept. */
	struct reg_counters n;
	reg_client_counters(w->client, &n);
	assert_int_equal(n.connections, 1);
	assert_int_equal(n.requests, 4);
	assert_int_equal(n.retries, 0);
}

static void blob_whole_and_suffix(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	AUTO(result) struct result whole, end, all;
	static char dst[BLOB_BYTES];

	result_init(&whole);
	result_init(&end);
	result_init(&all);
	struct reg_blob_get q = question(w, &whole, 0, REG_TO_END);
	q.dst = dst;
	q.dst_bytes = sizeof(dst);
	run(w, &q, &whole);
	assert_int_equal(whole.result, 0);
	assert_memory_equal(dst, w->blob, BLOB_BYTES);

	q = question(w, &end, 0, 0);
	q.suffix = 4096;
	run(w, &q, &end);
	assert_int_equal(end.result, 0);
	assert_int_equal(end.offset, BLOB_BYTES - 4096);
	assert_int_equal(end.blob_size, BLOB_BYTES);
	assert_body(w, &end.body, BLOB_BYTES - 4096, 4096);

	/* A suffix longer than the blob is the blob. */
	q = question(w, &all, 0, 0);
	q.suffix = 2 * BLOB_BYTES;
	run(w, &q, &all);
	assert_int_equal(all.result, 0);
	assert_body(w, &all.body, 0, BLOB_BYTES);
}

static void blob_clipped_at_its_end(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	AUTO(result) struct result r, beyond;

	result_init(&r);
	result_init(&beyond);
	struct reg_blob_get q = question(w, &r, BLOB_BYTES - 10, 1000);
	run(w, &q, &r);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.length, 10);

	q = question(w, &beyond, BLOB_BYTES, 1);
	run(w, &q, &beyond);
	assert_int_equal(beyond.result, -ERR_OUT_OF_RANGE);
	assert_int_equal(testserver_count(w->server, "GET"), 2);
}

static void stat_and_missing(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	struct err err = ERR_INIT;
	uint64_t size = 0;

	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), 0);
	assert_int_equal(size, BLOB_BYTES);
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &DIGEST_EMPTY, in_s(10), &size, &err), -ERR_NOT_FOUND);
}

static void error_text_is_bounded_and_clean(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, 10);
	q.digest = DIGEST_EMPTY;
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_NOT_FOUND);
	assert_int_equal(r.status, 404);
	assert_non_null(strstr(r.err.msg, w->ref.host));
	assert_non_null(strstr(r.err.msg, "some/image: blob sha256:e3b0c44298fc"));
	assert_non_null(strstr(r.err.msg, "HTTP 404: BLOB_UNKNOWN: no such blob [31m"));
	assert_int_equal(testserver_count(w->server, "GET"), 1); /* a 404 is not retried */
}

/* Streams */

static void stream_stops_and_pauses(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_blob, NULL, 30000, 500);
	AUTO(result) struct result stop, paused;
	struct reg_request *handle = NULL;
	struct err err = ERR_INIT;

	result_init(&stop);
	result_init(&paused);
	stop.expect_offset = 100;
	stop.stop_at = 50000;
	struct reg_blob_get q = question(w, &stop, 100, REG_TO_END);
	q.data = on_data;
	q.lane = REG_BULK;
	run(w, &q, &stop);
	assert_int_equal(stop.result, 0);
	assert_true(stop.length < BLOB_BYTES - 100);
	assert_body(w, &stop.streamed, 100, stop.length);

	paused.pause_once = true;
	q = question(w, &paused, 0, REG_TO_END);
	q.data = on_data;
	assert_int_equal(reg_blob_get(w->client, &q, &handle, &err), 0);
	pthread_mutex_lock(&paused.lock);
	while (!paused.paused)
		pthread_cond_wait(&paused.paused_cond, &paused.lock);
	pthread_mutex_unlock(&paused.lock);
	/* A pause longer than the stall limit is not a stall. */
	nanosleep(&(struct timespec){0, 700 * NS_PER_MS}, NULL);
	reg_request_resume(handle);
	await(&paused);
	reg_request_unref(handle);
	assert_int_equal(paused.result, 0);
	assert_body(w, &paused.streamed, 0, BLOB_BYTES);
	struct reg_counters n;
	reg_client_counters(w->client, &n);
	assert_int_equal(n.retries, 0);
}

/* Servers that ignore ranges, or answer another one */

static bool serve_whole_always(struct exchange *x)
{
	return exchange_reply(x, 200, "", blob_of(((struct world *)x->arg)));
}

static void whole_answer_is_cut(void **state)
{
	AUTO(world) struct world *w = world_new(serve_whole_always, NULL);
	AUTO(result) struct result middle, end;

	result_init(&middle);
	result_init(&end);
	struct reg_blob_get q = question(w, &middle, 5000, 20000);
	run(w, &q, &middle);
	assert_int_equal(middle.result, 0);
	assert_body(w, &middle.body, 5000, 20000);

	q = question(w, &end, 0, 0);
	q.suffix = 100;
	run(w, &q, &end);
	assert_int_equal(end.result, 0);
	assert_body(w, &end.body, BLOB_BYTES - 100, 100);
}

static bool serve_wrong_range(struct exchange *x)
{
	struct world *w = x->arg;

	return exchange_reply(x, 206, "Content-Range: bytes 1001-1100/300000\r\n", str_sub(blob_of(w), 1001, 100));
}

static bool serve_wrong_size(struct exchange *x)
{
	return exchange_reply(x, 206, "Content-Range: bytes 1000-1099/300001\r\n",
	                      str_sub(blob_of(((struct world *)x->arg)), 1000, 100));
}

static bool serve_long_body(struct exchange *x)
{
	/* Chunked, so that only the range says how long it should be. */
	exchange_printf(x, "HTTP/1.1 206 Text\r\nContent-Range: bytes 1000-1099/300000\r\n"
	                   "Transfer-Encoding: chunked\r\n\r\nc8\r\n");
	exchange_send(x, ((struct world *)x->arg)->blob + 1000, 200);
	return exchange_printf(x, "\r\n0\r\n\r\n");
}

static bool serve_multipart(struct exchange *x)
{
	return exchange_reply(x, 206, "Content-Type: multipart/byteranges; boundary=x\r\n", STR("--x--\r\n"));
}

static void contradictions_are_errors(void **state)
{
	testserver_fn *const liars[] = {serve_wrong_range, serve_wrong_size, serve_long_body, serve_multipart};

	for (size_t i = 0; i < ARRAY_LEN(liars); i++) {
		AUTO(world) struct world *w = world_new(liars[i], NULL);
		AUTO(result) struct result r;

		result_init(&r);
		struct reg_blob_get q = question(w, &r, 1000, 100);
		q.blob_size = BLOB_BYTES;
		run(w, &q, &r);
		assert_int_equal(r.result, -ERR_DATA_LOSS);
		assert_int_equal(testserver_count(w->server, "GET"), 1);
	}
}

/* Breaks */

static bool serve_truncated(struct exchange *x)
{
	struct world *w = x->arg;
	struct str range = exchange_header(x, "Range"), first;
	uint64_t from = 0;

	if (str_skip(&range, STR("bytes=")) && str_split(&range, '-', &first))
		str_u64(first, 10, &from);
	if (BLOB_BYTES - from <= 100000)
		return exchange_blob(x, blob_of(w));
	exchange_printf(x,
	                from ? "HTTP/1.1 206 Text\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
	                     : "HTTP/1.1 200 Text\r\nX: %d %d %d\r\nContent-Length: %d\r\n\r\n",
	                (int)from, BLOB_BYTES - 1, BLOB_BYTES, (int)(BLOB_BYTES - from));
	exchange_send(x, w->blob + from, 90000);
	return false;
}

static void truncated_body_is_resumed(void **state)
{
	AUTO(world) struct world *w = world_new(serve_truncated, NULL);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, REG_TO_END);
	q.data = on_data;
	q.max_attempts = 2; /* progress starts the count anew */
	run(w, &q, &r);
	assert_int_equal(r.result, 0);
	assert_body(w, &r.streamed, 0, BLOB_BYTES);
	struct reg_counters n;
	reg_client_counters(w->client, &n);
	assert_true(n.retries >= 2);
	assert_int_equal(n.bytes_in, BLOB_BYTES); /* no byte twice */
}

static bool serve_two_failures(struct exchange *x)
{
	if (x->n == 0)
		return exchange_reply(x, 500, "", STR("oops"));
	if (x->n == 1)
		return exchange_reply(x, 429, "Retry-After: 0\r\n", STR("slow down"));
	if (x->n == 2)
		return false; /* not a byte */
	return serve_blob(x);
}

static void transient_failures_are_retried(void **state)
{
	AUTO(world) struct world *w = world_new(serve_two_failures, NULL);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 10, 100);
	run(w, &q, &r);
	assert_int_equal(r.result, 0);
	assert_body(w, &r.body, 10, 100);
}

static bool serve_busy(struct exchange *x)
{
	return exchange_reply(x, 429, "Retry-After: 100\r\n", STR("{\"errors\":[{\"code\":\"TOOMANYREQUESTS\"}]}"));
}

static void retry_after_beyond_the_deadline_ends_at_once(void **state)
{
	AUTO(world) struct world *w = world_new(serve_busy, NULL);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 10, 100);
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_EXHAUSTED);
	assert_non_null(strstr(r.err.msg, "TOOMANYREQUESTS"));
	assert_int_equal(testserver_count(w->server, "GET"), 1);
}

static void silence_ends_at_the_deadline(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_nothing, NULL, 150, 30000);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 10, 100);
	q.deadline_ns = clock_mono_ns() + 1000 * NS_PER_MS;
	q.max_attempts = 100;
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_DEADLINE);
	/* A dead connection was left for a new one before. */
	assert_true(testserver_count(w->server, "GET") >= 2);
}

/* Who says nothing twice is given up, though other failures have more attempts. */
static void silence_ends_soon(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_nothing, NULL, 150, 30000);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 10, 100);
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_UNAVAILABLE);
	assert_non_null(strstr(r.err.msg, "after 2 attempts in "));
	assert_non_null(strstr(r.err.msg, "no answer for 0.15 s"));
	struct reg_counters n;
	reg_client_counters(w->client, &n);
	assert_int_equal(n.requests, 2);
	assert_true(n.connections <= 2);
}

static bool serve_stall_once(struct exchange *x)
{
	struct world *w = x->arg;

	if (x->n)
		return exchange_blob(x, blob_of(w));
	exchange_printf(x, "HTTP/1.1 200 Text\r\nContent-Length: %d\r\n\r\n", BLOB_BYTES);
	exchange_send(x, w->blob, 1000);
	return serve_nothing(x);
}

/* A byte now and then, for as long as somebody listens. */
static bool serve_drips(struct exchange *x)
{
	exchange_printf(x, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n",
	                BLOB_BYTES - 1, BLOB_BYTES, BLOB_BYTES);
	while (exchange_send(x, "x", 1))
		usleep(20000);
	return false;
}

static void drips_are_silence(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_drips, NULL, 30000, 150);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, BLOB_BYTES);
	q.max_attempts = 1;
	q.deadline_ns = in_s(20);
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_UNAVAILABLE);
	assert_non_null(strstr(r.err.msg, "no data for"));
}

static void stalled_body_is_resumed_elsewhere(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_stall_once, NULL, 30000, 200);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, REG_TO_END);
	run(w, &q, &r);
	assert_int_equal(r.result, 0);
	assert_body(w, &r.body, 0, BLOB_BYTES);
	struct reg_counters n;
	reg_client_counters(w->client, &n);
	assert_true(n.connections >= 2);
}

static void nobody_listens(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, 1);
	struct reg_ref nowhere = w->ref;
	strcpy(nowhere.host, "127.0.0.1:1");
	q.ref = &nowhere;
	q.max_attempts = 3;
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_UNAVAILABLE);
	assert_non_null(strstr(r.err.msg, "127.0.0.1:1"));
	assert_non_null(strstr(r.err.msg, "after 3 attempts"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(blob_ranges),
	    cmocka_unit_test(blob_whole_and_suffix),
	    cmocka_unit_test(blob_clipped_at_its_end),
	    cmocka_unit_test(stat_and_missing),
	    cmocka_unit_test(error_text_is_bounded_and_clean),
	    cmocka_unit_test(stream_stops_and_pauses),
	    cmocka_unit_test(whole_answer_is_cut),
	    cmocka_unit_test(contradictions_are_errors),
	    cmocka_unit_test(truncated_body_is_resumed),
	    cmocka_unit_test(transient_failures_are_retried),
	    cmocka_unit_test(retry_after_beyond_the_deadline_ends_at_once),
	    cmocka_unit_test(silence_ends_at_the_deadline),
	    cmocka_unit_test(silence_ends_soon),
	    cmocka_unit_test(drips_are_silence),
	    cmocka_unit_test(stalled_body_is_resumed_elsewhere),
	    cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
