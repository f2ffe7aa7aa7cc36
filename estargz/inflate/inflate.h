/*
 * Decompression. `inflater`: known sizes, a chunk or a member at a time (isa-l, libzstd), for the demand path. `stream`:
 * whole layers as they arrive (isa-l, libzstd, or none). One owner each; reuse them, they hold the codec's state.
 */
#ifndef ESTARGZ_INFLATE_H
#define ESTARGZ_INFLATE_H

#include "estargz/index/index.h"

struct esgz_inflater;
struct esgz_inflater *esgz_inflater_new(void);
void esgz_inflater_free(struct esgz_inflater *z);
DEFINE_AUTO_FREE(esgz_inflater);

/* Inflates one chunk from `in`, blob bytes that begin at c->blob_offset (at most c->blob_bytes are looked at), skipping
 * c->inner_offset, writing exactly c->bytes to dst, and checks c->digest. Short or broken input, or a digest
 * mismatch: ERR_DATA_LOSS. */
int esgz_inflate_chunk(struct esgz_inflater *z, enum esgz_compression comp, struct str in, const struct esgz_chunk *c,
                       uint8_t *dst, struct err *err);

/* What to do with a member (member.c). Chunks are told apart by their place in the array that was given. */
struct esgz_member_sink {
	/* Where the bytes of a chunk go (chunks[i].bytes of them), or NULL: it is not wanted, and passed over unseen. */
	uint8_t *(*begin)(void *arg, uint32_t i);
	/* A wanted chunk is there and as its digest says (result 0), or why not; exactly once for each. */
	void (*chunk)(void *arg, uint32_t i, int result, const struct err *err);
	/* Bytes that are no chunk's, in order, borrowed for the call. False: no more of them are wanted. NULL: none are. */
	bool (*gap)(void *arg, struct str plain);
	void *arg;
};

/* Inflates a member in one pass, and what follows it in `in`: empty members, members without chunks. `in` begins at the
 * blob_offset of the chunks, which are ascending by inner_offset. Chunks are delivered as they are reached; one that begins
 * inside another (which no honest layer has) costs a pass of its own. Behind the last chunk it goes on when at most
 * `tail_max` compressed bytes are left there.
 * True: `in` was inflated to its end, which is the end of a member, chunks did not overlap, wanted ones were right, every byte
 * outside of them went to `gap`: chunks and gaps in order are the plain bytes of `in`. */
bool esgz_inflate_member(struct esgz_inflater *z, enum esgz_compression comp, struct str in,
                         const struct esgz_chunk *chunks, uint32_t n, size_t tail_max,
                         const struct esgz_member_sink *sink);

struct esgz_point; /* gzseek/points.h */
/* The same of layers that are read from points (ESGZ_GZIP_SEEK): `in` begins at `from`, which is the chunks' blob_offset. A
 * damaged window is ERR_DATA_LOSS, or shows in the chunk's digest. The span of a point ends in the middle of a member, as
 * a rule, and so may `in`: whether all of it came out shows in the number of its plain bytes. */
int esgz_inflate_chunk_at(struct esgz_inflater *z, const struct esgz_point *from, struct str in,
                          const struct esgz_chunk *c, uint8_t *dst, struct err *err);
bool esgz_inflate_span(struct esgz_inflater *z, const struct esgz_point *from, struct str in,
                       const struct esgz_chunk *chunks, uint32_t n, size_t tail_max,
                       const struct esgz_member_sink *sink);

struct esgz_stream;
/* The compression is found from the first bytes of the stream (gzip or zstd magic, else plain tar). */
struct esgz_stream *esgz_stream_new(void);
void esgz_stream_free(struct esgz_stream *s);
DEFINE_AUTO_FREE(esgz_stream);

/* Feeds compressed bytes; `sink` gets pieces of plain bytes (borrowed for the call; a negative return ends the feed
 * with that code). Multi-member gzip and multi-frame zstd with skippable frames are one stream. */
int esgz_stream_feed(struct esgz_stream *s, struct str in, int (*sink)(void *arg, struct str plain, struct err *err),
                     void *arg, struct err *err);
/* The input is over: an unfinished member or frame is ERR_DATA_LOSS. */
int esgz_stream_finish(struct esgz_stream *s, struct err *err);
enum esgz_compression esgz_stream_kind(const struct esgz_stream *s);

#endif
