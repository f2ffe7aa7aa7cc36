/*
 * A small registry in memory for tests of the client, behind testserver.h: uploads in pieces, manifests and tags, and the
 * referrers API where it is wanted. It keeps to the distribution-spec strictly, so that a client that does not is refused;
 * what it is unable to do, and when it breaks, is set by the test.
 */
#ifndef REGISTRY_TESTREGISTRY_H
#define REGISTRY_TESTREGISTRY_H

#include "base/digest.h"
#include "base/map.h"
#include "registry/testserver.h"

#include <pthread.h>

struct testregistry {
	/* Set by the test before its requests. */
	bool has_referrers;                         /* the API, and OCI-Subject */
	bool filters;                               /* by artifactType */
	size_t page_entries;                        /* of referrers; 0: all on one page */
	size_t piece_min;                           /* OCI-Chunk-Min-Length */
	size_t body_max;                            /* 413 beyond; 0: any */
	bool loses_partly;                          /* a broken PATCH leaves half of its bytes, else none */
	bool forgets;                               /* a broken PATCH ends the upload */
	void (*before_tag)(struct testregistry *r); /* the lock is held; called as a tag is about to be read */

	pthread_mutex_t lock;
	unsigned breaks;                 /* lock; so many PATCHes, or PUTs of blobs, lose their connection */
	unsigned silent_puts;            /* lock; so many PUTs of blobs are done, but not answered */
	unsigned busy;                   /* lock; so many requests of an upload are answered as the next two say */
	int busy_status;                 /* lock */
	const char *busy_headers;        /* lock */
	struct buf upload;               /* lock; of the one upload there is */
	bool is_open;                    /* lock */
	unsigned patches, drops;         /* lock */
	size_t broken_at;                /* lock; bytes of the upload after the last break; 0: none */
	unsigned resumed;                /* lock; PATCHes that were taken from there on */
	struct buf blob;                 /* lock; the last one that was ended */
	char blob_text[DIGEST_TEXT_MAX]; /* lock */
	struct map manifests;            /* lock; tag or digest -> struct buf */
};

void testregistry_init(struct testregistry *r);
void testregistry_fini(struct testregistry *r);

/* A testserver_fn; `r` is not the exchange's own argument, so that a test can wrap it. */
bool testregistry_serve(struct testregistry *r, struct exchange *x);

/* Stores a manifest as a PUT does. The lock is held. */
void testregistry_put(struct testregistry *r, const char *name, struct str bytes);
/* NULL when absent. The lock is held. */
struct buf *testregistry_get(struct testregistry *r, const char *name);

#endif
