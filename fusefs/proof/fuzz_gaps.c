/* Input: bytes of a gaps log, once as they are, and once with the lengths and the checksum of a first record put right
 * around what is packed from them: the pieces inside are looked at, too. */
#include "fusefs/proof/gaps.h"

#include "base/bytes.h"

#include <isa-l/crc64.h>
#include <zstd.h>

static void read_all(struct str bytes)
{
	AUTO(gaps_log) struct gaps_log *log = gaps_log_new(bytes);
	const struct gaps_piece *piece;
	uint64_t at = 0;
	volatile uint64_t sum = 0;

	if (gaps_log_bytes(log) > bytes.n)
		abort();
	while ((piece = gaps_log_find(log, at))) {
		struct err err = ERR_INIT;
		struct str plain;

		if (piece->from < at || piece->until <= piece->from)
			abort();
		if (gaps_log_read(log, piece, &plain, &err) < 0 || plain.n != piece->n)
			abort();
		sum += crc64_ecma_refl(0, (const uint8_t *)plain.p, plain.n); /* touches all of it */
		if (piece->from == UINT64_MAX)
			break;
		at = piece->from + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf record = BUF_INIT;
	size_t room = ZSTD_compressBound(n), packed;
	uint8_t *h;

	read_all(str_make(data, n));
	packed = ZSTD_compress(buf_reserve(&record, 16 + room) + 16, room, data, n, 1);
	h = (uint8_t *)record.p;
	put_le32(h, (uint32_t)packed);
	put_le32(h + 4, (uint32_t)n);
	put_le64(h + 8, crc64_ecma_refl(crc64_ecma_refl(0, h, 8), h + 16, packed));
	record.n = 16 + packed;
	buf_add(&record, data, n); /* a torn one behind it */
	read_all(buf_str(&record));
	return 0;
}
