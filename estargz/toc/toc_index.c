#include "estargz/index/index_tree.h"
#include "estargz/toc/toc.h"
#include "estargz/toc/toc_chunks.h"

#include <inttypes.h>

#define FRAME_HEAD 8 /* a zstd TOC's offset is that of the data in its skippable frame */

struct toc {
	struct esgz_index_builder *b;
	struct toc_entry entry[2];
	struct toc_entry *file; /* the regular file whose chunks are coming; or NULL */
	struct toc_chunks chunks;
	struct esgz_entry
	    out; /* as handed to the index; not on the stack, since zeroing it takes longer than filling it */
	VEC(struct esgz_xattr) xattrs;
	struct buf path;
	int64_t version;
	uint64_t prefetch_end;
	struct esgz_toc_found found;
};

static void toc_fini(struct toc *t)
{
	for (size_t i = 0; i < ARRAY_LEN(t->entry); i++)
		toc_entry_fini(&t->entry[i]);
	toc_chunks_fini(&t->chunks);
	vec_fini(&t->xattrs);
	buf_fini(&t->path);
	esgz_index_builder_free(t->b);
}
DEFINE_AUTO_FINI(toc);

/* ---- entries ---- */

/* Hands an entry, with the chunks that have been gathered, to the index. */
static int emit(struct toc *t, const struct toc_entry *from, struct err *err)
{
	struct esgz_entry *e = &t->out;
	bool is_file = from == t->file;

	vec_clear(&t->xattrs);
	for (size_t i = 0; i < from->xattrs.n; i++) {
		const struct toc_xattr *x = &from->xattrs.p[i];

		vec_push(&t->xattrs, (struct esgz_xattr){x->name, str_make(from->xattr_bytes.p + x->off, x->n)});
	}
	TRY_WRAP(toc_entry_convert(from, e, err), err, STR_FMT, STR_ARG(from->text[F_NAME]));
	if (!is_file)
		return esgz_index_add(t->b, e, t->xattrs.p, (uint32_t)t->xattrs.n, NULL, 0, NULL, err);
	e->content = t->chunks.content;
	return esgz_index_add(t->b, e, t->xattrs.p, (uint32_t)t->xattrs.n, t->chunks.list.p, (uint32_t)t->chunks.list.n,
	                      NULL, err);
}

static int flush_file(struct toc *t, struct err *err)
{
	if (!t->file)
		return 0;
	TRY_WRAP(toc_chunks_end(&t->chunks, t->file, err), err, STR_FMT, STR_ARG(t->file->text[F_NAME]));
	TRY(emit(t, t->file, err));
	t->file = NULL;
	return 0;
}

