/* Input: the tail of a blob, preceded by 8 bytes: how much longer the blob is. */
#include "estargz/toc/footer.h"

#include "base/bytes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct esgz_footer f;
	struct err err = ERR_INIT;
	uint64_t before, blob_bytes;

	if (n < 8)
		return 0;
	before = get_le64(data) >> 16;
	blob_bytes = before + (n - 8);
	if (esgz_footer_parse(str_make(data + 8, n - 8), blob_bytes, &f, &err) < 0)
		return 0;
	if (f.kind == ESGZ_FOOTER_NONE)
		return 0;
	/* What a caller relies on: the TOC and the footer lie in the blob, in this order. */
	if (f.footer_bytes > ESGZ_FOOTER_MAX || f.footer_bytes > blob_bytes ||
	    f.toc_offset > blob_bytes - f.footer_bytes || f.toc_bytes > blob_bytes - f.footer_bytes - f.toc_offset ||
	    (f.toc_bytes == 0) != (f.kind == ESGZ_FOOTER_EXTERNAL_TOC))
		abort();
	return 0;
}
