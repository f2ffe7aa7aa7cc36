/*
 * Gzip members, compressed on several threads and delivered in order; internal to convert.c. The owner fills one member
 * at a time; at most a fixed number of them are under way, so memory is bounded however fast the source is. What comes
 * out depends on the members alone, not on the number of threads. One owner, who also gets the deliveries.
 */
#ifndef ESTARGZ_MEMBERS_H
#define ESTARGZ_MEMBERS_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/pool.h"

struct member {
	struct buf plain;     /* filled by the owner */
	uint32_t chunk_bytes; /* the first so many bytes are a chunk, whose digest is wanted; 0 = there is none */
	uint32_t chunk;       /* its number; the owner's */
	struct digest digest; /* of the chunk, on delivery */
	struct buf gz;        /* on delivery */
	/* rest: for members.c */
	struct members *owner;
	struct libdeflate_compressor *z;
	struct pool_job job;
	bool compressed; /* guarded by the lock of the owner */
};

typedef int (*members_deliver_fn)(void *arg, const struct member *m, struct err *err);

struct members;
int members_new(int level, unsigned threads, members_deliver_fn deliver, void *arg, struct members **out,
                struct err *err);
/* Waits for the threads; what is not delivered yet is dropped. */
void members_free(struct members *ms);
DEFINE_AUTO_FREE(members);

/* An empty member to fill, valid until it is submitted; delivers others when none is free. */
int members_next(struct members *ms, struct member **out, struct err *err);
void members_submit(struct members *ms, struct member *m);
/* Delivers all that are under way. */
int members_drain(struct members *ms, struct err *err);

#endif
