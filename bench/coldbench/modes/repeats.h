/* What was asked for more than once of a registry, from the list of exchanges of a network. Pure; any thread. */
#ifndef BENCH_COLDBENCH_MODES_REPEATS_H
#define BENCH_COLDBENCH_MODES_REPEATS_H

#include "bench/coldbench/net/net.h"

/* Bytes of blobs that were asked for, each counted as often as it was, and each counted once. Suffix ranges ("bytes=-100")
 * are held against one another alone, since the size of the blob is not known. */
struct repeats {
	uint64_t asked_bytes, distinct_bytes;
};

void repeats_count(const struct net_exchange_list *l, struct repeats *out);

#endif
