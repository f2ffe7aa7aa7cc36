/*
 * One element of a TOC's "entries", as it stands there: what toc_index.c and toc_chunks.c work from. Private to them.
 */
#ifndef ESTARGZ_TOC_ENTRY_H
#define ESTARGZ_TOC_ENTRY_H

#include "base/buf.h"
#include "base/json.h"
#include "base/vec.h"
#include "estargz/index/index.h"

/* Fields of an entry. */
enum toc_field {
	F_NAME,
	F_TYPE,
	F_SIZE,
	F_MODTIME,
	F_LINK_NAME,
	F_MODE,
	F_UID,
	F_GID,
	F_DEV_MAJOR,
	F_DEV_MINOR,
	F_XATTRS,
	F_DIGEST,
	F_OFFSET,
	F_END_OFFSET,
	F_CHUNK_OFFSET,
	F_CHUNK_SIZE,
	F_CHUNK_DIGEST,
	F_INNER_OFFSET,
	F_CHUNK_TYPE,
	F_N,
};

struct toc_xattr {
	struct str name;
	size_t off, n; /* value in xattr_bytes */
};

/* Views live as long as the JSON. */
struct toc_entry {
	uint32_t given; /* 1 << field; the others are empty or 0 */
	struct str text[F_N];
	int64_t number[F_N]; /* none is negative */
	VEC(struct toc_xattr) xattrs;
	struct buf xattr_bytes;
};

void toc_entry_fini(struct toc_entry *e);

/* Reads the next element, unknown fields left out; replaces what *e held. */
int toc_entry_read(struct json_reader *r, struct toc_entry *e, struct err *err);

/* What the index takes of it, but for xattrs and contents: sets the same fields of *e always. */
int toc_entry_convert(const struct toc_entry *t, struct esgz_entry *e, struct err *err);

#endif
