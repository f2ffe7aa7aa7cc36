/* What several tests of formats make, and how they look at what comes out. Failures end the test. */
#ifndef ESTARGZ_TEST_BLOB_H
#define ESTARGZ_TEST_BLOB_H

#include "estargz/inflate/layer.h"

/* Appends one gzip member. */
void gzip(struct buf *out, struct str plain);

/* Appends an entry of a tar as bytes, so that it may be wrong: `size` is what the header says. */
void tar_entry(struct buf *tar, char type, const char *name, const char *link, uint64_t size, struct str content);

/* Reads a layer as a tar: its index, which borrows *file. `result` may be NULL. */
struct esgz_index *index_of_tar(struct str blob, struct esgz_layer_result *result, struct buf *file);

/* The entry of a path. */
struct esgz_entry find(const struct esgz_index *ix, const char *path);

#endif
