/* Inside of the inflater (inflate.h): what inflate.c and member.c share. Not for anybody else. */
#ifndef ESTARGZ_INFLATER_H
#define ESTARGZ_INFLATER_H

#include "estargz/inflate/inflate.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#define INFLATER_SKIP_BYTES (64u << 10)

struct esgz_inflater {
	struct inflate_state *isal; /* NULL until it is needed, as is zstd */
	ZSTD_DCtx *zstd;
	struct hasher *hasher;
	uint8_t skip[INFLATER_SKIP_BYTES]; /* for bytes that nobody keeps */
};

/* Has the decoder made; ERR_INVALID for what neither inflate.c nor member.c reads. */
int inflater_ready(struct esgz_inflater *z, enum esgz_compression comp, struct err *err);
/* Whether a chunk is one that is inflated at all. */
int inflater_allows(const struct esgz_chunk *c, struct err *err);
/* Whether the bytes are those of the chunk. */
int inflater_check(struct esgz_inflater *z, const struct esgz_chunk *c, const uint8_t *bytes, struct err *err);

#endif
