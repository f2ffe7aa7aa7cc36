/* Manifests, push, and how requests and clients end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/testworld.h"

#include <cmocka.h>
#include <stdio.h>

static bool serve_manifest(struct exchange *x)
{
	if (!memmem(x->headers.p, x->headers.n, "Accept: application/vnd.oci.image.index.v1+json", 47))
		return exchange_reply(x, 406, "", STR_NONE);
	return exchange_reply(x, 200, "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n",
	                      str_of(MANIFEST));
}

static void manifest_digest_is_checked(void **state)
{
	AUTO(world) struct world *w = world_new(serve_manifest, NULL);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;
	struct digest d;

	digest_of(MANIFEST, strlen(MANIFEST), &d);
	reg_ref_set_digest(&w->ref, &d);
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err), 0);
	assert_true(digest_eq(&m->digest, &d));
	reg_manifest_free(m);
	m = NULL;
	reg_ref_set_digest(&w->ref, &DIGEST_EMPTY);
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err), -ERR_DATA_LOSS);
	assert_non_null(strstr(err.msg, "digest mismatch"));
	assert_null(m);
}

static bool serve_endless_manifest(struct exchange *x)
{
	char block[65536] = {' '};

	exchange_printf(x, "HTTP/1.1 200 Text\r\nTransfer-Encoding: chunked\r\n\r\n");
	while (exchange_printf(x, "10000\r\n") && exchange_send(x, block, sizeof(block)) && exchange_printf(x, "\r\n"))
		;
	return false;
}

static void endless_manifest_is_bounded(void **state)
{
	AUTO(world) struct world *w = world_new(serve_endless_manifest, NULL);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(20), NULL, &m, &err), -ERR_EXHAUSTED);
}

static bool serve_half_a_manifest(struct exchange *x)
{
	exchange_printf(x, "HTTP/1.1 200 Text\r\nContent-Length: %zu\r\n\r\n", strlen(MANIFEST));
	exchange_send(x, MANIFEST, strlen(MANIFEST) / 2);
	return false;
}

static void manifest_that_never_comes_whole_ends(void **state)
{
	AUTO(world) struct world *w = world_new(serve_half_a_manifest, NULL);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(60), NULL, &m, &err), -ERR_UNAVAILABLE);
	assert_non_null(strstr(err.msg, "after 6 attempts"));
}

static void corrupt_blob_is_refused(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	AUTO(buf) struct buf b = BUF_INIT;
	struct reg_descriptor d = {.digest = w->digest, .size = BLOB_BYTES};
	struct err err = ERR_INIT;

	w->blob[100] ^= 1;
	assert_int_equal(reg_blob_fetch(w->client, &w->ref, &d, BLOB_BYTES, in_s(10), &b, &err), -ERR_DATA_LOSS);
	assert_int_equal(b.n, 0);
}

/* Ends */

static void cancel_and_stop(void **state)
{
	AUTO(world) struct world *w = world_new(serve_nothing, NULL);
	AUTO(result) struct result cancelled, stopped;
	struct reg_request *handle = NULL;
	struct err err = ERR_INIT;

	result_init(&cancelled);
	result_init(&stopped);
	struct reg_blob_get q = question(w, &cancelled, 0, 100);
	assert_int_equal(reg_blob_get(w->client, &q, &handle, &err), 0);
	reg_request_cancel(handle);
	await(&cancelled);
	assert_int_equal(cancelled.result, -ERR_CANCELLED);
	reg_request_cancel(handle); /* over: no effect */
	reg_request_unref(handle);

	q = question(w, &stopped, 0, 100);
	assert_int_equal(reg_blob_get(w->client, &q, &handle, &err), 0);
	reg_client_stop(w->client);
	await(&stopped);
	assert_int_equal(stopped.result, -ERR_CANCELLED);
	reg_request_unref(handle);
	assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), -ERR_CANCELLED);
	assert_int_equal(cancelled.times, 1);
	assert_int_equal(stopped.times, 1);
}

static void freed_with_requests_in_flight(void **state)
{
	enum { N = 40 }; /* more than there are connections: some are still queued */
	struct world *w = world_new(serve_nothing, NULL);
	static struct result r[N];
	struct err err = ERR_INIT;

	for (int i = 0; i < N; i++) {
		result_init(&r[i]);
		struct reg_blob_get q = question(w, &r[i], 0, 100);
		q.lane = i % 2 ? REG_BULK : REG_DEMAND;
		assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), 0);
	}
	world_free(w);
	for (int i = 0; i < N; i++) {
		assert_int_equal(r[i].times, 1);
		assert_int_equal(r[i].result, -ERR_CANCELLED);
		result_fini(&r[i]);
	}
}

static void bad_questions(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	struct err err = ERR_INIT;
	struct reg_blob_get q = question(w, NULL, 0, 0);

	assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), -ERR_INVALID); /* an empty range */
	q = question(w, NULL, 0, 10);
	q.deadline_ns = 0;
	assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), -ERR_INVALID);
	q = question(w, NULL, INT64_MAX, 10);
	assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), -ERR_INVALID);
	q = question(w, NULL, 0, REG_TO_END);
	q.max_bytes = 0;
	assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), -ERR_INVALID);
}

