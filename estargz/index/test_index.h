/* For tests of the index: layers put together entry by entry. Failures end the test. */
#ifndef ESTARGZ_TEST_INDEX_H
#define ESTARGZ_TEST_INDEX_H

#include "estargz/index/index.h"

extern const struct digest BLOB, TOC;
#define BLOB_BYTES (1u << 20)

/* Of BLOB, trusted by TOC. */
struct esgz_index_info info_of(enum esgz_trust trust);

/* What esgz_index_add gives. */
int add(struct esgz_index_builder *b, enum esgz_type type, const char *path);
int add_link(struct esgz_index_builder *b, enum esgz_type type, const char *path, const char *link);
/* A file of n chunks of `bytes` each; the first byte of digests is `seed` plus the chunk's number. */
int add_file(struct esgz_index_builder *b, const char *path, uint32_t n, uint32_t bytes, uint8_t seed);
/* A file of `data` bytes, if any, and a hole behind them. */
int add_hole(struct esgz_index_builder *b, const char *path, uint64_t hole, uint64_t data);

/* Finishes, opens; the index and its bytes are the caller's. */
struct esgz_index *finish_with(struct esgz_index_builder *b, enum esgz_trust trust, struct buf *file);
/* ... trusted by its TOC. */
struct esgz_index *finish(struct esgz_index_builder *b, struct buf *file);
/* What finishing gives. */
int finish_code(struct esgz_index_builder *b);

#endif
