#include "estargz/convert/format.h"

#include "estargz/toc/anchor.h"

#include <inttypes.h>
#include <stdio.h>

#define CHUNK_BYTES_MIN 4096
#define GZIP_LEVEL_MAX 12
#define ZSTD_LEVEL_MAX 19

static const struct format FORMATS[] = {
    [ESGZ_F_ESTARGZ] = {"estargz", ESGZ_GZIP, .lazy = true, .stargz = true},
    [ESGZ_F_ESTARGZ_EXTERNAL] = {"estargz-external-toc", ESGZ_GZIP, .lazy = true, .stargz = true, .may_keep = true},
    [ESGZ_F_ZSTD_CHUNKED] = {"zstd:chunked", ESGZ_ZSTD, .lazy = true, .may_keep = true, .must_keep = true},
    [ESGZ_F_ZSTD_STARGZ] = {"zstd:chunked-stargz", ESGZ_ZSTD, .lazy = true, .stargz = true, .may_keep = true},
    [ESGZ_F_ZSTD] = {"zstd", ESGZ_ZSTD, .may_keep = true, .must_keep = true},
    [ESGZ_F_GZIP] = {"gzip", ESGZ_GZIP, .may_keep = true, .must_keep = true},
};

const struct format *format_of(enum esgz_format f)
{
	return &FORMATS[f];
}

bool esgz_format_parse(struct str name, enum esgz_format *out)
{
	for (size_t i = 0; i < ARRAY_LEN(FORMATS); i++)
		if (str_eqc(name, FORMATS[i].name)) {
			*out = (enum esgz_format)i;
			return true;
		}
	return false;
}

const char *esgz_format_name(enum esgz_format f)
{
	return FORMATS[f].name;
}

const char *esgz_format_names(void)
{
	return "estargz, estargz-external-toc, zstd:chunked, zstd:chunked-stargz, zstd, gzip";
}

enum esgz_compression esgz_format_compression(enum esgz_format f)
{
	return FORMATS[f].compression;
}

bool esgz_format_is_lazy(enum esgz_format f)
{
	return FORMATS[f].lazy;
}

int esgz_convert_check(const struct esgz_convert_opts *o, struct err *err)
{
	const struct format *f = &FORMATS[o->format];
	int level_max = f->compression == ESGZ_GZIP ? GZIP_LEVEL_MAX : ZSTD_LEVEL_MAX;

	if (o->level < 0 || o->level > level_max)
		return err_set(err, ERR_INVALID, "level %d: %s has 1 to %d", o->level, f->name, level_max);
	if (o->threads > ESGZ_CONVERT_THREADS_MAX)
		return err_set(err, ERR_INVALID, "%u threads: 1 to %u are possible", o->threads,
		               ESGZ_CONVERT_THREADS_MAX);
	if (!f->lazy && (o->chunk_bytes || o->min_chunk_bytes))
		return err_set(err, ERR_INVALID, "a layer of format %s has no chunks", f->name);
	if (o->chunk_bytes && (o->chunk_bytes < CHUNK_BYTES_MIN || o->chunk_bytes > ESGZ_CHUNK_BYTES_MAX))
		return err_set(err, ERR_INVALID, "chunks of %" PRIu32 " bytes: %u to %u are possible", o->chunk_bytes,
		               CHUNK_BYTES_MIN, ESGZ_CHUNK_BYTES_MAX);
	if (o->min_chunk_bytes && !f->stargz)
		return err_set(err, ERR_INVALID,
		               "format %s has one chunk in a frame: min-chunk-size says nothing there", f->name);
	if (o->min_chunk_bytes > ESGZ_CHUNK_BYTES_MAX)
		return err_set(err, ERR_INVALID, "min-chunk-size of %" PRIu32 " bytes: at most %u are possible",
		               o->min_chunk_bytes, ESGZ_CHUNK_BYTES_MAX);
	if (o->keep_diff_id && !f->may_keep)
		return err_set(err, ERR_INVALID, "format %s puts its TOC into the tar: the DiffID cannot be kept",
		               f->name);
	if (o->n_priority && !f->stargz)
		return err_set(err, ERR_INVALID, "format %s has no landmark: a priority list says nothing there",
		               f->name);
	if (o->n_priority && o->keep_diff_id)
		return err_set(err, ERR_INVALID, "a priority list changes the order of the tar, and so the DiffID");
	return 0;
}

void esgz_convert_result_fini(struct esgz_convert_result *r)
{
	buf_fini(&r->external_toc);
}

/* ---- annotations ---- */

struct put {
	void (*fn)(void *arg, const char *key, const char *value);
	void *arg;
};

static void put_zstd(const struct put *p, const char *checksum_key, const char *position_key,
                     const struct esgz_convert_result *r)
{
	char digest[DIGEST_TEXT_MAX], position[100];

	snprintf(position, sizeof(position), "%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%d", r->toc_offset,
	         r->toc_packed_bytes, r->toc_plain_bytes, ESGZ_FOOTER_TOC_TYPE);
	p->fn(p->arg, checksum_key, digest_text(&r->toc_packed, digest));
	p->fn(p->arg, position_key, position);
}

void esgz_convert_annotations(enum esgz_format f, const struct esgz_convert_result *r,
                              void (*put)(void *arg, const char *key, const char *value), void *arg)
{
	const struct put p = {put, arg};
	char text[100];

	if (FORMATS[f].stargz) {
		put(arg, ESGZ_ANN_TOC, digest_text(&r->toc, text));
		snprintf(text, sizeof(text), "%" PRIu64, r->plain_bytes);
		put(arg, ESGZ_ANN_PLAIN_SIZE, text);
	}
	if (f == ESGZ_F_ZSTD_STARGZ)
		put_zstd(&p, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_CHECKSUM, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_POSITION, r);
	/* Never together with a TOC digest of stargz: containers/storage refuses such a layer. */
	if (f == ESGZ_F_ZSTD_CHUNKED) {
		put_zstd(&p, ESGZ_ANN_CHUNKED ESGZ_ANN_CHECKSUM, ESGZ_ANN_CHUNKED ESGZ_ANN_POSITION, r);
		snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64 ":%" PRIu64, r->split_offset, r->split_packed_bytes,
		         r->split_plain_bytes);
		put(arg, ESGZ_ANN_CHUNKED ESGZ_ANN_SPLIT, text);
	}
}

bool esgz_is_layer_annotation(struct str key)
{
	return str_eqc(key, ESGZ_ANN_TOC) || str_eqc(key, ESGZ_ANN_PLAIN_SIZE) ||
	       str_starts(key, STR(ESGZ_ANN_CHUNKED)) || str_starts(key, STR(ESGZ_ANN_CHUNKED_OLD));
}
