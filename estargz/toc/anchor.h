/*
 * The anchor of a lazy layer: what its image says of the table of contents (TOC), so that its bytes can be believed.
 *
 * It is read from the annotations alone. They, not the kind of the footer, say which bytes are hashed: one 40-byte footer
 * was written by two programs that mean different digests. Sans-I/O; any thread. Values.
 */
#ifndef ESTARGZ_ANCHOR_H
#define ESTARGZ_ANCHOR_H

#include "base/digest.h"
#include "base/err.h"
#include "estargz/annotations.h"
#include "estargz/toc/footer.h"

/* Where something compressed lies in a blob; packed_bytes 0: nowhere. */
struct esgz_place {
	uint64_t offset, packed_bytes, plain_bytes;
};

struct esgz_anchor {
	bool has_plain, has_packed;   /* at least one; where both are given, both must hold */
	bool has_split;               /* the image itself vouches for a tar-split (2023: the TOC did not yet) */
	struct digest plain, packed;  /* sha256 of the JSON; of its compressed bytes */
	struct digest split_digest;   /* sha256 of the compressed tar-split */
	struct esgz_place toc, split; /* of the zstd data, as the annotations place them */
};

/* The value of an annotation; STR_NONE when absent. */
typedef struct str (*esgz_annotation_fn)(void *arg, const char *name);

/* ERR_NOT_FOUND: no annotation names a TOC. ERR_INVALID: one is malformed, or places something outside of the blob. */
int esgz_anchor_read(esgz_annotation_fn get, void *arg, uint64_t blob_bytes, struct esgz_anchor *out, struct err *err);

/* The digest that stands in the index key: that of the JSON if there is one (it is what containerd's labels carry), else
 * that of the compressed bytes. */
const struct digest *esgz_anchor_key(const struct esgz_anchor *a);

/*
 * Where the TOC lies: footer and annotations together. `tail`: the last bytes of the blob, as for esgz_footer_parse.
 * Without a footer that is known the annotation decides (containers/storage never reads its own, and wrote wrong ones
 * for a while): the result is ESGZ_FOOTER_ZSTD_STORAGE with footer_bytes 0. ERR_INVALID: neither says it, or they disagree.
 */
int esgz_anchor_locate(const struct esgz_anchor *a, struct str tail, uint64_t blob_bytes, struct esgz_footer *out,
                       struct err *err);

#endif
