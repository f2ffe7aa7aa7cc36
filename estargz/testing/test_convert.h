/* For tests of the converter: sources of conversions in memory, what came out, and whether it is what went in. Failures
 * end the test. */
#ifndef ESTARGZ_TEST_CONVERT_H
#define ESTARGZ_TEST_CONVERT_H

#include "estargz/convert/convert.h"
#include "estargz/testing/test_blob.h"
#include "estargz/testing/test_stack.h"

/* A layer of a stack as tar. */
void stack_tar(const struct stack_layer *l, struct buf *out);

struct made {
	enum esgz_format format;
	struct buf blob;
	struct esgz_convert_result r;
};

void made_fini(struct made *m);
DEFINE_AUTO_FINI(made);

/* The callbacks: `piece` bytes a read, writes beyond `room` fail. */
struct memory_io {
	struct str source, rest;
	size_t piece;
	struct buf blob;
	size_t room;
	struct str second; /* of the second time it is read, if it is not the same */
};
#define MEMORY_IO(src) ((struct memory_io){.source = (src), .rest = (src), .piece = 5000, .room = SIZE_MAX})
struct esgz_convert_io memory_fns(struct memory_io *io);

int convert_memory(struct str source, const struct esgz_convert_opts *opts, struct made *out, struct err *err);

/* What the annotations of a blob say. */
struct esgz_anchor made_anchor(const struct made *m);
/* The index that a reader has of it, by its TOC. Borrows *file. */
struct esgz_index *made_index(const struct made *m, struct buf *file);

/* Read as a lazy layer, and as an ordinary one, it has the tree of the source; each chunk inflates, and files are what
 * their chunks are; digests and sizes are what the result says. */
void check_made(struct str source, const struct made *m);

#endif
