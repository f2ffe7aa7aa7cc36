/*
 * Speed of the format library, in CPU time of one thread (best of the rounds), so that a busy machine disturbs less:
 *
 *	estargz_bench toc [ENTRIES]   a made-up TOC: sha256 of it, a read of all its values, index from it, opening that
 *	estargz_bench layer FILE      an ordinary layer: inflate, hashes, tar, index
 *	estargz_bench chunks          single chunks of several sizes and places, in gzip members and zstd frames
 */
#include "base/clock.h"
#include "base/json.h"
#include "base/vec.h"
#include "estargz/inflate/layer.h"
#include "estargz/toc/toc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#define ROUNDS 7

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void keep_best(double *best, double ms)
{
	if (*best == 0 || ms < *best)
		*best = ms;
}

static int fail(const struct err *err)
{
	fprintf(stderr, "estargz_bench: %s\n", err->msg);
	return 1;
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* ---- TOC ---- */

/* A TOC in the shape of ctr-remote's, tab-indented: 1 directory and 1 link in 12 entries, 1 file in 25 of two chunks. */
static void make_toc(unsigned entries, struct buf *out)
{
	static const char *const dirs[] = {"usr/lib/python3/dist-packages", "usr/share/doc", "usr/share/man/man3",
	                                   "usr/lib/x86_64-linux-gnu", "usr/include/c++/12/bits"};
	struct json_writer w;
	uint32_t seed = 1;
	char dir[100] = "etc", path[200], digest[2][DIGEST_TEXT_MAX], time[40];
	uint64_t offset = 1000;

	json_writer_init(&w, out, "\t");
	json_w_object_begin(&w);
	json_w_ki64(&w, "version", 1);
	json_w_key(&w, "entries");
	json_w_array_begin(&w);
	for (unsigned i = 0; i < entries; i++) {
		bool two = i % 25 == 7;
		uint64_t size = two ? 300000 : next_random(&seed) % 20000 + 1;
		struct digest d;

		digest_of(&i, sizeof(i), &d);
		digest_text(&d, digest[0]);
		digest_of(&d, sizeof(d), &d);
		digest_text(&d, digest[1]);
		time_rfc3339((struct timespec){1600000000 + next_random(&seed) % 100000000, 0}, time);
		json_w_object_begin(&w);
		if (i % 12 == 0)
			snprintf(dir, sizeof(dir), "%s/package-%u", dirs[next_random(&seed) % 5], i);
		snprintf(path, sizeof(path), "%s%s", dir, i % 12 == 0 ? "/" : "");
		if (i % 12 != 0)
			snprintf(path, sizeof(path), "%s/module_%u.py", dir, next_random(&seed) % 1000 * 100000 + i);
		json_w_kcstr(&w, "name", path);
		json_w_kcstr(&w, "type", i % 12 == 0 ? "dir" : i % 12 == 1 ? "symlink" : "reg");
		if (i % 12 > 1)
			json_w_ki64(&w, "size", (int64_t)size);
		json_w_kcstr(&w, "modtime", time);
		if (i % 12 == 1)
			json_w_kcstr(&w, "linkName", "../module.py");
		json_w_ki64(&w, "mode", i % 12 == 0 ? 493 : 420);
		if (i % 12 > 1) {
			json_w_ki64(&w, "offset", (int64_t)offset);
			offset += (two ? 262144 : size) / 3 + 100;
			json_w_kcstr(&w, "digest", digest[0]);
			if (two)
				json_w_ki64(&w, "chunkSize", 262144);
			json_w_kcstr(&w, "chunkDigest", digest[two]);
			if (two) {
				json_w_object_end(&w);
				json_w_object_begin(&w);
				json_w_kcstr(&w, "name", path);
				json_w_kcstr(&w, "type", "chunk");
				json_w_ki64(&w, "offset", (int64_t)offset);
				json_w_ki64(&w, "chunkOffset", 262144);
				json_w_kcstr(&w, "chunkDigest", digest[0]);
				offset += 13000;
			}
		}
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	json_w_object_end(&w);
}

/* Reads every value with its type, as any decoder must; keeps nothing. */
static int read_values(struct json_reader *r, struct err *err)
{
	enum json_type type;
	struct str s;
	int64_t n;
	int more;

	TRY(json_peek(r, &type, err));
	switch (type) {
	case JSON_OBJECT:
		TRY(json_object_begin(r, err));
		while ((more = json_object_next(r, &s, err)) > 0)
			TRY(read_values(r, err));
		return more;
	case JSON_ARRAY:
		TRY(json_array_begin(r, err));
		while ((more = json_array_next(r, err)) > 0)
			TRY(read_values(r, err));
		return more;
	case JSON_STRING:
		return json_string(r, &s, err);
	case JSON_NUMBER:
		return json_i64(r, &n, err);
	default:
		return json_skip(r, err);
	}
}

static void copy_json(struct buf *dst, const struct buf *json)
{
	buf_reserve(dst, json->n + 256);
	buf_addstr(dst, buf_str(json));
}

static int bench_toc(unsigned entries)
{
	const uint64_t blob_bytes = 1ull << 40;
	const struct esgz_footer f = {.kind = ESGZ_FOOTER_ESTARGZ,
	                              .footer_bytes = ESGZ_FOOTER_BYTES,
	                              .toc_offset = blob_bytes - 1000000,
	                              .toc_bytes = 900000};
	double hash = 0, scan = 0, build = 0, open_ms = 0;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	const struct digest blob = {{1}};
	struct err err = ERR_INIT;

	make_toc(entries, &json);
	for (int i = 0; i < ROUNDS; i++) {
		AUTO(buf) struct buf copy = BUF_INIT;
		AUTO(buf) struct buf copy2 = BUF_INIT;
		AUTO(esgz_index) struct esgz_index *ix = NULL;
		AUTO(json_reader) struct json_reader *r = NULL;
		struct digest d;
		double t;

		t = cpu_ms();
		digest_of(json.p, json.n, &d);
		keep_best(&hash, cpu_ms() - t);
		copy_json(&copy, &json);
		copy_json(&copy2, &json);
		r = json_reader_new_take(&copy);
		t = cpu_ms();
		if (read_values(r, &err) < 0)
			return fail(&err);
		keep_best(&scan, cpu_ms() - t);
		buf_clear(&index);
		t = cpu_ms();
		if (esgz_toc_to_index(&f, &copy2, &d, &blob, blob_bytes, &index, &err) < 0)
			return fail(&err);
		keep_best(&build, cpu_ms() - t);
		t = cpu_ms();
		if (esgz_index_open(buf_str(&index), &ix, &err) < 0)
			return fail(&err);
		keep_best(&open_ms, cpu_ms() - t);
	}
	printf("%u entries, %zu bytes of JSON: sha256 %.1f ms, all values read %.1f ms\n", entries, json.n, hash, scan);
	printf("index from it %.1f ms, %zu bytes (%.1f %%), opened in %.2f ms\n", build, index.n,
	       100.0 * (double)index.n / (double)json.n, open_ms);
	printf("verified, parsed and indexed in %.2f x (sha256 + all values read)\n", (hash + build) / (hash + scan));
	return 0;
}

/* ---- layer ---- */

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

static int count_plain(void *arg, struct str plain, struct err *err)
{
	*(uint64_t *)arg += plain.n;
	return 0;
}

static int bench_layer(const char *path)
{
	const struct esgz_layer_sink sink = {.begin = no_begin, .data = no_data, .end = no_end};
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO(buf) struct buf blob = BUF_INIT;
	double inflate = 0, all = 0;
	uint64_t plain = 0;
	struct err err = ERR_INIT;
	ssize_t got;

	if (fd < 0) {
		perror(path);
		return 1;
	}
	while ((got = read(fd, buf_reserve(&blob, 1 << 20), 1 << 20)) > 0)
		blob.n += (size_t)got;
	for (int i = 0; i < ROUNDS; i++) {
		AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
		AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
		AUTO(buf) struct buf index = BUF_INIT;
		struct esgz_layer_result r;
		double t = cpu_ms();

		plain = 0;
		if (esgz_stream_feed(s, buf_str(&blob), count_plain, &plain, &err) < 0)
			return fail(&err);
		keep_best(&inflate, cpu_ms() - t);
		t = cpu_ms();
		if (esgz_layer_feed(l, buf_str(&blob), &err) < 0 || esgz_layer_finish(l, &r, &err) < 0 ||
		    esgz_layer_index(l, &index, &err) < 0)
			return fail(&err);
		keep_best(&all, cpu_ms() - t);
	}
	printf("%zu bytes, %" PRIu64
	       " plain: inflated at %.0f MB/s, with hashes, tar and index at %.0f MB/s of plain bytes\n",
	       blob.n, plain, (double)plain / inflate / 1e3, (double)plain / all / 1e3);
	return 0;
}

/* ---- chunks ---- */

/* Text of made-up words: compresses about as well as the files of a system do. */
static void make_text(struct buf *out, size_t n)
{
	uint32_t seed = 7, words[512];

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		words[i] = next_random(&seed);
	while (out->n < n)
		buf_addf(out, "%x%c", words[next_random(&seed) % 512] >> (next_random(&seed) % 12),
		         " \n_;("[next_random(&seed) % 5]);
	out->n = n;
}

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
static int bench_chunk(enum esgz_compression comp, size_t before, size_t n)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf in = BUF_INIT;
	AUTO_FREE uint8_t *dst = xmalloc(n);
	unsigned times = (unsigned)((64u << 20) / (n + before));
	struct esgz_chunk c = {.inner_offset = before, .bytes = (uint32_t)n};
	struct err err = ERR_INIT;
	double best = 0;

	make_text(&plain, before + n);
	digest_of(plain.p + before, n, &c.digest);
	buf_addz(&plain, 2048);
	if (comp == ESGZ_GZIP)
		gzip_member(&in, buf_str(&plain));
	else
		zstd_frame(&in, buf_str(&plain));
	c.blob_bytes = in.n;
	for (int i = 0; i < ROUNDS; i++) {
		double t = cpu_ms();

		for (unsigned k = 0; k < times; k++)
			if (esgz_inflate_chunk(z, comp, buf_str(&in), &c, dst, &err) < 0)
				return fail(&err);
		keep_best(&best, cpu_ms() - t);
	}
	printf("%s: %7zu bytes, %6zu deep: %7.1f us, %4.0f MB/s, digest included\n",
	       comp == ESGZ_GZIP ? "gzip" : "zstd", n, before, best * 1e3 / times, (double)n * times / best / 1e3);
	return 0;
}

static int bench_chunks(void)
{
	static const size_t sizes[] = {4096, 16384, 65536, 262144, 4194304};
	int r = 0;

	for (int comp = ESGZ_GZIP; comp <= ESGZ_ZSTD; comp++) {
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			r |= bench_chunk(comp, 0, sizes[i]);
		r |= bench_chunk(comp, 32768, 16384);
	}
	return r;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "toc") == 0)
		return bench_toc(argc > 2 ? (unsigned)atoi(argv[2]) : 100000);
	if (argc == 3 && strcmp(argv[1], "layer") == 0)
		return bench_layer(argv[2]);
	if (argc == 2 && strcmp(argv[1], "chunks") == 0)
		return bench_chunks();
	fprintf(stderr, "usage: estargz_bench toc [ENTRIES] | layer FILE | chunks\n");
	return 2;
}
