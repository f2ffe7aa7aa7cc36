/* Input: an index file of any version; its checksum and lengths are set right first, so that the fields behind them are
 * reached. */
#include "estargz/index/index_format.h"

#include "base/buf.h"

static void walk(const struct esgz_index *ix)
{
	const struct esgz_index_info *info = esgz_index_get_info(ix);
	volatile uint64_t sum = 0;
	struct esgz_entry e, to;
	struct esgz_chunk c;
	struct str name, value;

	for (uint32_t i = 0; i < info->n_entries; i++) {
		uint64_t bytes = 0;

		esgz_index_entry(ix, i, &e);
		sum += str_hash(e.path) + str_hash(e.link);
		for (uint32_t k = 0; k < e.n_chunks; k++) {
			esgz_index_chunk(ix, e.first_chunk + k, &c);
			if (c.file_offset != bytes || c.blob_offset + c.blob_bytes > info->blob_bytes)
				abort();
			bytes += c.bytes;
		}
		if (e.n_chunks > 0 && bytes != e.size)
			abort();
		if (e.type == ESGZ_HARDLINK) {
			esgz_index_entry(ix, e.target, &to);
			if (to.type == ESGZ_HARDLINK || to.type == ESGZ_DIR)
				abort();
		}
	}
	for (uint32_t k = 0; k < info->n_xattrs; k++) {
		esgz_index_xattr(ix, k, &name, &value);
		sum += str_hash(name) + str_hash(value);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO_FREE uint8_t *copy = xmalloc(n + 1);
	struct err err = ERR_INIT;

	if (n > 0)
		memcpy(copy, data, n);
	if (n >= H_END) {
		put_le32(copy + H_HEADER_BYTES, index_header_bytes(get_le32(copy + H_VERSION)));
		put_le64(copy + H_FILE_BYTES, n);
		put_le64(copy + H_CRC, index_crc(copy, n));
	}
	if (esgz_index_open(str_make(copy, n), &ix, &err) == 0)
		walk(ix);
	return 0;
}
