/*
 * The table of contents of an eStargz blob while the blob is written: entries and chunks are noted as they come, places
 * in the blob when they are known, and at the end it is all put into JSON. Format: stargz-snapshotter docs/estargz.md;
 * its writer's habits (tabs, omitted zeros) are kept. One owner.
 */
#ifndef ESTARGZ_TOC_WRITE_H
#define ESTARGZ_TOC_WRITE_H

#include "estargz/index/index.h"

#include "base/map.h"
#include "base/vec.h"

struct toc_text {
	uint32_t at, n; /* in texts */
};

struct toc_record {
	enum esgz_type type;
	uint32_t mode, uid, gid, dev_major, dev_minor;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint64_t size;
	struct toc_text name, link;
	uint32_t first_xattr, n_xattrs; /* texts: name, value, name, value ... */
	uint32_t first_chunk, n_chunks;
	struct digest content; /* of files with several chunks */
	bool replaced;         /* a later entry has the same path */
};

struct toc_chunk {
	uint64_t blob_offset, file_offset;
	uint32_t bytes;
	struct digest digest;
};

struct toc_writer {
	uint32_t full_chunk; /* size of all chunks but the last one of a file */
	VEC(struct toc_record) records;
	VEC(struct toc_chunk) chunks;
	VEC(struct toc_text) xattrs;
	struct buf texts;
	struct map paths; /* clean path -> number of the record + 1 */
};

void toc_writer_fini(struct toc_writer *t);
DEFINE_AUTO_FINI(toc_writer);

/* Notes an entry with a clean path; chunks are added to the last one. JSON is UTF-8: another name is ERR_INVALID. */
int toc_add(struct toc_writer *t, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
            struct err *err);

/* Notes the next chunk of the last entry; its digest and place come later. Gives its number. */
int toc_add_chunk(struct toc_writer *t, uint64_t file_offset, uint32_t *number, struct err *err);

/* Appends the JSON. */
int toc_finish(const struct toc_writer *t, struct buf *json, struct err *err);

#endif
