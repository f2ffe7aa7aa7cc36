#include "estargz/inflate/layer.h"

#include "base/buf.h"
#include "estargz/inflate/file_chunks.h"
#include "estargz/toc/toc.h"

struct esgz_layer {
	struct esgz_layer_sink sink;
	struct esgz_stream *stream;
	struct esgz_tar *tar;
	struct esgz_index_builder *b;
	struct hasher *blob, *plain, *file; /* plain: of all that the tar gives, as raw and as data */
	struct esgz_layer_result result;
	struct esgz_tar_entry entry; /* the regular file whose content is coming; valid until its end (tar.h) */
	struct buf path;
	bool marker;                /* it is none of the tree */
	struct file_chunks *chunks; /* NULL: files are not cut */
};

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct esgz_layer *l = arg;

	TRY(esgz_path_clean(t->e.path, &l->path, err));
	l->marker = esgz_is_marker(buf_str(&l->path));
	if (t->e.type != ESGZ_REG)
		return l->marker ? 0 : esgz_index_add(l->b, &t->e, t->xattrs, t->n_xattrs, NULL, 0, NULL, err);
	l->entry = *t;
	if (l->chunks)
		file_chunks_begin(l->chunks, t->payload_offset);
	return l->marker || t->e.size == 0 ? 0 : l->sink.begin(l->sink.arg, t->e.size, err);
}

static int on_raw(void *arg, struct str bytes, struct err *err)
{
	struct esgz_layer *l = arg;

	hasher_add(l->plain, bytes.p, bytes.n);
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct esgz_layer *l = arg;

	if (l->marker) {
		hasher_add(l->plain, bytes.p, bytes.n);
		return 0;
	}
	if (l->chunks)
		file_chunks_add(l->chunks, bytes);
	else
		hasher_add_all((struct hasher *const[]){l->plain, l->file}, 2, bytes.p, bytes.n);
	return l->sink.data(l->sink.arg, bytes, err);
}

/* So many zeros, hashed, and for the sink. */
static int add_zeros(struct esgz_layer *l, uint64_t bytes, struct err *err)
{
	static const uint8_t zeros[64 << 10];

	for (uint64_t left = bytes; left > 0;) {
		struct str part = str_make(zeros, left < sizeof(zeros) ? (size_t)left : sizeof(zeros));

		if (l->chunks)
			file_chunks_hole_add(l->chunks, part);
		else
			hasher_add(l->file, part.p, part.n);
		if (!l->sink.hole)
			TRY(l->sink.data(l->sink.arg, part, err));
		left -= part.n;
	}
	return l->sink.hole ? l->sink.hole(l->sink.arg, bytes, err) : 0;
}

/* A chunk of its own, where files are cut. A layer of a KiB may have ESGZ_HOLES_BYTES_MAX of it, half a minute of hashing:
 * whoever does not want to go on is asked in between. */
static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	struct esgz_layer *l = arg;

	if (l->marker)
		return 0;
	if (l->chunks)
		file_chunks_hole_begin(l->chunks);
	for (uint64_t left = bytes, n; left > 0; left -= n) {
		n = left < ESGZ_LAYER_HOLE_BYTES ? left : ESGZ_LAYER_HOLE_BYTES;
		TRY(add_zeros(l, n, err));
	}
	if (l->chunks)
		file_chunks_hole_end(l->chunks);
	return 0;
}

static int on_end(void *arg, struct err *err)
{
	struct esgz_layer *l = arg;
	struct esgz_entry *e = &l->entry.e;
	const struct esgz_chunk *chunks = NULL;
	uint32_t n = 0;

	if (l->marker)
		return 0;
	if (e->size == 0) {
		e->content = DIGEST_EMPTY;
	} else {
		hasher_done(l->file, &e->content);
		if (l->chunks)
			chunks = file_chunks_end(l->chunks, &e->content, &n);
		TRY(l->sink.end(l->sink.arg, &e->content, err));
	}
	return esgz_index_add(l->b, e, l->entry.xattrs, l->entry.n_xattrs, chunks, n, NULL, err);
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct esgz_layer *l = arg;

	l->result.plain_bytes += plain.n;
	return esgz_tar_feed(l->tar, plain, err);
}

