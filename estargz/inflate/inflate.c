#include "estargz/inflate/inflater.h"

#include "base/buf.h"
#include "base/vectors.h"

#include <inttypes.h>

/*
 * A member holds more than one chunk: bytes of other chunks before it, padding and tar headers behind it, whose size
 * nobody knows, and blob_bytes may end before the member does. A chunk may go on over the ends of members (legacy stargz). So it is decoded as a stream that stops at the chunk's
 * last byte: no checksum of the member is reached, it is the chunk's own digest that says whether the bytes are right.
 * isa-l does that straight into the caller's memory. libdeflate, which must be given room for whole members, is not
 * faster any more when what it made has to be copied: 2-4 % on binaries, and 20 % slower on text (estargz_bench chunks).
 */

struct esgz_inflater *esgz_inflater_new(void)
{
	struct esgz_inflater *z = xcalloc(1, sizeof(*z));

	z->hasher = hasher_new();
	return z;
}

void esgz_inflater_free(struct esgz_inflater *z)
{
	if (!z)
		return;
	ZSTD_freeDCtx(z->zstd);
	hasher_free(z->hasher);
	free(z->isal);
	free(z);
}

int inflater_ready(struct esgz_inflater *z, enum esgz_compression comp, struct err *err)
{
	if ((comp == ESGZ_GZIP || comp == ESGZ_GZIP_SEEK) && !z->isal)
		z->isal = xmalloc(sizeof(*z->isal));
	if ((comp == ESGZ_ZSTD || comp == ESGZ_GZIP_SEEK) && !z->zstd && !(z->zstd = ZSTD_createDCtx()))
		return err_set(err, ERR_EXHAUSTED, "inflate: no memory for a decoder");
	return 0;
}

/* What esgz_index_open promises; a caller with a chunk of its own making gets an error, not an overrun. */
int inflater_allows(const struct esgz_chunk *c, struct err *err)
{
	if (c->hole || c->bytes > ESGZ_CHUNK_BYTES_MAX || c->inner_offset > ESGZ_INNER_OFFSET_MAX)
		return err_set(err, ERR_INVALID, "chunk of %" PRIu64 " bytes at %" PRIu64, c->bytes, c->inner_offset);
	return 0;
}

int inflater_check(struct esgz_inflater *z, const struct esgz_chunk *c, const uint8_t *bytes, struct err *err)
{
	char want_text[DIGEST_TEXT_MAX], got_text[DIGEST_TEXT_MAX];
	struct digest got;

	hasher_reset(z->hasher);
	hasher_add(z->hasher, bytes, c->bytes);
	hasher_done(z->hasher, &got);
	if (digest_eq(&got, &c->digest))
		return 0;
	return err_set(err, ERR_DATA_LOSS, "digest is %s, should be %s", digest_text(&got, got_text),
	               digest_text(&c->digest, want_text));
}

/* Where the next output goes: the bytes before the chunk are thrown away. */
static uint8_t *next_room(struct esgz_inflater *z, uint64_t done, const struct esgz_chunk *c, uint8_t *dst,
                          size_t *room)
{
	if (done < c->inner_offset) {
		*room = c->inner_offset - done < INFLATER_SKIP_BYTES ? (size_t)(c->inner_offset - done)
		                                                     : INFLATER_SKIP_BYTES;
		return z->skip;
	}
	*room = (size_t)(c->inner_offset + c->bytes - done);
	return dst + (done - c->inner_offset);
}

