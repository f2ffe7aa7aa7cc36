/*
 * Decoder of deflate streams (RFC 1951), made for an index that leads into the middle of one: it stops between blocks
 * and says where that is to the bit, notes which bytes of a window are used behind such a place, and starts there.
 *
 * A step machine without I/O. It keeps its own window and output; zlib decides what is legal (deflate_test.c and the
 * fuzz target `deflate` compare). One owner. About 420 KB each: reuse them.
 */
#ifndef ESTARGZ_DEFLATE_H
#define ESTARGZ_DEFLATE_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define ESGZ_DEFLATE_WINDOW 32768u
#define ESGZ_DEFLATE_UNIT_MAX 1024u /* input that a step can want at once: the head of a block (below 600 bytes) */

struct esgz_deflate;
struct esgz_deflate *esgz_deflate_new(void);
void esgz_deflate_free(struct esgz_deflate *d);
DEFINE_AUTO_FREE(esgz_deflate);

/* Begins a stream. */
void esgz_deflate_begin(struct esgz_deflate *d);

/* A place between two blocks: the first whole byte behind it, and the bits before that byte that are still unread. */
struct esgz_deflate_place {
	uint8_t n_bits; /* 0 to 7 */
	uint8_t bits;   /* their value, below 2^n_bits */
};

/* Begins at such a place; `window` is the up to 32768 bytes of output before it. */
void esgz_deflate_begin_at(struct esgz_deflate *d, struct esgz_deflate_place at, struct str window);

/* Why a run came back. */
enum esgz_deflate_event {
	ESGZ_DEFLATE_MORE = 1, /* it wants more input */
	ESGZ_DEFLATE_FULL,     /* it wants its output taken */
	ESGZ_DEFLATE_BLOCK,    /* it is between two blocks, as esgz_deflate_stop_at asked for; running on goes on */
	ESGZ_DEFLATE_END,      /* the stream is over; bits before the next byte are padding */
};

/* Decodes. *used is how many bytes of `in` are done with; the rest is to be given again, after MORE (then it is below
 * ESGZ_DEFLATE_UNIT_MAX bytes) with more behind it. Broken data: ERR_DATA_LOSS. */
int esgz_deflate_run(struct esgz_deflate *d, struct str in, size_t *used, struct err *err);

/* What was decoded since the last call; valid until the next run. Take it after each run. */
struct str esgz_deflate_take(struct esgz_deflate *d);

/* Bytes decoded since the begin. */
uint64_t esgz_deflate_total(const struct esgz_deflate *d);

/* From now on the first end of a block with at least `total` bytes decoded is an event (the last block's is always END).
 * Off after a begin. */
void esgz_deflate_stop_at(struct esgz_deflate *d, uint64_t total);

/* After BLOCK: where it is, and the window there: 32768 bytes, zeros for what is before the begin. */
struct esgz_deflate_place esgz_deflate_where(const struct esgz_deflate *d);
void esgz_deflate_window(const struct esgz_deflate *d, uint8_t window[ESGZ_DEFLATE_WINDOW]);

/* After BLOCK: from here on sets used[i] = 1 for each byte i of that window that a match copies, until 32768 bytes have
 * been decoded: no match reaches farther. `used` is borrowed; NULL ends it. */
void esgz_deflate_mark(struct esgz_deflate *d, uint8_t *used);

#endif
