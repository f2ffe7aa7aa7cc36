#include "estargz/convert/format.h"
#include "estargz/convert/writer.h"
#include "estargz/tar/tar_write.h"
#include "estargz/toc/footer.h"
#include "estargz/toc/toc.h"

#include <inttypes.h>

/*
 * The formats of stargz-snapshotter. A member (or frame) begins at the first byte of each chunk of a file, or, with
 * min_chunk_bytes, of one after so many bytes, and goes on over padding and headers to the next. A landmark always begins
 * one: what is to be prefetched ends there. The TOC is the last entry of the tar, with the blocks that end it, in a
 * member of its own (estargz), or no part of the tar at all.
 *
 * Of two entries with one path only the last is in the TOC. Both are in the tar, whose end is not known when the first
 * is written: extracting it gives the last one, too.
 */
struct writer {
	struct out *out;
	bool keep;
	uint32_t chunk_bytes, min_bytes;
	bool landmark; /* the entry at hand is one */
	struct buf path, link;
};

static struct writer *stargz_new(struct out *o, bool keep)
{
	struct writer *w = xcalloc(1, sizeof(*w));

	w->out = o;
	w->keep = keep;
	w->chunk_bytes = o->opts->chunk_bytes ? o->opts->chunk_bytes : ESGZ_CONVERT_CHUNK_BYTES;
	w->min_bytes = o->opts->min_chunk_bytes;
	o->toc.full_chunk = w->chunk_bytes;
	return w;
}

static void stargz_free(struct writer *w)
{
	if (!w)
		return;
	buf_fini(&w->path);
	buf_fini(&w->link);
	free(w);
}

static int check_kept(const struct esgz_tar_entry *t, struct str path, struct err *err)
{
	if (str_eqc(path, ESGZ_TOC_NAME))
		return err_set(err, ERR_INVALID, "the layer has a " ESGZ_TOC_NAME ": it cannot be kept as it is");
	if (t->sparse)
		return err_set(err, ERR_INVALID,
		               STR_FMT ": a sparse file, which a TOC has no way to say: the layer "
		                       "cannot be kept as it is",
		               STR_ARG(path));
	return 0;
}

static int stargz_entry(struct writer *w, const struct esgz_tar_entry *t, struct err *err)
{
	struct esgz_entry e = t->e;

	TRY(esgz_path_clean(t->e.path, &w->path, err));
	e.path = buf_str(&w->path);
	if (e.type == ESGZ_HARDLINK) {
		TRY(esgz_path_clean(t->e.link, &w->link, err));
		e.link = buf_str(&w->link);
	}
	w->landmark = esgz_is_marker(e.path);
	if (w->keep) {
		TRY(check_kept(t, e.path, err));
	} else {
		TRY(out_cut_headers(w->out, err));
		TRY_WRAP(tar_write_header(&e, t->xattrs, t->n_xattrs, &w->out->u->plain, err), err, STR_FMT,
		         STR_ARG(e.path));
	}
	TRY_WRAP(out_entry(w->out, &e, t->xattrs, t->n_xattrs, err), err, STR_FMT, STR_ARG(e.path));
	return 0;
}

static int begin_chunk(struct writer *w, struct err *err)
{
	if (w->min_bytes == 0 || w->landmark || w->out->u->plain.n >= w->min_bytes)
		TRY(out_cut(w->out, err));
	return out_chunk_begin(w->out, err);
}

static int stargz_data(struct writer *w, struct str bytes, struct err *err)
{
	struct out *o = w->out;

	while (bytes.n > 0) {
		struct str part = str_sub(bytes, 0, w->chunk_bytes - o->at % w->chunk_bytes);

		if (!o->in_chunk)
			TRY(begin_chunk(w, err));
		out_chunk_add(o, part);
		if (o->at % w->chunk_bytes == 0 || o->at == o->size)
			out_chunk_end(o);
		bytes = str_sub(bytes, part.n, bytes.n);
	}
	return 0;
}

static int stargz_end(struct writer *w, struct err *err)
{
	out_entry_end(w->out);
	if (!w->keep)
		tar_write_padding(w->out->size, &w->out->u->plain);
	return 0;
}

