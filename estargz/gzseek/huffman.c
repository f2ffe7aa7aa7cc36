#include "estargz/gzseek/huffman.h"

#include "base/cleanup.h"

#include <string.h>

#define LIT1(n) (HUFF_LITERAL | (uint32_t)(n) << 16)
#define LIT4(n) LIT1(n), LIT1((n) + 1), LIT1((n) + 2), LIT1((n) + 3)
#define LIT16(n) LIT4(n), LIT4((n) + 4), LIT4((n) + 8), LIT4((n) + 12)
#define LIT64(n) LIT16(n), LIT16((n) + 16), LIT16((n) + 32), LIT16((n) + 48)
#define BASE(base, extra) ((uint32_t)(base) << 16 | (extra))

/* What the symbols mean, without the bits of their codes: RFC 1951 3.2.5. */
static const uint32_t LITLEN[HUFF_LITLEN_SYMBOLS] = {
    LIT64(0),     LIT64(64),    LIT64(128),  LIT64(192),  HUFF_END,     BASE(3, 0),   BASE(4, 0),   BASE(5, 0),
    BASE(6, 0),   BASE(7, 0),   BASE(8, 0),  BASE(9, 0),  BASE(10, 0),  BASE(11, 1),  BASE(13, 1),  BASE(15, 1),
    BASE(17, 1),  BASE(19, 2),  BASE(23, 2), BASE(27, 2), BASE(31, 2),  BASE(35, 3),  BASE(43, 3),  BASE(51, 3),
    BASE(59, 3),  BASE(67, 4),  BASE(83, 4), BASE(99, 4), BASE(115, 4), BASE(131, 5), BASE(163, 5), BASE(195, 5),
    BASE(227, 5), BASE(258, 0), HUFF_BAD,    HUFF_BAD};

static const uint32_t DIST[HUFF_DIST_SYMBOLS] = {
    BASE(1, 0),      BASE(2, 0),      BASE(3, 0),     BASE(4, 0),     BASE(5, 1),     BASE(7, 1),     BASE(9, 2),
    BASE(13, 2),     BASE(17, 3),     BASE(25, 3),    BASE(33, 4),    BASE(49, 4),    BASE(65, 5),    BASE(97, 5),
    BASE(129, 6),    BASE(193, 6),    BASE(257, 7),   BASE(385, 7),   BASE(513, 8),   BASE(769, 8),   BASE(1025, 9),
    BASE(1537, 9),   BASE(2049, 10),  BASE(3073, 10), BASE(4097, 11), BASE(6145, 11), BASE(8193, 12), BASE(12289, 12),
    BASE(16385, 13), BASE(24577, 13), HUFF_BAD,       HUFF_BAD};

static const uint32_t LENS[HUFF_LENS_SYMBOLS] = {BASE(0, 0),  BASE(1, 0),  BASE(2, 0),  BASE(3, 0),  BASE(4, 0),
                                                 BASE(5, 0),  BASE(6, 0),  BASE(7, 0),  BASE(8, 0),  BASE(9, 0),
                                                 BASE(10, 0), BASE(11, 0), BASE(12, 0), BASE(13, 0), BASE(14, 0),
                                                 BASE(15, 0), BASE(16, 0), BASE(17, 0), BASE(18, 0)};

/* Adds the bits of the code: to those of the symbol, and for themselves. */
static uint32_t with_bits(uint32_t meaning, unsigned bits)
{
	return meaning + (bits << 8 | bits);
}

struct shape {
	const uint32_t *meaning;
	unsigned bits;                    /* first level */
	unsigned entries;                 /* room in the table */
	bool none_is_legal, one_is_legal; /* a code of no symbols; of one symbol and one bit */
};

/* The code after `code` of `len` bits, both with the first bit of the code lowest, as the stream has them: the lowest
 * zero bit counted from the top becomes 1, those above it 0. `code` is not the last one. */
static unsigned next_code(unsigned code, unsigned len)
{
	unsigned flipped = code ^ ((1u << len) - 1);
	unsigned bit = 1u << (31 - (unsigned)__builtin_clz(flipped));

	return (code & (bit - 1)) | bit;
}

