#include "estargz/toc/toc.h"

#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"

#include <inttypes.h>

/* Room behind the JSON: its reader wants padding, and finds it without copying the whole. */
#define JSON_SLACK 256

/* Takes the TOC as it comes out of the decoder. */
struct extract {
	struct esgz_tar *tar; /* gzip kinds: the JSON is a file in a tar */
	struct buf *json;
	struct hasher *hasher;
	uint64_t bytes_max; /* of what may still be inflated */
	bool found, complete;
};

static void extract_fini(struct extract *x)
{
	esgz_tar_free(x->tar);
	hasher_free(x->hasher);
}
DEFINE_AUTO_FINI(extract);

bool esgz_is_marker(struct str path)
{
	return str_eq(path, STR(ESGZ_TOC_NAME)) || str_eq(path, STR(ESGZ_PREFETCH_LANDMARK)) ||
	       str_eq(path, STR(ESGZ_NO_PREFETCH_LANDMARK));
}

static int on_json(void *arg, struct str bytes, struct err *err)
{
	struct extract *x = arg;

	hasher_add(x->hasher, bytes.p, bytes.n);
	buf_addstr(x->json, bytes);
	return 0;
}

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct extract *x = arg;

	if (x->found || !str_eq(t->e.path, STR(ESGZ_TOC_NAME)) || t->e.type != ESGZ_REG)
		return err_set(err, ERR_INVALID, "unexpected entry " STR_FMT, STR_ARG(t->e.path));
	if (t->e.size > ESGZ_TOC_BYTES_MAX)
		return err_set(err, ERR_INVALID, "%" PRIu64 " bytes of JSON, at most %u are read", t->e.size,
		               ESGZ_TOC_BYTES_MAX);
	x->found = true;
	buf_reserve(x->json, t->e.size + JSON_SLACK);
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct extract *x = arg;

	x->complete = true;
	return 0;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct extract *x = arg;

	if (plain.n > x->bytes_max)
		return err_set(err, ERR_INVALID, "inflates to more than it may");
	x->bytes_max -= plain.n;
	return x->tar ? esgz_tar_feed(x->tar, plain, err) : on_json(x, plain, err);
}

static int compare(const struct digest *got, const struct digest *expected, struct err *err)
{
	char got_text[DIGEST_TEXT_MAX], want_text[DIGEST_TEXT_MAX];

	if (digest_eq(got, expected))
		return 0;
	return err_set(err, ERR_DATA_LOSS, "digest is %s, should be %s", digest_text(got, got_text),
	               digest_text(expected, want_text));
}

/* The JSON out of its compression and, if that holds a tar, out of the tar. plain_bytes: 0 when nobody says. */
static int decode(struct extract *x, struct str packed, uint64_t plain_bytes, bool is_tar, struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry, .data = on_json, .end = on_end, .arg = x};
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();

	if (is_tar) {
		x->tar = esgz_tar_new(&sink);
		/* The JSON, headers, padding, and the blocks that end a tar (GNU tar: 20 at once). */
		x->bytes_max = ESGZ_TOC_BYTES_MAX + ESGZ_PAX_BYTES_MAX;
	} else {
		if (plain_bytes > ESGZ_TOC_BYTES_MAX)
			return err_set(err, ERR_INVALID, "%" PRIu64 " bytes of JSON, at most %u are read", plain_bytes,
			               ESGZ_TOC_BYTES_MAX);
		x->bytes_max = plain_bytes;
		buf_reserve(x->json, plain_bytes + JSON_SLACK);
	}
	TRY(esgz_stream_feed(s, packed, on_plain, x, err));
	TRY(esgz_stream_finish(s, err));
	if (!is_tar)
		return x->bytes_max > 0 ? err_set(err, ERR_INVALID, "inflates to less than the footer says") : 0;
	TRY(esgz_tar_finish(x->tar, err));
	return x->complete ? 0 : err_set(err, ERR_INVALID, "no " ESGZ_TOC_NAME);
}

static int extract(struct str packed, uint64_t plain_bytes, bool is_tar, const struct esgz_anchor *anchor,
                   struct buf *json, struct err *err)
{
	AUTO(extract) struct extract x = {.json = json, .hasher = hasher_new()};
	struct digest got;

	if (anchor->has_packed) {
		digest_of(packed.p, packed.n, &got);
		TRY_WRAP(compare(&got, &anchor->packed, err), err, "compressed");
	}
	TRY(decode(&x, packed, plain_bytes, is_tar, err));
	hasher_done(x.hasher, &got);
	if (anchor->has_plain)
		return compare(&got, &anchor->plain, err);
	return anchor->has_packed ? 0 : err_set(err, ERR_INVALID, "no digest to believe it by");
}

int esgz_toc_extract(const struct esgz_footer *footer, struct str toc, const struct esgz_anchor *anchor,
                     struct buf *json, struct err *err)
{
	bool is_tar = footer->kind == ESGZ_FOOTER_ESTARGZ || footer->kind == ESGZ_FOOTER_LEGACY;

	if (!is_tar && footer->kind != ESGZ_FOOTER_ZSTD_STARGZ && footer->kind != ESGZ_FOOTER_ZSTD_STORAGE)
		return err_set(err, ERR_INVALID, "TOC: the blob has none");
	TRY_WRAP(extract(toc, footer->toc_plain_bytes, is_tar, anchor, json, err), err, "TOC");
	return 0;
}

int esgz_toc_extract_external(struct str layer, const struct esgz_anchor *anchor, struct buf *json, struct err *err)
{
	/* The checksum of compressed bytes, if any, is that of another place. */
	struct esgz_anchor plain = *anchor;

	plain.has_packed = false;
	TRY_WRAP(extract(layer, 0, true, &plain, json, err), err, "external TOC");
	return 0;
}
