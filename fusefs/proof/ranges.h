/* Ranges of a layer's blob as a stream, for the prover: waits, and gives way to whoever reads. */
#ifndef FUSEFS_PROOF_RANGES_H
#define FUSEFS_PROOF_RANGES_H

#include "fusefs/core.h"

/* Waits until nobody is waiting for the network, and the prover may go on. ERR_CANCELLED: it is to stop, or the layer was
 * removed. */
int prover_give_way(struct ffs_data *d, const struct layer *l, struct err *err);

/* Calls `sink` with the bytes of [from, until), in order; a negative return ends it with that code. The prover's thread
 * alone. */
int range_stream(struct ffs_data *d, const struct layer *l, uint64_t from, uint64_t until,
                 int (*sink)(void *arg, struct str bytes, struct err *err), void *arg, struct err *err);

#endif
