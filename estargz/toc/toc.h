/*
 * TOC of an eStargz layer: from the compressed bytes at the end of a blob to a layer index.
 * Sans-I/O; any thread. Format: stargz-snapshotter docs/estargz.md; spec traps are handled here: exact digest over the
 * whole JSON, trailing bytes refused, chunkSize 0, innerOffset, implied directories, case-insensitive keys as in Go.
 */
#ifndef ESTARGZ_TOC_H
#define ESTARGZ_TOC_H

#include "estargz/index/index.h"
#include "estargz/toc/footer.h"

#define ESGZ_TOC_NAME "stargz.index.json"
#define ESGZ_TOC_BYTES_MAX (150u << 20) /* uncompressed JSON; containers/storage has the same bound */

/* True for the cleaned paths of what lazy layers carry for themselves: the TOC and the landmarks, in the root. */
bool esgz_is_marker(struct str path);

/* Inflates the TOC member (`toc`: the blob's bytes [toc_offset, toc_offset + toc_bytes)), takes the JSON out of its tar
 * entry (gzip kinds) and checks it against `expected` (sha256 over the exact uncompressed JSON; ESGZ_FOOTER_ZSTD_STORAGE: over the
 * compressed bytes, as that dialect's annotation has it). A mismatch is ERR_DATA_LOSS naming both digests. An external
 * TOC's layer is a tar of the same shape: give its bytes. json: appended. */
int esgz_toc_extract(const struct esgz_footer *footer, struct str toc, const struct digest *expected, struct buf *json,
                     struct err *err);

/* Builds the index of the layer. `json` is consumed (strings are taken from it in place). blob and blob_bytes from the
 * layer's descriptor; every chunk must lie before footer->toc_offset. Where a chunk ends in the blob is
 * derived: at the next member that any chunk is in, else at the TOC. A regular file without usable chunk digests, a
 * single chunk whose digest differs from the file's, and sizes that do not add up are ERR_INVALID naming the path. */
int esgz_toc_to_index(const struct esgz_footer *footer, struct buf *json, const struct digest *toc_digest,
                      const struct digest *blob, uint64_t blob_bytes, struct buf *index_out, struct err *err);

#endif
