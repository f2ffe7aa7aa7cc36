/*
 * Bytes that travel between threads in blocks, through a bounded queue with one producer and one consumer; and a whole
 * blob from a registry as such a queue. Private to the service.
 *
 *   registry I/O thread ──► download ──► queue ──► whoever wants the blob
 */
#ifndef FUSEFS_DOWNLOAD_H
#define FUSEFS_DOWNLOAD_H

#include "registry/client.h"

#include <pthread.h>

#define BLOCK_BYTES (256u << 10)
#define QUEUE_BLOCKS 16

struct block {
	size_t n;
	bool cut; /* unpack.c's: a cut is due behind it */
	uint8_t bytes[BLOCK_BYTES];
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct block *ring[QUEUE_BLOCKS + 1]; /* one more, for the last block of a producer that cannot wait */
	unsigned first, n;
	bool closed;    /* the producer has ended, with `end` */
	bool aborted;   /* the consumer wants no more, or the call was cancelled */
	struct err end; /* ERR_OK: all of it came */
};

void queue_init(struct queue *q);
void queue_fini(struct queue *q); /* both ends must be done with it */

/* Waits for room; takes the block in any case. ERR_CANCELLED when aborted. */
int queue_push(struct queue *q, TAKE(struct block *) b, struct err *err);

/* Producer: no more comes. `why` NULL or with ERR_OK: because that was all. */
void queue_close(struct queue *q, const struct err *why);

/* 1 with the next block (the caller's: free), 0 at the end, or how the producer failed. Waits. */
int queue_pop(struct queue *q, struct block **out, struct err *err);

/* Both ends return from now on. Any thread, also from rpc_on_cancel. */
void queue_abort(struct queue *q);

/* A blob, or its rest from `offset` on. */
struct download;
int download_start(struct reg_client *client, const struct reg_ref *ref, struct reg_account *account,
                   const struct digest *blob, uint64_t blob_bytes, uint64_t offset, int64_t deadline_ns,
                   struct download **out, struct err *err);
/* Cancels, and waits until the client is done with it. */
void download_free(struct download *d);
DEFINE_AUTO_FREE(download);

/* As queue_pop. */
int download_next(struct download *d, struct block **out, struct err *err);
/* download_next returns ERR_CANCELLED from now on. Any thread, also from rpc_on_cancel. */
void download_abort(struct download *d);

#endif
