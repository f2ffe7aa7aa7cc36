#include "estargz/inflate/file_chunks.h"

#include "base/vec.h"
#include "estargz/inflate/layer.h"

struct file_chunks {
	struct hasher *stream, *file, *chunk; /* of the chunk: from the second one on */
	VEC(struct esgz_chunk) done;
	uint64_t at, begun; /* in the file: how far, where the chunk began */
	uint64_t plain;     /* in the plain stream: where the chunk began */
};

struct file_chunks *file_chunks_new(struct hasher *stream, struct hasher *file)
{
	struct file_chunks *f = xcalloc(1, sizeof(*f));

	f->stream = stream;
	f->file = file;
	f->chunk = hasher_new();
	return f;
}

void file_chunks_free(struct file_chunks *f)
{
	if (!f)
		return;
	hasher_free(f->chunk);
	vec_fini(&f->done);
	free(f);
}

void file_chunks_begin(struct file_chunks *f, uint64_t plain_offset)
{
	vec_clear(&f->done);
	f->at = f->begun = 0;
	f->plain = plain_offset;
}

/* What is not stored is none of the plain stream. */
static void hash(struct file_chunks *f, struct str bytes, bool stored)
{
	struct hasher *to[HASHERS_MAX] = {f->file};
	unsigned n = 1;

	if (stored)
		to[n++] = f->stream;
	if (f->begun > 0)
		to[n++] = f->chunk;
	hasher_add_all(to, n, bytes.p, bytes.n);
	f->at += bytes.n;
}

static void end_chunk(struct file_chunks *f, bool hole)
{
	/* The place in the blob comes later; the builder asks for one that is not empty. */
	struct esgz_chunk c = {.file_offset = f->begun, .bytes = f->at - f->begun, .hole = hole};

	if (c.bytes == 0)
		return;
	if (f->begun == 0)
		hasher_peek(f->file, &c.digest);
	else
		hasher_done(f->chunk, &c.digest);
	if (!hole) {
		c.blob_offset = f->plain;
		c.blob_bytes = 1;
		f->plain += c.bytes;
	}
	f->begun = f->at;
	vec_push(&f->done, c);
}

void file_chunks_add(struct file_chunks *f, struct str bytes)
{
	while (bytes.n > 0) {
		struct str part = str_sub(bytes, 0, (size_t)(f->begun + ESGZ_LAYER_CHUNK_BYTES - f->at));

		hash(f, part, true);
		if (f->at - f->begun == ESGZ_LAYER_CHUNK_BYTES)
			end_chunk(f, false);
		bytes = str_sub(bytes, part.n, bytes.n);
	}
}

void file_chunks_hole_begin(struct file_chunks *f)
{
	end_chunk(f, false);
}

void file_chunks_hole_add(struct file_chunks *f, struct str zeros)
{
	hash(f, zeros, false);
}

void file_chunks_hole_end(struct file_chunks *f)
{
	end_chunk(f, true);
}

void file_chunks_cut(struct file_chunks *f)
{
	end_chunk(f, false);
}

const struct esgz_chunk *file_chunks_end(struct file_chunks *f, const struct digest *content, uint32_t *n)
{
	/* The only chunk is the file. */
	if (f->done.n == 0) {
		vec_push(&f->done, (struct esgz_chunk){
				       .blob_offset = f->plain, .blob_bytes = 1, .bytes = f->at, .digest = *content});
		f->begun = f->at;
	}
	end_chunk(f, false);
	*n = (uint32_t)f->done.n;
	return f->done.p;
}
