/*
 * Input: a byte (1: what follows is the JSON, which is compressed first; else it is the compressed bytes), then the
 * tar-split. What can be read is written again from what was read, and must then read the same.
 */
#include "estargz/tar/split.h"

#include <stdlib.h>
#include <zstd.h>

#define PLAIN_BYTES_MAX (1u << 20)

struct state {
	struct esgz_split_writer *w;
	struct hasher *h;    /* of all segments, in order, and of all files */
	bool refused;        /* it cannot be written again */
	struct buf segments; /* since the last file: where they are cut is lost */
};

static void hash_segments(struct state *s)
{
	hasher_add(s->h, s->segments.p, s->segments.n);
	buf_clear(&s->segments);
}

static int on_segment(void *arg, struct str bytes, struct err *err)
{
	struct state *s = arg;
	struct err why = ERR_INIT;

	if (bytes.n == 0)
		abort();
	buf_addstr(&s->segments, bytes);
	if (s->w && esgz_split_segment(s->w, bytes, &why) < 0)
		s->refused = true;
	return 0;
}

static int on_file(void *arg, const struct esgz_split_file *f, struct err *err)
{
	struct state *s = arg;
	struct err why = ERR_INIT;

	hash_segments(s);
	hasher_add(s->h, f->name.p, f->name.n);
	hasher_add(s->h, &f->size, sizeof(f->size));
	hasher_add(s->h, &f->crc64, sizeof(f->crc64));
	if (s->w && esgz_split_file(s->w, f->name, f->size, f->crc64, &why) < 0)
		s->refused = true;
	return 0;
}

static int read_it(struct str packed, uint64_t plain_bytes, struct state *s, struct digest *sum)
{
	const struct esgz_split_sink sink = {.segment = on_segment, .file = on_file, .arg = s};
	struct err err = ERR_INIT;
	struct digest d;
	int r;

	digest_of(packed.p, packed.n, &d);
	s->h = hasher_new();
	r = esgz_split_read(packed, &d, plain_bytes, &sink, &err);
	hash_segments(s);
	hasher_done(s->h, sum);
	hasher_free(s->h);
	buf_fini(&s->segments);
	return r;
}

static void pack(struct str plain, struct buf *packed)
{
	char *dst = buf_reserve(packed, ZSTD_compressBound(plain.n));

	packed->n += ZSTD_compress(dst, ZSTD_compressBound(plain.n), plain.p, plain.n, 1);
}

/* Bytes that come out of it, as far as it goes; the caller of the reader knows them from elsewhere. */
static uint64_t plain_bytes_of(struct str packed)
{
	static char out[PLAIN_BYTES_MAX];
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer from = {packed.p, packed.n, 0};
	ZSTD_outBuffer to = {out, sizeof(out), 0};

	while (from.pos < from.size && to.pos < to.size && !ZSTD_isError(ZSTD_decompressStream(z, &to, &from)))
		;
	ZSTD_freeDCtx(z);
	return to.pos;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf again = BUF_INIT;
	AUTO(esgz_split_writer) struct esgz_split_writer *w = NULL;
	struct state first = {0}, second = {0};
	struct digest sum, sum_again;
	struct err err = ERR_INIT;
	uint64_t plain_bytes;
	struct str in;

	if (n == 0)
		return 0;
	in = str_make(data + 1, n - 1);
	if (data[0] == 1)
		pack(in, &packed);
	else
		buf_addstr(&packed, in);
	plain_bytes = data[0] == 1 ? in.n : plain_bytes_of(in);
	first.w = w = esgz_split_writer_new(1);
	if (read_it(buf_str(&packed), plain_bytes, &first, &sum) < 0 || first.refused)
		return 0;
	if (esgz_split_finish(w, &again, &plain_bytes, &err) < 0)
		abort();
	if (read_it(buf_str(&again), plain_bytes, &second, &sum_again) < 0 || !digest_eq(&sum, &sum_again))
		abort();
	return 0;
}
