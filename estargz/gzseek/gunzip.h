/*
 * Gzip (RFC 1952) as it arrives: members one after another, as one stream of plain bytes. On the way it can give places
 * at which somebody may begin later (points.h keeps them), and it begins at such a place itself.
 *
 * A step machine without I/O; one owner; reuse it, it is large (deflate.h). Checks the headers' and members' checksums,
 * those of members that it began before. Behind the last member nothing may stand, not even zeros, as for every other reader
 * of layers (inflate/stream.c).
 */
#ifndef ESTARGZ_GUNZIP_H
#define ESTARGZ_GUNZIP_H

#include "estargz/gzseek/deflate.h"

/* Where reading can begin. */
struct esgz_gzip_place {
	uint64_t blob_offset;  /* of the first whole byte to read */
	uint64_t plain_offset; /* of the first byte that comes out */
	/* In a member, between two blocks: bits of the byte before, and a window. Else a member begins, with its header. */
	bool inside;
	struct esgz_deflate_place bits;
};

struct esgz_gzip_place_sink {
	/* In order with the plain bytes: after those before plain_offset, before those from there on. The very beginning is the
	 * first one. */
	int (*place)(void *arg, const struct esgz_gzip_place *p, struct err *err);
	/* The window of the last place, if that was inside: 32768 bytes, of which those that nothing uses are zeros. Comes
	 * when that is known, before the next place. */
	int (*window)(void *arg, const uint8_t *window, struct err *err);
	void *arg;
};

struct esgz_gunzip;
struct esgz_gunzip *esgz_gunzip_new(void);
void esgz_gunzip_free(struct esgz_gunzip *g);
DEFINE_AUTO_FREE(esgz_gunzip);

/* Begins a stream; places are asked for anew. */
void esgz_gunzip_begin(struct esgz_gunzip *g);
/* Begins at a place, with the window that it had (32768 bytes; nothing at the begin of a member). */
void esgz_gunzip_begin_at(struct esgz_gunzip *g, const struct esgz_gzip_place *p, struct str window);

/* Before the first feed: gives the first place at least every `every` plain bytes (ESGZ_DEFLATE_WINDOW or more). */
void esgz_gunzip_places(struct esgz_gunzip *g, uint64_t every, const struct esgz_gzip_place_sink *sink);

/* Feeds the next bytes of the blob. `plain` gets what comes out, borrowed for the call; a negative return ends the feed
 * with that code. Broken data: ERR_DATA_LOSS. */
int esgz_gunzip_feed(struct esgz_gunzip *g, struct str in, int (*plain)(void *arg, struct str plain, struct err *err),
                     void *arg, struct err *err);
/* The input is over: an unfinished member is ERR_DATA_LOSS. */
int esgz_gunzip_finish(struct esgz_gunzip *g, struct err *err);

/* Plain bytes so far. */
uint64_t esgz_gunzip_total(const struct esgz_gunzip *g);

#endif
