/*
 * Tar headers as we write them: one spelling for each entry. ustar where it can say everything, else a pax header
 * (path, linkpath, size, uid, gid, mtime with fractions, SCHILY.dev*, SCHILY.xattr.*) before it. User and group names
 * are not written: a layer means numbers. Any thread; no state.
 */
#ifndef ESTARGZ_TAR_WRITE_H
#define ESTARGZ_TAR_WRITE_H

#include "estargz/index/index.h"

#define TAR_BLOCK 512

/* Appends the header blocks of an entry with a clean path. What neither form can say (a name with a NUL byte, an xattr
 * name with '='): ERR_INVALID. */
int tar_write_header(const struct esgz_entry *e, const struct esgz_xattr *xattrs, uint32_t n_xattrs, struct buf *out,
                     struct err *err);

/* Appends the zeros between `size` bytes of content and the next header. */
void tar_write_padding(uint64_t size, struct buf *out);

/* The name that the header of an entry carries: directories end in a slash, the root is "./". */
void tar_write_name(const struct esgz_entry *e, struct buf *out);

#endif
