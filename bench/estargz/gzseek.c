/*
 * The seekable index of a gzip layer: built by two threads as an unpacking node does it (inflating here, hashes and tar
 * there), then every chunk read back from its point.
 */
#include "bench/estargz/bench.h"

#include "base/clock.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/build.h"
#include "estargz/gzseek/points.h"

#include <pthread.h>

#define BLOCK_BYTES (1u << 20)
#define BLOCKS 8
#define FEED_BYTES (256u << 10)

struct block {
	bool cut; /* a cut is due behind it */
	size_t n;
	char bytes[BLOCK_BYTES];
};

/* One thread fills blocks in turn, the other one empties them. */
struct pipe {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned filled, emptied; /* so many in all; guarded by lock */
	bool over;
	struct block blocks[BLOCKS];
	/* The filling thread's, until it is over. */
	struct esgz_gzseek *s;
	struct str blob;
	struct err err;
	int result;
};

static struct block *block_to_fill(struct pipe *p)
{
	pthread_mutex_lock(&p->lock);
	while (p->filled - p->emptied == BLOCKS)
		pthread_cond_wait(&p->moved, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return &p->blocks[p->filled % BLOCKS];
}

static void pass_on(struct pipe *p, bool cut)
{
	p->blocks[p->filled % BLOCKS].cut = cut;
	pthread_mutex_lock(&p->lock);
	p->filled++;
	pthread_cond_signal(&p->moved);
	pthread_mutex_unlock(&p->lock);
	block_to_fill(p)->n = 0;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct pipe *p = arg;

	while (plain.n > 0) {
		struct block *b = &p->blocks[p->filled % BLOCKS];
		struct str part = str_sub(plain, 0, BLOCK_BYTES - b->n);

		memcpy(b->bytes + b->n, part.p, part.n);
		b->n += part.n;
		plain = str_sub(plain, part.n, plain.n);
		if (b->n == BLOCK_BYTES)
			pass_on(p, false);
	}
	return 0;
}

static int on_cut(void *arg, struct err *err)
{
	pass_on(arg, true);
	return 0;
}

static void *fill(void *arg)
{
	struct pipe *p = arg;
	const struct esgz_gzseek_flow flow = {on_plain, on_cut, p};
	struct str rest = p->blob;

	while (rest.n > 0 && p->result >= 0) {
		p->result = esgz_gzseek_blob(p->s, str_sub(rest, 0, FEED_BYTES), &flow, &p->err);
		rest = str_sub(rest, FEED_BYTES, rest.n);
	}
	if (p->result >= 0)
		p->result = esgz_gzseek_blob_end(p->s, &p->err);
	pass_on(p, false);
	pthread_mutex_lock(&p->lock);
	p->over = true;
	pthread_cond_signal(&p->moved);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static struct block *block_to_empty(struct pipe *p)
{
	struct block *b = NULL;

	pthread_mutex_lock(&p->lock);
	while (p->filled == p->emptied && !p->over)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->filled != p->emptied)
		b = &p->blocks[p->emptied % BLOCKS];
	pthread_mutex_unlock(&p->lock);
	return b;
}

static int empty_all(struct pipe *p, struct err *err)
{
	struct block *b;
	int r = 0;

	while ((b = block_to_empty(p))) {
		if (r >= 0)
			r = esgz_gzseek_plain(p->s, str_make(b->bytes, b->n), err);
		if (b->cut)
			esgz_gzseek_cut(p->s);
		pthread_mutex_lock(&p->lock);
		p->emptied++;
		pthread_cond_signal(&p->moved);
		pthread_mutex_unlock(&p->lock);
	}
	return r;
}

static int build(struct str blob, struct buf *index, struct buf *points, struct esgz_layer_result *out, struct err *err)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);
	AUTO_FREE struct pipe *p = xcalloc(1, sizeof(*p));
	pthread_t thread;
	int r;

	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
	p->s = s;
	p->blob = blob;
	if (pthread_create(&thread, NULL, fill, p))
		return err_set(err, ERR_EXHAUSTED, "no thread");
	r = empty_all(p, err);
	pthread_join(thread, NULL);
	if (p->result < 0)
		return err_set(err, p->err.code, "%s", p->err.msg);
	TRY(r);
	TRY(esgz_gzseek_finish(s, out, err));
	return esgz_gzseek_write(s, index, points, err);
}

static void report_points(const struct esgz_points *p)
{
	const struct esgz_points_info *info = esgz_points_get_info(p);
	uint64_t longest = 0;

	for (uint32_t i = 0; i < info->n; i++) {
		struct esgz_point at;

		esgz_points_get(p, i, &at);
		if (esgz_points_span_end(p, i) - at.place.plain_offset > longest)
			longest = esgz_points_span_end(p, i) - at.place.plain_offset;
	}
	bench_count("points", info->n);
	bench_value("span_kib", (double)info->plain_bytes / info->n / 1024);
	bench_value("longest_kib", (double)longest / 1024);
}

/* Every chunk, each as a demand for it alone would read it. */
static int read_back(struct str blob, const struct esgz_index *ix, const struct esgz_points *points, struct err *err)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO_FREE uint8_t *dst = xmalloc(ESGZ_LAYER_CHUNK_BYTES);
	uint32_t n = esgz_index_get_info(ix)->n_chunks, step = n / 2000 + 1, done = 0;
	double t = bench_cpu_ms();

	for (uint32_t i = 0; i < n; i += step) {
		struct esgz_point from;
		struct esgz_chunk c;
		uint32_t at;

		esgz_index_chunk(ix, i, &c);
		if (c.hole)
			continue;
		if (!esgz_points_find(points, c.blob_offset, &at))
			return err_set(err, ERR_INTERNAL, "chunk %u lies behind no point", i);
		esgz_points_get(points, at, &from);
		TRY(esgz_inflate_chunk_at(z, &from, str_sub(blob, (size_t)c.blob_offset, blob.n), &c, dst, err));
		done++;
	}
	bench_count("chunks", n);
	bench_value("us_a_chunk", (bench_cpu_ms() - t) * 1e3 / (done ? done : 1));
	return 0;
}

int bench_gzseek(const char *layer, struct err *err)
{
	AUTO(buf) struct buf blob = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf artifact = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(esgz_points) struct esgz_points *p = NULL;
	struct esgz_layer_result result = {0};
	double wall = 0, cpu = 0;

	TRY(bench_read(layer, &blob, err));
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		double t = (double)clock_mono_ns() / 1e6, c = bench_cpu_ms();

		buf_clear(&index);
		buf_clear(&points);
		TRY(build(buf_str(&blob), &index, &points, &result, err));
		bench_keep_best(&wall, (double)clock_mono_ns() / 1e6 - t);
		bench_keep_best(&cpu, bench_cpu_ms() - c);
	}
	TRY(esgz_index_open(buf_str(&index), &ix, err));
	TRY(esgz_points_open(buf_str(&points), &p, err));
	bench_begin("gzseek");
	bench_count("blob_bytes", blob.n);
	bench_count("plain_bytes", result.plain_bytes);
	bench_value("wall_mb_s", (double)result.plain_bytes / wall / 1e3);
	bench_value("cpu_ms_a_mb", cpu * 1e6 / (double)result.plain_bytes);
	TRY(esgz_gzseek_pack(buf_str(&points), buf_str(&index), &artifact, err));
	bench_value("points_percent", 100.0 * (double)points.n / (double)blob.n);
	bench_value("artifact_percent", 100.0 * (double)artifact.n / (double)blob.n);
	report_points(p);
	TRY(read_back(buf_str(&blob), ix, p, err));
	bench_end();
	return 0;
}
