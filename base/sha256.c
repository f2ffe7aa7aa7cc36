#include "base/sha256.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK SHA256_BLOCK_BYTES

/* Whole blocks, as many from from[i] on into h[i], for each of `n` lanes. */
typedef void blocks_fn(uint32_t *const *h, const uint8_t *const *from, size_t blocks);

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

#define TARGET __attribute__((target("sha,sse4.1")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* The first 32 bits of the fractions of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* The eight words of a state as the instructions want them: named from the highest to the lowest. */
struct state {
	__m128i abef, cdgh;
};

INLINE struct state load_state(const uint32_t *h)
{
	__m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
	__m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);

	return (struct state){_mm_alignr_epi8(badc, efgh, 8), _mm_blend_epi16(efgh, badc, 0xf0)};
}

INLINE void store_state(struct state s, uint32_t *h)
{
	__m128i feba = _mm_shuffle_epi32(s.abef, 0x1b);
	__m128i dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);

	_mm_storeu_si128((__m128i *)h, _mm_blend_epi16(feba, dchg, 0xf0));
	_mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* The sixteen words of a block, of which each is the high byte first. */
INLINE void load_words(const uint8_t *p, __m128i w[4])
{
	const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), order);
}

/* Rounds 4i to 4i+3; w[i % 4] are their words, and gets those of 16 rounds later. */
INLINE void four_rounds(struct state *s, __m128i w[4], int i)
{
	__m128i wk = _mm_add_epi32(w[i % 4], _mm_load_si128((const __m128i *)(K + 4 * i)));
	__m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]),
	                            _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));

	s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
	s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
	if (i < 12)
		w[i % 4] = _mm_sha256msg2_epu32(sum, w[(i + 3) % 4]);
}

/* n is a constant where this is inlined, and every loop but that over the blocks unrolled. */
INLINE void lanes(uint32_t *const *h, const uint8_t *const *from, size_t blocks, unsigned n)
{
	struct state s[SHA256_LANES], before[SHA256_LANES];
	__m128i w[SHA256_LANES][4];

#pragma GCC unroll 3
	for (unsigned l = 0; l < n; l++)
		s[l] = load_state(h[l]);
	for (size_t b = 0; b < blocks; b++) {
#pragma GCC unroll 3
		for (unsigned l = 0; l < n; l++) {
			before[l] = s[l];
			load_words(from[l] + b * BLOCK, w[l]);
		}
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			four_rounds(&s[0], w[0], i);
			if (n > 1)
				four_rounds(&s[1], w[1], i);
			if (n > 2)
				four_rounds(&s[2], w[2], i);
		}
#pragma GCC unroll 3
		for (unsigned l = 0; l < n; l++) {
			s[l].abef = _mm_add_epi32(s[l].abef, before[l].abef);
			s[l].cdgh = _mm_add_epi32(s[l].cdgh, before[l].cdgh);
		}
	}
#pragma GCC unroll 3
	for (unsigned l = 0; l < n; l++)
		store_state(s[l], h[l]);
}

static TARGET void blocks_1(uint32_t *const *h, const uint8_t *const *from, size_t blocks)
{
	lanes(h, from, blocks, 1);
}

static TARGET void blocks_2(uint32_t *const *h, const uint8_t *const *from, size_t blocks)
{
	lanes(h, from, blocks, 2);
}

static TARGET void blocks_3(uint32_t *const *h, const uint8_t *const *from, size_t blocks)
{
	lanes(h, from, blocks, 3);
}

static blocks_fn *const blocks_of[SHA256_LANES] = {blocks_1, blocks_2, blocks_3};

