#include "estargz/gzseek/deflate.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "estargz/gzseek/huffman.h"

#include <assert.h>
#include <inttypes.h>

#define ROOM_BYTES (256u << 10) /* output between two takes: with the tables still in the second level cache */
#define MATCH_MAX 258
#define COPY_SLACK 32 /* copies of whole words write so far beyond their end at most */

/* What the fast loop may touch in one turn: three refills of 8 bytes; three literals and a match. */
#define FAST_IN 32
#define FAST_OUT (3 + MATCH_MAX + COPY_SLACK)

#define NEVER UINT64_MAX

enum state {
	BLOCK_HEAD,
	STORED,
	SYMBOLS,
	ENDED,
};

struct esgz_deflate {
	enum state state;
	bool last;            /* the block is the last one */
	bool fixed;           /* the tables are those of fixed codes */
	uint32_t stored_left; /* STORED: bytes of the block to come */
	/* Bits that were read and not used: at rest fewer than 8, with zeros above. */
	uint64_t hold;
	unsigned held;
	size_t at;     /* where the next byte goes in `out` */
	size_t first;  /* the first byte there that a match may mean */
	size_t taken;  /* what is before was given out */
	uint64_t base; /* output bytes before out[0]; modulo 2^64, as a window is before the begin */
	uint64_t stop_at;
	uint8_t *used; /* marks; NULL: none wanted */
	uint64_t mark_from;
	uint32_t litlen[HUFF_LITLEN_ENTRIES];
	uint32_t dist[HUFF_DIST_ENTRIES];
	uint8_t out[ESGZ_DEFLATE_WINDOW + ROOM_BYTES + FAST_OUT];
};

/* Output may be written up to here; what is behind is slack of copies. */
#define OUT_END (ESGZ_DEFLATE_WINDOW + ROOM_BYTES + MATCH_MAX)

struct esgz_deflate *esgz_deflate_new(void)
{
	struct esgz_deflate *d = xmalloc(sizeof(*d));

	memset(d, 0, offsetof(struct esgz_deflate, litlen));
	esgz_deflate_begin(d);
	return d;
}

void esgz_deflate_free(struct esgz_deflate *d)
{
	free(d);
}

void esgz_deflate_begin(struct esgz_deflate *d)
{
	esgz_deflate_begin_at(d, (struct esgz_deflate_place){0}, STR_NONE);
}

void esgz_deflate_begin_at(struct esgz_deflate *d, struct esgz_deflate_place at, struct str window)
{
	assert(window.n <= ESGZ_DEFLATE_WINDOW && at.n_bits < 8);
	d->state = BLOCK_HEAD;
	d->last = false;
	d->hold = at.bits & ((1u << at.n_bits) - 1);
	d->held = at.n_bits;
	d->at = d->taken = ESGZ_DEFLATE_WINDOW;
	d->first = ESGZ_DEFLATE_WINDOW - window.n;
	d->base = (uint64_t)0 - ESGZ_DEFLATE_WINDOW;
	if (window.n)
		memcpy(d->out + d->first, window.p, window.n);
	d->stop_at = NEVER;
	d->used = NULL;
}

struct str esgz_deflate_take(struct esgz_deflate *d)
{
	struct str s = str_make(d->out + d->taken, d->at - d->taken);

	d->taken = d->at;
	return s;
}

uint64_t esgz_deflate_total(const struct esgz_deflate *d)
{
	return d->base + d->at;
}

void esgz_deflate_stop_at(struct esgz_deflate *d, uint64_t total)
{
	d->stop_at = total;
}

struct esgz_deflate_place esgz_deflate_where(const struct esgz_deflate *d)
{
	return (struct esgz_deflate_place){(uint8_t)d->held, (uint8_t)d->hold};
}

