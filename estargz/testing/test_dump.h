/*
 * Trees as text, for tests: one sorted line a path, whatever the tree is kept in, and what is behind names that mean the
 * same file. Failures end the test.
 */
#ifndef ESTARGZ_TEST_DUMP_H
#define ESTARGZ_TEST_DUMP_H

#include "estargz/erofs/erofs.h"

#include "base/vec.h"

enum {
	DUMP_DIR_NLINK = 1,    /* the link counts of directories; overlayfs has its own idea of them */
	DUMP_CONTENT = 2,      /* a digest of what is read of each file (up to 1 MiB) */
	DUMP_CHECK_BLOCKS = 4, /* st_blocks must be that of files without holes */
};
#define DUMP_CONTENT_MAX (1u << 20)

/* Of an image through the reader, of a mounted tree (without trusted.overlay.*). */
int image_dump(struct str image, unsigned flags, struct buf *out, struct err *err);
void mount_dump(const char *root, unsigned flags, struct buf *out);

/* Compares two dumps; prints the first lines that differ, and fails the test. */
void assert_same_dump(const struct buf *got, const struct buf *want, const char *what);

/* ---- making one ---- */

struct lines {
	VEC(char *) v;
};

struct named_inode {
	char *path;
	uint64_t nid;
};

struct dump {
	unsigned flags;
	struct lines lines;
	VEC(struct named_inode) linked; /* names of files that have several */
};

void dump_fini(struct dump *d);
DEFINE_AUTO_FINI(dump);

/* What is known of one name. */
struct line {
	struct str path;
	struct esgz_erofs_stat st;
	struct str link;
	const struct digest *content; /* of what is read, or NULL */
	struct lines xattrs;
};

void line_xattr(struct line *l, struct str name, struct str value);
/* Uses up the line. */
void dump_line(struct dump *d, struct line *l);
void dump_finish(struct dump *d, struct buf *out);

/* Of the object `key` as test_stack.h has it; false when it is larger than what dumps read. */
bool dump_digest(const struct digest *key, uint64_t size, struct digest *out);

#endif
