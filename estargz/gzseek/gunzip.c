#include "estargz/gzseek/gunzip.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/vectors.h"

#include <assert.h>
#include <inttypes.h>
#include <isa-l/crc.h>

/* Parts of a member in their order, RFC 1952 2.3. */
enum part {
	HEAD,        /* 10 bytes */
	EXTRA_BYTES, /* 2: how many follow */
	EXTRA,
	NAME, /* ended by a zero */
	COMMENT,
	HEAD_CRC, /* 2 */
	BODY,
	TRAILER, /* 8: checksum, length */
};

enum { FLAG_HEAD_CRC = 2, FLAG_EXTRA = 4, FLAG_NAME = 8, FLAG_COMMENT = 16 };

#define HEAD_BYTES 10
#define TRAILER_BYTES 8

struct esgz_gunzip {
	enum part part;
	uint8_t field[HEAD_BYTES]; /* bytes of a part that is needed whole */
	unsigned n_field;
	uint8_t flags;
	uint32_t extra_left;
	uint32_t head_crc;
	bool checked; /* the member was seen from its beginning */
	uint32_t crc;
	uint64_t blob_at;      /* bytes of the blob that are done with */
	uint64_t plain_before; /* plain bytes of earlier members */
	struct esgz_deflate *deflate;
	/* What the decoder could not use yet; it takes its next bytes from here. */
	uint8_t tail[2 * ESGZ_DEFLATE_UNIT_MAX];
	size_t n_tail;
	bool full; /* it may have more to give without more input */
	/* Places. */
	struct esgz_gzip_place_sink sink;
	bool wanted, marking;
	uint64_t every, next_place, marked_until;
	uint8_t window[ESGZ_DEFLATE_WINDOW], used[ESGZ_DEFLATE_WINDOW];
};

struct esgz_gunzip *esgz_gunzip_new(void)
{
	struct esgz_gunzip *g = xcalloc(1, sizeof(*g));

	g->deflate = esgz_deflate_new();
	return g;
}

void esgz_gunzip_free(struct esgz_gunzip *g)
{
	if (!g)
		return;
	esgz_deflate_free(g->deflate);
	free(g);
}

static void begin_member(struct esgz_gunzip *g)
{
	g->part = HEAD;
	g->n_field = 0;
	g->head_crc = 0;
	g->checked = true;
	g->crc = 0;
	esgz_deflate_begin(g->deflate);
}

void esgz_gunzip_begin(struct esgz_gunzip *g)
{
	esgz_gunzip_begin_at(g, &(struct esgz_gzip_place){0}, STR_NONE);
}

void esgz_gunzip_begin_at(struct esgz_gunzip *g, const struct esgz_gzip_place *p, struct str window)
{
	begin_member(g);
	g->blob_at = p->blob_offset;
	g->plain_before = p->plain_offset;
	g->n_tail = 0;
	g->full = false;
	g->wanted = g->marking = false;
	if (p->inside) {
		esgz_deflate_begin_at(g->deflate, p->bits, window);
		g->part = BODY;
		g->checked = false;
	}
}

void esgz_gunzip_places(struct esgz_gunzip *g, uint64_t every, const struct esgz_gzip_place_sink *sink)
{
	assert(every >= ESGZ_DEFLATE_WINDOW);
	g->sink = *sink;
	g->every = every;
	g->next_place = 0;
	g->wanted = true;
}

uint64_t esgz_gunzip_total(const struct esgz_gunzip *g)
{
	return g->plain_before + esgz_deflate_total(g->deflate);
}

static int broken(const struct esgz_gunzip *g, const char *what, struct err *err)
{
	return err_set(err, ERR_DATA_LOSS, "gzip: %s at %" PRIu64 " of the blob", what, g->blob_at);
}

/* ---- places ---- */

static void stop_at_next(struct esgz_gunzip *g)
{
	uint64_t next = g->next_place > g->plain_before ? g->next_place - g->plain_before : 0;

	/* Where a member begins is a place already, or too near to one. */
	if (g->wanted)
		esgz_deflate_stop_at(g->deflate, next ? next : 1);
}

