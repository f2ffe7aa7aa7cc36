/*
 * Content records in the making: what a transfer has stored becomes known to a namespace, with the labels that
 * containerd sets: collectors and clients follow them. One batch; the caller holds the records (cd_meta_hold_many)
 * from the first cd_recording_get to the commit. One owner.
 */
#ifndef CONTENTD_TRANSFER_RECORDING_H
#define CONTENTD_TRANSFER_RECORDING_H

#include "contentd/daemon.h"
#include "contentd/transfer/tree.h"
#include "rpc/proto/contentd_records.pb-c.h"

#define CD_LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define CD_LABEL_REF "containerd.io/gc.ref.content."
#define CD_LABEL_REF_SNAPSHOT "containerd.io/gc.ref.snapshot."

struct cd_recording {
	struct cd_daemon *d;
	const char *ns, *lease; /* lease NULL: none */
	const char *source;     /* normalised reference where the blobs came from; "" for none */
	struct arena arena;
	struct cd_batch batch;
	Pb__Timestamp *now;
	VEC(Records__Content *) created; /* announced after the commit */
};
void cd_recording_init(struct cd_recording *r, struct cd_daemon *d, const char *ns, const char *lease,
                       const char *source);
void cd_recording_fini(struct cd_recording *r);
DEFINE_AUTO_FINI(cd_recording);

/* The record as it is, or a new one; its source and type are set. The caller adds labels and puts it. */
int cd_recording_get(struct cd_recording *r, const char *media_type, const char *digest, int64_t size,
                     Records__Content **out, struct err *err);
void cd_recording_label(struct cd_recording *r, Records__Content *record, const char *key, const char *value);
void cd_recording_put(struct cd_recording *r, Records__Content *record);
int cd_recording_commit(struct cd_recording *r, struct err *err);

/* The label in which records have the repositories of a registry host; its port does not count (containerd's rule, by which
 * clients mount blobs across repositories). */
const char *cd_source_label(struct arena *a, const char *host);

/* Notes on a record that the repository of a normalised reference has the blob: pushes mount from there. */
void cd_recording_add_source(struct cd_recording *r, Records__Content *record, const char *reference);

/* Records for everything in a tree, with references from each document to its chosen parts. Holds and commits itself. */
int cd_recording_put_tree(struct cd_recording *r, const struct cd_tree *t, struct err *err);

/* Host and repository of a normalised reference: "docker.io/library/alpine:3" gives docker.io and library/alpine. */
void cd_reference_split(struct arena *a, const char *reference, const char **host, const char **repository);

#endif