static int stargz_raw(struct writer *w, struct str bytes, struct err *err)
{
	TRY(out_cut_headers(w->out, err));
	buf_addstr(&w->out->u->plain, bytes);
	return 0;
}

/* ---- behind the last entry ---- */

/* A tar with the TOC as its one, or last, file. */
static int toc_as_tar(const struct buf *json, struct buf *tar, struct err *err)
{
	const struct esgz_entry e = {.type = ESGZ_REG, .path = STR(ESGZ_TOC_NAME), .size = json->n};

	TRY(tar_write_header(&e, NULL, 0, tar, err));
	buf_addstr(tar, buf_str(json));
	tar_write_padding(json->n, tar);
	buf_addz(tar, 2 * TAR_BLOCK);
	return 0;
}

static int finish_inside(struct out *o, const struct buf *json, struct esgz_footer *f, struct err *err)
{
	uint8_t footer[ESGZ_FOOTER_BYTES];

	TRY(toc_as_tar(json, &o->u->plain, err));
	TRY(out_drain(o, err));
	*f = (struct esgz_footer){.kind = ESGZ_FOOTER_ESTARGZ, .toc_offset = o->unit_offset};
	esgz_footer_write(o->unit_offset, footer);
	return out_write(o, str_make(footer, sizeof(footer)), err);
}

static int finish_external(struct out *o, const struct buf *json, struct esgz_footer *f, struct esgz_convert_result *r,
                           struct err *err)
{
	uint8_t footer[ESGZ_FOOTER_EXTERNAL_BYTES];
	AUTO(buf) struct buf tar = BUF_INIT;

	TRY(toc_as_tar(json, &tar, err));
	TRY(out_pack(o, ESGZ_GZIP, buf_str(&tar), &r->external_toc, err));
	*f = (struct esgz_footer){.kind = ESGZ_FOOTER_EXTERNAL_TOC, .toc_offset = o->blob_bytes};
	esgz_footer_write_external(footer);
	return out_write(o, str_make(footer, sizeof(footer)), err);
}

static int finish_zstd(struct out *o, const struct buf *json, struct esgz_footer *f, struct esgz_convert_result *r,
                       struct err *err)
{
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf footer = BUF_INIT;

	TRY(out_pack(o, ESGZ_ZSTD, buf_str(json), &packed, err));
	TRY(out_write_skippable(o, buf_str(&packed), &r->toc_offset, err));
	digest_of(packed.p, packed.n, &r->toc_packed);
	r->toc_packed_bytes = packed.n;
	*f = (struct esgz_footer){.kind = ESGZ_FOOTER_ZSTD_STARGZ,
	                          .toc_offset = r->toc_offset,
	                          .toc_bytes = packed.n,
	                          .toc_plain_bytes = json->n};
	esgz_footer_write_zstd(f, &footer);
	return out_write(o, buf_str(&footer), err);
}

static int stargz_finish(struct writer *w, struct esgz_convert_result *r, struct err *err)
{
	enum esgz_format format = w->out->opts->format;
	AUTO(buf) struct buf json = BUF_INIT;
	struct esgz_footer f;

	if (!w->keep && format != ESGZ_F_ESTARGZ)
		buf_addz(&w->out->u->plain, 2 * TAR_BLOCK);
	TRY(out_drain(w->out, err));
	TRY(toc_finish(&w->out->toc, NULL, &json, err));
	digest_of(json.p, json.n, &r->toc);
	r->toc_plain_bytes = json.n;
	if (format == ESGZ_F_ESTARGZ)
		TRY(finish_inside(w->out, &json, &f, err));
	else if (format == ESGZ_F_ESTARGZ_EXTERNAL)
		TRY(finish_external(w->out, &json, &f, r, err));
	else
		TRY(finish_zstd(w->out, &json, &f, r, err));
	return out_check_toc(w->out, &f, &json, err);
}

const struct writer_ops WRITER_STARGZ = {
    .new = stargz_new,
    .free = stargz_free,
    .entry = stargz_entry,
    .data = stargz_data,
    .end = stargz_end,
    .raw = stargz_raw,
    .finish = stargz_finish,
};
