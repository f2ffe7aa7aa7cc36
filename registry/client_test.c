/* The client against a scripted server: what it asks, what it survives, what it says when it gives up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/client.h"
#include "registry/testserver.h"

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define BLOB_BYTES 300000

/* What a handler may look at. */
struct world {
	struct testserver *server, *other; /* other: a second origin, for redirects and tokens */
	struct reg_client *client;
	struct reg_ref ref;
	struct digest digest; /* of blob */
	char blob[BLOB_BYTES];
	char digest_text[DIGEST_TEXT_MAX];
};

static struct str blob_of(struct world *w)
{
	return str_make(w->blob, BLOB_BYTES);
}

/* `stall_ms` is short where silence is what the test is about; elsewhere a slow machine must not look like it. */
static struct world *world_new_impatient(testserver_fn *fn, testserver_fn *other, unsigned stall_ms)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct reg_client_opts opts = {.stall_ms = stall_ms, .backoff_ms = 2};
	struct err err = ERR_INIT;
	char host[64];

	for (size_t i = 0; i < BLOB_BYTES; i++)
		w->blob[i] = (char)((i * 2654435761u) >> 13);
	digest_of(w->blob, BLOB_BYTES, &w->digest);
	digest_text(&w->digest, w->digest_text);
	w->server = testserver_new(fn, w);
	w->other = other ? testserver_new(other, w) : NULL;
	snprintf(host, sizeof(host), "127.0.0.1:%u", testserver_port(w->server));
	assert_int_equal(reg_ref_make(str_of(host), STR("some/image"), &w->ref, &err), 0);
	strcpy(w->ref.tag, "latest");
	assert_int_equal(reg_client_new(&opts, &w->client, &err), 0);
	return w;
}

static struct world *world_new(testserver_fn *fn, testserver_fn *other)
{
	return world_new_impatient(fn, other, 30000);
}

static void world_free(struct world *w)
{
	reg_client_free(w->client);
	testserver_free(w->server);
	if (w->other)
		testserver_free(w->other);
	free(w);
}
DEFINE_AUTO_FREE(world);

static int64_t in_s(int s)
{
	return clock_mono_ns() + s * NS_PER_S;
}

/* Collects an asynchronous answer. */
struct result {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	unsigned times;
	int result, status;
	struct err err;
	struct buf body, streamed;
	uint64_t offset, length, blob_size;
	/* What the data callback does. */
	uint64_t expect_offset, stop_at;
	bool pause_once;
	pthread_cond_t paused_cond;
	bool paused;
};

static void result_init(struct result *r)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	pthread_cond_init(&r->paused_cond, NULL);
}

static void result_fini(struct result *r)
{
	buf_fini(&r->body);
	buf_fini(&r->streamed);
	pthread_cond_destroy(&r->cond);
	pthread_cond_destroy(&r->paused_cond);
	pthread_mutex_destroy(&r->lock);
}
DEFINE_AUTO_FINI(result);

