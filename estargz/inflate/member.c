/*
 * A whole member: one pass delivers its chunks and what lies between and behind them. The decoder writes a chunk straight
 * to where it is wanted, and the rest to a buffer of its own, piece by piece.
 */
#include "base/vectors.h"
#include "estargz/gzseek/points.h"
#include "estargz/inflate/inflater.h"

#include <assert.h>
#include <inttypes.h>

struct pass {
	struct esgz_inflater *z;
	enum esgz_compression comp;
	const struct esgz_point *from; /* ESGZ_GZIP_SEEK */
	const struct esgz_member_sink *sink;
	struct str plain;   /* ESGZ_PLAIN: what is left */
	ZSTD_inBuffer zstd; /* ESGZ_ZSTD */
	uint64_t at;        /* plain bytes before this point are done */
	bool open;          /* in the middle of a member */
	bool headless;      /* it was begun in its middle: its checksum says nothing */
	bool over;          /* nothing comes any more: the end, or `why` */
	bool whole;         /* as far as it is known */
	struct err why;     /* what broke it; ERR_OK: nothing */
};

static size_t input_left(const struct pass *p)
{
	switch (p->comp) {
	case ESGZ_GZIP:
	case ESGZ_GZIP_SEEK:
		return p->z->isal->avail_in;
	case ESGZ_ZSTD:
		return p->zstd.size - p->zstd.pos;
	default:
		return p->plain.n;
	}
}

static void broken(struct pass *p, const char *what)
{
	p->over = true;
	p->whole = false;
	err_set(&p->why, ERR_DATA_LOSS, "%s after %" PRIu64 " bytes", what, p->at);
}

static void gzip_open(struct pass *p, struct str in)
{
	struct inflate_state *s = p->z->isal;

	isal_inflate_init(s);
	s->crc_flag = ISAL_GZIP;
	s->next_in = (uint8_t *)in.p;
	s->avail_in = (uint32_t)in.n;
	p->open = true;
}

#define GZIP_TRAILER_BYTES 8

/* In the middle of a member, between two blocks. */
static int gzip_open_at(struct pass *p, const struct esgz_point *from, struct str in, struct err *err)
{
	struct inflate_state *s = p->z->isal;
	uint8_t window[ESGZ_DEFLATE_WINDOW];
	size_t n = ZSTD_decompressDCtx(p->z->zstd, window, sizeof(window), from->window.p, from->window.n);

	if (n != sizeof(window))
		return err_set(err, ERR_DATA_LOSS, "gzip: the window of the point at %" PRIu64 " is damaged",
		               from->place.blob_offset);
	isal_inflate_init(s);
	isal_inflate_set_dict(s, window, sizeof(window));
	s->read_in = from->place.bits.bits;
	s->read_in_length = from->place.bits.n_bits;
	s->next_in = (uint8_t *)in.p;
	s->avail_in = (uint32_t)in.n;
	p->open = p->headless = true;
	return 0;
}

/* The end of a member. The decoder has read its checksum, too, unless it was begun in the middle; then it also keeps whole
 * bytes that it has read too far. */
static void gzip_close(struct pass *p)
{
	struct inflate_state *s = p->z->isal;

	if (p->headless) {
		uint32_t back = (uint32_t)s->read_in_length / 8, left = s->avail_in + back;
		uint32_t trailer = left < GZIP_TRAILER_BYTES ? left : GZIP_TRAILER_BYTES;

		s->next_in += (ptrdiff_t)trailer - back;
		s->avail_in = left - trailer;
	}
	p->open = p->headless = false;
}

