/*
 * The round of SipHash (Aumasson and Bernstein, 2012) and its beginning: what hashes keyed against those who choose the
 * keys are made of. How many rounds, and how input is cut into words, is the user's. Inline; no state.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stdint.h>

struct siphash {
	uint64_t v[4];
};

static inline struct siphash siphash_begin(uint64_t key0, uint64_t key1)
{
	return (struct siphash){{key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d, key0 ^ 0x6c7967656e657261,
	                         key1 ^ 0x7465646279746573}};
}

static inline uint64_t siphash_rotl(uint64_t v, int by)
{
	return v << by | v >> (64 - by);
}

static inline void siphash_rounds(struct siphash *s, int n)
{
	uint64_t *v = s->v;

	for (; n > 0; n--) {
		v[0] += v[1], v[1] = siphash_rotl(v[1], 13) ^ v[0], v[0] = siphash_rotl(v[0], 32);
		v[2] += v[3], v[3] = siphash_rotl(v[3], 16) ^ v[2];
		v[0] += v[3], v[3] = siphash_rotl(v[3], 21) ^ v[0];
		v[2] += v[1], v[1] = siphash_rotl(v[1], 17) ^ v[2], v[2] = siphash_rotl(v[2], 32);
	}
}

/* Mixes a word in, with that many rounds. */
static inline void siphash_word(struct siphash *s, uint64_t word, int rounds)
{
	s->v[3] ^= word;
	siphash_rounds(s, rounds);
	s->v[0] ^= word;
}

static inline uint64_t siphash_out(const struct siphash *s)
{
	return s->v[0] ^ s->v[1] ^ s->v[2] ^ s->v[3];
}

#endif
