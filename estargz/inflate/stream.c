#include "estargz/inflate/inflate.h"

#include "base/buf.h"
#include "base/vectors.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#define MAGIC_BYTES 4
/* Big enough to make calls rare, small enough that what was inflated is still in the cache when it is hashed. */
#define PLAIN_BYTES (128u << 10)

typedef int (*sink_fn)(void *arg, struct str plain, struct err *err);

struct esgz_stream {
	enum esgz_compression kind;
	bool known; /* kind is decided */
	bool open;  /* a member or frame has begun and not ended */
	char head[MAGIC_BYTES];
	uint8_t n_head; /* bytes kept back until the kind is known */
	struct inflate_state *isal;
	struct isal_gzip_header header; /* of the member that has begun, as far as it was read */
	bool header_done;
	ZSTD_DCtx *zstd;
	uint8_t *plain;
};

struct esgz_stream *esgz_stream_new(void)
{
	return xcalloc(1, sizeof(struct esgz_stream));
}

void esgz_stream_free(struct esgz_stream *s)
{
	if (!s)
		return;
	ZSTD_freeDCtx(s->zstd);
	free(s->isal);
	free(s->plain);
	free(s);
}

enum esgz_compression esgz_stream_kind(const struct esgz_stream *s)
{
	return s->kind;
}

/* ---- recognising: RFC 1952 2.3.1, RFC 8878 3.1 ---- */

/* A zstd frame, or a skippable one (0x184D2A50 to 5F). */
static bool is_zstd(const uint8_t *h)
{
	return (h[0] == 0x28 && h[1] == 0xb5 && h[2] == 0x2f && h[3] == 0xfd) ||
	       ((h[0] & 0xf0) == 0x50 && h[1] == 0x2a && h[2] == 0x4d && h[3] == 0x18);
}

static int decide(struct esgz_stream *s, struct err *err)
{
	const uint8_t *h = (const uint8_t *)s->head;

	s->known = true;
	if (h[0] == 0x1f && h[1] == 0x8b && h[2] == 8) {
		s->kind = ESGZ_GZIP;
		s->isal = xmalloc(sizeof(*s->isal));
	} else if (is_zstd(h)) {
		s->kind = ESGZ_ZSTD;
		s->zstd = ZSTD_createDCtx();
		if (!s->zstd)
			return err_set(err, ERR_EXHAUSTED, "zstd: no memory for a decoder");
	} else {
		s->kind = ESGZ_PLAIN;
	}
	if (s->kind != ESGZ_PLAIN)
		s->plain = xmalloc(PLAIN_BYTES);
	return 0;
}

/* ---- decoding ---- */

static void begin_member(struct esgz_stream *s)
{
	struct inflate_state *z = s->isal;
	uint8_t *next = z->next_in;
	uint32_t avail = z->avail_in;

	isal_inflate_init(z);
	isal_gzip_header_init(&s->header);
	s->header.flags = 0;
	z->crc_flag = ISAL_GZIP_NO_HDR_VER;
	z->next_in = next;
	z->avail_in = avail;
	s->open = true;
	s->header_done = false;
}

/* isal_inflate could read the header by itself, but it forgets the flags of one that arrives in two pieces (seen with
 * 2.30), and takes what lies on the stack for them. */
static int read_header(struct esgz_stream *s, struct err *err)
{
	int r;

	if (s->header_done)
		return 0;
	r = isal_read_gzip_header(s->isal, &s->header);
	vectors_leave();
	if (r < 0)
		return err_set(err, ERR_DATA_LOSS, "gzip: broken header");
	s->header_done = r == ISAL_DECOMP_OK;
	return 0;
}

static int feed_gzip(struct esgz_stream *s, struct str in, sink_fn sink, void *arg, struct err *err)
{
	struct inflate_state *z = s->isal;

	z->next_in = (uint8_t *)in.p;
	z->avail_in = (uint32_t)in.n;
	/* Input used up is not output drained: a full buffer may have more behind it. */
	do {
		size_t n;
		int r;

		if (!s->open && z->avail_in == 0)
			return 0;
		if (!s->open)
			begin_member(s);
		TRY(read_header(s, err));
		if (!s->header_done)
			return 0;
		z->next_out = s->plain;
		z->avail_out = PLAIN_BYTES;
		r = isal_inflate(z);
		vectors_leave();
		n = PLAIN_BYTES - z->avail_out;
		if (r < 0)
			return err_set(err, ERR_DATA_LOSS, "gzip: %s",
			               r == ISAL_INCORRECT_CHECKSUM ? "checksum mismatch" : "broken data");
		if (z->block_state == ISAL_BLOCK_FINISH)
			s->open = false;
		if (n > 0)
			TRY(sink(arg, str_make(s->plain, n), err));
	} while (z->avail_in > 0 || z->avail_out == 0);
	return 0;
}

static int feed_zstd(struct esgz_stream *s, struct str in, sink_fn sink, void *arg, struct err *err)
{
	ZSTD_inBuffer src = {in.p, in.n, 0};
	ZSTD_outBuffer out = {s->plain, PLAIN_BYTES, 0};

	do {
		size_t r;

		out.pos = 0;
		r = ZSTD_decompressStream(s->zstd, &out, &src);
		if (ZSTD_isError(r))
			return err_set(err, ERR_DATA_LOSS, "zstd: %s", ZSTD_getErrorName(r));
		s->open = r != 0;
		if (out.pos > 0)
			TRY(sink(arg, str_make(s->plain, out.pos), err));
	} while (src.pos < src.size || (out.pos == out.size && s->open));
	return 0;
}

static int feed(struct esgz_stream *s, struct str in, sink_fn sink, void *arg, struct err *err)
{
	switch (s->kind) {
	case ESGZ_GZIP:
		return feed_gzip(s, in, sink, arg, err);
	case ESGZ_ZSTD:
		return feed_zstd(s, in, sink, arg, err);
	default:
		return sink(arg, in, err);
	}
}

int esgz_stream_feed(struct esgz_stream *s, struct str in, sink_fn sink, void *arg, struct err *err)
{
	if (!s->known) {
		while (s->n_head < MAGIC_BYTES && in.n > 0) {
			s->head[s->n_head++] = *in.p;
			in = str_sub(in, 1, in.n);
		}
		if (s->n_head < MAGIC_BYTES)
			return 0;
		TRY(decide(s, err));
		TRY(feed(s, str_make(s->head, MAGIC_BYTES), sink, arg, err));
	}
	/* The gzip decoder counts in 32 bits. */
	while (in.n > 0) {
		struct str part = str_sub(in, 0, 1u << 30);

		TRY(feed(s, part, sink, arg, err));
		in = str_sub(in, part.n, in.n);
	}
	return 0;
}

int esgz_stream_finish(struct esgz_stream *s, struct err *err)
{
	if (!s->known && s->n_head > 0)
		return err_set(err, ERR_DATA_LOSS, "layer of %u bytes", s->n_head);
	if (s->open)
		return err_set(err, ERR_DATA_LOSS, "%s: data ends in the middle",
		               s->kind == ESGZ_GZIP ? "gzip" : "zstd");
	return 0;
}
