/*
 * Input: a byte (1: what follows is the JSON, which is compressed first; else it is the compressed bytes), then the
 * tar-split. What can be read is written again from what was read, and must then read the same; and it is written for files
 * of one byte over and over, so that their checksums are right: the tar that is made of that and of the contents must be
 * what was put together as it was read, and contents that are longer, shorter or others must be refused.
 */
#include "estargz/tar/split.h"

#include <stdlib.h>
#include <zstd.h>

#define PLAIN_BYTES_MAX (1u << 20)

#define FILE_BYTES_MAX 4096 /* for contents that are made up */
#define TAR_BYTES_MAX (4u << 20)

struct state {
	struct esgz_split_writer *w;
	struct esgz_split_writer *made_up; /* the same with the contents of below */
	struct buf tar;                    /* of those */
	struct hasher *h;                  /* of all segments, in order, and of all files */
	bool refused;                      /* it cannot be written again */
	bool has_content;
	struct buf segments; /* since the last file: where they are cut is lost */
};

static void make_up(struct buf *out, uint64_t bytes, char c)
{
	memset(buf_reserve(out, (size_t)bytes), c, (size_t)bytes);
	out->n += (size_t)bytes;
}

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
	if (s->made_up) {
		buf_addstr(&s->tar, bytes);
		s->refused |= esgz_split_segment(s->made_up, bytes, &why) < 0 || s->tar.n > TAR_BYTES_MAX;
	}
	return 0;
}

/* Files with too much content for it have none there. */
static void add_made_up(struct state *s, const struct esgz_split_file *f)
{
	uint64_t size = f->size > FILE_BYTES_MAX ? 0 : f->size;
	AUTO(buf) struct buf content = BUF_INIT;
	struct err why = ERR_INIT;

	make_up(&content, size, 'c');
	s->has_content |= size > 0;
	buf_addstr(&s->tar, buf_str(&content));
	s->refused |= esgz_split_file(s->made_up, f->name, size, esgz_split_crc64(0, buf_str(&content)), &why) < 0;
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
	if (s->made_up)
		add_made_up(s, f);
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

/* ---- the tar again ---- */

struct contents {
	int more; /* bytes than there are in each file */
	char c;
	struct buf tar;
};

static int on_tar(void *to, struct str bytes, struct err *err)
{
	buf_addstr(&((struct contents *)to)->tar, bytes);
	return 0;
}

/* In two pieces. */
static int on_content(void *arg, const struct esgz_split_file *f, esgz_put_fn put, void *to, struct err *err)
{
	const struct contents *c = arg;
	AUTO(buf) struct buf content = BUF_INIT;
	struct str all;

	if (f->size > FILE_BYTES_MAX)
		abort();
	make_up(&content, f->size + (uint64_t)c->more, c->c);
	all = buf_str(&content);
	TRY(put(to, str_sub(all, 0, all.n / 3), err));
	return put(to, str_sub(all, all.n / 3, all.n), err);
}

static int assemble(struct str packed, uint64_t plain_bytes, int more, char c, struct str want)
{
	struct contents it = {.more = more, .c = c};
	const struct esgz_split_contents contents = {.content = on_content, .arg = &it};
	struct err err = ERR_INIT;
	struct digest d;
	int r;

	digest_of(packed.p, packed.n, &d);
	r = esgz_split_assemble(packed, &d, plain_bytes, &contents, on_tar, &it, &err);
	if (r >= 0 && !str_eq(buf_str(&it.tar), want))
		abort();
	buf_fini(&it.tar);
	return r;
}

static void check_tar(struct state *s)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	uint64_t plain_bytes;
	struct err err = ERR_INIT;
	struct str tar = buf_str(&s->tar);

	if (esgz_split_finish(s->made_up, &packed, &plain_bytes, &err) < 0)
		abort();
	if (assemble(buf_str(&packed), plain_bytes, 0, 'c', tar) < 0)
		abort();
	if (s->has_content && (assemble(buf_str(&packed), plain_bytes, 1, 'c', tar) >= 0 ||
	                       assemble(buf_str(&packed), plain_bytes, -1, 'c', tar) >= 0 ||
	                       assemble(buf_str(&packed), plain_bytes, 0, 'd', tar) >= 0))
		abort();
}

static void check(struct str packed, uint64_t plain_bytes)
{
	AUTO(esgz_split_writer) struct esgz_split_writer *w = esgz_split_writer_new(1);
	AUTO(esgz_split_writer) struct esgz_split_writer *made_up = esgz_split_writer_new(1);
	struct state first = {.w = w, .made_up = made_up}, second = {0};
	AUTO(buf) struct buf again = BUF_INIT;
	struct digest sum, sum_again;
	struct err err = ERR_INIT;
	int r = read_it(packed, plain_bytes, &first, &sum);

	if (r >= 0 && !first.refused) {
		if (esgz_split_finish(w, &again, &plain_bytes, &err) < 0)
			abort();
		if (read_it(buf_str(&again), plain_bytes, &second, &sum_again) < 0 || !digest_eq(&sum, &sum_again))
			abort();
		check_tar(&first);
	}
	buf_fini(&first.tar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	struct str in;

	if (n == 0)
		return 0;
	in = str_make(data + 1, n - 1);
	if (data[0] == 1)
		pack(in, &packed);
	else
		buf_addstr(&packed, in);
	check(buf_str(&packed), data[0] == 1 ? in.n : plain_bytes_of(in));
	return 0;
}
