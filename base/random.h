/* Random bytes from the kernel, good for keys, identifiers and temporary names alike. Any thread. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *dst, size_t n);
uint64_t random_u64(void);

/* 2 * n_bytes lower-case hex characters and a NUL into dst, which is returned. n_bytes is at most 32. */
char *random_hex(char *dst, size_t n_bytes);

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the next number of the stream
 * that begins with any *state, the same on every machine. For orders and samples that can be made again, not for keys. */
uint64_t random_next(uint64_t *state);

/* For simulations, which have to run the same way twice: from now on every draw gives the same bytes. Before any other
 * thread begins. */
void random_fix(void);

#endif
