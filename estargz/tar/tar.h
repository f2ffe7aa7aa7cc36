/*
 * Tar reader for layers: a step machine over bytes, without I/O. Understands ustar, pax (local and global records:
 * path, linkpath, size, uid, gid, mtime, atime, ctime, SCHILY.xattr.*, SCHILY.devmajor/minor, GNU.sparse.*), GNU long
 * names and links, GNU's sparse files in all four forms, base-256 numbers, old V7 headers. Ends at two zero blocks or at
 * the end of input (layers without a trailer exist). Header checksums are checked; sizes and record lengths are
 * bounded. One owner.
 */
#ifndef ESTARGZ_TAR_H
#define ESTARGZ_TAR_H

#include "estargz/index/holes.h"
#include "estargz/index/index.h"

#define ESGZ_PAX_BYTES_MAX (1u << 20) /* extended header records of one entry */
#define ESGZ_EXTENTS_MAX (1u << 20)   /* of one sparse file */

/* A piece of a sparse file that is stored. */
struct esgz_extent {
	uint64_t offset, bytes;
};

/* A time that not every header has. */
struct esgz_tar_time {
	bool given;
	int64_t s;
	uint32_t ns;
};

struct esgz_tar_entry {
	struct esgz_entry e; /* raw path and link; content, claim and chunk fields unset */
	struct esgz_xattr *xattrs;
	uint32_t n_xattrs;
	uint64_t header_offset;  /* of its first header block (pax headers included) in the stream */
	uint64_t payload_offset; /* of its content in the stream; behind the map of a sparse file */
	/* Sparse: the size is the real one, and of the content only the extents are stored, in this order without gaps:
	 * ascending, none empty, none beyond the size, perhaps none at all. What lies between them is zeros. Formats that
	 * keep the headers of a layer and name files by ranges of the tar (eStargz and zstd:chunked with its DiffID kept)
	 * cannot say this, nor does containers/storage read it: a converter either writes the file anew, with the holes as
	 * zeros under a header of its own, or refuses. */
	bool sparse;
	struct esgz_extent *extents;
	uint32_t n_extents;
	/* What a second description of the header has to repeat exactly (containers/storage compares its TOC with the
	 * headers in the tar-split). */
	uint64_t mode_field;   /* with bits of the file type, where a writer has put them */
	uint64_t header_bytes; /* size that the header names, also where there can be no content */
	struct esgz_tar_time atime, ctime;
	/* Headers stand before it that Go's reader takes for entries of their own: global pax records, volume labels,
	 * Sun's pax records. containers/storage makes and reads no zstd:chunked layer with one. */
	bool extra_headers;
};

struct esgz_tar_sink {
	/* A new entry; everything borrowed for the call, of a regular file until `end` has returned. */
	int (*entry)(void *arg, const struct esgz_tar_entry *t, struct err *err);
	/* Content of the last regular file, in order, all of it. */
	int (*data)(void *arg, struct str bytes, struct err *err);
	/* The content is complete (called once per regular file, empty ones too). */
	int (*end)(void *arg, struct err *err);
	/* NULL, or takes the holes of a sparse file (bytes > 0), in their places; without it they come as zeros to `data`. */
	int (*hole)(void *arg, uint64_t bytes, struct err *err);
	/* NULL, or takes all bytes that are no content, in pieces as they come, before the callback they lead to: headers
	 * and the map of a sparse file before `entry`, padding before the next header, whatever ends the archive or follows
	 * its end. With `hole`, what `raw` and `data` get makes up the input. */
	int (*raw)(void *arg, struct str bytes, struct err *err);
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
