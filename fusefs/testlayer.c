#include "fusefs/testlayer.h"

#include "base/file.h"

#include <fcntl.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(expr)                                                                                                     \
	do {                                                                                                           \
		struct err err = ERR_INIT;                                                                             \
		if ((expr) < 0) {                                                                                      \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, err.msg);                                   \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* ---- layers ---- */

void test_layer_init(struct test_layer *l, const char *reference)
{
	*l = (struct test_layer){.reference = reference, .builder = esgz_index_builder_new()};
}

void test_layer_fini(struct test_layer *l)
{
	esgz_index_builder_free(l->builder);
	buf_fini(&l->blob);
	vec_each(&l->files, f) {
		free(f->path);
		buf_fini(&f->content);
	}
	vec_fini(&l->files);
}

/* Words of a small vocabulary: compresses about as text does. */
static void fill_content(struct buf *b, size_t size, unsigned seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	while (b->n < size) {
		char word[16];
		int n;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		n = snprintf(word, sizeof(word), "%llx ", (unsigned long long)(x & 0xffffff));
		buf_add(b, word, (size_t)n < size - b->n ? (size_t)n : size - b->n);
	}
}

static uint32_t add_member(struct test_layer *l, struct str plain)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
	size_t cap = libdeflate_gzip_compress_bound(c, plain.n), n;
	char *at = buf_reserve(&l->blob, cap);

	n = libdeflate_gzip_compress(c, plain.p, plain.n, at, cap);
	l->blob.n += n;
	libdeflate_free_compressor(c);
	return (uint32_t)n;
}

/* What stands between members in a real layer: a tar header. */
static void add_gap(struct test_layer *l)
{
	char header[512] = {'h'};

	add_member(l, str_make(header, sizeof(header)));
}

void test_layer_add(struct test_layer *l, const char *path, size_t size, uint32_t chunk_bytes, unsigned seed,
                    const struct test_lie *lie)
{
	struct buf content = BUF_INIT;

	fill_content(&content, size, seed);
	test_layer_add_bytes(l, path, buf_str(&content), 0644, chunk_bytes, lie);
	buf_fini(&content);
}

void test_layer_add_bytes(struct test_layer *l, const char *path, struct str bytes, uint32_t mode, uint32_t chunk_bytes,
                          const struct test_lie *lie)
{
	struct test_file *f = vec_add(&l->files);
	size_t size = bytes.n;
	struct esgz_entry e = {.type = ESGZ_REG, .mode = mode, .size = size, .path = str_of(path)};
	VEC(struct esgz_chunk) chunks = VEC_INIT;

	add_gap(l);
	f->path = xstrdup(path);
	f->blob_offset = l->blob.n;
	buf_addstr(&f->content, bytes);
	digest_of(f->content.p, size, &f->digest);
	e.content = lie && lie->content ? *lie->content : f->digest;
	for (size_t at = 0; at < size; at += chunk_bytes) {
		struct esgz_chunk *c = vec_add(&chunks);

		c->blob_offset = l->blob.n;
		c->file_offset = at;
		c->bytes = (uint32_t)(size - at < chunk_bytes ? size - at : chunk_bytes);
		c->blob_bytes = add_member(l, str_make(f->content.p + at, c->bytes));
		digest_of(f->content.p + at, c->bytes, &c->digest);
	}
	if (chunks.n == 1)
		chunks.p[0].digest = e.content; /* an index holds one digest of both */
	esgz_claim_key(&e.content, size, chunks.p, (uint32_t)chunks.n, &f->claim);
	MUST(esgz_index_add(l->builder, &e, NULL, 0, chunks.p, (uint32_t)chunks.n, NULL, &err));
	vec_fini(&chunks);
}

void test_layer_add_sparse(struct test_layer *l, const char *path, size_t data, uint64_t hole, unsigned seed)
{
	struct test_file *f = vec_add(&l->files);
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = data + hole, .path = str_of(path)};
	struct esgz_chunk chunks[2] = {{.bytes = data}, {.file_offset = data, .bytes = hole, .hole = true}};
	uint32_t first = data == 0;
	struct hasher *all = hasher_new(), *zeros = hasher_new();
	static const uint8_t some[1 << 20];

	add_gap(l);
	f->path = xstrdup(path);
	f->blob_offset = chunks[0].blob_offset = l->blob.n;
	fill_content(&f->content, data, seed);
	if (data > 0)
		chunks[0].blob_bytes = add_member(l, buf_str(&f->content));
	digest_of(f->content.p, data, &chunks[0].digest);
	hasher_add(all, f->content.p, data);
	for (uint64_t at = 0, n; at < hole && hole <= TEST_HOLE_TRUE; at += n) {
		n = hole - at < sizeof(some) ? hole - at : sizeof(some);
		hasher_add(all, some, n);
		hasher_add(zeros, some, n);
	}
	hasher_done(all, &f->digest);
	hasher_done(zeros, &chunks[1].digest);
	hasher_free(all);
	hasher_free(zeros);
	e.content = f->digest;
	esgz_claim_key(&e.content, e.size, chunks + first, 2 - first, &f->claim);
	MUST(esgz_index_add(l->builder, &e, NULL, 0, chunks + first, 2 - first, NULL, &err));
}

