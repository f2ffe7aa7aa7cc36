/* Random bytes from the kernel, good for keys, identifiers and temporary names alike. Any thread. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *dst, size_t n);
uint64_t random_u64(void);

/* 2 * n_bytes lower-case hex characters and a NUL into dst, which is returned. n_bytes is at most 32. */
char *random_hex(char *dst, size_t n_bytes);

/* For simulations, which have to run the same way twice: from now on every draw gives the same bytes. Before any other
 * thread begins. */
void random_fix(void);

#endif