static int gunzip(struct esgz_inflater *z, struct str in, const struct esgz_chunk *c, uint8_t *dst, struct err *err)
{
	uint64_t done = 0, want = c->inner_offset + c->bytes;

	isal_inflate_init(z->isal);
	z->isal->crc_flag = ISAL_GZIP;
	z->isal->next_in = (uint8_t *)in.p;
	z->isal->avail_in = (uint32_t)in.n; /* blob_bytes is far below 4 GiB */
	while (done < want) {
		size_t room;
		uint8_t *to = next_room(z, done, c, dst, &room);
		int r;

		z->isal->next_out = to;
		z->isal->avail_out = (uint32_t)room;
		r = isal_inflate(z->isal);
		vectors_leave();
		done += room - z->isal->avail_out;
		/* At the chunk's last byte an error of what follows is none of ours. */
		if (done == want)
			break;
		if (r < 0)
			return err_set(err, ERR_DATA_LOSS, "gzip: broken data (%d) after %" PRIu64 " bytes", r, done);
		if (z->isal->block_state == ISAL_BLOCK_FINISH && z->isal->avail_in > 0) {
			isal_inflate_reset(z->isal);
			continue;
		}
		if (z->isal->avail_out > 0)
			return err_set(err, ERR_DATA_LOSS, "gzip: data ends after %" PRIu64 " of %" PRIu64 " bytes",
			               done, want);
	}
	return 0;
}

static int unzstd(struct esgz_inflater *z, struct str in, const struct esgz_chunk *c, uint8_t *dst, struct err *err)
{
	uint64_t done = 0, want = c->inner_offset + c->bytes;
	ZSTD_inBuffer src = {in.p, in.n, 0};

	ZSTD_DCtx_reset(z->zstd, ZSTD_reset_session_only);
	while (done < want) {
		size_t room, before = src.pos, r;
		uint8_t *to = next_room(z, done, c, dst, &room);
		ZSTD_outBuffer out = {to, room, 0};

		r = ZSTD_decompressStream(z->zstd, &out, &src);
		done += out.pos;
		if (ZSTD_isError(r))
			return err_set(err, ERR_DATA_LOSS, "zstd: %s after %" PRIu64 " bytes", ZSTD_getErrorName(r),
			               done);
		/* Behind the end of a frame the next one begins. */
		if (done < want && out.pos == 0 && src.pos == before)
			return err_set(err, ERR_DATA_LOSS, "zstd: data ends after %" PRIu64 " of %" PRIu64 " bytes",
			               done, want);
	}
	return 0;
}

static int copy_plain(struct str in, const struct esgz_chunk *c, uint8_t *dst, struct err *err)
{
	if (in.n < c->inner_offset || in.n - c->inner_offset < c->bytes)
		return err_set(err, ERR_DATA_LOSS, "data ends after %zu of %" PRIu64 " bytes", in.n,
		               c->inner_offset + c->bytes);
	memcpy(dst, in.p + c->inner_offset, c->bytes);
	return 0;
}

static int inflate(struct esgz_inflater *z, enum esgz_compression comp, struct str in, const struct esgz_chunk *c,
                   uint8_t *dst, struct err *err)
{
	TRY(inflater_allows(c, err));
	TRY(inflater_ready(z, comp, err));
	switch (comp) {
	case ESGZ_PLAIN:
		TRY(copy_plain(in, c, dst, err));
		break;
	case ESGZ_GZIP:
		TRY(gunzip(z, in, c, dst, err));
		break;
	case ESGZ_ZSTD:
		TRY(unzstd(z, in, c, dst, err));
		break;
	case ESGZ_GZIP_SEEK:
		return err_set(err, ERR_INVALID, "inflate: a layer that is read from points");
	}
	return inflater_check(z, c, dst, err);
}

int esgz_inflate_chunk(struct esgz_inflater *z, enum esgz_compression comp, struct str in, const struct esgz_chunk *c,
                       uint8_t *dst, struct err *err)
{
	if (in.n > c->blob_bytes)
		in.n = (size_t)c->blob_bytes;
	/* The gzip decoder counts in 32 bits. */
	if (in.n > UINT32_MAX)
		in.n = UINT32_MAX;
	TRY_WRAP(inflate(z, comp, in, c, dst, err), err, "chunk at %" PRIu64 " of the blob", c->blob_offset);
	return 0;
}
