/* Input: u8 compression, u24 bytes, u32 inner offset, then blob bytes: one chunk of a hostile blob. */
#include "estargz/inflate/inflate.h"

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(esgz_inflater) struct esgz_inflater *z = esgz_inflater_new();
	struct esgz_chunk c = {.blob_bytes = n};
	struct err err = ERR_INIT;
	struct digest got;

	if (n < 8)
		return 0;
	c.bytes = get_le32(data) >> 8 & 0xfffff;
	c.inner_offset = get_le32(data + 4) & 0xfffff;
	/* Exactly as long as the chunk: a byte too much is seen. The digest is wrong at first, then what came. */
	AUTO_FREE uint8_t *dst = calloc(1, c.bytes + 1);
	AUTO_FREE uint8_t *again = malloc(c.bytes + 1);

	esgz_inflate_chunk(z, (enum esgz_compression)(data[0] % 3), str_make(data + 8, n - 8), &c, dst, &err);
	digest_of(dst, c.bytes, &got);
	c.digest = got;
	if (esgz_inflate_chunk(z, (enum esgz_compression)(data[0] % 3), str_make(data + 8, n - 8), &c, again, &err) ==
	        0 &&
	    memcmp(dst, again, c.bytes) != 0)
		abort();
	return 0;
}
