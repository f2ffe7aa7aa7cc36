/*
 * SHA-256 digests: the value type, its text form "sha256:<64 hex>", and streaming computation, of several
 * digests at a time where the processor can (sha256.h), else with OpenSSL. Values: any thread. A hasher has one owner.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define DIGEST_BYTES 32
#define DIGEST_TEXT_MAX 72 /* "sha256:" + 64 + NUL */

struct digest {
	uint8_t b[DIGEST_BYTES];
};

/* sha256 of nothing. */
extern const struct digest DIGEST_EMPTY;

/* Parses "sha256:<64 lowercase hex>"; other algorithms and anything else: ERR_INVALID. */
int digest_parse(struct str text, struct digest *out, struct err *err);

/* Parses 64 lowercase hex characters. */
bool digest_from_hex(struct str hex, struct digest *out);

/* Writes "sha256:<hex>" (71 bytes and NUL) and returns dst. */
char *digest_text(const struct digest *d, char dst[static DIGEST_TEXT_MAX]);

/* Writes the 64 hex characters and a NUL and returns dst (needs 65 bytes). */
char *digest_hex(const struct digest *d, char dst[static 65]);

static inline bool digest_eq(const struct digest *a, const struct digest *b)
{
	return !memcmp(a, b, sizeof(*a));
}
static inline bool digest_is_zero(const struct digest *d)
{
	return digest_eq(d, &(struct digest){{0}});
}

/* One-shot sha256. */
void digest_of(const void *p, size_t n, struct digest *out);
/* The digests of 1 to DIGESTS_MAX messages, all of n bytes, for less than one after the other. */
#define DIGESTS_MAX 3
void digest_of_all(const void *const *p, unsigned n_messages, size_t n, struct digest *out);

/* Lower-case hex of any bytes: 2n characters and a NUL into dst. */
void hex_encode(const void *p, size_t n, char *dst);

/* Streaming sha256. */
struct hasher;
struct hasher *hasher_new(void);
void hasher_free(struct hasher *h);
void hasher_reset(struct hasher *h);
void hasher_add(struct hasher *h, const void *p, size_t n);
/* Adds the same bytes to 1 to HASHERS_MAX different hashers, for less than one after the other. */
#define HASHERS_MAX 3
void hasher_add_all(struct hasher *const *h, unsigned n_hashers, const void *p, size_t n);
/* Gives the digest and resets. */
void hasher_done(struct hasher *h, struct digest *out);
/* Gives the digest so far, without disturbing the stream. */
void hasher_peek(const struct hasher *h, struct digest *out);
DEFINE_AUTO_FREE(hasher);

/* RFC 4648 base64 with padding. Decoding rejects junk and bad padding; bound the input before. */
struct buf;
void base64_encode(struct str in, struct buf *out);
int base64_decode(struct str in, struct buf *out, struct err *err);

#endif
