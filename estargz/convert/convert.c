#include "estargz/convert/convert.h"

#include "estargz/convert/members.h"
#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"
#include "estargz/tar/tar_write.h"
#include "estargz/toc/toc.h"
#include "estargz/toc/toc_write.h"

#include <inttypes.h>

/*
 * Source bytes -> stream (inflate) -> tar (entries and content) -> the same entries under headers of our own, cut into
 * gzip members -> blob. A member begins at the first byte of each chunk of a file, and goes on over padding and headers
 * to the next; long runs of headers are cut, too, so that no member grows without bound. The footer is a member without
 * content, so the plain stream ends with the entry of the TOC.
 *
 * Of two entries with one path only the last is in the TOC. Both are in the tar, whose end is not known when the first
 * is written: extracting it gives the last one, too.
 */

#define HEADERS_MAX (1u << 20) /* bytes of headers and padding behind a chunk, or without one, until they are cut */
#define READ_BYTES (256u << 10)

#define LANDMARK_BYTE "\x0f"

struct convert {
	const struct esgz_convert_io *io;
	uint32_t chunk_bytes;
	struct toc_writer toc;
	struct members *members;
	struct member *m; /* being filled */
	struct esgz_stream *stream;
	struct esgz_tar *tar;
	struct hasher *source_blob, *source_plain, *plain, *blob, *file;
	uint64_t plain_bytes, blob_bytes;
	uint64_t toc_offset; /* of the member delivered last */
	/* the file at hand */
	uint64_t size, at;
	bool skip;
	struct buf path, link;
};

static void convert_fini(struct convert *c)
{
	members_free(c->members);
	toc_writer_fini(&c->toc);
	esgz_tar_free(c->tar);
	esgz_stream_free(c->stream);
	hasher_free(c->source_blob);
	hasher_free(c->source_plain);
	hasher_free(c->plain);
	hasher_free(c->blob);
	hasher_free(c->file);
	buf_fini(&c->path);
	buf_fini(&c->link);
}
DEFINE_AUTO_FINI(convert);

/* ---- members ---- */

static int write_blob(struct convert *c, struct str bytes, struct err *err)
{
	hasher_add(c->blob, bytes.p, bytes.n);
	c->blob_bytes += bytes.n;
	return c->io->write(c->io->arg, bytes, err);
}

static int deliver(void *arg, const struct member *m, struct err *err)
{
	struct convert *c = arg;

	c->toc_offset = c->blob_bytes;
	if (m->chunk_bytes > 0) {
		struct toc_chunk *chunk = &c->toc.chunks.p[m->chunk];

		chunk->blob_offset = c->blob_bytes;
		chunk->bytes = m->chunk_bytes;
		chunk->digest = m->digest;
	}
	return write_blob(c, buf_str(&m->gz), err);
}

/* Hands over the member being filled, and takes a new one. */
static int cut(struct convert *c, struct err *err)
{
	if (c->m->plain.n == 0)
		return 0;
	hasher_add(c->plain, c->m->plain.p, c->m->plain.n);
	c->plain_bytes += c->m->plain.n;
	members_submit(c->members, c->m);
	return members_next(c->members, &c->m, err);
}

static int cut_headers(struct convert *c, struct err *err)
{
	return c->m->plain.n - c->m->chunk_bytes > HEADERS_MAX ? cut(c, err) : 0;
}

/* ---- entries ---- */

static int put_entry(struct convert *c, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
                     struct err *err)
{
	TRY(cut_headers(c, err));
	TRY(tar_write_header(e, xattrs, n_xattrs, &c->m->plain, err));
	TRY(toc_add(&c->toc, e, xattrs, n_xattrs, err));
	c->size = e->type == ESGZ_REG ? e->size : 0;
	c->at = 0;
	return 0;
}

static int put_data(struct convert *c, struct str bytes, struct err *err)
{
	if (c->size > c->chunk_bytes)
		hasher_add(c->file, bytes.p, bytes.n);
	while (bytes.n > 0) {
		uint32_t in_chunk = (uint32_t)(c->at % c->chunk_bytes), n = c->chunk_bytes - in_chunk;

		if (in_chunk == 0) {
			TRY(cut(c, err));
			TRY(toc_add_chunk(&c->toc, c->at, &c->m->chunk, err));
		}
		if (n > bytes.n)
			n = (uint32_t)bytes.n;
		buf_add(&c->m->plain, bytes.p, n);
		c->m->chunk_bytes += n;
		c->at += n;
		bytes = str_sub(bytes, n, bytes.n);
	}
	return 0;
}

static void put_end(struct convert *c)
{
	tar_write_padding(c->size, &c->m->plain);
	if (c->size > c->chunk_bytes)
		hasher_done(c->file, &vec_last(&c->toc.records)->content);
}

/* ---- the source ---- */

