/* Gzip files for the tests of this folder. */
#ifndef ESTARGZ_TEST_GZIP_H
#define ESTARGZ_TEST_GZIP_H

#include "base/buf.h"

/* The same bytes in any test; few words and some runs of patterns of 1 to 20 bytes, so that matches are near and far. */
void words(struct buf *out, size_t n, uint32_t seed);

/* How zlib is to write. */
struct zlib_way {
	int level, strategy, memory;
	int raw;            /* without header and trailer */
	size_t flush_every; /* plain bytes; 0: never */
};

/* Appends one stream or member. */
void zlib_pack(struct buf *out, struct str plain, const struct zlib_way *way);

#endif