static int give_place(struct esgz_gunzip *g, bool inside, struct err *err)
{
	struct esgz_gzip_place p = {.blob_offset = g->blob_at, .plain_offset = esgz_gunzip_total(g), .inside = inside};

	if (inside) {
		p.bits = esgz_deflate_where(g->deflate);
		esgz_deflate_window(g->deflate, g->window);
		memset(g->used, 0, sizeof(g->used));
		esgz_deflate_mark(g->deflate, g->used);
		g->marking = true;
		g->marked_until = p.plain_offset + ESGZ_DEFLATE_WINDOW;
	}
	g->next_place = p.plain_offset + g->every;
	return g->sink.place(g->sink.arg, &p, err);
}

/* Once nothing more can use the window of the last place. */
static int give_window(struct esgz_gunzip *g, struct err *err)
{
	g->marking = false;
	for (size_t i = 0; i < sizeof(g->window); i++)
		g->window[i] &= (uint8_t)-g->used[i];
	return g->sink.window(g->sink.arg, g->window, err);
}

/* ---- parts ---- */

/* Collects n bytes into `field`; false: more are needed. */
static bool collect(struct esgz_gunzip *g, struct str *in, unsigned n)
{
	while (g->n_field < n && in->n > 0) {
		g->field[g->n_field++] = (uint8_t)*in->p;
		*in = str_sub(*in, 1, in->n);
		g->blob_at++;
	}
	if (g->n_field < n)
		return false;
	g->n_field = 0;
	return true;
}

/* Goes to the next part that the header has. */
static void next_part(struct esgz_gunzip *g)
{
	static const uint8_t flag[] = {[EXTRA_BYTES] = FLAG_EXTRA,
	                               [EXTRA] = FLAG_EXTRA,
	                               [NAME] = FLAG_NAME,
	                               [COMMENT] = FLAG_COMMENT,
	                               [HEAD_CRC] = FLAG_HEAD_CRC};

	do
		g->part++;
	while (g->part < BODY && !(g->flags & flag[g->part]));
	if (g->part == BODY)
		stop_at_next(g);
}

static uint32_t crc32_add(uint32_t crc, const void *p, size_t n)
{
	crc = crc32_gzip_refl(crc, p, n);
	vectors_leave();
	return crc;
}

static void skip(struct esgz_gunzip *g, struct str *in, size_t n)
{
	g->head_crc = crc32_add(g->head_crc, in->p, n);
	*in = str_sub(*in, n, in->n);
	g->blob_at += n;
}

static int read_head(struct esgz_gunzip *g, struct str *in, struct err *err)
{
	/* The first byte of a member, which may be the place to begin. */
	if (g->n_field == 0 && g->wanted && esgz_gunzip_total(g) >= g->next_place)
		TRY(give_place(g, false, err));
	if (!collect(g, in, HEAD_BYTES))
		return 0;
	if (g->field[0] != 0x1f || g->field[1] != 0x8b || g->field[2] != 8)
		return broken(g, "broken header", err);
	g->flags = g->field[3];
	g->head_crc = crc32_add(0, g->field, HEAD_BYTES);
	next_part(g);
	return 0;
}

static int read_extra_bytes(struct esgz_gunzip *g, struct str *in)
{
	if (!collect(g, in, 2))
		return 0;
	g->extra_left = get_le16(g->field);
	g->head_crc = crc32_add(g->head_crc, g->field, 2);
	g->part = EXTRA;
	return 0;
}

static int read_extra(struct esgz_gunzip *g, struct str *in)
{
	size_t n = in->n < g->extra_left ? in->n : g->extra_left;

	skip(g, in, n);
	g->extra_left -= (uint32_t)n;
	if (g->extra_left == 0)
		next_part(g);
	return 0;
}

static int read_text(struct esgz_gunzip *g, struct str *in)
{
	ptrdiff_t end = str_find(*in, 0);

	skip(g, in, end < 0 ? in->n : (size_t)end + 1);
	if (end >= 0)
		next_part(g);
	return 0;
}

static int read_head_crc(struct esgz_gunzip *g, struct str *in, struct err *err)
{
	if (!collect(g, in, 2))
		return 0;
	if (get_le16(g->field) != (g->head_crc & 0xffff))
		return broken(g, "checksum mismatch of a header", err);
	next_part(g);
	return 0;
}

