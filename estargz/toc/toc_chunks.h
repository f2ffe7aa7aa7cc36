/*
 * The chunks of a TOC's regular files, while they are read: gathered for one file at a time, from the fields that the
 * dialects use in different ways, into what the index takes. Private to toc_index.c. One owner.
 */
#ifndef ESTARGZ_TOC_CHUNKS_H
#define ESTARGZ_TOC_CHUNKS_H

#include "estargz/index/holes.h"
#include "estargz/toc/toc_entry.h"

struct toc_hole {
	struct str name; /* of the file */
	bool guessed;    /* nobody calls it a hole: it is one if the digest is right, else too large */
};

struct toc_chunks {
	uint64_t data_end; /* payload lies before */
	struct digest content;
	VEC(struct esgz_chunk) list;     /* of the file */
	uint32_t undigested;             /* of these */
	struct esgz_holes holes;         /* of all files */
	VEC(struct toc_hole) hole_files; /* by their ids */
};

void toc_chunks_fini(struct toc_chunks *t);

/* A regular file comes: its digest, and its first chunk. `file` stays until toc_chunks_end. */
int toc_chunks_begin(struct toc_chunks *t, const struct toc_entry *file, struct err *err);
/* Another chunk of it. */
int toc_chunks_add(struct toc_chunks *t, const struct toc_entry *file, const struct toc_entry *e, struct err *err);
/* The file's last chunk has come: list and content are what the index takes. */
int toc_chunks_end(struct toc_chunks *t, const struct toc_entry *file, struct err *err);

/* Checks the digests of all holes. */
int toc_chunks_check_holes(struct toc_chunks *t, struct err *err);

#endif
