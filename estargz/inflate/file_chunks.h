/* One file of a layer cut into chunks as its bytes come (layer.c). Hashes each byte for the plain stream and the file, and
 * those behind the first chunk once more: what the file's hash was at its end is the first chunk's digest. One owner. */
#ifndef ESTARGZ_FILE_CHUNKS_H
#define ESTARGZ_FILE_CHUNKS_H

#include "base/digest.h"
#include "estargz/index/index.h"

struct file_chunks;
/* `stream` hashes the plain stream, of which the file is a part, `file` files (both borrowed, that one reset); who ends a file takes the
 * digest out of it. */
struct file_chunks *file_chunks_new(struct hasher *stream, struct hasher *file);
void file_chunks_free(struct file_chunks *f);

/* A file begins, whose bytes are stored from `plain_offset` on. */
void file_chunks_begin(struct file_chunks *f, uint64_t plain_offset);
/* Stored bytes. */
void file_chunks_add(struct file_chunks *f, struct str bytes);
/* Zeros that are not stored, a chunk of their own. */
void file_chunks_hole_begin(struct file_chunks *f);
void file_chunks_hole_add(struct file_chunks *f, struct str zeros);
void file_chunks_hole_end(struct file_chunks *f);
/* A chunk ends here, if one has begun. */
void file_chunks_cut(struct file_chunks *f);
/* The file is complete: its chunks, valid until the next begins; blob_offset is the offset in the plain stream. */
const struct esgz_chunk *file_chunks_end(struct file_chunks *f, const struct digest *content, uint32_t *n);

#endif
