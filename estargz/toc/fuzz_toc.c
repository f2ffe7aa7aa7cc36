/* Input: u8 kind of footer, then the JSON of a TOC. What is accepted must open as an index. */
#include "estargz/toc/toc.h"

#define BLOB_BYTES (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	const struct digest toc = {{1}}, blob = {{2}};
	struct esgz_footer f = {.footer_bytes = 51, .toc_offset = BLOB_BYTES - 1051, .toc_bytes = 1000};
	const struct esgz_toc_source src = {.footer = &f, .key = toc, .blob = blob, .blob_bytes = BLOB_BYTES};
	struct err err = ERR_INIT;

	if (n == 0)
		return 0;
	f.kind = (enum esgz_footer_kind)(data[0] % (ESGZ_FOOTER_ZSTD_STORAGE + 1));
	buf_add(&json, data + 1, n - 1);
	if (esgz_toc_to_index(&src, &json, &file, NULL, &err) < 0)
		return 0;
	if (esgz_index_open(buf_str(&file), &ix, &err) < 0)
		abort();
	return 0;
}
