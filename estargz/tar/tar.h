/*
 * Tar reader for layers: a step machine over bytes, without I/O. Understands ustar, pax (local and global records:
 * path, linkpath, size, uid, gid, mtime, SCHILY.xattr.*, SCHILY.devmajor/minor, GNU.sparse.* is refused by name), GNU
 * long names and links, base-256 numbers, old V7 headers. Ends at two zero blocks or at the end of input (layers
 * without a trailer exist). Header checksums are checked; sizes and record lengths are bounded. One owner.
 */
#ifndef ESTARGZ_TAR_H
#define ESTARGZ_TAR_H

#include "estargz/index/index.h"

#define ESGZ_PAX_BYTES_MAX (1u << 20) /* extended header records of one entry */
#define ESGZ_XATTRS_MAX 1024          /* xattrs of one entry: more than Linux can list (64 KiB of names) in practice */

struct esgz_tar_entry {
	struct esgz_entry e; /* raw path and link; content, claim and chunk fields unset */
	struct esgz_xattr *xattrs;
	uint32_t n_xattrs;
	uint64_t header_offset;  /* of its first header block (pax headers included) in the stream */
	uint64_t payload_offset; /* of its content in the stream */
};

struct esgz_tar_sink {
	/* A new entry; everything borrowed for the call, of a regular file until `end` has returned. */
	int (*entry)(void *arg, const struct esgz_tar_entry *t, struct err *err);
	/* Content of the last regular file, in order, all of it. */
	int (*data)(void *arg, struct str bytes, struct err *err);
	/* The content is complete (called once per regular file, empty ones too). */
	int (*end)(void *arg, struct err *err);
	void *arg;
};

struct esgz_tar;
struct esgz_tar *esgz_tar_new(const struct esgz_tar_sink *sink);
void esgz_tar_free(struct esgz_tar *t);
DEFINE_AUTO_FREE(esgz_tar);
int esgz_tar_feed(struct esgz_tar *t, struct str bytes, struct err *err);
/* End of input: inside a header or a file is ERR_DATA_LOSS. */
int esgz_tar_finish(struct esgz_tar *t, struct err *err);

#endif