static void on_done(void *arg, struct reg_answer *a)
{
	struct result *r = arg;

	pthread_mutex_lock(&r->lock);
	r->result = a->result;
	r->err = *a->err;
	r->status = a->status;
	r->offset = a->offset;
	r->length = a->length;
	r->blob_size = a->blob_size;
	if (a->body)
		buf_addstr(&r->body, buf_str(a->body));
	r->done = true;
	r->times++;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static enum reg_flow on_data(void *arg, uint64_t offset, struct str bytes)
{
	struct result *r = arg;
	enum reg_flow flow = REG_FLOW_MORE;

	pthread_mutex_lock(&r->lock);
	if (r->pause_once) {
		r->pause_once = false;
		r->paused = true;
		pthread_cond_signal(&r->paused_cond);
		flow = REG_FLOW_PAUSE;
	} else {
		assert_int_equal(offset, r->expect_offset);
		r->expect_offset += bytes.n;
		buf_addstr(&r->streamed, bytes);
		if (r->stop_at && r->expect_offset >= r->stop_at)
			flow = REG_FLOW_STOP;
	}
	pthread_mutex_unlock(&r->lock);
	return flow;
}

static void await(struct result *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->done)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static struct reg_blob_get question(struct world *w, struct result *r, uint64_t offset, uint64_t length)
{
	return (struct reg_blob_get){
	    .ref = &w->ref,
	    .digest = w->digest,
	    .offset = offset,
	    .length = length,
	    .max_bytes = BLOB_BYTES,
	    .deadline_ns = in_s(30),
	    .done = on_done,
	    .arg = r,
	};
}

static void run(struct world *w, const struct reg_blob_get *q, struct result *r)
{
	struct err err = ERR_INIT;

	if (reg_blob_get(w->client, q, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	await(r);
}

static void assert_body(struct world *w, const struct buf *body, uint64_t offset, uint64_t length)
{
	assert_int_equal(body->n, length);
	assert_memory_equal(body->p, w->blob + offset, length);
}

static bool is_path(struct exchange *x, const char *part)
{
	return memmem(x->path.p, x->path.n, part, strlen(part)) != NULL;
}

/* Good servers */

static bool serve_blob(struct exchange *x)
{
	struct world *w = x->arg;

	if (!is_path(x, w->digest_text))
		return exchange_reply(x, 404, "",
		                      STR("{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"no\\nsuch "
		                          "blob\\u001b[31m\"}]}"));
	return exchange_blob(x, blob_of(w));
}

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
	AUTO(world) struct world *w = world_new_impatient(serve_blob, NULL, 500);
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

static bool serve_nothing(struct exchange *x)
{
	char c;

	/* Silence until the client hangs up. */
	while (read(x->fd, &c, 1) > 0)
		;
	return false;
}

static void silence_ends_at_the_deadline(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_nothing, NULL, 150);
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

static bool serve_stall_once(struct exchange *x)
{
	struct world *w = x->arg;

	if (x->n)
		return exchange_blob(x, blob_of(w));
	exchange_printf(x, "HTTP/1.1 200 Text\r\nContent-Length: %d\r\n\r\n", BLOB_BYTES);
	exchange_send(x, w->blob, 1000);
	return serve_nothing(x);
}

static void stalled_body_is_resumed_elsewhere(void **state)
{
	AUTO(world) struct world *w = world_new_impatient(serve_stall_once, NULL, 200);
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

/* Authorization */

static const char *MANIFEST =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"size\":2,"
    "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}";

static bool serve_with_token(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];

	if (!str_eqc(exchange_header(x, "Authorization"), "Bearer good-token")) {
		snprintf(challenge, sizeof(challenge),
		         "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token?x=y\",service=\"the, service\","
		         "scope=\"repository:some/image:pull\"\r\n",
		         testserver_port(w->other));
		return exchange_reply(x, 401, challenge, STR("{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}"));
	}
	if (is_path(x, "/manifests/"))
		return exchange_reply(x, 200, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
		                      str_of(MANIFEST));
	return serve_blob(x);
}

static bool serve_token(struct exchange *x)
{
	return exchange_reply(x, 200, "", STR("{\"token\":\"good-token\",\"expires_in\":300}"));
}

static void anonymous_token(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	struct reg_image *image = NULL;
	struct err err = ERR_INIT;
	AUTO(buf) struct buf b = BUF_INIT;

	if (reg_image_resolve(w->client, &w->ref, NULL, in_s(10), &image, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(image->n_documents, 1);
	assert_int_equal(reg_image_manifest(image)->n_layers, 0);
	reg_image_free(image);
	assert_int_equal(testserver_count(w->other, "GET /token?x=y&service=the%2C%20service"
	                                            "&scope=repository%3Asome%2Fimage%3Apull"),
	                 1);
	/* One 401, then the token serves everything of the repository. */
	struct reg_descriptor d = {.digest = w->digest, .size = BLOB_BYTES};
	assert_int_equal(reg_blob_fetch(w->client, &w->ref, &d, BLOB_BYTES, in_s(10), &b, &err), 0);
	assert_int_equal(testserver_count(w->server, "GET"), 3);
	assert_int_equal(testserver_count(w->other, "GET"), 1);
}

static void many_requests_one_token(void **state)
{
	enum { N = 20 };
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	static struct result r[N];
	struct err err = ERR_INIT;

	for (int i = 0; i < N; i++) {
		result_init(&r[i]);
		struct reg_blob_get q = question(w, &r[i], (uint64_t)i * 1000, 1000);
		assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), 0);
	}
	for (int i = 0; i < N; i++) {
		await(&r[i]);
		assert_int_equal(r[i].result, 0);
		assert_body(w, &r[i].body, (uint64_t)i * 1000, 1000);
		result_fini(&r[i]);
	}
	assert_int_equal(testserver_count(w->other, "GET"), 1);
}

static bool serve_token_for_user(struct exchange *x)
{
	/* user:secret */
	if (!str_eqc(exchange_header(x, "Authorization"), "Basic dXNlcjpzZWNyZXQ="))
		return exchange_reply(x, 401, "", STR("{\"details\":\"incorrect username or password\"}"));
	return serve_token(x);
}

static void token_for_credentials(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token_for_user);
	struct reg_credentials right = {"user", "secret", NULL}, wrong = {"user", "other", NULL};
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	reg_client_set_credentials(w->client, w->ref.host, &wrong);
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err), -ERR_UNAUTHENTICATED);
	assert_non_null(strstr(err.msg, "incorrect username or password"));
	assert_null(strstr(err.msg, "other"));
	reg_client_set_credentials(w->client, w->ref.host, &right);
	if (reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err) < 0)
		fail_msg("%s", err.msg);
	reg_manifest_free(m);
	/* The password went to the token server alone. */
	assert_int_equal(testserver_count(w->server, "Basic"), 0);
}

