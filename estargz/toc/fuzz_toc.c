/*
 * Input: u8 what, then, by what: below 128 the JSON of a TOC (what: the kind of its footer), which opens as an index if it is
 * accepted; below 192 annotations, one a line; else the end of a blob.
 */
#include "estargz/toc/toc.h"

#define BLOB_BYTES (1u << 20)

static void read_json(uint8_t kind, struct str text)
{
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_footer f = {.kind = (enum esgz_footer_kind)(kind % (ESGZ_FOOTER_ZSTD_STORAGE + 1)),
	                        .footer_bytes = 51,
	                        .toc_offset = BLOB_BYTES - 1051,
	                        .toc_bytes = 1000};
	const struct esgz_toc_source src = {.footer = &f, .key = {{1}}, .blob = {{2}}, .blob_bytes = BLOB_BYTES};
	struct esgz_toc_found found;
	struct err err = ERR_INIT;

	buf_addstr(&json, text);
	if (esgz_toc_to_index(&src, &json, &file, &found, &err) == 0 && esgz_index_open(buf_str(&file), &ix, &err) < 0)
		abort();
}

/* The lines are the values of these. */
static struct str annotation(void *arg, const char *name)
{
	static const char *const names[] = {ESGZ_ANN_TOC,
	                                    ESGZ_ANN_CHUNKED ESGZ_ANN_CHECKSUM,
	                                    ESGZ_ANN_CHUNKED ESGZ_ANN_POSITION,
	                                    ESGZ_ANN_CHUNKED ESGZ_ANN_SPLIT,
	                                    ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_CHECKSUM,
	                                    ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_POSITION,
	                                    ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_SPLIT,
	                                    ESGZ_ANN_CHUNKED ESGZ_ANN_SPLIT_CHECKSUM,
	                                    ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_SPLIT_CHECKSUM};
	struct str rest = *(struct str *)arg, line;

	for (size_t i = 0; i < ARRAY_LEN(names) && str_split(&rest, '\n', &line); i++)
		if (!strcmp(names[i], name))
			return line;
	return STR_NONE;
}

static void check_place(const struct esgz_place *p)
{
	if (p->offset > BLOB_BYTES || p->packed_bytes > BLOB_BYTES - p->offset)
		abort();
}

static void read_annotations(struct str text)
{
	struct esgz_anchor a;
	struct esgz_footer f;
	struct err err = ERR_INIT;

	if (esgz_anchor_read(annotation, &text, BLOB_BYTES, &a, &err) < 0)
		return;
	check_place(&a.toc);
	check_place(&a.split);
	if (digest_is_zero(esgz_anchor_key(&a)) || (a.has_split && digest_is_zero(&a.split_digest)))
		abort();
	if (text.n >= ESGZ_FOOTER_MAX && esgz_anchor_locate(&a, text, BLOB_BYTES, &f, &err) == 0 &&
	    f.toc_offset > BLOB_BYTES)
		abort();
}

static void read_tail(struct str tail)
{
	const struct esgz_anchor a = {.has_plain = true};
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_footer f;
	struct err err = ERR_INIT;

	if (esgz_anchor_locate(&a, tail, tail.n, &f, &err) < 0)
		return;
	if (f.toc_offset > tail.n || f.toc_bytes > tail.n - f.toc_offset)
		abort();
	/* Nothing has this digest. */
	if (esgz_toc_extract(&f, str_sub(tail, f.toc_offset, f.toc_bytes), &a, &json, &err) == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str rest = n > 0 ? str_make(data + 1, n - 1) : STR_NONE;

	if (n == 0)
		return 0;
	if (data[0] < 128)
		read_json(data[0], rest);
	else if (data[0] < 192)
		read_annotations(rest);
	else
		read_tail(rest);
	return 0;
}
