#include "estargz/convert/codec.h"

#include <libdeflate.h>
#include <zstd.h>

/* ---- gzip: RFC 1952, without name or time ---- */

static void *gzip_new(int level)
{
	return libdeflate_alloc_compressor(level);
}

static void gzip_free(void *state)
{
	libdeflate_free_compressor(state);
}

static int gzip_pack(void *state, struct str plain, struct buf *out, struct err *err)
{
	size_t room = libdeflate_gzip_compress_bound(state, plain.n);
	char *to = buf_reserve(out, room);
	size_t n = libdeflate_gzip_compress(state, plain.p, plain.n, to, room);

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

static int zstd_pack(void *state, struct str plain, struct buf *out, struct err *err)
{
	size_t room = ZSTD_compressBound(plain.n);
	char *to = buf_reserve(out, room);
	size_t n = ZSTD_compress2(state, to, room, plain.p, plain.n);

	if (ZSTD_isError(n))
		return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
	out->n += n;
	return 0;
}

static const struct codec GZIP = {"gzip", 6, 12, gzip_new, gzip_free, gzip_pack};
static const struct codec ZSTD = {"zstd", 9, 19, zstd_new, zstd_free, zstd_pack};

const struct codec *codec_of(enum esgz_compression kind)
{
	return kind == ESGZ_ZSTD ? &ZSTD : &GZIP;
}

int codec_pack(const struct codec *c, int level, struct str plain, struct buf *out, struct err *err)
{
	void *state = c->state_new(level ? level : c->level_default);
	int r;

	if (!state)
		return err_set(err, ERR_EXHAUSTED, "no memory for %s of level %d", c->name, level);
	r = c->pack(state, plain, out, err);
	c->state_free(state);
	return r;
}