static int on_entry(void *arg, const struct esgz_tar_entry *t, struct err *err)
{
	struct convert *c = arg;
	struct esgz_entry e = t->e;

	TRY(esgz_path_clean(t->e.path, &c->path, err));
	e.path = buf_str(&c->path);
	c->skip = esgz_is_marker(e.path);
	if (c->skip)
		return 0;
	if (e.type == ESGZ_HARDLINK) {
		TRY(esgz_path_clean(t->e.link, &c->link, err));
		e.link = buf_str(&c->link);
	}
	TRY_WRAP(put_entry(c, &e, t->xattrs, t->n_xattrs, err), err, STR_FMT, STR_ARG(e.path));
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct convert *c = arg;

	return c->skip ? 0 : put_data(c, bytes, err);
}

static int on_end(void *arg, struct err *err)
{
	struct convert *c = arg;

	if (!c->skip)
		put_end(c);
	return 0;
}

static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct convert *c = arg;

	hasher_add(c->source_plain, plain.p, plain.n);
	return esgz_tar_feed(c->tar, plain, err);
}

static int read_source(struct convert *c, struct err *err)
{
	AUTO_FREE char *bytes = xmalloc(READ_BYTES);
	size_t n;

	for (;;) {
		TRY(c->io->read(c->io->arg, bytes, READ_BYTES, &n, err));
		if (n == 0)
			break;
		hasher_add(c->source_blob, bytes, n);
		TRY(esgz_stream_feed(c->stream, str_make(bytes, n), on_plain, c, err));
	}
	TRY(esgz_stream_finish(c->stream, err));
	return esgz_tar_finish(c->tar, err);
}

/* ---- the whole ---- */

/* Says that no part of the layer is to be fetched before it is used; always the first entry. */
static int put_landmark(struct convert *c, struct err *err)
{
	struct esgz_entry e = {.type = ESGZ_REG, .path = STR(ESGZ_NO_PREFETCH_LANDMARK), .mode = 0644, .size = 1};

	TRY(put_entry(c, &e, NULL, 0, err));
	TRY(put_data(c, STR(LANDMARK_BYTE), err));
	put_end(c);
	return 0;
}

/* The TOC is the last entry, in a member of its own, with the two empty blocks that end a tar. */
static int put_toc(struct convert *c, struct digest *digest, struct err *err)
{
	struct esgz_entry e = {.type = ESGZ_REG, .path = STR(ESGZ_TOC_NAME)};
	AUTO(buf) struct buf json = BUF_INIT;

	TRY(cut(c, err));
	TRY(members_drain(c->members, err)); /* now all places are known */
	TRY(toc_finish(&c->toc, &json, err));
	digest_of(json.p, json.n, digest);
	e.size = json.n;
	TRY(tar_write_header(&e, NULL, 0, &c->m->plain, err));
	buf_addstr(&c->m->plain, buf_str(&json));
	tar_write_padding(json.n, &c->m->plain);
	buf_addz(&c->m->plain, 2 * TAR_BLOCK);
	TRY(cut(c, err));
	return members_drain(c->members, err);
}

static int convert_init(struct convert *c, const struct esgz_convert_opts *opts, const struct esgz_convert_io *io,
                        struct err *err)
{
	const struct esgz_tar_sink sink = {.entry = on_entry, .data = on_data, .end = on_end, .arg = c};
	int level = opts->level ? opts->level : 6;

	c->io = io;
	c->chunk_bytes = opts->chunk_bytes ? opts->chunk_bytes : ESGZ_CONVERT_CHUNK_BYTES;
	TRY(esgz_convert_check(opts, err));
	if (opts->format != ESGZ_F_ESTARGZ || opts->n_priority || opts->min_chunk_bytes)
		return err_set(err, ERR_UNIMPLEMENTED, "format %s", esgz_format_name(opts->format));
	c->toc.full_chunk = c->chunk_bytes;
	c->stream = esgz_stream_new();
	c->tar = esgz_tar_new(&sink);
	c->source_blob = hasher_new();
	c->source_plain = hasher_new();
	c->plain = hasher_new();
	c->blob = hasher_new();
	c->file = hasher_new();
	TRY(members_new(level, opts->threads ? opts->threads : cpu_count(), deliver, c, &c->members, err));
	return members_next(c->members, &c->m, err);
}

int esgz_convert(const struct esgz_convert_opts *opts, const struct esgz_convert_io *io,
                 struct esgz_convert_result *out, struct err *err)
{
	AUTO(convert) struct convert c = {0};
	uint8_t footer[ESGZ_FOOTER_BYTES];

	*out = (struct esgz_convert_result){0};
	TRY(convert_init(&c, opts, io, err));
	TRY(put_landmark(&c, err));
	TRY(read_source(&c, err));
	TRY(put_toc(&c, &out->toc, err));
	esgz_footer_write(c.toc_offset, footer);
	TRY(write_blob(&c, str_make(footer, sizeof(footer)), err));
	hasher_done(c.source_blob, &out->source_blob);
	hasher_done(c.source_plain, &out->source_diff_id);
	hasher_done(c.blob, &out->blob);
	hasher_done(c.plain, &out->diff_id);
	out->blob_bytes = c.blob_bytes;
	out->plain_bytes = c.plain_bytes;
	return 0;
}
