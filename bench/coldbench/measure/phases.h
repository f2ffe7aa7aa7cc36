/* The borders between a start's phases. Pure: what was seen goes in, moments come out. */
#ifndef BENCH_COLDBENCH_MEASURE_PHASES_H
#define BENCH_COLDBENCH_MEASURE_PHASES_H

#include "bench/coldbench/measure/launch.h"

/* at[i] to at[i + 1] is phase i; they ascend from l->begun_ns to l->ready_ns. `exchanges` (n of them, in any order) are those
 * of the pull; with none the pull is unpacking alone. */
void phases_split(const struct launch *l, const struct net_exchange *exchanges, size_t n, int64_t at[N_PHASES + 1]);

/* Bytes of blobs that were asked for after the pull and until the program was ready. */
uint64_t phases_touched_bytes(const struct launch *l, const struct net_exchange *exchanges, size_t n);

#endif
