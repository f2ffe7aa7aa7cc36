/*
 * Compression of units: a gzip member (libdeflate, in one go) or a zstd frame (in steps) each. The output depends on the
 * input, the level and the library's version alone. Any thread, with a state of its own.
 */
#ifndef ESTARGZ_CODEC_H
#define ESTARGZ_CODEC_H

#include "estargz/index/index.h"

/* Whether the work still goes on: < 0 and an error when it is to be given up. Any thread. */
struct codec_watch {
	int (*fn)(void *arg, struct err *err); /* NULL: it does */
	void *arg;
};

int codec_watch(const struct codec_watch *w, struct err *err);

struct codec {
	const char *name;
	int level_default, level_max;  /* the lowest is 1 */
	void *(*state_new)(int level); /* NULL: no memory */
	void (*state_free)(void *state);
	/* Appends a member or frame. The watch (not NULL) is asked at least every second where the work can be left. */
	int (*pack)(void *state, struct str plain, struct buf *out, const struct codec_watch *w, struct err *err);
};

/* Of ESGZ_GZIP, ESGZ_ZSTD. */
const struct codec *codec_of(enum esgz_compression kind);

/* Packs one piece with a state made for it. level 0: the default. */
int codec_pack(const struct codec *c, int level, struct str plain, struct buf *out, const struct codec_watch *w,
               struct err *err);

#endif
