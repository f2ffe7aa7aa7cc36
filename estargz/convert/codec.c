#include "estargz/convert/codec.h"

#include <libdeflate.h>
#include <zstd.h>

#define STEP_BYTES (128u << 10) /* a block of zstd: a tenth of a second at its highest level */

int codec_watch(const struct codec_watch *w, struct err *err)
{
	return w->fn ? w->fn(w->arg, err) : 0;
}

/* ---- gzip: RFC 1952, without name or time ---- */

static void *gzip_new(int level)
{
	return libdeflate_alloc_compressor(level);
}

static void gzip_free(void *state)
{
	libdeflate_free_compressor(state);
}

static int gzip_pack(void *state, struct str plain, struct buf *out, const struct codec_watch *w, struct err *err)
{
	size_t room = libdeflate_gzip_compress_bound(state, plain.n);
	char *to = buf_reserve(out, room);
	size_t n;

	TRY(codec_watch(w, err));
	n = libdeflate_gzip_compress(state, plain.p, plain.n, to, room);
	if (n == 0)
		return err_set(err, ERR_INTERNAL, "gzip: %zu bytes did not fit into %zu", plain.n, room);
	out->n += n;
	return 0;
}

/* ---- zstd: RFC 8878, frames that say their size and have a checksum ---- */

static void *zstd_new(int level)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();

	if (z && (ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level)) ||
	          ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1)))) {
		ZSTD_freeCCtx(z);
		return NULL;
	}
	return z;
}

static void zstd_free(void *state)
{
	ZSTD_freeCCtx(state);
}

static int zstd_check(size_t n, struct err *err)
{
	return ZSTD_isError(n) ? err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n)) : 0;
}

static int zstd_pack(void *state, struct str plain, struct buf *out, const struct codec_watch *w, struct err *err)
{
	size_t room = ZSTD_compressBound(plain.n), left;
	ZSTD_outBuffer to = {buf_reserve(out, room), room, 0};

	/* What the state was left with by work that was given up; the size, so that the frame says it. */
	TRY(zstd_check(ZSTD_CCtx_reset(state, ZSTD_reset_session_only), err));
	TRY(zstd_check(ZSTD_CCtx_setPledgedSrcSize(state, plain.n), err));
	do {
		struct str step = str_sub(plain, 0, STEP_BYTES);
		ZSTD_inBuffer in = {step.p, step.n, 0};
		bool last = step.n == plain.n;

		TRY(codec_watch(w, err));
		left = ZSTD_compressStream2(state, &to, &in, last ? ZSTD_e_end : ZSTD_e_continue);
		TRY(zstd_check(left, err));
		if (left > 0 && to.pos == room)
			return err_set(err, ERR_INTERNAL, "zstd: did not fit into %zu bytes", room);
		plain = str_sub(plain, in.pos, plain.n);
		left = last ? left : 1;
	} while (left > 0);
	out->n += to.pos;
	return 0;
}

static const struct codec GZIP = {"gzip", 6, 12, gzip_new, gzip_free, gzip_pack};
static const struct codec ZSTD = {"zstd", 9, 19, zstd_new, zstd_free, zstd_pack};

const struct codec *codec_of(enum esgz_compression kind)
{
	return kind == ESGZ_ZSTD ? &ZSTD : &GZIP;
}

int codec_pack(const struct codec *c, int level, struct str plain, struct buf *out, const struct codec_watch *w,
               struct err *err)
{
	void *state = c->state_new(level ? level : c->level_default);
	int r;

	if (!state)
		return err_set(err, ERR_EXHAUSTED, "no memory for %s of level %d", c->name, level);
	r = c->pack(state, plain, out, w, err);
	c->state_free(state);
	return r;
}