/* Each of the three: up to `room` bytes to dst. An error is reported behind the bytes that came before it. */
static size_t gzip_some(struct pass *p, uint8_t *dst, size_t room)
{
	struct inflate_state *s = p->z->isal;
	size_t got;
	int r;

	if (!p->open)
		gzip_open(p, str_make(s->next_in, s->avail_in));
	s->next_out = dst;
	s->avail_out = (uint32_t)room;
	r = isal_inflate(s);
	vectors_leave();
	got = room - s->avail_out;
	if (r < 0)
		broken(p, "gzip: broken data");
	else if (s->block_state == ISAL_BLOCK_FINISH)
		gzip_close(p);
	else if (got < room && p->from && s->avail_in == 0)
		p->over = true; /* spans end where the next one begins, as a rule in the middle of a member */
	else if (got < room)
		broken(p, "gzip: data ends");
	return got;
}

static size_t zstd_some(struct pass *p, uint8_t *dst, size_t room)
{
	ZSTD_outBuffer out = {dst, room, 0};
	size_t before = p->zstd.pos, r = ZSTD_decompressStream(p->z->zstd, &out, &p->zstd);

	if (ZSTD_isError(r))
		broken(p, "zstd: broken data");
	else if (r != 0 && out.pos == 0 && p->zstd.pos == before)
		broken(p, "zstd: data ends");
	else
		p->open = r != 0;
	return out.pos;
}

static size_t plain_some(struct pass *p, uint8_t *dst, size_t room)
{
	size_t n = room < p->plain.n ? room : p->plain.n;

	memcpy(dst, p->plain.p, n);
	p->plain = str_sub(p->plain, n, SIZE_MAX);
	return n;
}

/* Fills dst with the next n bytes; fewer when nothing comes any more. */
static size_t take(struct pass *p, uint8_t *dst, size_t n)
{
	size_t got = 0;

	while (got < n && !p->over) {
		size_t some;

		if (!p->open && input_left(p) == 0) {
			p->over = true;
			break;
		}
		some = p->comp == ESGZ_ZSTD    ? zstd_some(p, dst + got, n - got)
		       : p->comp == ESGZ_PLAIN ? plain_some(p, dst + got, n - got)
		                               : gzip_some(p, dst + got, n - got);
		got += some;
		p->at += some;
	}
	return got;
}

static int pass_begin(struct pass *p, struct str in, struct err *err)
{
	TRY(inflater_ready(p->z, p->comp, err));
	if (p->comp == ESGZ_GZIP_SEEK && p->from->place.inside)
		return gzip_open_at(p, p->from, in, err);
	if (p->comp == ESGZ_ZSTD) {
		ZSTD_DCtx_reset(p->z->zstd, ZSTD_reset_session_only);
		p->zstd = (ZSTD_inBuffer){in.p, in.n, 0};
	} else if (p->comp == ESGZ_PLAIN) {
		p->plain = in;
	} else {
		p->z->isal->next_in = (uint8_t *)in.p;
		p->z->isal->avail_in = (uint32_t)in.n;
	}
	return 0;
}

/* Passes over bytes up to `until`, or to the end: to the gaps, or to nobody. */
static void pass_over(struct pass *p, uint64_t until, bool is_gap)
{
	while (p->at < until && !p->over) {
		uint64_t left = until - p->at;
		size_t n = take(p, p->z->skip, left < INFLATER_SKIP_BYTES ? (size_t)left : INFLATER_SKIP_BYTES);

		if (is_gap && p->whole && n)
			p->whole = p->sink->gap && p->sink->gap(p->sink->arg, str_make(p->z->skip, n));
	}
}

static int take_chunk(struct pass *p, const struct esgz_chunk *c, uint8_t *dst, struct err *err)
{
	if (take(p, dst, c->bytes) < c->bytes) {
		if (p->why.code != ERR_OK)
			return err_set(err, p->why.code, "%s", p->why.msg);
		return err_set(err, ERR_DATA_LOSS, "data ends after %" PRIu64 " of %" PRIu64 " bytes", p->at,
		               c->inner_offset + c->bytes);
	}
	return inflater_check(p->z, c, dst, err);
}

