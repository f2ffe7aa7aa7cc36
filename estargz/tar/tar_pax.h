/*
 * Values in tar headers: numbers of the fixed fields, and pax records. Private to the tar reader. Formats: POSIX.1-2017
 * pax "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format". Any thread.
 */
#ifndef ESTARGZ_TAR_PAX_H
#define ESTARGZ_TAR_PAX_H

#include "estargz/tar/sparse.h"

/* A number of a header field: octal text, or base-256 of two's complement when the first bit is set. False on junk. */
bool tar_number(const uint8_t *field, size_t n, int64_t *out);

/* What GNU.sparse.* records say. */
struct pax_sparse {
	bool seen;
	struct str major, minor, name, list; /* empty: absent */
	bool has_size, has_count, has_offset;
	uint64_t size, count, offset; /* offset: of the extent whose length is next */
	VEC(struct esgz_extent) extents;
};

/* The values that pax records set; what is absent stays with the header. Views point into the records. */
struct pax {
	bool has_size, has_uid, has_gid, has_major, has_minor;
	struct str path, link; /* empty: absent */
	uint64_t size;
	uint32_t uid, gid, major, minor;
	struct esgz_tar_time mtime, atime, ctime;
	struct pax_sparse sparse;
	VEC(struct esgz_xattr) xattrs;
};

void pax_fini(struct pax *p);
void pax_clear(struct pax *p); /* keeps memory */
DEFINE_AUTO_FINI(pax);

/* Adds the records ("<length> <key>=<value>\n"), which override what is there; an empty value takes a key away (POSIX; GNU
 * tar refuses most), but of GNU.sparse.* it is ERR_INVALID. */
int pax_parse(struct pax *p, struct str records, struct err *err);

#endif
