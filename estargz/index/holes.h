/*
 * The holes that an index claims for its files, before it is believed: nothing that is fetched shows whether such a claim is
 * true, and whoever reads a hole gets zeros under whatever digest it has. One owner.
 */
#ifndef ESTARGZ_HOLES_H
#define ESTARGZ_HOLES_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/vec.h"

#define ESGZ_HOLE_CHECKED_MAX (1ull << 30) /* half a second of hashing, once per index whatever it holds */
/* Holes of one layer. They cost it nothing, but whoever hashes the files a minute. */
#define ESGZ_HOLES_BYTES_MAX (64ull << 30)

/* A claim that so many zeros have this digest. */
struct esgz_hole {
	uint64_t bytes;
	struct digest digest;
	uint32_t id; /* the caller's */
};

struct esgz_holes {
	uint64_t bytes;             /* in sum */
	VEC(struct esgz_hole) list; /* of those up to ESGZ_HOLE_CHECKED_MAX */
};

void esgz_holes_fini(struct esgz_holes *h);
DEFINE_AUTO_FINI(esgz_holes);

/* False: they are more than ESGZ_HOLES_BYTES_MAX now. */
bool esgz_holes_add(struct esgz_holes *h, uint64_t bytes, const struct digest *digest, uint32_t id);

/* The first whose digest is not that of its zeros (longer ones are checked with their file, as a whole), or NULL; reorders
 * the list. Hashes as many zeros as the longest has, once. */
const struct esgz_hole *esgz_holes_wrong(struct esgz_holes *h);

#endif
