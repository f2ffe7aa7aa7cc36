/* For tests of the tar reader: archives put together by hand, and what comes out of one as text. Failures end the test. */
#ifndef ESTARGZ_TEST_TAR_H
#define ESTARGZ_TEST_TAR_H

#include "base/buf.h"
#include "base/digest.h"
#include "estargz/tar/tar.h"

/* ---- archives ---- */

struct header {
	char type;
	const char *name, *link, *prefix, *magic;
	int64_t size;
	const char *mtime, *uid; /* raw fields; NULL = 0 */
};

/* Text at a place of a block, as far as it fits into n bytes; NULL is nothing. */
void put(char *block, size_t at, size_t n, const char *text);
/* The checksum of a header that was changed. */
void seal(char *block);
void add_header(struct buf *tar, struct header h);
void add_content(struct buf *tar, struct str content);
void add_file(struct buf *tar, const char *name, struct str content);
/* A header that describes the next one. */
void add_meta(struct buf *tar, char type, struct str content);
/* A pax record. */
void add_record(struct buf *pax, const char *key, struct str value);

/* ---- what comes out, as one line of text for each entry ---- */

#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define NOTHING "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct seen {
	struct buf text;
	struct str input; /* what of it has not come out again, as raw bytes or content */
	bool filled;      /* holes come as zeros, and then that cannot be */
	struct hasher *h;
	struct esgz_tar_entry last;
	uint64_t bytes;
	unsigned n;
};

void seen_fini(struct seen *s);
DEFINE_AUTO_FINI(seen);

/* Reads the archive in pieces of `step` bytes. */
int read_tar(struct str tar, size_t step, struct seen *s, struct err *err);
/* It reads as these lines, in pieces of several sizes, with holes and without. */
void assert_reads(const struct buf *tar, const char *want);
/* What reading it gives. */
int code_of(const struct buf *tar, struct err *err);
/* Both are lists of lines; names the first that differs. */
void assert_same_lines(struct str got, struct str want);

/* ---- against libarchive, over archives made by GNU tar ---- */

/* The same lines from libarchive. */
void read_by_libarchive(const char *file, struct buf *out);
void slurp(const char *file, struct buf *out);

#define RUN(...)                                                                                                       \
	do {                                                                                                           \
		AUTO_FREE char *command = xasprintf(__VA_ARGS__);                                                      \
		assert_int_equal(system(command), 0);                                                                  \
	} while (0)

#endif
