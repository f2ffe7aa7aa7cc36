#include "estargz/convert/out.h"

#include "estargz/convert/format.h"
#include "estargz/toc/toc.h"

#include "base/bytes.h"

static int write_blob(struct out *o, struct str bytes, struct err *err)
{
	hasher_add(o->blob, bytes.p, bytes.n);
	o->blob_bytes += bytes.n;
	TRY(o->io->write(o->io->arg, bytes, err));
	if (o->io->progress)
		o->io->progress(o->io->arg, o->bytes_in, o->blob_bytes);
	return 0;
}

static int deliver(void *arg, const struct unit *u, struct err *err)
{
	struct out *o = arg;

	o->unit_offset = o->blob_bytes;
	vec_each(&u->chunks, c) {
		struct toc_chunk *chunk = &o->toc.chunks.p[c->number];

		chunk->blob_offset = o->blob_bytes;
		chunk->blob_end = o->blob_bytes + u->packed.n;
		chunk->inner_offset = c->at;
		chunk->bytes = c->bytes;
		chunk->digest = c->digest;
	}
	return write_blob(o, buf_str(&u->packed), err);
}

int out_init(struct out *o, const struct esgz_convert_opts *opts, const struct esgz_convert_io *io, struct err *err)
{
	unsigned threads = opts->threads ? opts->threads : cpu_count();

	o->opts = opts;
	o->io = io;
	o->blob = hasher_new();
	o->file = hasher_new();
	TRY(units_new(codec_of(esgz_format_compression(opts->format)), opts->level, threads, deliver, o, &o->units,
	              err));
	units_watch(o->units, (struct codec_watch){io->go_on, io->arg});
	return units_fill(o->units, &o->u, err);
}

void out_fini(struct out *o)
{
	units_free(o->units);
	toc_writer_fini(&o->toc);
	hasher_free(o->plain);
	hasher_free(o->blob);
	hasher_free(o->file);
}

int out_pack(struct out *o, enum esgz_compression kind, struct str plain, struct buf *packed, struct err *err)
{
	const struct codec_watch w = {o->io->go_on, o->io->arg};

	return codec_pack(codec_of(kind), o->opts->level, plain, packed, &w, err);
}

int out_check_toc(const struct out *o, const struct esgz_footer *f, struct buf *json, struct err *err)
{
	const struct esgz_toc_source src = {.footer = f, .blob_bytes = o->blob_bytes};
	AUTO(buf) struct buf index = BUF_INIT;

	TRY_WRAP(esgz_toc_to_index(&src, json, &index, NULL, err), err, "the layer could not be read lazily");
	return 0;
}

int out_write(struct out *o, struct str bytes, struct err *err)
{
	return write_blob(o, bytes, err);
}

int out_write_skippable(struct out *o, struct str bytes, uint64_t *offset, struct err *err)
{
	AUTO(buf) struct buf frame = BUF_INIT;

	if (bytes.n > UINT32_MAX)
		return err_set(err, ERR_EXHAUSTED, "%zu bytes do not fit into a zstd frame", bytes.n);
	buf_le32(&frame, 0x184d2a50);
	buf_le32(&frame, (uint32_t)bytes.n);
	TRY(write_blob(o, buf_str(&frame), err));
	*offset = o->blob_bytes;
	return write_blob(o, bytes, err);
}

int out_cut(struct out *o, struct err *err)
{
	if (o->u->plain.n == 0)
		return 0;
	if (o->plain)
		hasher_add(o->plain, o->u->plain.p, o->u->plain.n);
	o->plain_bytes += o->u->plain.n;
	units_submit(o->units);
	return units_fill(o->units, &o->u, err);
}

int out_cut_headers(struct out *o, struct err *err)
{
	const struct unit *u = o->u;
	size_t chunks_end = u->chunks.n ? vec_last(&u->chunks)->at + vec_last(&u->chunks)->bytes : 0;

	return u->plain.n - chunks_end > OUT_HEADERS_MAX ? out_cut(o, err) : 0;
}

int out_drain(struct out *o, struct err *err)
{
	TRY(out_cut(o, err));
	return units_drain(o->units, err);
}

int out_entry(struct out *o, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
              struct err *err)
{
	TRY(toc_add(&o->toc, e, xattrs, n_xattrs, err));
	o->size = e->type == ESGZ_REG ? e->size : 0;
	o->at = 0;
	return 0;
}

int out_chunk_begin(struct out *o, struct err *err)
{
	struct unit_chunk *c = vec_add(&o->u->chunks);

	c->at = o->u->plain.n;
	o->in_chunk = true;
	return toc_add_chunk(&o->toc, o->at, &c->number, err);
}

void out_chunk_add(struct out *o, struct str bytes)
{
	buf_addstr(&o->u->plain, bytes);
	vec_last(&o->u->chunks)->bytes += bytes.n;
	o->at += bytes.n;
}

void out_chunk_add_hole(struct out *o, size_t bytes)
{
	struct unit_chunk *c = vec_last(&o->u->chunks);

	buf_addz(&o->u->plain, bytes);
	c->bytes += bytes;
	o->at += bytes;
	o->toc.chunks.p[c->number].hole = true;
}

/* The digest of a file of one chunk is that of the chunk, which a thread of the pool makes. */
void out_chunk_end(struct out *o)
{
	const struct unit_chunk *c = vec_last(&o->u->chunks);
	bool only = vec_last(&o->toc.records)->n_chunks == 1 && o->at == o->size;

	if (!only)
		hasher_add(o->file, o->u->plain.p + c->at, c->bytes);
	o->in_chunk = false;
}

void out_entry_end(struct out *o)
{
	struct toc_record *r = vec_last(&o->toc.records);

	if (r->n_chunks > 1)
		hasher_done(o->file, &r->content);
}

void out_result(struct out *o, struct esgz_convert_result *r)
{
	hasher_done(o->blob, &r->blob);
	if (o->plain)
		hasher_done(o->plain, &r->diff_id);
	r->blob_bytes = o->blob_bytes;
	r->plain_bytes = o->plain_bytes;
	r->n_entries = (uint32_t)o->toc.records.n;
	r->n_chunks = (uint32_t)o->toc.chunks.n;
}
