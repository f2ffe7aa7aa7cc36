/*
 * Input: one byte, u16 the length of a TOC, the TOC, a tar: two views of one layer. However the tar is cut, and with its
 * pieces fed as contents of files that they are not, it ends; and where nothing is said of contents, it ends the same.
 */
#include "fusefs/proof/tarview.h"

#include "base/bytes.h"
#include "estargz/toc/toc.h"

#define BLOB_BYTES (1u << 20)
#define STEPS_MAX 4 /* of holes, a MiB each */

/* What is read again of an entry. */
static int read_zeros(void *arg, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err)
{
	memset(dst, 0, n);
	return 0;
}

static int go_on(void *arg, struct err *err)
{
	unsigned *steps = arg;

	return ++*steps > STEPS_MAX ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static int view(const struct esgz_index *toc, struct str tar, size_t step, bool as_content, struct tarview_result *out)
{
	uint32_t n = esgz_index_get_info(toc)->n_entries, i = 0;
	unsigned steps = 0;
	AUTO(tarview) struct tarview *v = tarview_new(toc, read_zeros, go_on, &steps);

	for (; tar.n > 0; tar = str_sub(tar, step, tar.n), i++) {
		struct str piece = str_sub(tar, 0, step);

		if (as_content && n > 0 && i % 2)
			TRY(tarview_feed_content(v, i % n, i % 3, piece, NULL));
		else
			TRY(tarview_feed(v, piece, NULL));
	}
	return tarview_finish(v, out, NULL);
}

static void check(const struct esgz_index *toc, struct str tar, size_t step)
{
	struct tarview_result whole = {0}, cut = {0}, content = {0};
	int r = view(toc, tar, SIZE_MAX, false, &whole);

	if (view(toc, tar, step, false, &cut) != r)
		abort();
	if (r == 0 && (!digest_eq(&whole.diff_id, &cut.diff_id) || whole.bytes != tar.n || cut.bytes != tar.n ||
	               whole.tree != cut.tree || !str_eq(buf_str(&whole.difference), buf_str(&cut.difference))))
		abort();
	/* A tree that is not the same has a first difference, or a reason why it cannot be read. */
	if (r == 0 && (whole.tree == FFS_TREE_SAME) != (whole.difference.n == 0))
		abort();
	view(toc, tar, step, true, &content);
	buf_fini(&whole.difference);
	buf_fini(&cut.difference);
	buf_fini(&content.difference);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct esgz_footer f = {
	    .kind = ESGZ_FOOTER_ESTARGZ, .footer_bytes = 51, .toc_offset = BLOB_BYTES - 1051, .toc_bytes = 1000};
	const struct esgz_toc_source src = {.footer = &f, .key = {{1}}, .blob = {{2}}, .blob_bytes = BLOB_BYTES};
	AUTO(esgz_index) struct esgz_index *toc = NULL;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf file = BUF_INIT;
	struct str rest;
	size_t bytes;

	if (n < 3)
		return 0;
	bytes = get_le16(data + 1);
	rest = str_make(data + 3, n - 3);
	buf_addstr(&json, str_sub(rest, 0, bytes));
	if (esgz_toc_to_index(&src, &json, &file, NULL, NULL) < 0 || esgz_index_open(buf_str(&file), &toc, NULL) < 0)
		return 0;
	check(toc, str_sub(rest, bytes, rest.n), 1 + data[0] * 5);
	return 0;
}
