/*
 * The seekable index of a gzip layer: built by two threads as an unpacking node does it (inflating here, hashes and tar
 * there), then every chunk read back from its point.
 */
#include "bench/estargz/bench.h"

#include "base/clock.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/points.h"
#include "estargz/gzseek/produce.h"

static int read_blob(void *arg, void *dst, size_t n, size_t *got, struct err *err)
{
	struct str *rest = arg;

	*got = n < rest->n ? n : rest->n;
	memcpy(dst, rest->p, *got);
	*rest = str_sub(*rest, *got, rest->n);
	return 0;
}

static int build(struct str blob, struct buf *index, struct buf *points, struct esgz_layer_result *out, struct err *err)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);

	TRY(esgz_gzseek_run(s, read_blob, &blob, err));
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
