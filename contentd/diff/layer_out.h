/*
 * A layer on its way out: plain tar bytes in, the blob in the wanted compression out, and the DiffID. It is made
 * of gzip members or zstd frames that several threads compress; the same bytes give the same blob, however many there are. One owner.
 */
#ifndef DIFF_LAYER_OUT_H
#define DIFF_LAYER_OUT_H

#include "base/digest.h"
#include "estargz/index/index.h"

struct layer_out;

/* sink: gets the blob, piece by piece, on the caller's thread. */
int layer_out_new(enum esgz_compression kind, int (*sink)(void *arg, struct str bytes, struct err *err), void *arg,
                  struct layer_out **out, struct err *err);
void layer_out_free(struct layer_out *o);
DEFINE_AUTO_FREE(layer_out);

int layer_out_write(struct layer_out *o, struct str plain, struct err *err);
int layer_out_zeros(struct layer_out *o, uint64_t n, struct err *err);

/* The last of the blob goes to the sink. */
int layer_out_finish(struct layer_out *o, struct digest *diff_id, struct err *err);

#endif
