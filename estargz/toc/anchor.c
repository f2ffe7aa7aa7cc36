#include "estargz/toc/anchor.h"

#include <inttypes.h>

#define FRAME_HEAD 8 /* of the skippable frame that a place's data is in */

/* "a:b:c", n numbers. */
static bool read_numbers(struct str text, uint64_t *to, size_t n)
{
	struct str head;

	for (size_t i = 0; i < n; i++)
		if (!str_split(&text, ':', &head) || !str_u64(head, 10, &to[i]))
			return false;
	return !str_split(&text, ':', &head);
}

static int read_place(struct str text, const char *name, size_t n, uint64_t blob_bytes, struct esgz_place *out,
                      struct err *err)
{
	uint64_t v[4];

	if (!read_numbers(text, v, n))
		return err_set(err, ERR_INVALID, "annotation %s: \"" STR_FMT "\" is not %s numbers", name,
		               STR_ARG(text), n == 4 ? "four" : "three");
	if (n == 4 && v[3] != ESGZ_FOOTER_TOC_TYPE)
		return err_set(err, ERR_INVALID, "annotation %s: TOC of unknown type %" PRIu64, name, v[3]);
	if (v[0] < FRAME_HEAD || v[0] > blob_bytes || v[1] > blob_bytes - v[0] || v[1] == 0 || v[2] == 0)
		return err_set(err, ERR_INVALID,
		               "annotation %s: \"" STR_FMT "\" lies outside of the blob's %" PRIu64 " bytes", name,
		               STR_ARG(text), blob_bytes);
	*out = (struct esgz_place){v[0], v[1], v[2]};
	return 0;
}

static int read_digest(struct str text, const char *name, bool *has, struct digest *out, struct err *err)
{
	*has = text.n > 0;
	if (*has)
		TRY_WRAP(digest_parse(text, out, err), err, "annotation %s", name);
	return 0;
}

/* The annotations of zstd:chunked, as one prefix has them. */
struct chunked_names {
	const char *checksum, *position, *split, *split_checksum;
};

static const struct chunked_names CHUNKED[] = {
    {ESGZ_ANN_CHUNKED ESGZ_ANN_CHECKSUM, ESGZ_ANN_CHUNKED ESGZ_ANN_POSITION, ESGZ_ANN_CHUNKED ESGZ_ANN_SPLIT,
     ESGZ_ANN_CHUNKED ESGZ_ANN_SPLIT_CHECKSUM},
    {ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_CHECKSUM, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_POSITION,
     ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_SPLIT, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_SPLIT_CHECKSUM},
};

int esgz_anchor_read(esgz_annotation_fn get, void *arg, uint64_t blob_bytes, struct esgz_anchor *out, struct err *err)
{
	const struct chunked_names *names = CHUNKED;
	struct str text;

	*out = (struct esgz_anchor){0};
	TRY(read_digest(get(arg, ESGZ_ANN_TOC), ESGZ_ANN_TOC, &out->has_plain, &out->plain, err));
	if (get(arg, names->checksum).n == 0)
		names++;
	TRY(read_digest(get(arg, names->checksum), names->checksum, &out->has_packed, &out->packed, err));
	if (!out->has_plain && !out->has_packed)
		return err_set(err, ERR_NOT_FOUND, "no annotation names a TOC");
	text = get(arg, names->position);
	if (text.n > 0)
		TRY(read_place(text, names->position, 4, blob_bytes, &out->toc, err));
	text = get(arg, names->split);
	if (text.n > 0)
		TRY(read_place(text, names->split, 3, blob_bytes, &out->split, err));
	/* An aid to a proof, which there are others of: one that cannot be read is none. */
	out->has_split = digest_parse(get(arg, names->split_checksum), &out->split_digest, NULL) >= 0;
	return 0;
}

const struct digest *esgz_anchor_key(const struct esgz_anchor *a)
{
	return a->has_plain ? &a->plain : &a->packed;
}

static bool same_place(const struct esgz_place *p, const struct esgz_footer *f)
{
	return p->offset == f->toc_offset && p->packed_bytes == f->toc_bytes && p->plain_bytes == f->toc_plain_bytes;
}

int esgz_anchor_locate(const struct esgz_anchor *a, struct str tail, uint64_t blob_bytes, struct esgz_footer *out,
                       struct err *err)
{
	const struct esgz_place *p = &a->toc;

	TRY(esgz_footer_parse(tail, blob_bytes, out, err));
	if (out->kind == ESGZ_FOOTER_NONE && p->packed_bytes == 0)
		return err_set(err, ERR_INVALID, "the manifest names a TOC, but the blob ends without one");
	if (p->packed_bytes == 0)
		return 0;
	if (out->kind == ESGZ_FOOTER_NONE) {
		*out = (struct esgz_footer){.kind = ESGZ_FOOTER_ZSTD_STORAGE,
		                            .toc_offset = p->offset,
		                            .toc_bytes = p->packed_bytes,
		                            .toc_plain_bytes = p->plain_bytes,
		                            .split_offset = a->split.offset,
		                            .split_bytes = a->split.packed_bytes,
		                            .split_plain_bytes = a->split.plain_bytes};
		return 0;
	}
	if (!same_place(p, out))
		return err_set(err, ERR_INVALID,
		               "the annotation places the TOC at %" PRIu64 " (%" PRIu64 " bytes, %" PRIu64
		               " plain), the footer at %" PRIu64 " (%" PRIu64 ", %" PRIu64 ")",
		               p->offset, p->packed_bytes, p->plain_bytes, out->toc_offset, out->toc_bytes,
		               out->toc_plain_bytes);
	return 0;
}
