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
	return str_eq(path, STR(ESGZ_TOC_NAME)) || str_eq(path, STR(".prefetch.landmark")) ||
	       str_eq(path, STR(".no.prefetch.landmark"));
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

static int extract(const struct esgz_footer *footer, struct str toc, const struct digest *expected, struct buf *json,
                   struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry, .data = on_json, .end = on_end};
	AUTO(extract) struct extract x = {.json = json, .hasher = hasher_new()};
	AUTO(esgz_stream) struct esgz_stream *s = esgz_stream_new();
	bool is_tar = footer->toc_plain_bytes == 0;
	struct digest got;

	if (is_tar) {
		struct esgz_tar_sink with_arg = sink;

		with_arg.arg = &x;
		x.tar = esgz_tar_new(&with_arg);
		/* The JSON, headers, padding, and the blocks that end a tar (GNU tar: 20 at once). */
		x.bytes_max = ESGZ_TOC_BYTES_MAX + ESGZ_PAX_BYTES_MAX;
	} else {
		if (footer->toc_plain_bytes > ESGZ_TOC_BYTES_MAX)
			return err_set(err, ERR_INVALID, "%" PRIu64 " bytes of JSON, at most %u are read",
			               footer->toc_plain_bytes, ESGZ_TOC_BYTES_MAX);
		x.bytes_max = footer->toc_plain_bytes;
		buf_reserve(json, footer->toc_plain_bytes + JSON_SLACK);
	}
	if (footer->kind == ESGZ_FOOTER_ZSTD_STORAGE) {
		digest_of(toc.p, toc.n, &got);
		TRY(compare(&got, expected, err));
	}
	TRY(esgz_stream_feed(s, toc, on_plain, &x, err));
	TRY(esgz_stream_finish(s, err));
	if (is_tar) {
		TRY(esgz_tar_finish(x.tar, err));
		if (!x.complete)
			return err_set(err, ERR_INVALID, "no " ESGZ_TOC_NAME);
	} else if (x.bytes_max > 0) {
		return err_set(err, ERR_INVALID, "inflates to less than the footer says");
	}
	hasher_done(x.hasher, &got);
	return footer->kind == ESGZ_FOOTER_ZSTD_STORAGE ? 0 : compare(&got, expected, err);
}

int esgz_toc_extract(const struct esgz_footer *footer, struct str toc, const struct digest *expected, struct buf *json,
                     struct err *err)
{
	TRY_WRAP(extract(footer, toc, expected, json, err), err, "TOC");
	return 0;
}
