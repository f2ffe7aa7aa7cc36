/*
 * Pulling an image from a registry: what Transfer does from an OCIRegistry to an ImageStore.
 *
 *	contentfs: resolve, open layers ──► ordinary layers: unpack, a copy of the blob into an ingest (3 at a time)
 *	      │                                │
 *	      └► documents to the store        └► snapshots bottom up, metadata image mounted ──► records, pin, image
 *
 * Pulls of the same image at the same time do not disturb each other: what one has made the other finds. A pull that
 * fails leaves layers behind that the next one finds, and no image.
 */
#ifndef CONTENTD_PULL_H
#define CONTENTD_PULL_H

#include "contentd/daemon.h"
#include "rpc/proto/xfer.pb-c.h"

#define CD_LABEL_LAZY "contentd.io/lazy" /* on ImageStore: "auto" (default) or "off" */

/* Borrowed texts. */
struct cd_pull_req {
	const char *ns, *lease; /* lease NULL: none */
	const char *reference;  /* where from, "docker.io/library/alpine:3" */
	const char *name;       /* of the image record */
	Kv__Entry **labels;     /* of the image record; clean */
	size_t n_labels;
	bool lazy;                       /* open layers lazily where they allow it */
	const char *snapshotter;         /* unpack for this one; NULL: only fetch the blobs */
	const Types__Platform *platform; /* NULL: this machine's */
	struct cd_stream *progress;      /* NULL: nobody listens */
	bool phases;                     /* progress tells how long each phase took: event "phase", progress in ns */
};

/* `c` is the call on whose behalf it happens: its cancellation ends the pull. Errors name image, layer and reason. */
int cd_pull(struct cd_daemon *d, struct rpc_call *c, const struct cd_pull_req *req, struct err *err);

#endif
