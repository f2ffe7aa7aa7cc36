#include "bench/estargz/bench.h"

#include "estargz/inflate/layer.h"

static int count_plain(void *arg, struct str plain, struct err *err)
{
	*(uint64_t *)arg += plain.n;
	return 0;
}

int bench_inflate(const char *layer, struct err *err)
{
	AUTO(buf) struct buf blob = BUF_INIT;
	uint64_t plain = 0;
	double best = 0;

	TRY(bench_read(layer, &blob, err));
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
		double t = bench_cpu_ms();

		plain = 0;
		TRY(esgz_stream_feed(s, buf_str(&blob), count_plain, &plain, err));
		bench_keep_best(&best, bench_cpu_ms() - t);
	}
	bench_begin("inflate");
	bench_count("blob_bytes", blob.n);
	bench_count("plain_bytes", plain);
	bench_value("mb_s", (double)plain / best / 1e3);
	bench_end();
	return 0;
}

/* ---- hash ---- */

/* A stream in pieces, as it is hashed; and many small files, each with a digest of its own. */
static void hash_pieces(struct str bytes, size_t piece, bool each)
{
	AUTO(hasher) struct hasher *h = hasher_new();
	double best = 0;

	for (int i = 0; i < BENCH_ROUNDS; i++) {
		double t = bench_cpu_ms();
		struct digest d;

		for (struct str rest = bytes; rest.n > 0; rest = str_sub(rest, piece, rest.n)) {
			hasher_add(h, rest.p, rest.n < piece ? rest.n : piece);
			if (each)
				hasher_done(h, &d);
		}
		hasher_done(h, &d);
		bench_keep_best(&best, bench_cpu_ms() - t);
	}
	bench_begin("hash");
	bench_text_value("of", each ? "files" : "stream");
	bench_count("piece_bytes", piece);
	bench_value("mb_s", (double)bytes.n / best / 1e3);
	bench_end();
}

int bench_hash(const char *unused, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;

	bench_text(&bytes, 64u << 20);
	hash_pieces(buf_str(&bytes), 64u << 10, false);
	for (size_t piece = 1024; piece <= 65536; piece *= 8)
		hash_pieces(buf_str(&bytes), piece, true);
	return 0;
}

/* ---- unpack ---- */

static int no_begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

static int no_data(void *arg, struct str bytes, struct err *err)
{
	return 0;
}

static int no_end(void *arg, const struct digest *content, struct err *err)
{
	return 0;
}

int bench_unpack(const char *layer, struct err *err)
{
	const struct esgz_layer_sink sink = {.begin = no_begin, .data = no_data, .end = no_end};
	AUTO(buf) struct buf blob = BUF_INIT;
	struct esgz_layer_result r = {0};
	double best = 0;

	TRY(bench_read(layer, &blob, err));
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
		AUTO(buf) struct buf index = BUF_INIT;
		double t = bench_cpu_ms();

		TRY(esgz_layer_feed(l, buf_str(&blob), err));
		TRY(esgz_layer_finish(l, &r, err));
		TRY(esgz_layer_index(l, &index, err));
		bench_keep_best(&best, bench_cpu_ms() - t);
	}
	bench_begin("stream-unpack");
	bench_count("blob_bytes", blob.n);
	bench_count("plain_bytes", r.plain_bytes);
	bench_value("mb_s", (double)r.plain_bytes / best / 1e3);
	bench_end();
	return 0;
}
