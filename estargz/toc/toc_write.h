/*
 * The table of contents of a lazy blob while the blob is written: entries and chunks are noted as they come, places
 * in the blob when they are known, and at the end it is all put into JSON. Two dialects: stargz-snapshotter's
 * (docs/estargz.md; its writer's habits, tabs and omitted zeros, are kept), and containers/storage's (pkg/chunked),
 * which repeats the headers of the tar word for word. One owner.
 */
#ifndef ESTARGZ_TOC_WRITE_H
#define ESTARGZ_TOC_WRITE_H

#include "estargz/tar/tar.h"

#include "base/map.h"
#include "base/vec.h"

struct toc_text {
	uint32_t at, n; /* in texts */
};

struct toc_record {
	enum esgz_type type;
	uint64_t mode;
	uint32_t uid, gid, dev_major, dev_minor;
	int64_t mtime_s;
	uint32_t mtime_ns;
	struct esgz_tar_time atime, ctime; /* verbatim alone */
	uint64_t size;
	struct toc_text name, link;
	uint32_t first_xattr, n_xattrs; /* texts: name, value, name, value ... */
	uint32_t first_chunk, n_chunks;
	struct digest content; /* of files with several chunks */
	bool replaced;         /* a later entry has the same path */
};

struct toc_chunk {
	uint64_t file_offset;
	uint64_t blob_offset, blob_end; /* of the member or frame it is in, */
	uint64_t inner_offset;          /* and where in its plain bytes */
	uint64_t bytes;
	bool hole; /* verbatim alone: nothing but zeros */
	struct digest digest;
};

struct toc_writer {
	bool verbatim;       /* containers/storage's dialect: names as they are, each once */
	uint32_t full_chunk; /* stargz: size of all chunks but the last one of a file */
	VEC(struct toc_record) records;
	VEC(struct toc_chunk) chunks;
	VEC(struct toc_text) xattrs;
	struct buf texts;
	struct map paths;    /* clean path -> number of the record + 1; not verbatim */
	uint64_t json_bytes; /* at least so many will the JSON have */
};

void toc_writer_fini(struct toc_writer *t);
DEFINE_AUTO_FINI(toc_writer);

/* Notes an entry with a clean path, of which the last one counts (verbatim: a raw one, each once: tar/split.h sees to it);
 * chunks are added to the last one. JSON is UTF-8: another name is ERR_INVALID. More than the JSON or a reader could hold
 * is ERR_EXHAUSTED as soon as it shows. */
int toc_add(struct toc_writer *t, const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs,
            struct err *err);

/* Notes the next chunk of the last entry; its digest and place come later. Gives its number. */
int toc_add_chunk(struct toc_writer *t, uint64_t file_offset, uint32_t *number, struct err *err);

/* Appends the JSON. tar_split: digest of the compressed tar-split, or NULL. */
int toc_finish(const struct toc_writer *t, const struct digest *tar_split, struct buf *json, struct err *err);

#endif
