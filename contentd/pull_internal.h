/* One pull under way, shared by pull.c (the order of things), pull_layers.c and pull_records.c. */
#ifndef CONTENTD_PULL_INTERNAL_H
#define CONTENTD_PULL_INTERNAL_H

#include "contentd/pull.h"

struct pull_layer {
	const Contentd__Contentfs__V1__Layer *from; /* descriptor, and why it is not lazy */
	struct digest blob, diff_id;
	char chain[DIGEST_TEXT_MAX]; /* chain id of this layer and all below: the snapshot's name */
	struct digest key;           /* of the index; zero until there is one */
	bool lazy;
	int64_t content_bytes, files;
};

struct pull {
	struct cd_daemon *d;
	struct rpc_call *call;
	const struct cd_pull_req *req;
	struct ffs_client *data;
	struct snap_store *snaps;
	struct snap_space space;

	Contentd__Contentfs__V1__OpenResponse *image;
	struct buf docs; /* bytes of the documents */
	struct pull_layer *layers;
	size_t n_layers;
	const char *top; /* chain id of the image; NULL: nothing to unpack */

	pthread_mutex_t progress_lock; /* one sender at a time */
	bool progress_gone;            /* progress_lock */
	int64_t phase_began_ns;
};

/* ---- progress (pull.c); any thread ---- */

/* A step of one document or layer; `what` is "layer", "manifest", "config" or "index". */
void pull_progress(struct pull *p, const char *event, const char *what, const Contentd__Contentfs__V1__Descriptor *of,
                   int64_t done, int64_t total);
/* The phase that is over now; the next one begins. One thread. */
void pull_phase_end(struct pull *p, const char *name);

/* ---- layers (pull_layers.c) ---- */

/* Checks what contentfs has opened and computes chain ids. */
int pull_layers_init(struct pull *p, struct err *err);
/* Makes an index of every layer that has none (or only fetches the blobs, without a snapshotter). */
int pull_layers_unpack(struct pull *p, struct err *err);
/* Snapshots for all of them. */
int pull_layers_commit(struct pull *p, struct err *err);

/* ---- documents and records (pull_records.c) ---- */

int pull_documents_write(struct pull *p, struct err *err);
int pull_records_commit(struct pull *p, struct err *err);

#endif