static int take_entry(struct toc *t, struct toc_entry *e, struct err *err)
{
	struct str type = e->text[F_TYPE];

	if (str_eqc(type, "chunk")) {
		/* Chunks follow their file; a name, if given, is the file's. */
		if (!t->file || (e->text[F_NAME].n > 0 && !str_eq(e->text[F_NAME], t->file->text[F_NAME])))
			return err_set(err, ERR_INVALID, STR_FMT ": chunk that does not follow its file",
			               STR_ARG(e->text[F_NAME]));
		TRY_WRAP(toc_chunks_add(&t->chunks, t->file, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
		return 0;
	}
	TRY(flush_file(t, err));
	if (!str_eqc(type, "reg"))
		return emit(t, e, err);
	t->file = e;
	TRY_WRAP(toc_chunks_begin(&t->chunks, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
	return 0;
}

/* Landmarks and the TOC itself lie in the root, however that is spelt. */
static int is_marker_entry(struct toc *t, const struct toc_entry *e, bool *yes, struct err *err)
{
	struct str name = e->text[F_NAME];

	*yes = false;
	/* Few names are worth a closer look. */
	if (!str_ends(name, STR(".landmark")) && !str_ends(name, STR(ESGZ_TOC_NAME)))
		return 0;
	TRY(esgz_path_clean(name, &t->path, err));
	*yes = esgz_is_marker(buf_str(&t->path));
	return 0;
}

/* What a marker asks for; t->path is its path. That nothing be fetched ahead is the stronger wish. */
static int take_marker(struct toc *t, const struct toc_entry *e, struct err *err)
{
	uint64_t offset = (uint64_t)e->number[F_OFFSET];

	TRY(flush_file(t, err));
	if (str_eqc(buf_str(&t->path), ESGZ_NO_PREFETCH_LANDMARK)) {
		t->prefetch_end = ESGZ_NO_PREFETCH;
	} else if (str_eqc(buf_str(&t->path), ESGZ_PREFETCH_LANDMARK) && t->prefetch_end != ESGZ_NO_PREFETCH) {
		if (offset >= t->chunks.data_end)
			return err_set(err, ERR_INVALID,
			               STR_FMT ": at %" PRIu64 " of the blob, whose data end at %" PRIu64,
			               STR_ARG(e->text[F_NAME]), offset, t->chunks.data_end);
		t->prefetch_end = offset;
	}
	return 0;
}

/* ---- the document ---- */

static int read_entries(struct toc *t, struct json_reader *r, struct err *err)
{
	int more;

	TRY(json_array_begin(r, err));
	while ((more = json_array_next(r, err)) > 0) {
		struct toc_entry *e = &t->entry[t->file == &t->entry[0]];
		bool marker;

		TRY_WRAP(toc_entry_read(r, e, err), err, STR_FMT, STR_ARG(e->text[F_NAME]));
		TRY(is_marker_entry(t, e, &marker, err));
		if (marker)
			TRY(take_marker(t, e, err));
		else
			TRY(take_entry(t, e, err));
	}
	TRY(more);
	return flush_file(t, err);
}

static int read_tar_split(struct toc *t, struct json_reader *r, struct err *err)
{
	struct str text;

	TRY(json_string(r, &text, err));
	t->found.has_tar_split = text.n > 0;
	if (text.n > 0)
		TRY_WRAP(digest_parse(text, &t->found.tar_split, err), err, "tarSplitDigest");
	return 0;
}

static int read_toc(struct toc *t, struct json_reader *r, struct err *err)
{
	bool seen = false;
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (json_key_is(key, "version")) {
			TRY(json_i64(r, &t->version, err));
		} else if (json_key_is(key, "entries")) {
			if (seen)
				return err_set(err, ERR_INVALID, "entries twice");
			seen = true;
			TRY(read_entries(t, r, err));
		} else if (json_key_is(key, "tarSplitDigest")) {
			TRY(read_tar_split(t, r, err));
		} else {
			TRY(json_skip(r, err));
		}
	}
	TRY(more);
	TRY(json_end(r, err));
	if (t->version != 1)
		return err_set(err, ERR_INVALID, "version %" PRId64, t->version);
	if (!seen)
		return err_set(err, ERR_INVALID, "no entries");
	return 0;
}

static int to_index(const struct esgz_toc_source *src, struct buf *json, struct buf *index_out,
                    struct esgz_toc_found *found, struct err *err)
{
	const struct esgz_footer *f = src->footer;
	bool is_zstd = f->kind == ESGZ_FOOTER_ZSTD_STARGZ || f->kind == ESGZ_FOOTER_ZSTD_STORAGE;
	struct esgz_index_info info = {.blob = src->blob,
	                               .trusted = src->key,
	                               .trust = ESGZ_TRUST_TOC,
	                               .compression = is_zstd ? ESGZ_ZSTD : ESGZ_GZIP,
	                               .blob_bytes = src->blob_bytes};
	size_t json_bytes = json->n;
	AUTO(json_reader) struct json_reader *r = json_reader_new_take(json);
	AUTO(toc) struct toc t = {.b = esgz_index_builder_new()};

	if (f->kind == ESGZ_FOOTER_NONE || f->toc_offset > src->blob_bytes)
		return err_set(err, ERR_INVALID, "without a footer that fits");
	t.chunks.data_end = f->toc_offset - (is_zstd && f->toc_offset >= FRAME_HEAD ? FRAME_HEAD : 0);
	/* An entry takes 300 bytes or more in practice. */
	index_tree_expect(t.b, json_bytes / 256);
	index_tree_open_ended(t.b);
	TRY(read_toc(&t, r, err));
	TRY(toc_chunks_check_holes(&t.chunks, err));
	index_tree_end_chunks(t.b, t.chunks.data_end);
	info.prefetch_end = t.prefetch_end;
	TRY(esgz_index_finish(t.b, &info, index_out, err));
	if (found)
		*found = t.found;
	return 0;
}

int esgz_toc_to_index(const struct esgz_toc_source *src, struct buf *json, struct buf *index_out,
                      struct esgz_toc_found *found, struct err *err)
{
	TRY_WRAP(to_index(src, json, index_out, found, err), err, "TOC");
	return 0;
}