static bool serve_token_by_post(struct exchange *x)
{
	if (str_eqc(x->method, "POST") && memmem(x->body.p, x->body.n, "refresh_token=id%2Ftoken", 24) &&
	    memmem(x->body.p, x->body.n, "grant_type=refresh_token", 24))
		return exchange_reply(x, 200, "", STR("{\"access_token\":\"good-token\"}"));
	return exchange_reply(x, 400, "", STR_NONE);
}

static bool serve_token_no_post(struct exchange *x)
{
	if (str_eqc(x->method, "POST"))
		return exchange_reply(x, 405, "", STR_NONE);
	/* :id/token */
	return str_eqc(exchange_header(x, "Authorization"), "Basic OmlkL3Rva2Vu")
	           ? serve_token(x)
	           : exchange_reply(x, 401, "", STR_NONE);
}

static void identity_tokens(void **state)
{
	testserver_fn *const servers[] = {serve_token_by_post, serve_token_no_post};

	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		AUTO(world) struct world *w = world_new(serve_with_token, servers[i]);
		struct reg_credentials c = {NULL, NULL, "id/token"};
		struct reg_manifest *m = NULL;
		struct err err = ERR_INIT;

		reg_client_set_credentials(w->client, w->ref.host, &c);
		if (reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
}

static bool serve_basic(struct exchange *x)
{
	if (!str_eqc(exchange_header(x, "Authorization"), "Basic dXNlcjpzZWNyZXQ="))
		return exchange_reply(x, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", STR("who are you?"));
	return serve_blob(x);
}

static void basic(void **state)
{
	AUTO(world) struct world *w = world_new(serve_basic, NULL);
	struct reg_credentials right = {"user", "secret", NULL}, wrong = {"user", "other", NULL};
	struct err err = ERR_INIT;
	uint64_t size;

	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), -ERR_UNAUTHENTICATED);
	reg_client_set_credentials(w->client, w->ref.host, &wrong);
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), -ERR_UNAUTHENTICATED);
	reg_client_set_credentials(w->client, w->ref.host, &right);
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), 0);
}

/* A token that the registry stops accepting is replaced once. */
static bool serve_tokens_in_turn(struct exchange *x)
{
	char token[64];

	snprintf(token, sizeof(token), "{\"token\":\"token-%u\",\"expires_in\":300}", x->n);
	return exchange_reply(x, 200, "", str_of(token));
}

