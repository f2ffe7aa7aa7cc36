/* Ids as bytes: one after the other in blocks, given back all at once. Inside gc/ only. One thread. */
#ifndef GC_NAMES_H
#define GC_NAMES_H

#include "base/vec.h"
#include "gc/id.h"

struct gc_names {
	VEC(char *) blocks;
	size_t used, size; /* of the last block */
	uint64_t bytes;    /* of all */
};

/* Keeps a copy; its address stays until gc_names_fini. */
const char *gc_names_put(struct gc_names *n, const struct gc_id *id);
void gc_names_fini(struct gc_names *n);

/* Takes part in gc_names_fini: frees at most `blocks`; how many of these were not needed. All names are gone. */
unsigned gc_names_drop(struct gc_names *n, unsigned blocks);

/* The same for one that the caller keeps: appends to `to`, at any alignment. */
void gc_name_write(struct buf *to, const struct gc_id *id);

/* Views of a copy. */
struct gc_id gc_name_read(const char *name);

#endif
