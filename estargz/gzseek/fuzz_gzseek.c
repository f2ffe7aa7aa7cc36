/* Input: one byte, then a points file (even) or an artifact (odd) without its frame; its checksum is made right, so that what
 * stands in it is reached. What opens is read to its end, every window and span of it. */
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

static void artifact(struct str plain)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_gzseek_of of = {.blob_bytes = 0};
	size_t room = ZSTD_compressBound(plain.n);

	if (plain.n < P_END)
		return;
	memcpy(of.blob.b, plain.p + P_BLOB, DIGEST_BYTES);
	of.blob_bytes = get_le64(plain.p + P_BLOB_BYTES);
	packed.n = ZSTD_compress(buf_reserve(&packed, room), room, plain.p, plain.n, 1);
	if (esgz_gzseek_unpack(buf_str(&packed), &of, &points, &index, NULL) == 0 &&
	    esgz_index_open(buf_str(&index), &ix, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_points) struct esgz_points *p = NULL;
	AUTO_FREE char *copy = xmalloc(n + 1);
	size_t file;

	if (n-- == 0)
		return 0;
	memcpy(copy, data + 1, n);
	file = n;
	if (data[0] % 2 && n >= P_END && get_le64(copy + P_FILE_BYTES) <= n)
		file = (size_t)get_le64(copy + P_FILE_BYTES);
	seal(copy, file);
	if (data[0] % 2)
		artifact(str_make(copy, n));
	else if (esgz_points_open(str_make(copy, n), &p, NULL) == 0)
		walk(p);
	return 0;
}
