/* One part of a pull under way, shared by pull.c (the order of things), pull_layers.c, pull_records.c and unpack.c. */
#ifndef CONTENTD_TRANSFER_PULL_INTERNAL_H
#define CONTENTD_TRANSFER_PULL_INTERNAL_H

#include "contentd/transfer/pull.h"

struct pull_layer {
	const Contentd__Contentfs__V1__Layer *from; /* descriptor, and why it is not lazy */
	struct digest blob, diff_id;
	char chain[DIGEST_TEXT_MAX]; /* chain id of this layer and all below: the snapshot's name */
	struct digest key;           /* of the index; zero until there is one */
	bool lazy;
	bool held;    /* its bytes were downloaded */
	int index_fd; /* memory file with the artifact of its gzip index, or -1 */
	int64_t content_bytes, files;
};

struct pull {
	struct cd_daemon *d;
	struct rpc_call *call;
	const char *ns, *lease;
	const char *reference; /* as asked for, for messages */
	const char *source;    /* normalised reference where the layers come from; "" when they are all here */
	Contentd__Contentfs__V1__Access *access; /* what is presented there; NULL when they are all here */
	const char *snapshotter;                 /* NULL: nothing is unpacked */
	const char *name;                        /* of the image, for progress */
	bool lazy, phases;
	bool builds_indexes; /* gzip indexes, to be published */
	bool documents_only; /* no layer is fetched, and the configuration need not be an image's */
	struct cd_progress *progress;
	struct ffs_client *data;
	struct snap_store *snaps;
	struct snap_space space;

	Contentd__Contentfs__V1__OpenResponse *image;
	bool image_borrowed; /* it is not ours to free */
	struct buf docs;     /* bytes of the documents */
	struct pull_layer *layers;
	size_t n_layers;
	const char *top; /* chain id of the image; NULL: nothing to unpack */
	int64_t phase_began_ns;
};

/* Parts of one transfer that are alike are copied from one that was made by this. Waits for the data plane. */
int pull_init(struct pull *p, struct cd_daemon *d, struct rpc_call *c, const char *ns, struct err *err);
void pull_fini(struct pull *p);
/* The collector keeps all that the image will consist of until the call ends: before anybody looks which of it is here. The
 * layers are known. (Their indexes: the connection to contentfs sees to them.) */
void pull_use_all(struct pull *p);
/* The same of the metadata image of its chain, whose snapshots have been made. */
void pull_use_mount(struct pull *p);

/* ---- progress (pull.c); any thread ---- */

/* A step of one document or layer; `what` is "layer", "manifest", "config" or "index". */
void pull_progress(struct pull *p, const char *event, const char *what, const Contentd__Contentfs__V1__Descriptor *of,
                   int64_t done, int64_t total);
/* The phase that is over now; the next one begins. One thread. */
void pull_phase_end(struct pull *p, const char *name);

/* ---- layers (pull_layers.c) ---- */

/* Checks what contentfs has opened and computes chain ids. Encrypted layers: ERR_UNIMPLEMENTED. */
int pull_layers_init(struct pull *p, struct err *err);
/* Makes an index of every layer that has none (or only fetches the blobs, without a snapshotter). */
int pull_layers_unpack(struct pull *p, struct err *err);
/* Snapshots for all of them. */
int pull_layers_commit(struct pull *p, struct err *err);

/* ---- gzip indexes (pull_indexes.c) ---- */

/* Decides whether they are built, which the registry is asked for once, before the layers are unpacked. */
void pull_indexes_begin(struct pull *p);
bool pull_indexes_wanted(const struct pull *p, const struct pull_layer *l);
/* When the image is stored. A failure is logged, and told to who listens. */
void pull_indexes_publish(struct pull *p);

/* ---- documents and records (pull_records.c) ---- */

int pull_documents_write(struct pull *p, struct err *err);
int pull_records_commit(struct pull *p, struct err *err);
struct cd_recording;
/* The lease, if there is one, lists the snapshots of all layers, too. */
void pull_lease_snapshots(struct pull *p, struct cd_recording *r);

#endif
