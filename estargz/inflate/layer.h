/*
 * An ordinary layer (tar, tar+gzip, tar+zstd) as it arrives: compressed bytes in; file contents out, then the index.
 * Puts together inflate.h, tar.h and index.h: hashes the blob, the plain stream (DiffID) and each file on the way.
 * Sans-I/O; one owner. Landmarks and stargz.index.json of lazy layers are not entries of the tree and are left out.
 */
#ifndef ESTARGZ_LAYER_H
#define ESTARGZ_LAYER_H

#include "estargz/inflate/inflate.h"
#include "estargz/tar/tar.h"

#define ESGZ_LAYER_HOLE_BYTES (64u << 20) /* of a hole at once: some 40 ms of hashing */

struct esgz_layer_sink {
	/* A regular file of `size` > 0 bytes begins. */
	int (*begin)(void *arg, uint64_t size, struct err *err);
	int (*data)(void *arg, struct str bytes, struct err *err);
	/* It is complete, and this is the sha256 of what came. */
	int (*end)(void *arg, const struct digest *content, struct err *err);
	/* NULL, or takes the holes of sparse files, in their places and in pieces of at most ESGZ_LAYER_HOLE_BYTES; without it
	 * they come as zeros to `data`. */
	int (*hole)(void *arg, uint64_t bytes, struct err *err);
	void *arg;
};

struct esgz_layer;
struct esgz_layer *esgz_layer_new(const struct esgz_layer_sink *sink);
void esgz_layer_free(struct esgz_layer *l);
DEFINE_AUTO_FREE(esgz_layer);

int esgz_layer_feed(struct esgz_layer *l, struct str blob_bytes, struct err *err);

struct esgz_layer_result {
	struct digest blob;    /* sha256 of what was fed */
	struct digest diff_id; /* sha256 of the plain stream */
	uint64_t blob_bytes, plain_bytes;
	enum esgz_compression compression;
};

/* End of input. The caller compares the digests with what it expects, then asks for the index. */
int esgz_layer_finish(struct esgz_layer *l, struct esgz_layer_result *out, struct err *err);

/* The same in two halves, so that two threads can share the work: one inflates with a stream of its own (inflate.h) and
 * hashes the blob, the other gives the plain bytes to the layer, and at the end what the first has found. */
int esgz_layer_feed_plain(struct esgz_layer *l, struct str plain, struct err *err);
int esgz_layer_finish_plain(struct esgz_layer *l, const struct digest *blob, uint64_t blob_bytes,
                            enum esgz_compression compression, struct esgz_layer_result *out, struct err *err);

/* Has files cut into chunks, at multiples of ESGZ_LAYER_CHUNK_BYTES, where sparse ones have holes, and at each
 * esgz_layer_cut. Before the first feed. */
#define ESGZ_LAYER_CHUNK_BYTES (1u << 20)
void esgz_layer_cut_files(struct esgz_layer *l);
/* No chunk goes over the place that the plain stream has reached. */
void esgz_layer_cut(struct esgz_layer *l);
/* After finish, before the index: `place` gets each chunk's offset in the plain stream as blob_offset, and puts it into the
 * blob (esgz_index_place). The index is for ESGZ_GZIP_SEEK then. */
void esgz_layer_place_chunks(struct esgz_layer *l, void (*place)(void *arg, struct esgz_chunk_place *p), void *arg);

/* After finish: the index is that of files which were not cut, of a layer of this compression. */
void esgz_layer_drop_chunks(struct esgz_layer *l, enum esgz_compression compression);

/* After finish: appends the bytes of the index (trust = DiffID). */
int esgz_layer_index(struct esgz_layer *l, struct buf *index_out, struct err *err);

#endif
