/*
 * Units: gzip members or zstd frames, compressed on several threads and delivered in order. The owner fills one at a
 * time; at most 2 * threads + 1 of them are under way, so memory is bounded however fast the source is. What comes out
 * depends on what the units hold alone, not on the number of threads. One owner, who also gets the deliveries.
 */
#ifndef ESTARGZ_UNITS_H
#define ESTARGZ_UNITS_H

#include "estargz/convert/codec.h"

#include "base/digest.h"
#include "base/pool.h"
#include "base/vec.h"

/* A piece of a unit whose digest is wanted. */
struct unit_chunk {
	size_t at, bytes;
	uint32_t number;      /* the owner's */
	struct digest digest; /* on delivery */
};

struct unit {
	struct buf plain;              /* filled by the owner, */
	VEC(struct unit_chunk) chunks; /* and these */
	struct buf packed;             /* on delivery */
	/* rest: for units.c */
	struct units *owner;
	struct pool_job job;
	int result;
	struct err err;
	bool done; /* guarded by the lock of the owner */
};

typedef int (*units_deliver_fn)(void *arg, const struct unit *u, struct err *err);

struct units;
/* level 0: the codec's default. */
int units_new(const struct codec *c, int level, unsigned threads, units_deliver_fn deliver, void *arg,
              struct units **out, struct err *err);
/* Asked while the threads work, beside what they know themselves. Before the first unit is submitted. */
void units_watch(struct units *us, struct codec_watch w);
/* What is not delivered yet is dropped: what waits for a thread at once, what a thread has at hand at its next step. */
void units_free(struct units *us);
DEFINE_AUTO_FREE(units);

/* The unit being filled: the same one until it is submitted. Delivers others when none is free. */
int units_fill(struct units *us, struct unit **out, struct err *err);
/* Hands over the unit being filled. */
void units_submit(struct units *us);
/* Delivers all that were submitted. */
int units_drain(struct units *us, struct err *err);

/* A plain stream, cut into units of so many bytes. Its end: delivers all; of an empty stream one empty unit. */
int units_write(struct units *us, struct str plain, size_t unit_bytes, struct err *err);
int units_write_end(struct units *us, struct err *err);

/* Plain bytes of a unit of an ordinary layer: what the bytes around a gzip member, or what a zstd frame cannot see of
 * the one before, are lost in. */
size_t units_stream_bytes(enum esgz_compression kind);

#endif
