/*
 * A whole member: one pass delivers its chunks and what lies between and behind them. The decoder writes a chunk straight
 * to where it is wanted, and the rest to a buffer of its own, piece by piece.
 */
#include "estargz/inflate/inflater.h"

#include <inttypes.h>

struct pass {
	struct esgz_inflater *z;
	enum esgz_compression comp;
	const struct esgz_member_sink *sink;
	struct str plain;   /* ESGZ_PLAIN: what is left */
	ZSTD_inBuffer zstd; /* ESGZ_ZSTD */
	uint64_t at;        /* plain bytes before this point are done */
	bool open;          /* in the middle of a member */
	bool over;          /* nothing comes any more: the end, or `why` */
	bool whole;         /* as far as it is known */
	struct err why;     /* what broke it; ERR_OK: nothing */
};

static size_t input_left(const struct pass *p)
{
	switch (p->comp) {
	case ESGZ_GZIP:
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
	got = room - s->avail_out;
	if (r < 0)
		broken(p, "gzip: broken data");
	else if (s->block_state == ISAL_BLOCK_FINISH)
		p->open = false;
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
		some = p->comp == ESGZ_GZIP   ? gzip_some(p, dst + got, n - got)
		       : p->comp == ESGZ_ZSTD ? zstd_some(p, dst + got, n - got)
		                              : plain_some(p, dst + got, n - got);
		got += some;
		p->at += some;
	}
	return got;
}

static void pass_begin(struct pass *p, struct str in)
{
	if (p->comp == ESGZ_GZIP) {
		p->z->isal->next_in = (uint8_t *)in.p;
		p->z->isal->avail_in = (uint32_t)in.n;
	} else if (p->comp == ESGZ_ZSTD) {
		ZSTD_DCtx_reset(p->z->zstd, ZSTD_reset_session_only);
		p->zstd = (ZSTD_inBuffer){in.p, in.n, 0};
	} else {
		p->plain = in;
	}
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

		r = esgz_inflate_chunk(other, p->comp, in, c, dst, &err);
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

bool esgz_inflate_member(struct esgz_inflater *z, enum esgz_compression comp, struct str in,
                         const struct esgz_chunk *chunks, uint32_t n, size_t tail_max,
                         const struct esgz_member_sink *sink)
{
	struct pass p = {.z = z, .comp = comp, .sink = sink, .why = ERR_INIT};
	struct err err = ERR_INIT;
	int ready = inflater_ready(z, comp, &err);

	/* The gzip decoder counts in 32 bits. */
	if (in.n > UINT32_MAX)
		in.n = UINT32_MAX;
	if (ready >= 0)
		pass_begin(&p, in);
	p.whole = ready >= 0;
	for (uint32_t i = 0; i < n; i++) {
		if (ready < 0 || inflater_allows(&chunks[i], &err) < 0) {
			p.whole = false;
			refuse(sink, i, &err);
			continue;
		}
		pass_over(&p, chunks[i].inner_offset, true);
		one_chunk(&p, in, &chunks[i], i);
	}
	if (!p.whole || !sink->gap || input_left(&p) > tail_max)
		return false;
	while (!p.over && p.whole)
		pass_over(&p, p.at + INFLATER_SKIP_BYTES, true);
	return p.whole;
}