static void one_chunk(struct pass *p, struct str in, const struct esgz_chunk *c, uint32_t i)
{
	bool overlaps = c->inner_offset < p->at;
	uint8_t *dst = p->sink->begin(p->sink->arg, i);
	struct err err = ERR_INIT;
	int r;

	p->whole &= p->at == c->inner_offset;
	if (!dst) {
		pass_over(p, c->inner_offset + c->bytes, false);
		p->whole &= p->at == c->inner_offset + c->bytes;
		return;
	}
	if (overlaps) {
		AUTO(esgz_inflater) struct esgz_inflater *other = esgz_inflater_new();

		r = p->from ? esgz_inflate_chunk_at(other, p->from, in, c, dst, &err)
		            : esgz_inflate_chunk(other, p->comp, in, c, dst, &err);
	} else {
		r = take_chunk(p, c, dst, &err);
		if (r < 0)
			err_wrap(&err, "chunk at %" PRIu64 " of the blob", c->blob_offset);
	}
	p->whole &= r == 0;
	p->sink->chunk(p->sink->arg, i, r, &err);
}

static void refuse(const struct esgz_member_sink *sink, uint32_t i, const struct err *why)
{
	if (sink->begin(sink->arg, i))
		sink->chunk(sink->arg, i, -(int)why->code, why);
}

static bool inflate_all(struct pass *p, struct str in, const struct esgz_chunk *chunks, uint32_t n, size_t tail_max)
{
	const struct esgz_member_sink *sink = p->sink;
	struct err err = ERR_INIT;
	int ready;

	/* The gzip decoder counts in 32 bits. */
	if (in.n > UINT32_MAX)
		in.n = UINT32_MAX;
	ready = pass_begin(p, in, &err);
	p->whole = ready >= 0;
	for (uint32_t i = 0; i < n; i++) {
		if (ready < 0 || inflater_allows(&chunks[i], &err) < 0) {
			p->whole = false;
			refuse(sink, i, &err);
			continue;
		}
		pass_over(p, chunks[i].inner_offset, true);
		one_chunk(p, in, &chunks[i], i);
	}
	if (!p->whole || !sink->gap || input_left(p) > tail_max)
		return false;
	while (!p->over && p->whole)
		pass_over(p, p->at + INFLATER_SKIP_BYTES, true);
	return p->whole;
}

bool esgz_inflate_member(struct esgz_inflater *z, enum esgz_compression comp, struct str in,
                         const struct esgz_chunk *chunks, uint32_t n, size_t tail_max,
                         const struct esgz_member_sink *sink)
{
	struct pass p = {.z = z, .comp = comp, .sink = sink, .why = ERR_INIT};

	assert(comp != ESGZ_GZIP_SEEK);
	return inflate_all(&p, in, chunks, n, tail_max);
}

bool esgz_inflate_span(struct esgz_inflater *z, const struct esgz_point *from, struct str in,
                       const struct esgz_chunk *chunks, uint32_t n, size_t tail_max,
                       const struct esgz_member_sink *sink)
{
	struct pass p = {.z = z, .comp = ESGZ_GZIP_SEEK, .from = from, .sink = sink, .why = ERR_INIT};

	return inflate_all(&p, in, chunks, n, tail_max);
}

/* ---- one chunk from a point ---- */

struct single {
	uint8_t *dst;
	int result;
	struct err *err;
};

static uint8_t *single_begin(void *arg, uint32_t i)
{
	struct single *s = arg;

	return s->dst;
}

static void single_chunk(void *arg, uint32_t i, int result, const struct err *err)
{
	struct single *s = arg;

	s->result = result;
	if (result < 0 && s->err)
		*s->err = *err;
}

int esgz_inflate_chunk_at(struct esgz_inflater *z, const struct esgz_point *from, struct str in,
                          const struct esgz_chunk *c, uint8_t *dst, struct err *err)
{
	struct single s = {.dst = dst, .err = err};
	const struct esgz_member_sink sink = {.begin = single_begin, .chunk = single_chunk, .arg = &s};

	esgz_inflate_span(z, from, str_sub(in, 0, (size_t)c->blob_bytes), c, 1, 0, &sink);
	return s.result;
}