void test_layer_pack(struct test_layer *l, const char *prefix, unsigned n, size_t size, unsigned seed)
{
	struct buf plain = BUF_INIT;
	uint64_t offset;
	uint32_t bytes;
	size_t first = l->files.n;

	for (unsigned i = 0; i < n; i++) {
		struct test_file *f = vec_add(&l->files);

		f->path = xasprintf("%s%u", prefix, i);
		fill_content(&f->content, size, seed + i);
		digest_of(f->content.p, size, &f->digest);
		buf_add(&plain, f->content.p, size);
	}
	offset = l->blob.n;
	bytes = add_member(l, buf_str(&plain));
	buf_fini(&plain);
	for (unsigned i = 0; i < n; i++) {
		struct test_file *f = &l->files.p[first + i];
		struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = size, .path = str_of(f->path)};
		struct esgz_chunk c = {.blob_offset = offset,
		                       .blob_bytes = bytes,
		                       .inner_offset = i * size,
		                       .bytes = (uint32_t)size,
		                       .digest = f->digest};

		e.content = f->digest;
		f->blob_offset = offset;
		esgz_claim_key(&e.content, size, &c, 1, &f->claim);
		MUST(esgz_index_add(l->builder, &e, NULL, 0, &c, 1, NULL, &err));
	}
}

void test_layer_add_far(struct test_layer *l, const char *path, size_t size)
{
	struct test_file *f = vec_add(&l->files);
	struct esgz_entry e = {.type = ESGZ_REG, .mode = 0644, .size = size, .path = str_of(path)};
	struct esgz_chunk c = {.inner_offset = 300u << 20, .bytes = (uint32_t)size};

	f->path = xstrdup(path);
	fill_content(&f->content, size, 4711);
	digest_of(f->content.p, size, &f->digest);
	c.blob_offset = f->blob_offset = l->blob.n;
	c.blob_bytes = add_member(l, buf_str(&f->content));
	c.digest = e.content = f->digest;
	esgz_claim_key(&e.content, size, &c, 1, &f->claim);
	MUST(esgz_index_add(l->builder, &e, NULL, 0, &c, 1, NULL, &err));
}

void test_layer_finish(struct test_layer *l, struct ffs_store *store, unsigned toc)
{
	struct esgz_index_info info = {.trust = ESGZ_TRUST_TOC, .compression = ESGZ_GZIP};
	struct ffs_source source = {.reference = (char *)l->reference, .media_type = (char *)"x/layer"};
	struct buf index = BUF_INIT;

	add_gap(l);
	digest_of(l->blob.p, l->blob.n, &l->digest);
	info.blob = source.blob = l->digest;
	info.blob_bytes = source.blob_bytes = l->blob.n;
	digest_of(&toc, sizeof(toc), &info.trusted);
	MUST(esgz_index_finish(l->builder, &info, &index, &err));
	esgz_index_key(info.trust, &info.blob, &info.trusted, &l->key);
	MUST(ffs_index_put(store, &l->key, buf_str(&index), STR_NONE, &source, false, &err));
	buf_fini(&index);
}

const struct test_file *test_layer_file(const struct test_layer *l, const char *path)
{
	vec_each(&l->files, f)
		if (!strcmp(f->path, path))
			return f;
	abort();
}

void test_remove_tmp(const char *path)
{
	int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);

	if (strncmp(path, "/tmp/", 5))
		abort();
	MUST(dir_remove(tmp, path + 5, &err));
	close(tmp);
}

/* ---- the source ---- */

struct test_request {
	struct test_blobs *b;
	struct ffs_blob_query q;
	const struct test_layer *layer;
	uint64_t at;
	bool cancelled, paused, over;
	unsigned refs;
	struct test_request *next;
};

static void request_unref(struct test_request *r)
{
	if (--r->refs == 0)
		free(r);
}

/* The next one that can go on; a paused or held one lets others pass. Lock held. */
static struct test_request *runnable(struct test_blobs *b)
{
	for (struct test_request *r = b->first; r; r = r->next) {
		bool held = b->hold || (b->hold_bulk && !r->q.demand);

		if (r->cancelled || b->stop)
			return r;
		if (r->paused || (held && r->at - r->q.offset >= b->hold_after))
			continue;
		return r;
	}
	return NULL;
}

static void request_end(struct test_blobs *b, struct test_request *r, enum err_code code)
{
	struct test_request **at = &b->first;
	struct err err = ERR_INIT;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	if (b->last == &r->next)
		b->last = at;
	r->over = true;
	pthread_mutex_unlock(&b->lock);
	if (code != ERR_OK)
		err_set(&err, code, "the test says so");
	r->q.done(r->q.arg, -(int)code, &err);
	pthread_mutex_lock(&b->lock);
	request_unref(r);
}

