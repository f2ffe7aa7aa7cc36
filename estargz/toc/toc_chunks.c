#include "estargz/toc/toc_chunks.h"

#include "estargz/toc/toc.h"

#include <inttypes.h>

void toc_chunks_fini(struct toc_chunks *t)
{
	vec_fini(&t->list);
	esgz_holes_fini(&t->holes);
	vec_fini(&t->hole_files);
}

/* ---- one chunk ---- */

static int read_type(const struct toc_entry *e, bool *hole, struct err *err)
{
	struct str type = e->text[F_CHUNK_TYPE];

	*hole = str_eqc(type, "zeros");
	return type.n == 0 || *hole ? 0 : err_set(err, ERR_INVALID, "chunk of unknown type " STR_FMT, STR_ARG(type));
}

/* A chunk may leave its digest to the file if it is the only one; if none has any, see join_undigested. */
static int read_digest(struct toc_chunks *t, const struct toc_entry *file, const struct toc_entry *e, uint64_t bytes,
                       struct esgz_chunk *c, struct err *err)
{
	struct str digest = e->text[F_CHUNK_DIGEST];
	bool whole = bytes == (uint64_t)file->number[F_SIZE];

	if (whole && (digest.n == 0 || str_eq(digest, file->text[F_DIGEST]))) {
		c->digest = t->content;
		return 0;
	}
	if (digest.n == 0 && !c->hole) {
		t->undigested++;
		return 0;
	}
	TRY_WRAP(digest_parse(digest, &c->digest, err), err, "chunk at %" PRIu64, c->file_offset);
	return 0;
}

static int note_hole(struct toc_chunks *t, const struct toc_entry *file, const struct esgz_chunk *c, bool guessed,
                     struct err *err)
{
	if (!esgz_holes_add(&t->holes, c->bytes, &c->digest, (uint32_t)t->hole_files.n))
		return err_set(err, ERR_EXHAUSTED, "files with more than %llu bytes of holes", ESGZ_HOLES_BYTES_MAX);
	vec_push(&t->hole_files, (struct toc_hole){file->text[F_NAME], guessed});
	return 0;
}

static int too_large(uint64_t bytes, struct err *err)
{
	return err_set(err, ERR_INVALID, "chunk of %" PRIu64 " bytes, at most %u can be read", bytes,
	               ESGZ_CHUNK_BYTES_MAX);
}

int toc_chunks_add(struct toc_chunks *t, const struct toc_entry *file, const struct toc_entry *e, struct err *err)
{
	uint64_t size = (uint64_t)file->number[F_SIZE];
	struct esgz_chunk c = {
	    .blob_offset = (uint64_t)e->number[F_OFFSET],
	    .inner_offset = (uint64_t)e->number[F_INNER_OFFSET],
	    .file_offset = (uint64_t)e->number[F_CHUNK_OFFSET],
	    .bytes = (uint64_t)e->number[F_CHUNK_SIZE],
	};

	TRY(read_type(e, &c.hole, err));
	if (c.file_offset >= size)
		return err_set(err, ERR_INVALID, "chunk at %" PRIu64 " of %" PRIu64 " bytes", c.file_offset, size);
	/* No size: up to the end of the file. */
	if (c.bytes == 0)
		c.bytes = size - c.file_offset;
	TRY(read_digest(t, file, e, c.bytes, &c, err));
	if (c.hole) {
		TRY(note_hole(t, file, &c, false, err));
	} else if (c.bytes > ESGZ_CHUNK_BYTES_MAX && t->undigested == 0) {
		if (c.bytes != size || size > ESGZ_HOLE_CHECKED_MAX)
			return too_large(c.bytes, err);
		c.hole = true;
		TRY(note_hole(t, file, &c, true, err));
	}
	/* A blob begins with a tar header: data is never its first byte. */
	if (!c.hole && (c.blob_offset >= t->data_end || (c.blob_offset == 0 && c.inner_offset == 0)))
		return err_set(err, ERR_INVALID, "chunk at %" PRIu64 " of the blob, whose data end at %" PRIu64,
		               c.blob_offset, t->data_end);
	vec_push(&t->list, c);
	return 0;
}

/* ---- one file ---- */

int toc_chunks_begin(struct toc_chunks *t, const struct toc_entry *file, struct err *err)
{
	bool empty = file->number[F_SIZE] == 0;

	vec_clear(&t->list);
	t->undigested = 0;
	t->content = (struct digest){{0}};
	/* The digest of an empty file may be missing. */
	if (!empty || file->text[F_DIGEST].n > 0)
		TRY(digest_parse(file->text[F_DIGEST], &t->content, err));
	return empty ? 0 : toc_chunks_add(t, file, file, err);
}

/* Legacy stargz gives chunks no digests: what can be checked is the file as a whole, from its first chunk on, over the ends
 * of members. */
static int join_undigested(struct toc_chunks *t, const struct toc_entry *file, struct err *err)
{
	uint64_t size = (uint64_t)file->number[F_SIZE];

	if (t->undigested < t->list.n)
		return err_set(err, ERR_INVALID, "%u of %zu chunks without a digest", t->undigested, t->list.n);
	if (size > ESGZ_CHUNK_BYTES_MAX)
		return err_set(err, ERR_INVALID, "%" PRIu64 " bytes without chunk digests", size);
	t->list.n = 1;
	t->list.p[0].bytes = size;
	t->list.p[0].digest = t->content;
	return 0;
}

/* containers/storage says where the file ends in the blob; each chunk then ends where the next one begins. */
static int set_ends(struct toc_chunks *t, const struct toc_entry *file, struct err *err)
{
	uint64_t end = (uint64_t)file->number[F_END_OFFSET];

	if (end > t->data_end)
		return err_set(err, ERR_INVALID, "ends at %" PRIu64 " of the blob, whose data end at %" PRIu64, end,
		               t->data_end);
	for (size_t i = t->list.n; i-- > 0;) {
		struct esgz_chunk *c = &t->list.p[i];

		if (!c->hole && c->blob_offset >= end)
			return err_set(err, ERR_INVALID, "chunk at %" PRIu64 " of the blob ends at %" PRIu64,
			               c->blob_offset, end);
		if (!c->hole)
			c->blob_bytes = end - c->blob_offset;
		if (c->blob_offset > 0 && c->blob_offset < end)
			end = c->blob_offset;
	}
	return 0;
}

int toc_chunks_end(struct toc_chunks *t, const struct toc_entry *file, struct err *err)
{
	if (t->undigested > 0)
		TRY(join_undigested(t, file, err));
	return file->number[F_END_OFFSET] > 0 ? set_ends(t, file, err) : 0;
}

/* ---- zeros ---- */

int toc_chunks_check_holes(struct toc_chunks *t, struct err *err)
{
	const struct esgz_hole *wrong = esgz_holes_wrong(&t->holes);
	const struct toc_hole *of;

	if (!wrong)
		return 0;
	of = &t->hole_files.p[wrong->id];
	if (of->guessed)
		too_large(wrong->bytes, err);
	else
		err_set(err, ERR_INVALID, "%" PRIu64 " zeros with another digest than theirs", wrong->bytes);
	return err_wrap(err, STR_FMT, STR_ARG(of->name));
}
