/*
 * The plain stream of a lazy layer on its way: its DiffID, and the tree that its tar is, held against the one of its TOC.
 * Without I/O; one owner.
 */
#ifndef FUSEFS_PROOF_TARVIEW_H
#define FUSEFS_PROOF_TARVIEW_H

#include "fusefs/store.h"

struct tarview;

/* `toc`: index of the TOC, borrowed. `read`: gives bytes of an entry's content, which are what the index says; asked for
 * seldom, when a file turns out not to lie where its chunks are. */
typedef int tarview_read_fn(void *arg, uint32_t entry, uint64_t at, uint8_t *dst, size_t n, struct err *err);
/* Asked where few bytes of the stream are much work (holes): < 0 gives up. */
typedef int tarview_go_on_fn(void *arg, struct err *err);
struct tarview *tarview_new(const struct esgz_index *toc, tarview_read_fn *read, tarview_go_on_fn *go_on, void *arg);
void tarview_free(struct tarview *v);
DEFINE_AUTO_FREE(tarview);

/* The next bytes of the stream. A tar that cannot be read fails nothing: its stream still has a DiffID. */
int tarview_feed(struct tarview *v, struct str bytes, struct err *err);
/* The same for bytes of which is known that they are those of a file of the TOC: [at, at + bytes.n) of `entry`. */
int tarview_feed_content(struct tarview *v, uint32_t entry, uint64_t at, struct str bytes, struct err *err);

struct tarview_result {
	struct digest diff_id;
	/* The same with 1, 2, ... blocks of zeros behind the stream, which are no part of the tree: containers/storage of 2022 left
	 * them out, and skopeo the DiffID as it was. */
	struct digest padded[FFS_PADDED_MAX];
	uint64_t bytes;
	enum ffs_tree tree;
	struct buf difference; /* DIFFERS: the first one. UNKNOWN: why */
};

int tarview_finish(struct tarview *v, struct tarview_result *out, struct err *err);
/* Whether it is good for who promises this DiffID: it has it, padded or not, and no other tree. */
bool tarview_is_good(const struct tarview_result *r, const struct digest *promised);

#endif