struct esgz_layer *esgz_layer_new(const struct esgz_layer_sink *sink)
{
	struct esgz_layer *l = xcalloc(1, sizeof(*l));
	const struct esgz_tar_sink tar_sink = {
	    .entry = on_entry, .data = on_data, .end = on_end, .hole = on_hole, .raw = on_raw, .arg = l};

	l->sink = *sink;
	l->stream = esgz_stream_new();
	l->tar = esgz_tar_new(&tar_sink);
	l->b = esgz_index_builder_new();
	l->blob = hasher_new();
	l->plain = hasher_new();
	l->file = hasher_new();
	return l;
}

void esgz_layer_free(struct esgz_layer *l)
{
	if (!l)
		return;
	esgz_stream_free(l->stream);
	esgz_tar_free(l->tar);
	esgz_index_builder_free(l->b);
	hasher_free(l->blob);
	hasher_free(l->plain);
	hasher_free(l->file);
	file_chunks_free(l->chunks);
	buf_fini(&l->path);
	free(l);
}

int esgz_layer_feed(struct esgz_layer *l, struct str blob_bytes, struct err *err)
{
	hasher_add(l->blob, blob_bytes.p, blob_bytes.n);
	l->result.blob_bytes += blob_bytes.n;
	return esgz_stream_feed(l->stream, blob_bytes, on_plain, l, err);
}

int esgz_layer_feed_plain(struct esgz_layer *l, struct str plain, struct err *err)
{
	return on_plain(l, plain, err);
}

static int finish_tar(struct esgz_layer *l, struct esgz_layer_result *out, struct err *err)
{
	TRY(esgz_tar_finish(l->tar, err));
	hasher_done(l->plain, &l->result.diff_id);
	*out = l->result;
	return 0;
}

int esgz_layer_finish(struct esgz_layer *l, struct esgz_layer_result *out, struct err *err)
{
	TRY(esgz_stream_finish(l->stream, err));
	hasher_done(l->blob, &l->result.blob);
	l->result.compression = esgz_stream_kind(l->stream);
	return finish_tar(l, out, err);
}

int esgz_layer_finish_plain(struct esgz_layer *l, const struct digest *blob, uint64_t blob_bytes,
                            enum esgz_compression compression, struct esgz_layer_result *out, struct err *err)
{
	l->result.blob = *blob;
	l->result.blob_bytes = blob_bytes;
	l->result.compression = compression;
	return finish_tar(l, out, err);
}

void esgz_layer_cut_files(struct esgz_layer *l)
{
	l->chunks = file_chunks_new(l->plain, l->file);
}

void esgz_layer_cut(struct esgz_layer *l)
{
	file_chunks_cut(l->chunks);
}

void esgz_layer_place_chunks(struct esgz_layer *l, void (*place)(void *arg, struct esgz_chunk_place *p), void *arg)
{
	esgz_index_place(l->b, place, arg);
	l->result.compression = ESGZ_GZIP_SEEK;
}

void esgz_layer_drop_chunks(struct esgz_layer *l, enum esgz_compression compression)
{
	esgz_index_drop_chunks(l->b);
	l->result.compression = compression;
}

int esgz_layer_index(struct esgz_layer *l, struct buf *index_out, struct err *err)
{
	const struct esgz_index_info info = {.blob = l->result.blob,
	                                     .trusted = l->result.diff_id,
	                                     .trust = ESGZ_TRUST_DIFFID,
	                                     .compression = l->result.compression,
	                                     .blob_bytes = l->result.blob_bytes};

	return esgz_index_finish(l->b, &info, index_out, err);
}