void esgz_deflate_window(const struct esgz_deflate *d, uint8_t window[ESGZ_DEFLATE_WINDOW])
{
	size_t n = d->at - d->first;

	if (n > ESGZ_DEFLATE_WINDOW)
		n = ESGZ_DEFLATE_WINDOW;
	memset(window, 0, ESGZ_DEFLATE_WINDOW - n);
	memcpy(window + ESGZ_DEFLATE_WINDOW - n, d->out + d->at - n, n);
}

void esgz_deflate_mark(struct esgz_deflate *d, uint8_t *used)
{
	d->used = used;
	d->mark_from = esgz_deflate_total(d);
}

static int broken(const struct esgz_deflate *d, const char *what, struct err *err)
{
	return err_set(err, ERR_DATA_LOSS, "deflate: %s after %" PRIu64 " bytes", what, esgz_deflate_total(d));
}

/* ---- input, at the pace of care ---- */

struct input {
	const uint8_t *p, *end;
	uint64_t hold;
	unsigned held;
};

/* Up to 63 bits; fewer only at the end of the input. */
static void fill(struct input *in)
{
	while (in->held <= 55 && in->p < in->end) {
		in->hold |= (uint64_t)*in->p++ << in->held;
		in->held += 8;
	}
}

/* False when they are not there yet. */
static bool take_bits(struct input *in, unsigned n, unsigned *out)
{
	if (in->held < n)
		fill(in);
	if (in->held < n)
		return false;
	*out = (unsigned)(in->hold & ((1u << n) - 1));
	in->hold >>= n;
	in->held -= n;
	return true;
}

/* Gives whole bytes back, so that the input is left at the first byte of which no bit was used. */
static void settle(struct input *in)
{
	in->p -= in->held >> 3;
	in->held &= 7;
	in->hold &= (1u << in->held) - 1;
}

static struct input input_of(const struct esgz_deflate *d, const uint8_t *p, const uint8_t *end)
{
	return (struct input){p, end, d->hold, d->held};
}

static void keep_input(struct esgz_deflate *d, struct input *in, const uint8_t **p)
{
	settle(in);
	d->hold = in->hold;
	d->held = in->held;
	*p = in->p;
}

/* ---- heads of blocks: read whole, or again when there is more ---- */

/* Lengths of codes, run-length coded in a code of their own: RFC 1951 3.2.7. */
static int read_lens(struct esgz_deflate *d, struct input *in, uint8_t *lens, unsigned n, struct err *err)
{
	static const uint8_t order[HUFF_LENS_SYMBOLS] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
	                                                 11, 4,  12, 3, 13, 2, 14, 1, 15};
	uint8_t of_lens[HUFF_LENS_SYMBOLS] = {0};
	uint32_t table[HUFF_LENS_ENTRIES];
	unsigned n_lens, v, i = 0;

	if (!take_bits(in, 4, &n_lens))
		return ESGZ_DEFLATE_MORE;
	for (unsigned k = 0; k < n_lens + 4; k++) {
		if (!take_bits(in, 3, &v))
			return ESGZ_DEFLATE_MORE;
		of_lens[order[k]] = (uint8_t)v;
	}
	if (!huff_lens(table, of_lens, HUFF_LENS_SYMBOLS))
		return broken(d, "bad code of lengths", err);
	while (i < n) {
		static const uint8_t extra[] = {2, 3, 7}, least[] = {3, 3, 11};
		uint8_t value = 0;
		unsigned symbol;
		uint32_t e;

		fill(in);
		e = table[in->hold & ((1u << HUFF_LENS_BITS) - 1)];
		if (!take_bits(in, huff_bits(e), &v))
			return ESGZ_DEFLATE_MORE;
		symbol = huff_value(e);
		if (symbol < 16) {
			lens[i++] = (uint8_t)symbol;
			continue;
		}
		if (symbol == 16 && i == 0)
			return broken(d, "a length repeated before the first", err);
		if (symbol == 16)
			value = lens[i - 1];
		if (!take_bits(in, extra[symbol - 16], &v))
			return ESGZ_DEFLATE_MORE;
		v += least[symbol - 16];
		if (v > n - i)
			return broken(d, "too many lengths", err);
		memset(lens + i, value, v);
		i += v;
	}
	return 0;
}

