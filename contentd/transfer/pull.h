/*
 * Pulling an image from a registry: what Transfer does from an OCIRegistry to an ImageStore.
 *
 *	for each part (a platform, perhaps to be unpacked):
 *	contentfs: resolve, open layers ──► ordinary layers: unpack, a copy of the blob into an ingest (3 at a time)
 *	      │                                │
 *	      └► documents to the store        └► snapshots bottom up, metadata image mounted ──► records
 *	then: pin, image records
 *
 * Pulls of the same image at the same time do not disturb each other: what one has made the other finds. A pull that
 * fails leaves layers behind that the next one finds, and no image.
 */
#ifndef CONTENTD_TRANSFER_PULL_H
#define CONTENTD_TRANSFER_PULL_H

#include "contentd/daemon.h"
#include "contentd/transfer/progress.h"

#define CD_LABEL_LAZY "contentd.io/lazy" /* on ImageStore: "auto" (default) or "off" */

struct cd_pull_part {
	const Types__Platform *platform; /* NULL: this machine's */
	const char *snapshotter;         /* unpack for this one; NULL: only fetch the blobs */
};

enum cd_pull_rest {
	CD_PULL_REST_NONE,
	CD_PULL_REST_METADATA, /* manifest and configuration */
	CD_PULL_REST_WHOLE,
};

/* Borrowed texts. */
struct cd_pull_req {
	const char *ns, *lease;                  /* lease NULL: none */
	const char *reference;                   /* where from, "docker.io/library/alpine:3" */
	Contentd__Contentfs__V1__Access *access; /* what is presented there; its owner is the namespace */
	const char *name;                        /* of the image, for progress */
	/* Makes the image records, when all that they lead to is there. */
	int (*put)(void *arg, Types__Descriptor *target, struct err *err);
	void *arg;
	bool lazy;                        /* open layers lazily where they allow it */
	const struct cd_pull_part *parts; /* at least one */
	size_t n_parts;
	enum cd_pull_rest rest;       /* what becomes of the other entries of an index */
	unsigned limit;               /* at most so many manifests of an index; 0: any number */
	struct cd_progress *progress; /* NULL: nobody listens */
	bool phases;                  /* progress tells how long each phase took: event "phase", progress in ns */
};

/* `c` is the call on whose behalf it happens: its cancellation ends the pull. Errors name image, layer and reason. */
int cd_pull(struct cd_daemon *d, struct rpc_call *c, const struct cd_pull_req *req, struct err *err);

#endif
