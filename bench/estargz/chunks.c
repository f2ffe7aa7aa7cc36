#include "bench/estargz/bench.h"

#include "estargz/inflate/inflate.h"

#include <zlib.h>
#include <zstd.h>

static void gzip_member(struct buf *out, struct str plain)
{
	z_stream z = {0};
	size_t room;

	deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
	room = deflateBound(&z, plain.n);
	z.next_in = (Bytef *)plain.p;
	z.avail_in = (uInt)plain.n;
	z.next_out = (Bytef *)buf_reserve(out, room);
	z.avail_out = (uInt)room;
	deflate(&z, Z_FINISH);
	out->n += z.total_out;
	deflateEnd(&z);
}

static void zstd_frame(struct buf *out, struct str plain)
{
	size_t room = ZSTD_compressBound(plain.n);

	out->n += ZSTD_compress(buf_reserve(out, room), room, plain.p, plain.n, 3);
}

/* A chunk of n bytes, `before` bytes deep in its member, with some headers behind it. */
static int one(enum esgz_compression comp, size_t before, size_t n, struct err *err)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf in = BUF_INIT;
	AUTO_FREE uint8_t *dst = xmalloc(n);
	unsigned times = (unsigned)((64u << 20) / (n + before));
	struct esgz_chunk c = {.inner_offset = before, .bytes = (uint32_t)n};
	double best = 0;

	bench_text(&plain, before + n);
	digest_of(plain.p + before, n, &c.digest);
	buf_addz(&plain, 2048);
	if (comp == ESGZ_GZIP)
		gzip_member(&in, buf_str(&plain));
	else
		zstd_frame(&in, buf_str(&plain));
	c.blob_bytes = in.n;
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		double t = bench_cpu_ms();

		for (unsigned k = 0; k < times; k++)
			if (esgz_inflate_chunk(z, comp, buf_str(&in), &c, dst, err) < 0)
				return -1;
		bench_keep_best(&best, bench_cpu_ms() - t);
	}
	bench_begin("chunk");
	bench_text_value("codec", comp == ESGZ_GZIP ? "gzip" : "zstd");
	bench_count("bytes", n);
	bench_count("deep", before);
	bench_value("us", best * 1e3 / times);
	bench_value("mb_s", (double)n * times / best / 1e3); /* digest included */
	bench_end();
	return 0;
}

int bench_chunks(const char *unused, struct err *err)
{
	static const size_t sizes[] = {4096, 16384, 65536, 262144, 4194304};

	for (int comp = ESGZ_GZIP; comp <= ESGZ_ZSTD; comp++) {
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			TRY(one((enum esgz_compression)comp, 0, sizes[i], err));
		TRY(one((enum esgz_compression)comp, 32768, 16384, err));
	}
	return 0;
}
