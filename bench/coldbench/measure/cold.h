/* Cold means cold: the page cache and the kernel's caches of names are dropped, and it is checked that they are. */
#ifndef BENCH_COLDBENCH_COLD_H
#define BENCH_COLDBENCH_COLD_H

#include "base/err.h"

#include <stdint.h>

/* Writes back and drops the caches. */
int cold_drop(struct err *err);

/* How much of the given programs (names; NULL at the end) is in the page cache (mincore): of those beside ours, and of the
 * others as a shell finds them whose root is `root` (NULL: "/"); one that is not there has nothing in it. A daemon's own program
 * stays, since it runs. The look itself reads folders: what is to be cold is dropped again after it. */
int cold_resident_bytes(const char *const *programs, const char *root, uint64_t *out, struct err *err);

/* A fixed piece of computation in milliseconds: it tells a disturbed machine from a quiet one. */
double noise_spin_ms(void);

#endif
