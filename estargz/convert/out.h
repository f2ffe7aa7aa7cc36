/*
 * The blob of a lazy format while it is written: the unit being filled, the TOC, and what is hashed on the way. Writers
 * of formats (writer.h) say where units and chunks begin. Internal to convert/. One owner.
 */
#ifndef ESTARGZ_OUT_H
#define ESTARGZ_OUT_H

#include "estargz/convert/convert.h"
#include "estargz/convert/units.h"
#include "estargz/toc/footer.h"
#include "estargz/toc/toc_write.h"

/* Bytes of headers and padding behind a chunk, or without one, until they are cut: no unit grows without bound. */
#define OUT_HEADERS_MAX (1u << 20)

struct out {
	const struct esgz_convert_opts *opts;
	const struct esgz_convert_io *io;
	uint64_t bytes_in; /* for io->progress; the owner of the source sets it */
	struct units *units;
	struct unit *u; /* being filled */
	struct toc_writer toc;
	struct hasher *plain; /* NULL: somebody else knows */
	struct hasher *blob, *file;
	uint64_t plain_bytes, blob_bytes;
	uint64_t unit_offset; /* of the unit delivered last */
	/* the file at hand */
	uint64_t size, at;
	bool in_chunk; /* the last chunk of the unit goes on */
};

int out_init(struct out *o, const struct esgz_convert_opts *opts, const struct esgz_convert_io *io, struct err *err);
void out_fini(struct out *o);

/* Packs what is no unit. */
int out_pack(struct out *o, enum esgz_compression kind, struct str plain, struct buf *packed, struct err *err);

/* What nobody could read is not written: reads the TOC of the blob, which is complete, as our own reader would. It is used
 * up. */
int out_check_toc(const struct out *o, const struct esgz_footer *f, struct buf *json, struct err *err);

/* Bytes for the blob as they are. */
int out_write(struct out *o, struct str bytes, struct err *err);
/* The same in a skippable zstd frame (RFC 8878, 3.1.2). *offset: where they lie. */
int out_write_skippable(struct out *o, struct str bytes, uint64_t *offset, struct err *err);

/* Hands over the unit being filled if there is anything in it, and takes a new one. */
int out_cut(struct out *o, struct err *err);
/* The same if what has gathered behind the last chunk has become much. */
int out_cut_headers(struct out *o, struct err *err);
/* The same, and delivers all: now all places are known. */
int out_drain(struct out *o, struct err *err);

/* Notes an entry in the TOC, whose content comes next. */
int out_entry(struct out *o, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
              struct err *err);
/* A chunk of its content begins here in the unit; content for it, or a hole that it is; its end. */
int out_chunk_begin(struct out *o, struct err *err);
void out_chunk_add(struct out *o, struct str bytes);
void out_chunk_add_hole(struct out *o, size_t bytes);
void out_chunk_end(struct out *o);
/* All of the content has come. */
void out_entry_end(struct out *o);

/* What is known of the blob; `plain` digest where it was made. */
void out_result(struct out *o, struct esgz_convert_result *r);

#endif
