#include "estargz/gzseek/artifact.h"

#include "base/bytes.h"
#include "estargz/gzseek/points_format.h"
#include "estargz/index/holes.h"

#include <inttypes.h>
#include <zstd.h>

#define PACK_LEVEL 9

/* Names and numbers of an index compress by 3 to 10; more than this is a bomb. */
#define PLAIN_BYTES_MAX(packed) ((packed)*100 + (1u << 20))

int esgz_gzseek_pack(struct str points, struct str index, struct buf *out, struct err *err)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	size_t room, n;

	if (points.n + index.n > ESGZ_ARTIFACT_BYTES_MAX)
		return err_set(err, ERR_PRECONDITION, "gzip index of %zu bytes", points.n + index.n);
	buf_reserve(&plain, points.n + index.n);
	buf_addstr(&plain, points);
	buf_addstr(&plain, index);
	esgz_index_strip(plain.p + points.n, index.n);
	room = ZSTD_compressBound(plain.n);
	n = ZSTD_compress(buf_reserve(out, room), room, plain.p, plain.n, PACK_LEVEL);
	if (ZSTD_isError(n))
		return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(n));
	out->n += n;
	return 0;
}

static int inflate(struct str packed, struct buf *plain, struct err *err)
{
	unsigned long long bytes = ZSTD_getFrameContentSize(packed.p, packed.n);
	size_t n;

	if (ZSTD_findFrameCompressedSize(packed.p, packed.n) != packed.n)
		return err_set(err, ERR_DATA_LOSS, "gzip index: not one zstd frame and no more");
	/* The two constants for an unknown size and an error are larger, too. */
	if (bytes > ESGZ_ARTIFACT_BYTES_MAX || bytes > PLAIN_BYTES_MAX(packed.n))
		return err_set(err, ERR_DATA_LOSS, "gzip index: not one zstd frame of a size that it can have");
	/* In one step, so that the window that the frame asks for is never allocated. */
	n = ZSTD_decompress(buf_reserve(plain, (size_t)bytes), (size_t)bytes, packed.p, packed.n);
	if (n != bytes)
		return err_set(err, ERR_DATA_LOSS, "gzip index: %s",
		               ZSTD_isError(n) ? ZSTD_getErrorName(n) : "shorter than its frame says");
	plain->n = n;
	return 0;
}

static int check_chunk(const struct esgz_points *points, const struct esgz_chunk *c, uint32_t i, struct err *err)
{
	struct esgz_point p;
	uint32_t at;

	if (c->hole)
		return 0;
	if (!esgz_points_find(points, c->blob_offset, &at))
		return err_set(err, ERR_DATA_LOSS, "gzip index: chunk %u lies behind no point", i);
	esgz_points_get(points, at, &p);
	if (c->inner_offset + c->bytes > esgz_points_span_end(points, at) - p.place.plain_offset)
		return err_set(err, ERR_DATA_LOSS, "gzip index: chunk %u goes beyond the span of point %u", i, at);
	return 0;
}

int esgz_gzseek_match(const struct esgz_points *points, const struct esgz_index *index, struct err *err)
{
	const struct esgz_points_info *p = esgz_points_get_info(points);
	const struct esgz_index_info *ix = esgz_index_get_info(index);

	if (ix->compression != ESGZ_GZIP_SEEK || !digest_eq(&p->blob, &ix->blob) || p->blob_bytes != ix->blob_bytes)
		return err_set(err, ERR_DATA_LOSS, "gzip index: index and points are of different layers");
	for (uint32_t i = 0; i < ix->n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(index, i, &c);
		TRY(check_chunk(points, &c, i, err));
	}
	return 0;
}

/* A hole is read as zeros whatever its digest says, and its file has the name of an honest one with that digest. */
static int check_holes(const struct esgz_index *index, struct err *err)
{
	AUTO(esgz_holes) struct esgz_holes holes = {0};
	const struct esgz_hole *wrong;

	for (uint32_t i = 0; i < esgz_index_get_info(index)->n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(index, i, &c);
		if (c.hole && !esgz_holes_add(&holes, c.bytes, &c.digest, i))
			return err_set(err, ERR_DATA_LOSS, "gzip index: more than %llu bytes of holes",
			               ESGZ_HOLES_BYTES_MAX);
	}
	wrong = esgz_holes_wrong(&holes);
	return wrong ? err_set(err, ERR_DATA_LOSS, "gzip index: chunk %u is %" PRIu64 " zeros with another digest",
	                       wrong->id, wrong->bytes)
	             : 0;
}

static int check(const struct esgz_gzseek_of *of, const struct buf *points, const struct buf *index, struct err *err)
{
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	const struct esgz_points_info *info;

	TRY(esgz_points_open(buf_str(points), &p, err));
	TRY(esgz_index_open(buf_str(index), &ix, err));
	TRY(esgz_gzseek_match(p, ix, err));
	info = esgz_points_get_info(p);
	if (!digest_eq(&info->blob, &of->blob) || info->blob_bytes != of->blob_bytes ||
	    (!digest_is_zero(&of->diff_id) && !digest_eq(&info->diff_id, &of->diff_id)))
		return err_set(err, ERR_DATA_LOSS, "gzip index: of another layer");
	return check_holes(ix, err);
}

int esgz_gzseek_unpack(struct str packed, const struct esgz_gzseek_of *of, struct buf *points, struct buf *index,
                       struct err *err)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	struct digest trusted;
	uint64_t n;

	TRY(inflate(packed, &plain, err));
	if (plain.n < P_END || (n = get_le64(plain.p + P_FILE_BYTES)) > plain.n)
		return err_set(err, ERR_DATA_LOSS, "gzip index: only %zu bytes", plain.n);
	buf_add(points, plain.p, (size_t)n);
	buf_add(index, plain.p + n, plain.n - (size_t)n);
	digest_of(packed.p, packed.n, &trusted);
	TRY(esgz_index_fill(index, ESGZ_TRUST_TOC, &trusted, err));
	return check(of, points, index, err);
}
