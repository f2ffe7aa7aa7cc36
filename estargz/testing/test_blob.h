/* What several tests of formats make, and how they look at what comes out. Failures end the test. */
#ifndef ESTARGZ_TEST_BLOB_H
#define ESTARGZ_TEST_BLOB_H

#include "estargz/inflate/layer.h"
#include "estargz/toc/toc.h"

/* Appends one gzip member. */
void gzip(struct buf *out, struct str plain);

/* Appends an entry of a tar as bytes, so that it may be wrong: `size` is what the header says. */
void tar_entry(struct buf *tar, char type, const char *name, const char *link, uint64_t size, struct str content);

/* Reads a layer as a tar: its index, which borrows *file. `result` may be NULL. */
struct esgz_index *index_of_tar(struct str blob, struct esgz_layer_result *result, struct buf *file);

/* Opens a lazy layer by its TOC, which must lie where a footer of this kind says: its index, which borrows *file. */
struct esgz_index *index_of_lazy(struct str blob, const struct esgz_anchor *anchor, enum esgz_footer_kind kind,
                                 struct buf *file);

/* Both are one tree (esgz_index_compare). */
void assert_same_tree(const struct esgz_index *got, const struct esgz_index *want, unsigned flags);

/* The entry of a path. */
struct esgz_entry find(const struct esgz_index *ix, const char *path);

#endif
