#include "estargz/convert/convert.h"
#include "bench/estargz/bench.h"

#include "base/clock.h"
#include "base/pool.h"

#include <stdio.h>

#define ROUNDS 3 /* some seconds each */

struct source {
	struct str bytes, rest;
};

static int read_bytes(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct source *s = arg;

	*n = s->rest.n < dst_bytes ? s->rest.n : dst_bytes;
	memcpy(dst, s->rest.p, *n);
	s->rest = str_sub(s->rest, *n, s->rest.n);
	return 0;
}

static int drop(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int bench_format(enum esgz_format format, unsigned threads, struct str layer, struct err *err)
{
	struct esgz_convert_opts opts = {.format = format, .threads = threads};
	struct esgz_convert_result r = {0};
	double wall = 0, cpu = 0, mb;

	for (int i = 0; i < ROUNDS; i++) {
		struct source s = {layer, layer};
		const struct esgz_convert_io io = {.read = read_bytes, .write = drop, .arg = &s};
		double cpu_before = bench_cpu_ms();
		int64_t before = clock_mono_ns();

		esgz_convert_result_fini(&r);
		TRY(esgz_convert(&opts, &io, &r, err));
		bench_keep_best(&wall, (double)(clock_mono_ns() - before) / 1e6);
		bench_keep_best(&cpu, bench_cpu_ms() - cpu_before);
	}
	mb = (double)r.plain_bytes / 1e6;
	bench_begin("convert");
	bench_text_value("format", esgz_format_name(format));
	bench_count("threads", threads);
	bench_value("plain_mb", mb);
	bench_value("blob_mb", (double)r.blob_bytes / 1e6);
	bench_value("wall_mb_per_s", mb / wall * 1e3);
	bench_value("cpu_ms_per_mb", cpu / mb);
	bench_end();
	esgz_convert_result_fini(&r);
	return 0;
}

int bench_convert(const char *layer, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	unsigned cpus = cpu_count();

	TRY(bench_read(layer, &bytes, err));
	for (int f = ESGZ_F_ESTARGZ; f <= ESGZ_F_GZIP; f++)
		for (unsigned threads = 1; threads <= cpus; threads += threads < cpus ? cpus - 1 : 1)
			TRY(bench_format((enum esgz_format)f, threads, buf_str(&bytes), err));
	return 0;
}
