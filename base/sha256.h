/*
 * SHA-256 (FIPS 180-4) by the instructions that x86 processors have for it, several digests of as many bytes at a time. A
 * chain of rounds waits for its own last result most of the time; a second chain, that of another digest, fits in between.
 * For digest.c, which takes OpenSSL where this is not usable. Values: any thread; a struct has one user at a time.
 */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_LANES 3 /* digests at a time, at most */
#define SHA256_BLOCK_BYTES 64
#define SHA256_DIGEST_BYTES 32

struct sha256 {
	uint32_t h[8];
	uint64_t bytes;                   /* so far */
	uint8_t tail[SHA256_BLOCK_BYTES]; /* those behind the last whole block */
};

/* Whether this processor has what the functions below need; without it they must not be called. */
bool sha256_usable(void);

void sha256_start(struct sha256 *s);
/* Adds the same bytes to n different ones, 1 to SHA256_LANES, wherever in a block each stands. */
void sha256_add(struct sha256 *const *s, unsigned n, const void *p, size_t bytes);
/* The digest so far, 32 bytes; the stream may go on. */
void sha256_peek(const struct sha256 *s, uint8_t *out);
/* The digests, one behind the other, of n messages, 1 to SHA256_LANES, all of so many bytes. */
void sha256_of(const void *const *p, unsigned n, size_t bytes, uint8_t *out);

#endif
