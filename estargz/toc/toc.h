/*
 * TOC of a lazy layer: from the compressed bytes at the end of a blob, or of another one, to a layer index.
 * Sans-I/O; any thread. Formats: stargz-snapshotter docs/estargz.md, containers/storage pkg/chunked; legacy stargz. What is
 * easily got wrong is handled here: exact digest over the whole JSON, trailing bytes refused, chunkSize 0, innerOffset,
 * endOffset, holes, files without chunk fields, implied directories, case-insensitive keys as in Go.
 */
#ifndef ESTARGZ_TOC_H
#define ESTARGZ_TOC_H

#include "estargz/index/index.h"
#include "estargz/toc/anchor.h"

#define ESGZ_TOC_NAME "stargz.index.json"
#define ESGZ_PREFETCH_LANDMARK ".prefetch.landmark"       /* what lies before it in the blob is wanted first */
#define ESGZ_NO_PREFETCH_LANDMARK ".no.prefetch.landmark" /* nothing is */
#define ESGZ_TOC_BYTES_MAX (150u << 20)                   /* uncompressed JSON; containers/storage has the same bound */

/* True for the cleaned paths of what lazy layers carry for themselves: the TOC and the landmarks, in the root. */
bool esgz_is_marker(struct str path);

/* Inflates the TOC (`toc`: the blob's bytes [toc_offset, toc_offset + toc_bytes)), takes the JSON out of its tar entry
 * (gzip kinds) and checks it: the compressed bytes against anchor->packed, the JSON against anchor->plain, each over the
 * exact bytes, and both if both are given. A mismatch is ERR_DATA_LOSS naming both digests. json: appended. */
int esgz_toc_extract(const struct esgz_footer *footer, struct str toc, const struct esgz_anchor *anchor,
                     struct buf *json, struct err *err);

/* The same for a layer of a TOC image: a compressed tar with the TOC as its one file. */
int esgz_toc_extract_external(struct str layer, const struct esgz_anchor *anchor, struct buf *json, struct err *err);

/* What an index is built for. */
struct esgz_toc_source {
	const struct esgz_footer *footer;
	struct digest key;  /* esgz_anchor_key */
	struct digest blob; /* from the layer's descriptor, as blob_bytes */
	uint64_t blob_bytes;
};

/* What the TOC says beside the tree. */
struct esgz_toc_found {
	bool has_tar_split;
	struct digest tar_split; /* of its compressed bytes */
};

/*
 * Builds the index of the layer. `json` is consumed (strings are taken from it in place). Every chunk must lie before
 * footer->toc_offset (external TOC: before the footer). Where a chunk ends in the blob is what endOffset says, else
 * derived: at the next member that any chunk is in, or at the TOC. ERR_INVALID naming the path: a regular file without
 * usable digests, a single chunk whose digest differs from the file's, sizes that do not add up, a hole whose digest is
 * not that of zeros. `found` may be NULL.
 *
 * Chunks without a digest of their own (legacy stargz): the file is one chunk from its first offset on, which may span
 * members; its digest is the file's. Chunks of zeros may be longer than others, up to ESGZ_HOLES_BYTES_MAX
 * in sum (ERR_EXHAUSTED); the digest of one is checked up to ESGZ_HOLE_CHECKED_MAX (above, it is when the whole file is). A
 * file larger than ESGZ_CHUNK_BYTES_MAX in a single chunk is taken for a hole if its digest is that of zeros:
 * containers/storage does not mark these.
 */
int esgz_toc_to_index(const struct esgz_toc_source *src, struct buf *json, struct buf *index_out,
                      struct esgz_toc_found *found, struct err *err);

#endif