static int dynamic_codes(struct esgz_deflate *d, struct input *in, struct err *err)
{
	uint8_t lens[286 + 30];
	unsigned n_litlen, n_dist;
	int r;

	if (!take_bits(in, 5, &n_litlen) || !take_bits(in, 5, &n_dist))
		return ESGZ_DEFLATE_MORE;
	n_litlen += 257;
	n_dist += 1;
	if (n_litlen > 286 || n_dist > 30)
		return broken(d, "too many symbols", err);
	r = read_lens(d, in, lens, n_litlen + n_dist, err);
	if (r)
		return r;
	d->fixed = false;
	if (lens[256] == 0 || !huff_litlen(d->litlen, lens, n_litlen) || !huff_dist(d->dist, lens + n_litlen, n_dist))
		return broken(d, "bad code", err);
	d->state = SYMBOLS;
	return 0;
}

/* RFC 1951 3.2.6. */
static void fixed_codes(struct esgz_deflate *d)
{
	uint8_t lens[HUFF_LITLEN_SYMBOLS];

	d->state = SYMBOLS;
	if (d->fixed)
		return;
	memset(lens, 8, 144);
	memset(lens + 144, 9, 256 - 144);
	memset(lens + 256, 7, 280 - 256);
	memset(lens + 280, 8, 288 - 280);
	huff_litlen(d->litlen, lens, HUFF_LITLEN_SYMBOLS);
	memset(lens, 5, HUFF_DIST_SYMBOLS);
	huff_dist(d->dist, lens, HUFF_DIST_SYMBOLS);
	d->fixed = true;
}

static int stored_head(struct esgz_deflate *d, struct input *in, struct err *err)
{
	unsigned n, inverse, padding;

	take_bits(in, in->held & 7, &padding);
	if (!take_bits(in, 16, &n) || !take_bits(in, 16, &inverse))
		return ESGZ_DEFLATE_MORE;
	if (n != (inverse ^ 0xffff))
		return broken(d, "bad length of a stored block", err);
	d->stored_left = n;
	d->state = STORED;
	return 0;
}

static int block_head(struct esgz_deflate *d, const uint8_t **p, const uint8_t *end, struct err *err)
{
	struct input in = input_of(d, *p, end);
	unsigned last, type;
	int r = 0;

	if (!take_bits(&in, 1, &last) || !take_bits(&in, 2, &type))
		return ESGZ_DEFLATE_MORE;
	if (type == 3)
		return broken(d, "bad type of a block", err);
	if (type == 0)
		r = stored_head(d, &in, err);
	else if (type == 1)
		fixed_codes(d);
	else
		r = dynamic_codes(d, &in, err);
	if (r)
		return r;
	d->last = last;
	keep_input(d, &in, p);
	return 0;
}

/* ---- blocks ---- */

static int block_end(struct esgz_deflate *d)
{
	d->state = d->last ? ENDED : BLOCK_HEAD;
	if (d->last)
		return ESGZ_DEFLATE_END;
	if (esgz_deflate_total(d) < d->stop_at)
		return 0;
	d->stop_at = NEVER;
	return ESGZ_DEFLATE_BLOCK;
}

static int stored(struct esgz_deflate *d, const uint8_t **p, const uint8_t *end)
{
	size_t n = d->stored_left, room = OUT_END - d->at;

	if (n > (size_t)(end - *p))
		n = (size_t)(end - *p);
	if (n > room)
		n = room;
	if (n)
		memcpy(d->out + d->at, *p, n);
	*p += n;
	d->at += n;
	d->stored_left -= (uint32_t)n;
	if (d->stored_left == 0)
		return block_end(d);
	return d->at == OUT_END ? ESGZ_DEFLATE_FULL : ESGZ_DEFLATE_MORE;
}

