/*
 * Decoding tables of deflate's canonical Huffman codes (RFC 1951 3.2.2): a first level looked up by the next bits of
 * the stream, and subtables for the codes that are longer. Of deflate.c; any thread.
 *
 * An entry says all that its symbol means, so that a symbol costs one look and one shift:
 *
 *	31      HUFF_LITERAL
 *	30-16   literal; or base of a length or distance; or first entry of the subtable
 *	15-12   HUFF_END, HUFF_SUB, HUFF_BAD, with HUFF_OTHER in all three
 *	11-8    bits of the code alone (below a subtable: those that the first level has not seen); width of a subtable
 *	7-0     bits to consume: the code, and the extra bits behind it
 */
#ifndef ESTARGZ_HUFFMAN_H
#define ESTARGZ_HUFFMAN_H

#include <stdbool.h>
#include <stdint.h>

#define HUFF_LITERAL (1u << 31)
#define HUFF_OTHER (1u << 15)
#define HUFF_END (1u << 14 | HUFF_OTHER)
#define HUFF_SUB (1u << 13 | HUFF_OTHER)
#define HUFF_BAD (1u << 12 | HUFF_OTHER)

#define HUFF_CODE_MAX 15 /* bits of a code */
#define HUFF_LITLEN_SYMBOLS 288
#define HUFF_DIST_SYMBOLS 32
#define HUFF_LENS_SYMBOLS 19

/* Bits of the first level, and entries that any complete code can take then (counted by zlib's examples/enough.c). */
#define HUFF_LITLEN_BITS 11
#define HUFF_LITLEN_ENTRIES 2342
#define HUFF_DIST_BITS 8
#define HUFF_DIST_ENTRIES 402
#define HUFF_LENS_BITS 7
#define HUFF_LENS_ENTRIES 128

static inline unsigned huff_bits(uint32_t e)
{
	return e & 63;
}
static inline unsigned huff_code_bits(uint32_t e)
{
	return e >> 8 & 15;
}
static inline uint32_t huff_value(uint32_t e)
{
	return e >> 16 & 0x7fff;
}

/* Each builds a table from the lengths of the codes, 0 for symbols that do not occur. False for lengths that make no
 * code: too many, or too few (but one code of one bit is legal for litlen and dist, and none at all for dist: what zlib
 * takes). */
bool huff_litlen(uint32_t table[HUFF_LITLEN_ENTRIES], const uint8_t *lens, unsigned n);
bool huff_dist(uint32_t table[HUFF_DIST_ENTRIES], const uint8_t *lens, unsigned n);
bool huff_lens(uint32_t table[HUFF_LENS_ENTRIES], const uint8_t *lens, unsigned n);

#endif
