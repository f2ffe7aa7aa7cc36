/* Cold means cold: the page cache and the kernel's caches of names are dropped, and it is checked that they are. */
#ifndef BENCH_COLDBENCH_COLD_H
#define BENCH_COLDBENCH_COLD_H

#include "base/err.h"

#include <stdint.h>

/* Writes back, drops the caches, and counts how much of the given programs (a path, or a name that is looked for beside ours and in PATH; NULL at the end) is in
 * the page cache all the same. A daemon's own program stays there, since it runs. */
int cold_drop(const char *const *programs, uint64_t *resident_bytes, struct err *err);

/* Bytes of a file in the page cache (mincore). 0 when it is absent. */
uint64_t cold_resident_bytes(const char *path);

/* A fixed piece of computation in milliseconds: it tells a disturbed machine from a quiet one. */
double noise_spin_ms(void);

#endif
