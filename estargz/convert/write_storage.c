#include "estargz/convert/rolling.h"
#include "estargz/convert/writer.h"
#include "estargz/tar/split.h"
#include "estargz/toc/footer.h"

#include <inttypes.h>

/*
 * zstd:chunked of containers/storage: the tar as it is, in frames that hold either one chunk of a file and nothing else,
 * or what lies between files; then, in skippable frames, TOC, tar-split and footer. Their reader compares each entry of
 * the TOC with the header in the tar-split, so names, modes and times are given as they stand there, and what it would
 * fail at is refused here.
 *
 * Files are cut as theirs (rolling.h), with one difference: they have no largest chunk, which makes readers hold a file
 * of equal bytes in memory whole.
 */
#define CHUNK_BYTES_MAX (16u << 20)

struct writer {
	struct out *out;
	struct esgz_split_writer *split;
	uint32_t chunk_bytes; /* all chunks are of this size; 0: cut by content */
	struct rolling rolling;
	struct buf name; /* of the file at hand */
	uint64_t taken;  /* bytes of it that came */
	uint64_t crc64;
};

static struct writer *storage_new(struct out *o, bool keep)
{
	struct writer *w = xcalloc(1, sizeof(*w));

	w->out = o;
	w->chunk_bytes = o->opts->chunk_bytes;
	w->split = esgz_split_writer_new(o->opts->level ? o->opts->level : codec_of(ESGZ_ZSTD)->level_default);
	o->toc.verbatim = true;
	return w;
}

static void storage_free(struct writer *w)
{
	if (!w)
		return;
	esgz_split_writer_free(w->split);
	buf_fini(&w->name);
	free(w);
}

static int check_entry(const struct esgz_tar_entry *t, struct err *err)
{
	if (t->sparse)
		return err_set(err, ERR_INVALID, "a sparse file, which containers/storage does not read");
	if (t->extra_headers)
		return err_set(err, ERR_INVALID,
		               "behind a header for all (pax 'g', a volume's), which containers/storage does not read");
	return 0;
}

static int put_entry(struct writer *w, const struct esgz_tar_entry *t, struct err *err)
{
	struct toc_record *r;

	TRY(check_entry(t, err));
	TRY(out_entry(w->out, &t->e, t->xattrs, t->n_xattrs, err));
	r = vec_last(&w->out->toc.records);
	r->mode = t->mode_field;
	r->size = t->e.type == ESGZ_REG ? t->e.size : t->header_bytes;
	r->atime = t->atime;
	r->ctime = t->ctime;
	return t->e.type == ESGZ_REG ? 0 : esgz_split_file(w->split, t->e.path, 0, 0, err);
}

static int storage_entry(struct writer *w, const struct esgz_tar_entry *t, struct err *err)
{
	TRY_WRAP(put_entry(w, t, err), err, STR_FMT, STR_ARG(t->e.path));
	buf_clear(&w->name);
	buf_addstr(&w->name, t->e.path);
	w->taken = w->crc64 = 0;
	rolling_begin(&w->rolling);
	return 0;
}

static int put_chunk(struct writer *w, struct str bytes, struct err *err)
{
	struct out *o = w->out;

	if (!o->in_chunk) {
		TRY(out_cut(o, err));
		TRY(out_chunk_begin(o, err));
	}
	out_chunk_add(o, bytes);
	return 0;
}

static int end_chunk(struct writer *w, struct err *err)
{
	if (!w->out->in_chunk)
		return 0;
	out_chunk_end(w->out);
	return out_cut(w->out, err);
}

/* Content, in chunks of at most `max`. */
static int put_content(struct writer *w, struct str bytes, uint32_t max, struct err *err)
{
	while (bytes.n > 0) {
		size_t in_chunk = w->out->in_chunk ? vec_last(&w->out->u->chunks)->bytes : 0;
		struct str part = str_sub(bytes, 0, max - in_chunk);

		TRY(put_chunk(w, part, err));
		if (in_chunk + part.n == max)
			TRY(end_chunk(w, err));
		bytes = str_sub(bytes, part.n, bytes.n);
	}
	return 0;
}

static int put_hole(struct writer *w, uint64_t bytes, struct err *err)
{
	struct out *o = w->out;

	TRY(end_chunk(w, err));
	while (bytes > 0) {
		size_t n = bytes < CHUNK_BYTES_MAX ? (size_t)bytes : CHUNK_BYTES_MAX;

		TRY(put_chunk(w, STR_NONE, err));
		out_chunk_add_hole(o, n);
		TRY(end_chunk(w, err));
		bytes -= n;
	}
	return 0;
}

static int storage_data(struct writer *w, struct str bytes, struct err *err)
{
	struct rolling_piece p;

	w->crc64 = esgz_split_crc64(w->crc64, bytes);
	w->taken += bytes.n;
	if (w->chunk_bytes)
		return put_content(w, bytes, w->chunk_bytes, err);
	while (rolling_next(&w->rolling, &bytes, w->taken == w->out->size, &p)) {
		if (p.hole)
			TRY(put_hole(w, p.hole, err));
		else
			TRY(put_content(w, p.bytes, CHUNK_BYTES_MAX, err));
		if (p.ends)
			TRY(end_chunk(w, err));
	}
	return 0;
}

static int storage_end(struct writer *w, struct err *err)
{
	TRY(end_chunk(w, err));
	out_entry_end(w->out);
	TRY_WRAP(esgz_split_file(w->split, buf_str(&w->name), w->out->size, w->crc64, err), err, STR_FMT,
	         STR_ARG(buf_str(&w->name)));
	return 0;
}

static int storage_raw(struct writer *w, struct str bytes, struct err *err)
{
	TRY(out_cut_headers(w->out, err));
	buf_addstr(&w->out->u->plain, bytes);
	return esgz_split_segment(w->split, bytes, err);
}

static int storage_finish(struct writer *w, struct esgz_convert_result *r, struct err *err)
{
	struct out *o = w->out;
	struct esgz_footer f = {.kind = ESGZ_FOOTER_ZSTD_STORAGE};
	AUTO(buf) struct buf split = BUF_INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(buf) struct buf packed = BUF_INIT;
	AUTO(buf) struct buf footer = BUF_INIT;
	struct digest split_digest;

	TRY(out_drain(o, err));
	TRY(esgz_split_finish(w->split, &split, &r->split_plain_bytes, err));
	digest_of(split.p, split.n, &split_digest);
	TRY(toc_finish(&o->toc, &split_digest, &json, err));
	digest_of(json.p, json.n, &r->toc);
	TRY(out_pack(o, ESGZ_ZSTD, buf_str(&json), &packed, err));
	digest_of(packed.p, packed.n, &r->toc_packed);
	TRY(out_write_skippable(o, buf_str(&packed), &r->toc_offset, err));
	TRY(out_write_skippable(o, buf_str(&split), &r->split_offset, err));
	r->toc_plain_bytes = f.toc_plain_bytes = json.n;
	r->toc_packed_bytes = f.toc_bytes = packed.n;
	r->split_packed_bytes = f.split_bytes = split.n;
	f.split_plain_bytes = r->split_plain_bytes;
	f.toc_offset = r->toc_offset;
	f.split_offset = r->split_offset;
	esgz_footer_write_zstd(&f, &footer);
	TRY(out_write(o, buf_str(&footer), err));
	return out_check_toc(o, &f, &json, err);
}

const struct writer_ops WRITER_STORAGE = {
    .new = storage_new,
    .free = storage_free,
    .entry = storage_entry,
    .data = storage_data,
    .end = storage_end,
    .raw = storage_raw,
    .finish = storage_finish,
};
