/* For tests: lazy layers made of random files, and a blob source that delivers them from memory, as well or as badly as
 * a test wants. */
#ifndef FUSEFS_TESTLAYER_H
#define FUSEFS_TESTLAYER_H

#include "base/vec.h"
#include "fusefs/blobs.h"
#include "fusefs/store.h"

#include <pthread.h>

struct test_file {
	char *path;
	struct buf content;
	struct digest digest, claim;
	uint64_t blob_offset; /* of its first chunk */
};

struct test_layer {
	const char *reference;
	struct esgz_index_builder *builder;
	struct buf blob;
	VEC(struct test_file) files;
	struct digest digest, key; /* of the blob; of the index */
};

/* What may be wrong with a file. */
struct test_lie {
	const struct digest *content; /* claimed instead of the true one */
};

void test_layer_init(struct test_layer *l, const char *reference);
void test_layer_fini(struct test_layer *l);
/* Compressible content that depends on the seed; chunks of chunk_bytes, each a gzip member of its own. */
void test_layer_add(struct test_layer *l, const char *path, size_t size, uint32_t chunk_bytes, unsigned seed,
                    const struct test_lie *lie);
/* The same with content and permissions of the caller's choice. */
void test_layer_add_bytes(struct test_layer *l, const char *path, struct str bytes, uint32_t mode, uint32_t chunk_bytes,
                          const struct test_lie *lie);
/* Several one-chunk files in one gzip member. */
void test_layer_pack(struct test_layer *l, const char *prefix, unsigned n, size_t size, unsigned seed);
/* A file of one chunk of data (or 0), then a hole. Content, digest and claim of a hole up to TEST_HOLE_TRUE are right;
 * f->content is the data alone. */
void test_layer_add_sparse(struct test_layer *l, const char *path, size_t data, uint64_t hole, unsigned seed);
#define TEST_HOLE_TRUE (100u << 20)
/* A one-chunk file that is said to lie so far behind in its member that nobody should inflate it. */
void test_layer_add_far(struct test_layer *l, const char *path, size_t size);
/* Ends the layer and puts its index into the store. `toc`: what it is trusted by, so that one blob can have several. */
void test_layer_finish(struct test_layer *l, struct ffs_store *store, unsigned toc);
const struct test_file *test_layer_file(const struct test_layer *l, const char *path);

/* ---- the source ---- */

struct test_request;

struct test_range {
	uint64_t offset, length;
	bool demand;
};

struct test_blobs {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool stop;
	VEC(struct test_layer *) layers;
	struct test_request *first, **last;

	/* Set by tests, under the lock or before traffic. */
	bool hold;           /* deliver nothing */
	bool hold_bulk;      /* of requests that nobody waits for */
	uint64_t hold_after; /* with hold: each request's first bytes still come */
	size_t piece;        /* bytes at a time; 0 = 16384 */
	unsigned fail;       /* this many requests from now on end with fail_code */
	enum err_code fail_code;
	uint64_t corrupt_at; /* this blob offset comes wrong, corrupt_times times */
	unsigned corrupt_times;
	bool truncate; /* bodies end one byte early, with success */

	/* What happened. */
	unsigned n_requests, n_demand, n_cancelled;
	uint64_t bytes;
	VEC(struct test_range) ranges;
};

void test_blobs_init(struct test_blobs *b);
void test_blobs_fini(struct test_blobs *b);
void test_blobs_add(struct test_blobs *b, struct test_layer *l);
struct ffs_blobs test_blobs_table(struct test_blobs *b);
void test_blobs_set_hold(struct test_blobs *b, bool hold);
/* A counter of what happened, while more may. */
unsigned test_blobs_count(struct test_blobs *b, const unsigned *counter);
/* Waits until such a counter has come to n. */
void test_blobs_wait(struct test_blobs *b, const unsigned *counter, unsigned n);

/* Removes a folder below /tmp that mkdtemp made, with all that is in it. */
void test_remove_tmp(const char *path);

#endif
