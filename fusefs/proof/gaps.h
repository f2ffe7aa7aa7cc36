/*
 * Gaps: what of a lazy layer's members is no chunk, kept until the layer is proven. Two halves: a collector per layer, to
 * which the jobs that inflate members give what they see, and a log that the prover reads. index/<hex>.gaps:
 *
 *   records    u32 packed bytes, u32 plain bytes, u64 CRC-64/XZ of these 8 bytes and of the packed ones; a zstd frame
 *   in a frame u64 from, u64 until (bytes of the blob), u32 chunks, u32 n; n bytes; and so on
 *
 * all little-endian. Records are appended without sync. What a crash tears fails the checksum: the log ends before it, for
 * readers and for the next writer. Nothing here is believed: the DiffID at the end says whether it was right.
 */
#ifndef FUSEFS_PROOF_GAPS_H
#define FUSEFS_PROOF_GAPS_H

#include "base/buf.h"
#include "fusefs/store.h"

#define GAPS_PIECE_MAX (1u << 20) /* of one range; longer ones are fetched again */

/* ---- collecting: any thread ---- */

struct gaps;
/* The log takes at most about as much as the layer's blob. */
struct gaps *gaps_new(struct ffs_store *store, const struct digest *index_key, uint64_t blob_bytes);
/* What was not flushed is lost. */
void gaps_free(struct gaps *g);

/* Takes the plain bytes of blob range [from, until) that are none of the `n_chunks` chunks of the member at `from`. True:
 * enough has come together for a gaps_flush, by somebody who has time; said once until then. */
bool gaps_add(struct gaps *g, uint64_t from, uint64_t until, uint32_t n_chunks, struct str plain);

/* Compresses and appends what has come together. When that fails, it says so, and nothing more is kept: what a log lacks is
 * fetched again. */
void gaps_flush(struct gaps *g);

/* Removes the log, and drops what has come together. */
void gaps_forget(struct gaps *g);

/* ---- the log: one owner ---- */

struct gaps_piece {
	uint64_t from, until;
	uint32_t n_chunks, n;
	uint32_t batch, at; /* inside of the log */
};

struct gaps_log;
/* Reads a log's bytes, which are borrowed; what does not check ends it. */
struct gaps_log *gaps_log_new(struct str bytes);
/* That of a layer; an empty one when there is none. */
int gaps_log_open(struct ffs_store *store, const struct digest *index_key, struct gaps_log **out, struct err *err);
void gaps_log_free(struct gaps_log *log);
DEFINE_AUTO_FREE(gaps_log);

/* Bytes of the log that check. */
uint64_t gaps_log_bytes(const struct gaps_log *log);
/* The first piece that begins at `from` or behind it; NULL: none. Of two of one range it is the later one. */
const struct gaps_piece *gaps_log_find(const struct gaps_log *log, uint64_t from);
/* Its bytes, valid until the next call. */
int gaps_log_read(struct gaps_log *log, const struct gaps_piece *piece, struct str *plain, struct err *err);

#endif
