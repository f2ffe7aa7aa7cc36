/*
 * Input: one byte, then by its lowest bit a points file (0) or an artifact without its frame (1), whose checksum is made
 * right, so that what stands in it is reached. With the next bit the receiver of an artifact knows the DiffID; with the
 * highest one what follows is the artifact as a registry sends it. What opens is read to its end, every window and span of
 * it, and packed again it is the same.
 */
#include "base/bytes.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/points_format.h"
#include "estargz/inflate/inflate.h"

#include <isa-l/crc64.h>
#include <zstd.h>

static void walk(const struct esgz_points *p)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	uint8_t dst[100];

	for (uint32_t i = 0; i < esgz_points_get_info(p)->n; i++) {
		const struct esgz_chunk c = {.blob_bytes = 50, .inner_offset = i, .bytes = sizeof(dst)};
		struct esgz_point at;
		uint32_t found;

		esgz_points_get(p, i, &at);
		if (!esgz_points_find(p, at.place.blob_offset, &found) || found != i ||
		    esgz_points_span_end(p, i) < at.place.plain_offset)
			abort();
		/* Some 50 bytes of blob: whatever they say, it is a digest mismatch at best. */
		if (esgz_inflate_chunk_at(z, &at, str_make(esgz_points_get_info(p), 50), &c, dst, NULL) == 0)
			abort();
	}
}

static void seal(char *file, size_t n)
{
	if (n >= P_END)
		put_le64(file + P_CRC, crc64_ecma_refl(0, (uint8_t *)file + P_CRC + 8, n - P_CRC - 8));
}

/* The two files of an artifact, which fit. */
static void check_files(struct str points, struct str index, const struct esgz_gzseek_of *of)
{
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf points_again = BUF_INIT;
	AUTO(buf) struct buf index_again = BUF_INIT;
	struct digest trusted;

	if (esgz_points_open(points, &p, NULL) < 0 || esgz_index_open(index, &ix, NULL) < 0 ||
	    esgz_gzseek_match(p, ix, NULL) < 0)
		abort();
	walk(p);
	if (esgz_gzseek_pack(points, index, &packed, NULL) < 0 ||
	    esgz_gzseek_unpack(buf_str(&packed), of, &points_again, &index_again, NULL) < 0)
		abort();
	/* The index bears the digest of its artifact, which another frame has not. */
	trusted = esgz_index_get_info(ix)->trusted;
	esgz_index_strip(index_again.p, index_again.n);
	if (esgz_index_fill(&index_again, ESGZ_TRUST_TOC, &trusted, NULL) < 0 ||
	    !str_eq(buf_str(&points_again), points) || !str_eq(buf_str(&index_again), index))
		abort();
}

static bool unpack(struct str packed, const struct esgz_gzseek_of *of)
{
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;

	if (esgz_gzseek_unpack(packed, of, &points, &index, NULL) < 0)
		return false;
	check_files(buf_str(&points), buf_str(&index), of);
	return true;
}

/* Of the layer that it says it is of, and of no other. */
static void artifact(struct str plain, bool diff_id_known)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	struct esgz_gzseek_of of = {.blob_bytes = 0};
	size_t room = ZSTD_compressBound(plain.n);

	if (plain.n < P_END)
		return;
	memcpy(of.blob.b, plain.p + P_BLOB, DIGEST_BYTES);
	of.blob_bytes = get_le64(plain.p + P_BLOB_BYTES);
	if (diff_id_known)
		memcpy(of.diff_id.b, plain.p + P_DIFF_ID, DIGEST_BYTES);
	packed.n = ZSTD_compress(buf_reserve(&packed, room), room, plain.p, plain.n, 1);
	unpack(buf_str(&packed), &of);
	of.blob_bytes++;
	if (unpack(buf_str(&packed), &of))
		abort();
}

/* A frame as it comes, of a layer that is known from its first bytes, as far as they are a points file. */
static void frame(struct str packed)
{
	struct esgz_gzseek_of of = {.blob_bytes = 0};
	char head[P_END];
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer from = {packed.p, packed.n, 0};
	ZSTD_outBuffer to = {head, sizeof(head), 0};
	size_t r = 1;

	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 20);
	while (from.pos < from.size && to.pos < to.size && r != 0 && !ZSTD_isError(r))
		r = ZSTD_decompressStream(z, &to, &from);
	ZSTD_freeDCtx(z);
	if (to.pos == sizeof(head)) {
		memcpy(of.blob.b, head + P_BLOB, DIGEST_BYTES);
		of.blob_bytes = get_le64(head + P_BLOB_BYTES);
	}
	unpack(packed, &of);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO_FREE char *copy = xmalloc(n + 1);
	size_t file;

	if (n-- == 0)
		return 0;
	memcpy(copy, data + 1, n);
	if (data[0] & 128) {
		frame(str_make(copy, n));
		return 0;
	}
	file = n;
	if (data[0] % 2 && n >= P_END && get_le64(copy + P_FILE_BYTES) <= n)
		file = (size_t)get_le64(copy + P_FILE_BYTES);
	seal(copy, file);
	if (data[0] % 2)
		artifact(str_make(copy, n), data[0] & 2);
	else if (esgz_points_open(str_make(copy, n), &p, NULL) == 0)
		walk(p);
	return 0;
}
