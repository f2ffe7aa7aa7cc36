/* Cold means cold: the page cache and the kernel's caches of names are dropped, and it is checked that they are. */
#ifndef BENCH_COLDBENCH_COLD_H
#define BENCH_COLDBENCH_COLD_H

#include "base/err.h"

#include <stdint.h>

/* Writes back and drops the caches. */
int cold_drop(struct err *err);

/* How much of the given programs (names; NULL at the end) is in the page cache (mincore): of those beside ours, and of the
 * others as a shell finds them whose root is `root` (NULL: "/"). A daemon's own program stays there, since it runs. */
uint64_t cold_resident_bytes(const char *const *programs, const char *root);

/* A fixed piece of computation in milliseconds: it tells a disturbed machine from a quiet one. */
double noise_spin_ms(void);

#endif