/* Notes which bytes of the marked window a match copies. */
static void mark(struct esgz_deflate *d, unsigned dist, unsigned len)
{
	uint64_t since = esgz_deflate_total(d) - d->mark_from;

	if (dist > since) {
		size_t from = (size_t)(ESGZ_DEFLATE_WINDOW + since - dist), n = ESGZ_DEFLATE_WINDOW - from;

		memset(d->used + from, 1, n < len ? n : len);
	}
}

/* One symbol, with every check there is. 0: go on; else as for a run. */
static int symbol(struct esgz_deflate *d, struct input *in, struct err *err)
{
	struct input at;
	unsigned v, len, dist;
	uint32_t e;

	fill(in);
	at = *in;
	e = d->litlen[at.hold & ((1u << HUFF_LITLEN_BITS) - 1)];
	if ((e & HUFF_SUB) == HUFF_SUB) {
		if (!take_bits(&at, HUFF_LITLEN_BITS, &v))
			return ESGZ_DEFLATE_MORE;
		e = d->litlen[huff_value(e) + (at.hold & ((1u << huff_code_bits(e)) - 1))];
	}
	if (!take_bits(&at, huff_code_bits(e), &v))
		return ESGZ_DEFLATE_MORE;
	if (e & HUFF_LITERAL) {
		d->out[d->at++] = (uint8_t)huff_value(e);
		*in = at;
		return 0;
	}
	if (e & HUFF_OTHER) {
		if ((e & HUFF_BAD) == HUFF_BAD)
			return broken(d, "bad symbol", err);
		*in = at;
		return ESGZ_DEFLATE_BLOCK;
	}
	if (!take_bits(&at, huff_bits(e) - huff_code_bits(e), &v))
		return ESGZ_DEFLATE_MORE;
	len = huff_value(e) + v;
	e = d->dist[at.hold & ((1u << HUFF_DIST_BITS) - 1)];
	if ((e & HUFF_SUB) == HUFF_SUB) {
		if (!take_bits(&at, HUFF_DIST_BITS, &v))
			return ESGZ_DEFLATE_MORE;
		e = d->dist[huff_value(e) + (at.hold & ((1u << huff_code_bits(e)) - 1))];
	}
	if (!take_bits(&at, huff_code_bits(e), &v))
		return ESGZ_DEFLATE_MORE;
	if (e & HUFF_OTHER)
		return broken(d, "bad distance", err);
	if (!take_bits(&at, huff_bits(e) - huff_code_bits(e), &v))
		return ESGZ_DEFLATE_MORE;
	dist = huff_value(e) + v;
	if (dist > d->at - d->first)
		return broken(d, "distance too far back", err);
	if (d->used)
		mark(d, dist, len);
	for (unsigned i = 0; i < len; i++, d->at++)
		d->out[d->at] = d->out[d->at - dist];
	*in = at;
	return 0;
}

/* As far as the margins of the fast loop, and while marks are wanted. */
static int symbols_with_care(struct esgz_deflate *d, const uint8_t **p, const uint8_t *end, struct err *err)
{
	struct input in = input_of(d, *p, end);
	int r = 0;

	while (r == 0) {
		if (d->used && esgz_deflate_total(d) - d->mark_from >= ESGZ_DEFLATE_WINDOW)
			d->used = NULL;
		if (d->at > OUT_END - MATCH_MAX)
			r = ESGZ_DEFLATE_FULL;
		else if (!d->used && end - in.p >= FAST_IN + 8 && d->at + FAST_OUT <= OUT_END)
			break;
		else
			r = symbol(d, &in, err);
	}
	keep_input(d, &in, p);
	return r == ESGZ_DEFLATE_BLOCK ? block_end(d) : r;
}