static bool serve_with_second_token(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];
	bool later = is_path(x, "second");

	if (!str_eqc(exchange_header(x, "Authorization"), later ? "Bearer token-1" : "Bearer token-0")) {
		snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/t\"\r\n",
		         testserver_port(w->other));
		return exchange_reply(x, 401, challenge, STR_NONE);
	}
	return exchange_reply(x, 200, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", str_of(MANIFEST));
}

static void refused_token_is_replaced(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_second_token, serve_tokens_in_turn);
	const char *tags[] = {"first", "second"};
	struct err err = ERR_INIT;

	for (int i = 0; i < 2; i++) {
		struct reg_manifest *m = NULL;

		strcpy(w->ref.tag, tags[i]);
		if (reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
	assert_int_equal(testserver_count(w->other, "GET"), 2);
}

static bool serve_never_authorized(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];

	snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/t\"\r\n",
	         testserver_port(w->other));
	return exchange_reply(x, 401, challenge, STR("{\"errors\":[{\"code\":\"DENIED\"}]}"));
}

static void endless_401_ends(void **state)
{
	AUTO(world) struct world *w = world_new(serve_never_authorized, serve_token);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err), -ERR_UNAUTHENTICATED);
	assert_non_null(strstr(err.msg, "DENIED"));
	assert_true(testserver_count(w->server, "GET") <= 3);
}

/* Redirects */

static bool redirect_blob(struct exchange *x)
{
	struct world *w = x->arg;
	char headers[256];

	if (!str_eqc(exchange_header(x, "Authorization"), "Bearer good-token"))
		return serve_with_token(x);
	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%u/storage?signature=s3cret&n=%u\r\n",
	         testserver_port(w->other), x->n);
	return exchange_reply(x, 307, headers, STR("<a href>"));
}

/* Token server and storage in one. Storage refuses credentials and HEAD. */
static bool serve_storage(struct exchange *x)
{
	struct world *w = x->arg;

	if (is_path(x, "/token"))
		return serve_token(x);
	if (exchange_header(x, "Authorization").n || str_eqc(x->method, "HEAD"))
		return exchange_reply(x, 403, "", STR("<Error>SignatureDoesNotMatch</Error>"));
	return exchange_blob(x, blob_of(w));
}

static void redirect_keeps_range_and_drops_authorization(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_blob, serve_storage);

	for (int i = 0; i < 3; i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, 7000, 5000);

		run(w, &q, &r);
		assert_int_equal(r.result, 0);
		assert_body(w, &r.body, 7000, 5000);
	}
	assert_int_equal(testserver_count(w->other, "GET /storage"), 3);
	assert_int_equal(testserver_count(w->other, "Bearer"), 0);
	/* The final URL is kept: the registry saw the first request alone, without and with a token. */
	assert_int_equal(testserver_count(w->server, "GET"), 2);

	uint64_t size = 0;
	struct err err = ERR_INIT;
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), 0);
	assert_int_equal(size, BLOB_BYTES);
}

static bool redirect_plain(struct exchange *x)
{
	struct world *w = x->arg;
	char headers[256];

	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%u/storage?signature=s3cret&n=%u\r\n",
	         testserver_port(w->other), x->n);
	return exchange_reply(x, 302, headers, STR_NONE);
}

/* Every URL works once. */
static bool serve_expiring(struct exchange *x)
{
	struct world *w = x->arg;
	char path[256];

	str_copy(x->path, path, sizeof(path));
	if (testserver_count(x->server, path) > 1)
		return exchange_reply(x, 403, "", STR("<Error>Request has expired</Error>"));
	return exchange_blob(x, blob_of(w));
}

static void expired_url_is_asked_for_again(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_plain, serve_expiring);

	for (int i = 0; i < 2; i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, 0, 100);

		run(w, &q, &r);
		assert_int_equal(r.result, 0);
	}
	assert_int_equal(testserver_count(w->server, "GET"), 2);
	assert_int_equal(testserver_count(w->other, "GET"), 3);
}

static bool serve_denied(struct exchange *x)
{
	return exchange_reply(x, 403, "", STR("no"));
}

