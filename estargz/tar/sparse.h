/*
 * Maps of sparse files: which pieces of them an archive has stored. Private to the tar reader. GNU tar writes them in
 * four forms (GNU tar manual, "Storing Sparse Files"): in the header and blocks behind it ('S'); in pax records, one for
 * each number (0.0) or one for all (0.1); as text before the content (1.0). One owner.
 */
#ifndef ESTARGZ_TAR_SPARSE_H
#define ESTARGZ_TAR_SPARSE_H

#include "base/vec.h"
#include "estargz/tar/tar.h"

struct sparse_map {
	VEC(struct esgz_extent) extents; /* none empty */
	uint64_t end;                    /* of the last one, an empty one too */
	uint64_t stored;                 /* sum */
	/* the text of form 1.0, as far as it has come */
	uint64_t number, offset, want; /* want: numbers still to come */
	unsigned digits;
	bool counted, at_length;
};

void sparse_clear(struct sparse_map *m); /* keeps memory */
void sparse_fini(struct sparse_map *m);

/* The next extent; an empty one marks the end of a file that ends with a hole. */
int sparse_add(struct sparse_map *m, uint64_t offset, uint64_t bytes, struct err *err);
/* n descriptors of a header or of a block behind one: offset and length, 12 bytes each; the first unused one ends them. */
int sparse_add_fields(struct sparse_map *m, const uint8_t *fields, unsigned n, struct err *err);
/* "offset,bytes,offset,bytes"; `count` says of how many. */
int sparse_add_list(struct sparse_map *m, struct str list, uint64_t count, struct err *err);

/* Text of decimal numbers, a line each: how many extents, then offset and bytes of each. Takes what belongs to it off
 * *in; 1 when it is complete. */
int sparse_add_text(struct sparse_map *m, struct str *in, struct err *err);

/* The map is complete: it must fit a file of `size` bytes of which `stored` are in the archive. */
int sparse_check(const struct sparse_map *m, uint64_t size, uint64_t stored, struct err *err);

#endif
