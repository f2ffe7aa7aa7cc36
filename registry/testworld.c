#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/testworld.h"

#include <cmocka.h>
#include <stdio.h>

const char *const MANIFEST =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"size\":2,"
    "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}";

struct str blob_of(struct world *w)
{
	return str_make(w->blob, BLOB_BYTES);
}

struct world *world_new_impatient(testserver_fn *fn, testserver_fn *other, unsigned answer_ms, unsigned stall_ms)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct reg_client_opts opts = {.answer_ms = answer_ms, .stall_ms = stall_ms, .backoff_ms = 2};
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

struct world *world_new(testserver_fn *fn, testserver_fn *other)
{
	return world_new_impatient(fn, other, 30000, 30000);
}

void world_free(struct world *w)
{
	reg_client_free(w->client);
	testserver_free(w->server);
	if (w->other)
		testserver_free(w->other);
	free(w);
}

int64_t in_s(int s)
{
	return clock_mono_ns() + s * NS_PER_S;
}

void result_init(struct result *r)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->cond, NULL);
	pthread_cond_init(&r->paused_cond, NULL);
}

void result_fini(struct result *r)
{
	buf_fini(&r->body);
	buf_fini(&r->streamed);
	pthread_cond_destroy(&r->cond);
	pthread_cond_destroy(&r->paused_cond);
	pthread_mutex_destroy(&r->lock);
}

void on_done(void *arg, struct reg_answer *a)
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

enum reg_flow on_data(void *arg, uint64_t offset, struct str bytes)
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
		/* cmocka's own thread asserts it. */
		r->disorder |= offset != r->expect_offset;
		r->expect_offset += bytes.n;
		buf_addstr(&r->streamed, bytes);
		if (r->stop_at && r->expect_offset >= r->stop_at)
			flow = REG_FLOW_STOP;
	}
	pthread_mutex_unlock(&r->lock);
	return flow;
}

void await(struct result *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->done)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	assert_false(r->disorder);
}

struct reg_blob_get question(struct world *w, struct result *r, uint64_t offset, uint64_t length)
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

void run(struct world *w, const struct reg_blob_get *q, struct result *r)
{
	struct err err = ERR_INIT;

	if (reg_blob_get(w->client, q, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	await(r);
}

void assert_body(struct world *w, const struct buf *body, uint64_t offset, uint64_t length)
{
	assert_int_equal(body->n, length);
	assert_memory_equal(body->p, w->blob + offset, length);
}

bool is_path(struct exchange *x, const char *part)
{
	return memmem(x->path.p, x->path.n, part, strlen(part)) != NULL;
}

bool serve_blob(struct exchange *x)
{
	struct world *w = x->arg;

	if (!is_path(x, w->digest_text))
		return exchange_reply(x, 404, "",
		                      STR("{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"no\\nsuch "
		                          "blob\\u001b[31m\"}]}"));
	return exchange_blob(x, blob_of(w));
}

bool serve_nothing(struct exchange *x)
{
	char c;

	while (read(x->fd, &c, 1) > 0)
		;
	return false;
}