static void estimates(void **state)
{
	AUTO(world) struct world *w = world_new(serve_blob, NULL);
	struct reg_estimate e;

	reg_host_estimate(w->client, w->ref.host, &e);
	assert_int_equal(e.rtt_ns, 0);
	assert_int_equal(e.bandwidth_bytes_s, 0);
	for (int i = 0; i < 3; i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, 0, REG_TO_END);

		run(w, &q, &r);
	}
	reg_host_estimate(w->client, w->ref.host, &e);
	assert_true(e.rtt_ns > 0);
}

/* Push: a registry of one blob and one manifest. */
struct shelf {
	pthread_mutex_t lock;
	struct buf blob, manifest;
	unsigned breaks; /* connections to break in the middle of an upload */
};
static struct shelf shelf = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool serve_push(struct exchange *x)
{
	bool head = str_eqc(x->method, "HEAD");
	bool ok = true;

	pthread_mutex_lock(&shelf.lock);
	if (head) {
		ok = exchange_reply(x, shelf.blob.n ? 200 : 404, "", STR_NONE);
	} else if (is_path(x, "mount=") && is_path(x, "from=base/image")) {
		ok = exchange_reply(x, 201, "", STR_NONE);
	} else if (str_eqc(x->method, "POST")) {
		ok = exchange_reply(x, 202, "Location: /upload/1?state=abc\r\n", STR_NONE);
	} else if (is_path(x, "/upload/1?state=abc&digest=sha256:") && shelf.breaks) {
		shelf.breaks--;
		ok = false;
	} else if (is_path(x, "/upload/1?state=abc&digest=sha256:")) {
		buf_addstr(&shelf.blob, x->body);
		ok = exchange_reply(x, 201, "", STR_NONE);
	} else if (is_path(x, "/manifests/latest") &&
	           str_eqc(exchange_header(x, "Content-Type"), REG_MT_OCI_MANIFEST)) {
		buf_addstr(&shelf.manifest, x->body);
		ok = exchange_reply(x, 201, "", STR_NONE);
	} else {
		ok = exchange_reply(x, 400, "", STR("what?"));
	}
	pthread_mutex_unlock(&shelf.lock);
	return ok;
}

static void push(void **state)
{
	AUTO(world) struct world *w = world_new(serve_push, NULL);
	AUTO_FD int fd = -1;
	struct err err = ERR_INIT;
	struct reg_blob_push q = {.ref = &w->ref, .digest = w->digest, .size = BLOB_BYTES, .deadline_ns = in_s(20)};
	FILE *f = tmpfile();

	assert_non_null(f);
	fwrite("junk", 1, 4, f);
	fwrite(w->blob, 1, BLOB_BYTES, f);
	fflush(f);
	shelf.breaks = 1;
	q.fd = fileno(f);
	q.fd_offset = 4;
	if (reg_blob_push(w->client, &q, &err) != 0)
		fail_msg("%s", err.msg);
	assert_body(w, &shelf.blob, 0, BLOB_BYTES);
	assert_int_equal(reg_blob_push(w->client, &q, &err), REG_PUSH_PRESENT);
	fclose(f);

	buf_fini(&shelf.blob);
	q.fd = -1;
	q.bytes = blob_of(w);
	assert_int_equal(reg_blob_push(w->client, &q, &err), 0);
	assert_body(w, &shelf.blob, 0, BLOB_BYTES);

	buf_fini(&shelf.blob);
	q.mount_from = "base/image";
	assert_int_equal(reg_blob_push(w->client, &q, &err), REG_PUSH_MOUNTED);
	assert_int_equal(shelf.blob.n, 0);

	assert_int_equal(reg_manifest_push(w->client, &w->ref, NULL, str_of(MANIFEST), STR(REG_MT_OCI_MANIFEST),
	                                   in_s(10), NULL, &err),
	                 0);
	assert_true(str_eqc(buf_str(&shelf.manifest), MANIFEST));
	assert_int_equal(
	    reg_manifest_push(w->client, &w->ref, NULL, str_of(MANIFEST), STR("text/plain"), in_s(10), NULL, &err),
	    -ERR_INVALID);
	assert_non_null(strstr(err.msg, "HTTP 400: what?"));
	buf_fini(&shelf.manifest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(manifest_digest_is_checked),
	    cmocka_unit_test(endless_manifest_is_bounded),
	    cmocka_unit_test(manifest_that_never_comes_whole_ends),
	    cmocka_unit_test(corrupt_blob_is_refused),
	    cmocka_unit_test(cancel_and_stop),
	    cmocka_unit_test(freed_with_requests_in_flight),
	    cmocka_unit_test(bad_questions),
	    cmocka_unit_test(estimates),
	    cmocka_unit_test(push),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
