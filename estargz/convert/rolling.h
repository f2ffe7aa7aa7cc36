/*
 * Where containers/storage cuts files for zstd:chunked, so that a chunk is the same wherever its bytes stand: behind a
 * byte after which the sum over the last 64 ends in 16 ones (64 KiB on average), and around runs of 1024 zeros and more.
 * Sources: containers/storage pkg/chunked/compressor/{compressor,rollsum}.go. Sans-I/O, one owner.
 */
#ifndef ESTARGZ_ROLLING_H
#define ESTARGZ_ROLLING_H

#include "base/str.h"

#define ROLLING_WINDOW 64
#define ROLLING_HOLE_MIN 1024

struct rolling {
	uint32_t a, b;
	uint8_t window[ROLLING_WINDOW]; /* oldest first */
	uint64_t zeros;                 /* at the end of what came, that may be the beginning of a hole */
	size_t no_hole;                 /* zeros that are known to be content like any other */
};

struct rolling_piece {
	struct str bytes; /* content; NULL: a hole, a chunk of its own */
	uint64_t hole;    /* ... of so many zeros */
	bool ends;        /* a chunk ends behind it */
};

/* A file begins. */
void rolling_begin(struct rolling *r);

/* The next piece; takes off *in what went into it, or what is held back. `last`: the file ends with *in. False: there
 * is nothing more to say before more comes. Pieces are valid while the bytes of *in are. */
bool rolling_next(struct rolling *r, struct str *in, bool last, struct rolling_piece *out);

#endif