/* ---- the fast loop ---- */

/* A match whose source may overlap what it writes. Writes up to COPY_SLACK bytes too many. */
static inline __attribute__((always_inline)) void copy_match(uint8_t *to, unsigned dist, unsigned len)
{
	const uint8_t *from = to - dist;
	uint8_t *end = to + len;

	if (__builtin_expect(dist >= 16, 1)) {
		do {
			memcpy(to, from, 16);
			to += 16;
			from += 16;
		} while (to < end);
	} else if (dist == 1) {
		uint64_t same = *from * 0x0101010101010101u;

		do {
			memcpy(to, &same, 8);
			to += 8;
		} while (to < end);
	} else if (dist >= 8) {
		do {
			memcpy(to, from, 8);
			to += 8;
			from += 8;
		} while (to < end);
	} else {
		/* The pattern is written once byte by byte; then steps of a multiple of it that is at least 8 long. */
		unsigned step = dist;

		while (step < 8)
			step += dist;
		for (unsigned i = 0; i < step && to < end; i++)
			*to++ = *from++;
		for (from = to - step; to < end; to += 8, from += 8)
			memcpy(to, from, 8);
	}
}

/* More than 55 bits, without a branch: bits above `held` are those that the next refill brings again. */
#define REFILL()                                                                                                       \
	do {                                                                                                           \
		hold |= get_le64(p) << held;                                                                           \
		p += (63 - held) >> 3;                                                                                 \
		held |= 56;                                                                                            \
	} while (0)
#define CONSUME(e)                                                                                                     \
	do {                                                                                                           \
		hold >>= huff_bits(e);                                                                                 \
		held -= huff_bits(e);                                                                                  \
	} while (0)
#define BITS(n) ((unsigned)(hold & ((1ull << (n)) - 1)))
/* Value of a length or distance: base, and the extra bits behind the code in what `hold` was before it. */
#define VALUE(e, before) (huff_value(e) + (unsigned)(((before) & ((1ull << huff_bits(e)) - 1)) >> huff_code_bits(e)))

/*
 * Symbols, as long as there is room on both sides. Between two refills: three literals of the first level, or a length
 * (15 + 5 bits) and a distance (15 + 13); the entry of the next symbol is looked up before the refill.
 */
static inline __attribute__((always_inline)) int fast(struct esgz_deflate *d, const uint8_t **in, const uint8_t *in_end,
                                                      const char **why)
{
	const uint32_t *const litlen = d->litlen, *const dist_table = d->dist;
	const uint8_t *p = *in, *const p_last = in_end - FAST_IN, *const first = d->out + d->first;
	uint8_t *out = d->out + d->at, *const out_last = d->out + OUT_END - FAST_OUT;
	uint64_t hold = d->hold, before;
	unsigned held = d->held, len, dist;
	uint32_t e;
	int r = 0;

	REFILL();
	e = litlen[BITS(HUFF_LITLEN_BITS)];
	do {
		if (e & HUFF_LITERAL) {
			CONSUME(e);
			*out++ = (uint8_t)(e >> 16);
			e = litlen[BITS(HUFF_LITLEN_BITS)];
			if (e & HUFF_LITERAL) {
				CONSUME(e);
				*out++ = (uint8_t)(e >> 16);
				e = litlen[BITS(HUFF_LITLEN_BITS)];
				if (e & HUFF_LITERAL) {
					CONSUME(e);
					*out++ = (uint8_t)(e >> 16);
					e = litlen[BITS(HUFF_LITLEN_BITS)];
					REFILL();
					continue;
				}
			}
			REFILL();
		}
		if (__builtin_expect(e & HUFF_OTHER, 0)) {
			if ((e & HUFF_SUB) == HUFF_SUB) {
				CONSUME(HUFF_LITLEN_BITS);
				e = litlen[huff_value(e) + BITS(huff_code_bits(e))];
			}
			if (e & HUFF_LITERAL) {
				CONSUME(e);
				*out++ = (uint8_t)(e >> 16);
				e = litlen[BITS(HUFF_LITLEN_BITS)];
				REFILL();
				continue;
			}
			if (e & HUFF_OTHER) {
				CONSUME(e);
				r = ESGZ_DEFLATE_BLOCK;
				if ((e & HUFF_BAD) == HUFF_BAD)
					*why = "bad symbol";
				break;
			}
		}
		before = hold;
		CONSUME(e);
		len = VALUE(e, before);
		e = dist_table[BITS(HUFF_DIST_BITS)];
		if (__builtin_expect(e & HUFF_OTHER, 0)) {
			if ((e & HUFF_SUB) == HUFF_SUB) {
				CONSUME(HUFF_DIST_BITS);
				e = dist_table[huff_value(e) + BITS(huff_code_bits(e))];
			}
			if (e & HUFF_OTHER) {
				*why = "bad distance";
				break;
			}
		}
		before = hold;
		CONSUME(e);
		dist = VALUE(e, before);
		if (__builtin_expect(dist > (size_t)(out - first), 0)) {
			*why = "distance too far back";
			break;
		}
		e = litlen[BITS(HUFF_LITLEN_BITS)];
		REFILL();
		copy_match(out, dist, len);
		out += len;
	} while (p <= p_last && out <= out_last);

	p -= held >> 3;
	held &= 7;
	d->hold = hold & ((1u << held) - 1);
	d->held = held;
	d->at = (size_t)(out - d->out);
	*in = p;
	return r;
}