/* Delivers one piece. Lock held, given up meanwhile. */
static void request_step(struct test_blobs *b, struct test_request *r)
{
	uint64_t end = r->q.offset + r->q.length - (b->truncate ? 1 : 0);
	size_t piece = b->piece ? b->piece : 16384;
	struct buf bytes = BUF_INIT;
	enum ffs_flow flow;

	if (r->cancelled || b->stop) {
		request_end(b, r, ERR_CANCELLED);
		return;
	}
	if (b->fail) {
		b->fail--;
		request_end(b, r, b->fail_code);
		return;
	}
	if (piece > end - r->at)
		piece = end - r->at;
	buf_add(&bytes, r->layer->blob.p + r->at, piece);
	if (b->corrupt_times && b->corrupt_at >= r->at && b->corrupt_at < r->at + piece) {
		bytes.p[b->corrupt_at - r->at] ^= 0x55;
		b->corrupt_times--;
	}
	pthread_mutex_unlock(&b->lock);
	flow = r->q.data(r->q.arg, r->at, buf_str(&bytes));
	pthread_mutex_lock(&b->lock);
	buf_fini(&bytes);
	if (flow == FFS_FLOW_PAUSE) {
		/* resume() may have come before this answer. */
		r->paused = !r->paused;
		return;
	}
	r->paused = false;
	r->at += piece;
	b->bytes += piece;
	if (flow == FFS_FLOW_STOP || r->at == end)
		request_end(b, r, ERR_OK);
}

static void *source_main(void *arg)
{
	struct test_blobs *b = arg;

	pthread_mutex_lock(&b->lock);
	while (!b->stop || b->first) {
		struct test_request *r = runnable(b);

		if (r)
			request_step(b, r);
		else
			pthread_cond_wait(&b->changed, &b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

static int test_get(void *self, const struct ffs_blob_query *q, void **handle, struct err *err)
{
	struct test_blobs *b = self;
	struct test_request *r = xcalloc(1, sizeof(*r));

	*r = (struct test_request){.b = b, .q = *q, .at = q->offset, .refs = 2};
	pthread_mutex_lock(&b->lock);
	vec_each(&b->layers, l)
		if (digest_eq(&(*l)->digest, &q->blob))
			r->layer = *l;
	if (!r->layer || q->offset + q->length > r->layer->blob.n || q->length == 0)
		abort();
	*b->last = r;
	b->last = &r->next;
	b->n_requests++;
	b->n_demand += q->demand;
	vec_push(&b->ranges, (struct test_range){q->offset, q->length, q->demand});
	*handle = r;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static void test_cancel(void *self, void *handle)
{
	struct test_blobs *b = self;
	struct test_request *r = handle;

	pthread_mutex_lock(&b->lock);
	r->cancelled = true;
	b->n_cancelled++;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void test_resume(void *self, void *handle)
{
	struct test_blobs *b = self;
	struct test_request *r = handle;

	pthread_mutex_lock(&b->lock);
	r->paused = !r->paused;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void test_unref(void *self, void *handle)
{
	struct test_blobs *b = self;

	pthread_mutex_lock(&b->lock);
	request_unref(handle);
	pthread_mutex_unlock(&b->lock);
}

static void test_estimate(void *self, const char *reference, int64_t *rtt_ns, uint64_t *bytes_per_s) {}

void test_blobs_init(struct test_blobs *b)
{
	*b = (struct test_blobs){0};
	b->last = &b->first;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	if (pthread_create(&b->thread, NULL, source_main, b))
		abort();
}

void test_blobs_fini(struct test_blobs *b)
{
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	vec_fini(&b->layers);
	vec_fini(&b->ranges);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
}

void test_blobs_add(struct test_blobs *b, struct test_layer *l)
{
	pthread_mutex_lock(&b->lock);
	vec_push(&b->layers, l);
	pthread_mutex_unlock(&b->lock);
}

struct ffs_blobs test_blobs_table(struct test_blobs *b)
{
	return (struct ffs_blobs){.get = test_get,
	                          .cancel = test_cancel,
	                          .resume = test_resume,
	                          .unref = test_unref,
	                          .estimate = test_estimate,
	                          .self = b};
}

void test_blobs_set_hold(struct test_blobs *b, bool hold)
{
	pthread_mutex_lock(&b->lock);
	b->hold = hold;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

unsigned test_blobs_count(struct test_blobs *b, const unsigned *counter)
{
	unsigned n;

	pthread_mutex_lock(&b->lock);
	n = *counter;
	pthread_mutex_unlock(&b->lock);
	return n;
}

void test_blobs_wait(struct test_blobs *b, const unsigned *counter, unsigned n)
{
	while (test_blobs_count(b, counter) < n)
		usleep(1000);
}
