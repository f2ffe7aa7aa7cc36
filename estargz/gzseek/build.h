/*
 * The seekable index of an ordinary gzip layer, built in one pass over it: points (points.h), and an index whose chunks lie
 * behind them (index.h, ESGZ_GZIP_SEEK). The blob's digest, the DiffID and the files' digests come from the same pass.
 *
 *	blob ─► esgz_gzseek_blob: hash, inflate, places ─► plain bytes and cuts, in order
 *	     ─► esgz_gzseek_plain, _cut: hash, tar, hash of files and chunks ─► esgz_gzseek_finish
 *
 * The two halves touch nothing of each other, so that two threads can share the work. Sans-I/O.
 */
#ifndef ESTARGZ_GZSEEK_BUILD_H
#define ESTARGZ_GZSEEK_BUILD_H

#include "estargz/inflate/layer.h"

/* Bytes for the points of a layer: what the index leaves of 9 in 1000 of the compressed layer as both lie in an artifact, but 2 in
 * 1000 at least: where names and digests of small files take more than that, longer spans would save little. */
#define ESGZ_GZSEEK_BUDGET(blob_bytes) ((blob_bytes) / 1000 * 9)
#define ESGZ_GZSEEK_BUDGET_LEAST(blob_bytes) ((blob_bytes) / 1000 * 2)

struct esgz_gzseek;
/* `sink` gets the files' contents, as of any layer; NULL: nobody wants them. */
struct esgz_gzseek *esgz_gzseek_new(const struct esgz_layer_sink *sink);
void esgz_gzseek_free(struct esgz_gzseek *s);
DEFINE_AUTO_FREE(esgz_gzseek);

/* Where the first half puts what it makes. */
struct esgz_gzseek_flow {
	int (*plain)(void *arg, struct str plain, struct err *err);
	/* Between plain bytes: esgz_gzseek_cut is due here. */
	int (*cut)(void *arg, struct err *err);
	void *arg;
};

/* First half: bytes of the blob; its end. A layer that is no gzip, or broken: ERR_DATA_LOSS. */
int esgz_gzseek_blob(struct esgz_gzseek *s, struct str bytes, const struct esgz_gzseek_flow *flow, struct err *err);
int esgz_gzseek_blob_end(struct esgz_gzseek *s, struct err *err);

/* Second half. */
int esgz_gzseek_plain(struct esgz_gzseek *s, struct str plain, struct err *err);
void esgz_gzseek_cut(struct esgz_gzseek *s);

/* Both at once. */
int esgz_gzseek_feed(struct esgz_gzseek *s, struct str bytes, struct err *err);

/* Both halves are over: the digests, for the caller to compare. */
int esgz_gzseek_finish(struct esgz_gzseek *s, struct esgz_layer_result *out, struct err *err);
/* Then, once: appends the index and the points. A layer that cannot be read in parts: ERR_PRECONDITION. */
int esgz_gzseek_write(struct esgz_gzseek *s, struct buf *index, struct buf *points, struct err *err);
/* After that, or instead of it: appends the index that esgz_layer_index makes of this layer, for who has unpacked it. */
int esgz_gzseek_unpacked(struct esgz_gzseek *s, struct buf *index, struct err *err);

#endif
