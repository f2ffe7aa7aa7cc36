/*
 * The xattrs of an image while it is written; internal to erofs_write.c. Equal ones are kept once and, when several
 * inodes have them or they are large, once in the image too: in an area that inodes refer to. Names and values are
 * borrowed. First everything is added, then placed, then the inodes are written. One owner.
 */
#ifndef ESTARGZ_EROFS_XATTRS_H
#define ESTARGZ_EROFS_XATTRS_H

#include "estargz/erofs/erofs_format.h"

#include "base/map.h"
#include "base/vec.h"

#define EROFS_XATTR_INLINE_MAX 1024 /* a larger one goes to the shared area even when only one inode has it */

struct erofs_xattr_item {
	struct str rest, value; /* of the name, what follows the prefix */
	uint64_t shared_at;     /* position in the shared area, or UINT64_MAX */
	uint32_t filter_bit, uses;
	uint8_t prefix;
};

struct erofs_xattrs {
	VEC(struct erofs_xattr_item) items;
	struct map numbers; /* prefix, bytes of rest, rest, value -> item + 1 */
	struct buf key;
	uint64_t shared_bytes;
};

void erofs_xattrs_fini(struct erofs_xattrs *x);
DEFINE_AUTO_FINI(erofs_xattrs);

/* The number of an xattr, used by one inode more. `rest` has at most 255 bytes, the value at most 65535. */
uint32_t erofs_xattrs_add(struct erofs_xattrs *x, uint8_t prefix, struct str rest, struct str value);

/* Decides which are shared, and where they lie. */
void erofs_xattrs_place(struct erofs_xattrs *x);

/* Writes the shared area, shared_bytes long. */
void erofs_xattrs_write_shared(const struct erofs_xattrs *x, char *dst);

/* Bytes that an inode with these xattrs needs for them, 0 if it has none, plus `extra`, which are laid behind them. */
uint64_t erofs_xattrs_bytes(const struct erofs_xattrs *x, const uint32_t *ids, uint32_t n, uint32_t extra);

/* Writes them, extra_bit being the filter bits of the extra ones; gives the place for those. */
char *erofs_xattrs_write(const struct erofs_xattrs *x, const uint32_t *ids, uint32_t n, uint32_t extra_bit, char *dst);

/* Bytes of one, and writing it. */
uint32_t erofs_xattr_bytes(struct str rest, struct str value);
char *erofs_xattr_write(uint8_t prefix, struct str rest, struct str value, char *dst);

#endif