/* A table for a code that is not complete: every bit pattern that means nothing is an entry of one bit. */
static bool build_sparse(uint32_t *table, const struct shape *s, const uint16_t counts[HUFF_CODE_MAX + 1],
                         unsigned symbol)
{
	unsigned used = 0;

	for (unsigned len = 1; len <= HUFF_CODE_MAX; len++)
		used += counts[len];
	if (used == 0 ? !s->none_is_legal : !s->one_is_legal || used != 1 || counts[1] != 1)
		return false;
	for (unsigned i = 0; i < 1u << s->bits; i++)
		table[i] = with_bits(used && !(i & 1) ? s->meaning[symbol] : HUFF_BAD, 1);
	return true;
}

/*
 * Codes in ascending order of length are assigned in the order of their bits. The first level is filled as if it had
 * only as many bits as the codes so far; when they grow by one, what there is is doubled.
 */
static bool build(uint32_t *table, const struct shape *s, const uint8_t *lens, unsigned n)
{
	uint16_t counts[HUFF_CODE_MAX + 1] = {0}, places[HUFF_CODE_MAX + 2], sorted[HUFF_LITLEN_SYMBOLS] = {0};
	unsigned code = 0, k = 0, len, end, sub = 0, sub_bits = 0, sub_prefix = UINT32_MAX;
	int left = 1;

	for (unsigned i = 0; i < n; i++)
		counts[lens[i]]++;
	counts[0] = 0;
	places[1] = 0;
	for (len = 1; len <= HUFF_CODE_MAX; len++) {
		left = 2 * left - counts[len];
		if (left < 0)
			return false;
		places[len + 1] = (uint16_t)(places[len] + counts[len]);
	}
	for (unsigned i = 0; i < n; i++)
		if (lens[i])
			sorted[places[lens[i]]++] = (uint16_t)i;
	if (left > 0)
		return build_sparse(table, s, counts, sorted[0]);

	/* The first level. */
	for (len = 1; counts[len] == 0; len++)
		;
	end = 1u << len;
	for (; len <= s->bits; len++) {
		for (unsigned c = counts[len]; c > 0; c--) {
			table[code] = with_bits(s->meaning[sorted[k++]], len);
			if (code == (1u << len) - 1) { /* all bits set: the last code of all */
				for (; end < 1u << s->bits; end *= 2)
					memcpy(table + end, table, end * sizeof(*table));
				return true;
			}
			code = next_code(code, len);
		}
		if (len < s->bits) {
			memcpy(table + end, table, end * sizeof(*table));
			end *= 2;
		}
	}

	/* The rest, by prefix: each subtable as wide as its codes need. */
	end = 1u << s->bits;
	for (;; len++) {
		for (unsigned c = counts[len]; c > 0; c--) {
			unsigned prefix = code & ((1u << s->bits) - 1), stride = 1u << (len - s->bits);
			uint32_t e;

			if (prefix != sub_prefix) {
				int room = (1 << (len - s->bits)) - (int)c;

				sub_prefix = prefix;
				sub = end;
				sub_bits = len - s->bits;
				while (room > 0) {
					sub_bits++;
					room = 2 * room - counts[s->bits + sub_bits];
				}
				end = sub + (1u << sub_bits);
				if (end > s->entries)
					return false;
				table[prefix] = sub << 16 | HUFF_SUB | sub_bits << 8 | s->bits;
			}
			e = with_bits(s->meaning[sorted[k++]], len - s->bits);
			for (unsigned i = code >> s->bits; i < 1u << sub_bits; i += stride)
				table[sub + i] = e;
			if (code == (1u << len) - 1)
				return true;
			code = next_code(code, len);
		}
	}
}

bool huff_litlen(uint32_t table[HUFF_LITLEN_ENTRIES], const uint8_t *lens, unsigned n)
{
	static const struct shape shape = {LITLEN, HUFF_LITLEN_BITS, HUFF_LITLEN_ENTRIES, false, true};

	return build(table, &shape, lens, n);
}

bool huff_dist(uint32_t table[HUFF_DIST_ENTRIES], const uint8_t *lens, unsigned n)
{
	static const struct shape shape = {DIST, HUFF_DIST_BITS, HUFF_DIST_ENTRIES, true, true};

	return build(table, &shape, lens, n);
}

bool huff_lens(uint32_t table[HUFF_LENS_ENTRIES], const uint8_t *lens, unsigned n)
{
	static const struct shape shape = {LENS, HUFF_LENS_BITS, HUFF_LENS_ENTRIES, false, false};

	return build(table, &shape, lens, n);
}
