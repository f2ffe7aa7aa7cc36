/*
 * The metadata image: a merged tree as one EROFS file without data. Each regular file with content carries
 * trusted.overlay.metacopy (empty) and trusted.overlay.redirect = "/<2 hex>/<62 hex>", the name of its object; its own
 * layout is chunk-based with null chunks, so that sizes and st_blocks are true. The root hides 00..ff by whiteouts and
 * is opaque, so that object directories never show through. Written by esgz_erofs_write; read back (level 3 of the
 * ladder serves names from the very same file) by esgz_erofs_open and friends, which trust nothing.
 * Format: Linux fs/erofs/erofs_fs.h; estargz/README.md. Sans-I/O. Writer: one owner; reader: any thread.
 */
#ifndef ESTARGZ_EROFS_H
#define ESTARGZ_EROFS_H

#include "estargz/tree/tree.h"

/* The name of the object of a regular file with content: the digest of its content when that is proven (published, or
 * unpacked here), else the claim key, which includes the size and the chunks: whoever lies about either, also for a
 * file of one chunk, has names of his own and meets nobody else's. */
static inline const struct digest *esgz_object_key(const struct esgz_entry *e, bool published)
{
	return e->n_chunks == 0 || published ? &e->content : &e->claim;
}

/* True if an object with this content and size is published. */
typedef bool (*esgz_published_fn)(void *arg, const struct digest *content, uint64_t size);

/* Appends the image to `out` (a multiple of 4096 bytes). Deterministic for a tree and the answers of `published` (NULL:
 * nothing is). xattrs of namespaces that Linux file systems have not are left out. Names and values that do not fit
 * EROFS (an xattr value over 65535 bytes, a symlink over 4095, a file over 1 PiB): ERR_INVALID. */
int esgz_erofs_write(const struct esgz_tree *tree, esgz_published_fn published, void *arg, struct buf *out,
                     struct err *err);

#define ESGZ_EROFS_ROOT 0 /* pass as nid: the root directory, whatever its number */

struct esgz_erofs;
int esgz_erofs_open(struct str image, struct esgz_erofs **out, struct err *err); /* borrowed bytes, 4096-aligned */
void esgz_erofs_close(struct esgz_erofs *fs);
static inline void esgz_erofs_cleanup(struct esgz_erofs **fs)
{
	esgz_erofs_close(*fs);
}

struct esgz_erofs_stat {
	uint64_t nid;  /* number of the inode in the image, > 0; stable for one image */
	uint32_t mode; /* with file type */
	uint32_t uid, gid, nlink;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t dev_major, dev_minor;
};

int esgz_erofs_stat(const struct esgz_erofs *fs, uint64_t nid, struct esgz_erofs_stat *out, struct err *err);
/* ERR_NOT_FOUND when absent; the root's whiteouts are never found. */
int esgz_erofs_lookup(const struct esgz_erofs *fs, uint64_t dir_nid, struct str name, uint64_t *nid, struct err *err);
/* Calls fn for each entry from position `at` on (0 at first), "." and ".." included, root whiteouts not; fn gets the
 * position to go on from and stops the walk by returning false. `mode` has the file type bits only. */
int esgz_erofs_readdir(const struct esgz_erofs *fs, uint64_t dir_nid, uint64_t at,
                       bool (*fn)(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next), void *arg,
                       struct err *err);
/* Symbolic link text, borrowed. */
int esgz_erofs_readlink(const struct esgz_erofs *fs, uint64_t nid, struct str *out, struct err *err);
/* Calls fn for each xattr with its full name, without the overlay ones. */
int esgz_erofs_xattrs(const struct esgz_erofs *fs, uint64_t nid,
                      bool (*fn)(void *arg, struct str name, struct str value), void *arg, struct err *err);
/* The object of a regular file: its key; ERR_NOT_FOUND for an empty file. */
int esgz_erofs_object(const struct esgz_erofs *fs, uint64_t nid, struct digest *key, struct err *err);

#endif