__attribute__((target("bmi,bmi2"))) static int fast_bmi2(struct esgz_deflate *d, const uint8_t **in,
                                                         const uint8_t *in_end, const char **why)
{
	return fast(d, in, in_end, why);
}

static int fast_any(struct esgz_deflate *d, const uint8_t **in, const uint8_t *in_end, const char **why)
{
	return fast(d, in, in_end, why);
}

static int symbols(struct esgz_deflate *d, const uint8_t **p, const uint8_t *end, struct err *err)
{
	const char *why = NULL;
	int r;

	if (d->used || end - *p < FAST_IN || d->at + FAST_OUT > OUT_END)
		return symbols_with_care(d, p, end, err);
	r = __builtin_cpu_supports("bmi2") ? fast_bmi2(d, p, end, &why) : fast_any(d, p, end, &why);
	if (why)
		return broken(d, why, err);
	return r == ESGZ_DEFLATE_BLOCK ? block_end(d) : 0;
}

/* ---- running ---- */

/* Makes room: the window moves to the front. What was not taken is lost, but the caller takes. */
static void slide(struct esgz_deflate *d)
{
	size_t by;

	if (d->at <= OUT_END - MATCH_MAX - FAST_OUT)
		return;
	by = d->at - ESGZ_DEFLATE_WINDOW;
	memcpy(d->out, d->out + by, ESGZ_DEFLATE_WINDOW);
	d->at -= by;
	d->taken = d->at;
	d->first = d->first > by ? d->first - by : 0;
	d->base += by;
}

static int step(struct esgz_deflate *d, const uint8_t **p, const uint8_t *end, struct err *err)
{
	switch (d->state) {
	case BLOCK_HEAD:
		return block_head(d, p, end, err);
	case STORED:
		return stored(d, p, end);
	case SYMBOLS:
		return symbols(d, p, end, err);
	case ENDED:
		break;
	}
	return ESGZ_DEFLATE_END;
}

int esgz_deflate_run(struct esgz_deflate *d, struct str in, size_t *used, struct err *err)
{
	const uint8_t *begin = (const uint8_t *)in.p, *p = begin;
	int r;

	slide(d);
	do
		r = step(d, &p, begin + in.n, err);
	while (r == 0);
	*used = (size_t)(p - begin);
	return r;
}