bool sha256_usable(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

#else

static void none(uint32_t *const *h, const uint8_t *const *from, size_t blocks)
{
	abort();
}

static blocks_fn *const blocks_of[SHA256_LANES] = {none, none, none};

bool sha256_usable(void)
{
	return false;
}

#endif

/* The first 32 bits of the fractions of the square roots of the first eight primes (FIPS 180-4, 5.3.3). */
static const uint32_t BEGIN[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

void sha256_start(struct sha256 *s)
{
	memcpy(s->h, BEGIN, sizeof(BEGIN));
	s->bytes = 0;
}

static void add_blocks(struct sha256 *s, const uint8_t *from, size_t blocks)
{
	uint32_t *h = s->h;

	if (blocks)
		blocks_of[0](&h, &from, blocks);
}

/* Fills the block that has begun; returns how many bytes that took. */
static size_t add_head(struct sha256 *s, const uint8_t *p, size_t bytes)
{
	size_t in_tail = s->bytes % BLOCK, n = BLOCK - in_tail < bytes ? BLOCK - in_tail : bytes;

	if (in_tail == 0)
		return 0;
	memcpy(s->tail + in_tail, p, n);
	s->bytes += n;
	add_blocks(s, s->tail, s->bytes % BLOCK == 0);
	return n;
}

/* The rest: at most a block more than the other lanes, and less than one that stays. */
static void add_tail(struct sha256 *s, const uint8_t *p, size_t bytes)
{
	add_blocks(s, p, bytes / BLOCK);
	if (bytes % BLOCK)
		memcpy(s->tail, p + bytes / BLOCK * BLOCK, bytes % BLOCK);
	s->bytes += bytes;
}

void sha256_add(struct sha256 *const *s, unsigned n, const void *p, size_t bytes)
{
	const uint8_t *from[SHA256_LANES], *end = (const uint8_t *)p + bytes;
	uint32_t *h[SHA256_LANES];
	size_t blocks = SIZE_MAX;

	if (bytes == 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		size_t whole;

		from[i] = (const uint8_t *)p + add_head(s[i], p, bytes);
		h[i] = s[i]->h;
		whole = (size_t)(end - from[i]) / BLOCK;
		blocks = whole < blocks ? whole : blocks;
	}
	if (blocks > 0)
		blocks_of[n - 1](h, from, blocks);
	for (unsigned i = 0; i < n; i++) {
		s[i]->bytes += blocks * BLOCK;
		from[i] += blocks * BLOCK;
		if (from[i] < end)
			add_tail(s[i], from[i], (size_t)(end - from[i]));
	}
}

/* The end of a message: what of it is behind the last whole block, a one, zeros, its length in bits. Returns the number of
 * blocks. */
static size_t put_end(uint8_t end[static 2 * BLOCK], const uint8_t *tail, uint64_t bytes)
{
	size_t in_tail = bytes % BLOCK, blocks = in_tail < BLOCK - 8 ? 1 : 2;

	memset(end, 0, 2 * BLOCK); /* of a size that is known: no call */
	if (in_tail)
		memcpy(end, tail, in_tail);
	end[in_tail] = 0x80;
	put_be64(end + blocks * BLOCK - 8, bytes * 8);
	return blocks;
}

static void put_digest(const uint32_t h[static 8], uint8_t *out)
{
	for (int i = 0; i < 8; i++)
		put_be32(out + 4 * i, h[i]);
}

void sha256_peek(const struct sha256 *s, uint8_t *out)
{
	struct sha256 last = *s;
	uint8_t end[2 * BLOCK];

	add_blocks(&last, end, put_end(end, s->tail, s->bytes));
	put_digest(last.h, out);
}

void sha256_of(const void *const *p, unsigned n, size_t bytes, uint8_t *out)
{
	uint32_t states[SHA256_LANES][8], *h[SHA256_LANES];
	uint8_t ends[SHA256_LANES][2 * BLOCK];
	const uint8_t *from[SHA256_LANES];
	size_t whole = bytes / BLOCK, end_blocks = 0;

	for (unsigned i = 0; i < n; i++) {
		memcpy(states[i], BEGIN, sizeof(BEGIN));
		h[i] = states[i];
		from[i] = p[i];
	}
	if (whole > 0)
		blocks_of[n - 1](h, from, whole);
	for (unsigned i = 0; i < n; i++) {
		end_blocks = put_end(ends[i], from[i] + whole * BLOCK, bytes);
		from[i] = ends[i];
	}
	blocks_of[n - 1](h, from, end_blocks);
	for (unsigned i = 0; i < n; i++)
		put_digest(states[i], out + i * SHA256_DIGEST_BYTES);
}