static int read_trailer(struct esgz_gunzip *g, struct str *in, struct err *err)
{
	if (!collect(g, in, TRAILER_BYTES))
		return 0;
	if (g->checked &&
	    (get_le32(g->field) != g->crc || get_le32(g->field + 4) != (uint32_t)esgz_deflate_total(g->deflate)))
		return broken(g, "checksum mismatch", err);
	g->plain_before = esgz_gunzip_total(g);
	begin_member(g);
	return 0;
}

/* ---- body ---- */

/* One run of the decoder, over what is left of earlier input and then `in`. Keeps what it could not use. */
static int run(struct esgz_gunzip *g, struct str *in, struct err *err)
{
	size_t used, more;
	int r;

	if (g->n_tail == 0) {
		r = esgz_deflate_run(g->deflate, *in, &used, err);
		*in = str_sub(*in, used, in->n);
		g->blob_at += used;
		if (r == ESGZ_DEFLATE_MORE) {
			memcpy(g->tail, in->p, in->n);
			g->n_tail = in->n;
			*in = STR_NONE;
		}
		return r;
	}
	more = sizeof(g->tail) - g->n_tail < in->n ? sizeof(g->tail) - g->n_tail : in->n;
	memcpy(g->tail + g->n_tail, in->p, more);
	r = esgz_deflate_run(g->deflate, str_make(g->tail, g->n_tail + more), &used, err);
	g->blob_at += used;
	if (used >= g->n_tail) {
		*in = str_sub(*in, used - g->n_tail, in->n);
		g->n_tail = 0;
		/* Not the end of `in`, only that of the tail. */
		return r == ESGZ_DEFLATE_MORE && in->n > 0 ? ESGZ_DEFLATE_FULL : r;
	}
	g->n_tail -= used;
	memmove(g->tail, g->tail + used, g->n_tail);
	if (r == ESGZ_DEFLATE_MORE) {
		/* It wants more than the tail and `in` together; the tail has room for all that it can want. */
		memcpy(g->tail + g->n_tail, in->p, more);
		g->n_tail += more;
		*in = STR_NONE;
	}
	return r;
}

static int read_body(struct esgz_gunzip *g, struct str *in, int (*plain)(void *, struct str, struct err *), void *arg,
                     struct err *err)
{
	struct str out;
	int r = run(g, in, err);

	TRY(r);
	g->full = r == ESGZ_DEFLATE_FULL;
	out = esgz_deflate_take(g->deflate);
	if (out.n > 0) {
		if (g->checked)
			g->crc = crc32_add(g->crc, out.p, out.n);
		TRY(plain(arg, out, err));
	}
	if (g->marking && (r == ESGZ_DEFLATE_END || esgz_gunzip_total(g) >= g->marked_until))
		TRY(give_window(g, err));
	if (r == ESGZ_DEFLATE_BLOCK) {
		TRY(give_place(g, true, err));
		stop_at_next(g);
	} else if (r == ESGZ_DEFLATE_END) {
		g->part = TRAILER;
	}
	return 0;
}

int esgz_gunzip_feed(struct esgz_gunzip *g, struct str in, int (*plain)(void *arg, struct str plain, struct err *err),
                     void *arg, struct err *err)
{
	while (in.n > 0 || g->full) {
		int r = 0;

		switch (g->part) {
		case HEAD:
			r = read_head(g, &in, err);
			break;
		case EXTRA_BYTES:
			r = read_extra_bytes(g, &in);
			break;
		case EXTRA:
			r = read_extra(g, &in);
			break;
		case NAME:
		case COMMENT:
			r = read_text(g, &in);
			break;
		case HEAD_CRC:
			r = read_head_crc(g, &in, err);
			break;
		case BODY:
			r = read_body(g, &in, plain, arg, err);
			break;
		case TRAILER:
			r = read_trailer(g, &in, err);
			break;
		}
		TRY(r);
	}
	return 0;
}

int esgz_gunzip_finish(struct esgz_gunzip *g, struct err *err)
{
	if (g->part == HEAD && g->n_field == 0 && g->blob_at > 0)
		return 0;
	return err_set(err, ERR_DATA_LOSS, "gzip: data ends in the middle");
}
