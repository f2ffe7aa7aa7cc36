/* The golden blobs, tests/golden/good and bad: what is known of each (blobs.json), and reading one as it would be read from
 * a registry. Failures to find them end the test. */
#ifndef ESTARGZ_GOLDEN_H
#define ESTARGZ_GOLDEN_H

#include "base/vec.h"
#include "estargz/toc/toc.h"

struct golden_annotation {
	char *name, *value;
};

struct golden {
	struct buf blob;
	struct buf toc; /* external TOC, where there is one: a layer of a TOC image */
	struct digest digest, diff_id;
	VEC(struct golden_annotation) annotations;
};

/* folder: "good" or "bad". */
void golden_read(const char *folder, const char *name, struct golden *g);
void golden_fini(struct golden *g);
DEFINE_AUTO_FINI(golden);

/* The layer of which all good ones were made: a gzip'd tar. */
void golden_source(struct buf *out);

/* A layer by its TOC. */
struct golden_layer {
	struct esgz_anchor anchor;
	struct esgz_footer footer;
	struct esgz_toc_found found;
	struct buf index_file;
	struct esgz_index *index;
};

/* From the annotations to the index, with the errors of whoever finds the first. */
int golden_open(const struct golden *g, struct golden_layer *l, struct err *err);
void golden_layer_fini(struct golden_layer *l);
DEFINE_AUTO_FINI(golden_layer);

/* Reads all chunks, and compares each file's with its digest. Adds their number to *n, holes included. */
int golden_read_chunks(const struct golden *g, const struct golden_layer *l, unsigned *n, struct err *err);

/* The digest of the tar that tar-split and contents make. ERR_NOT_FOUND: the TOC vouches for no tar-split. */
int golden_assemble(const struct golden *g, const struct golden_layer *l, struct digest *diff_id, struct err *err);

#endif
