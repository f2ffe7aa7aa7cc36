/*
 * One proof on its way: what prover.c (the thread, and the stream by gaps or from the blob) and split.c (the stream by a
 * tar-split) share. The prover thread's alone.
 */
#ifndef FUSEFS_PROOF_PROOF_H
#define FUSEFS_PROOF_PROOF_H

#include "fusefs/proof/ranges.h"
#include "fusefs/proof/tarview.h"

struct proof {
	struct ffs_data *d;
	struct layer *l;
	struct digest promised;
	struct gaps_log *log;
	struct tarview *view;
	struct esgz_stream *stream; /* of a range that is fetched */
	struct hasher *blob;        /* when that range is all of it */
	uint8_t *bytes;             /* PROOF_READ_BYTES */
	uint64_t stepped;           /* bytes since the last look */
	uint64_t plain_bytes;       /* of the stream so far */
	uint32_t entry;             /* whose object is open */
	int fd;
};

#define PROOF_READ_BYTES (256u << 10) /* of an object */

/* A new view, of which nothing is known yet. */
void proof_begin(struct proof *p);
/* The next bytes of the stream; those of a file that the TOC has (any thereof, taken from its object). */
int proof_feed(struct proof *p, struct str bytes, struct err *err);
int proof_feed_content(struct proof *p, uint32_t entry, uint64_t at, struct str bytes, struct err *err);
/* Bytes of an entry's object. */
int proof_read_entry(struct proof *p, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err);

/* From objects, and the tar-split that is fetched for it. 1: facts for who promises that DiffID, and good ones. 0: TOC,
 * tar-split and promise are not of one layer. */
int proof_by_split(struct proof *p, struct tarview_result *out, struct err *err);

#endif