static void refusing_storage_is_named_without_its_signature(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_plain, serve_denied);
	AUTO(result) struct result r;
	char storage[64];

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, 100);
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_PERMISSION);
	snprintf(storage, sizeof(storage), "127.0.0.1:%u/storage", testserver_port(w->other));
	assert_non_null(strstr(r.err.msg, storage));
	assert_null(strstr(r.err.msg, "s3cret"));
}

static bool redirect_to_self(struct exchange *x)
{
	return exchange_reply(x, 301, "Location: /again\r\n", STR_NONE);
}

static bool redirect_to_file(struct exchange *x)
{
	return exchange_reply(x, 301, "Location: file:///etc/passwd\r\n", STR_NONE);
}

static void bad_redirects(void **state)
{
	testserver_fn *const servers[] = {redirect_to_self, redirect_to_file};

	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		AUTO(world) struct world *w = world_new(servers[i], NULL);
		AUTO(result) struct result r;

		result_init(&r);
		struct reg_blob_get q = question(w, &r, 0, 100);
		run(w, &q, &r);
		assert_int_equal(r.result, -ERR_INVALID);
	}
}

/* Manifests */

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
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err), 0);
	assert_true(digest_eq(&m->digest, &d));
	reg_manifest_free(m);
	m = NULL;
	reg_ref_set_digest(&w->ref, &DIGEST_EMPTY);
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err), -ERR_DATA_LOSS);
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

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(20), &m, &err), -ERR_EXHAUSTED);
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

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, in_s(60), &m, &err), -ERR_UNAVAILABLE);
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

	assert_int_equal(
	    reg_manifest_push(w->client, &w->ref, str_of(MANIFEST), STR(REG_MT_OCI_MANIFEST), in_s(10), &err), 0);
	assert_true(str_eqc(buf_str(&shelf.manifest), MANIFEST));
	assert_int_equal(reg_manifest_push(w->client, &w->ref, str_of(MANIFEST), STR("text/plain"), in_s(10), &err),
	                 -ERR_INVALID);
	assert_non_null(strstr(err.msg, "HTTP 400: what?"));
	buf_fini(&shelf.manifest);
}

static void warm_learns_the_challenge(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	reg_client_warm(w->client, w->ref.host);
	while (testserver_count(w->server, "GET /v2/ ") == 0)
		nanosleep(&(struct timespec){0, NS_PER_MS}, NULL);
	/* The answer to /v2/ may still be on its way; the manifest queues behind it only in the client's head, so ask a
	 * few: at most the first can be without a token. */
	for (int i = 0; i < 3; i++) {
		if (reg_manifest_fetch(w->client, &w->ref, in_s(10), &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
	reg_client_warm(w->client, w->ref.host); /* just used: nothing */
	assert_int_equal(testserver_count(w->server, "GET /v2/ "), 1);
	assert_int_equal(testserver_count(w->other, "GET"), 1);
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
	    cmocka_unit_test(stalled_body_is_resumed_elsewhere),
	    cmocka_unit_test(nobody_listens),
	    cmocka_unit_test(anonymous_token),
	    cmocka_unit_test(many_requests_one_token),
	    cmocka_unit_test(token_for_credentials),
	    cmocka_unit_test(identity_tokens),
	    cmocka_unit_test(basic),
	    cmocka_unit_test(refused_token_is_replaced),
	    cmocka_unit_test(endless_401_ends),
	    cmocka_unit_test(redirect_keeps_range_and_drops_authorization),
	    cmocka_unit_test(expired_url_is_asked_for_again),
	    cmocka_unit_test(refusing_storage_is_named_without_its_signature),
	    cmocka_unit_test(bad_redirects),
	    cmocka_unit_test(manifest_digest_is_checked),
	    cmocka_unit_test(endless_manifest_is_bounded),
	    cmocka_unit_test(manifest_that_never_comes_whole_ends),
	    cmocka_unit_test(corrupt_blob_is_refused),
	    cmocka_unit_test(cancel_and_stop),
	    cmocka_unit_test(freed_with_requests_in_flight),
	    cmocka_unit_test(bad_questions),
	    cmocka_unit_test(estimates),
	    cmocka_unit_test(push),
	    cmocka_unit_test(warm_learns_the_challenge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
