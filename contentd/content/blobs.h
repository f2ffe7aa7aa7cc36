/*
 * Content as a namespace knows it: the record of a blob, and its bytes, which may have to be fetched first (the layers of
 * an image that is read lazily have records, but no file). Any thread.
 */
#ifndef CONTENTD_CONTENT_BLOBS_H
#define CONTENTD_CONTENT_BLOBS_H

#include "contentd/daemon.h"
#include "rpc/proto/contentd_records.pb-c.h"

/* *out lives in the arena. ERR_INVALID for what is no digest, ERR_NOT_FOUND. */
int cd_content_get(struct cd_daemon *d, const char *ns, const char *digest, struct arena *a, Records__Content **out,
                   struct err *err);

/* A descriptor over the bytes of a record. When there is no file the blob is fetched from the record's source, verified
 * and kept; calls for the same blob at the same time share one transfer. `c` may be NULL. ERR_NOT_FOUND when there is
 * neither file nor source. */
int cd_content_open_blob(struct cd_daemon *d, struct rpc_call *c, const Records__Content *record, int *fd,
                         int64_t *bytes, struct err *err);

/* A blob that is in the store becomes known in a namespace: its record, which the lease (may be NULL) then keeps instead of
 * the ingest `ref`, and the event. ERR_EXISTS: it is known. 1: `file` (may be NULL) was asked for, and is not there. */
struct cd_content_new {
	const char *ns, *lease, *ref, *digest;
	int64_t bytes;
	Kv__Entry **labels; /* clean */
	size_t n_labels;
	const struct digest *file;
};
int cd_content_put(struct cd_daemon *d, struct arena *a, const struct cd_content_new *content, struct err *err);

/* Publishes /content/create. */
void cd_content_created(struct cd_daemon *d, const char *ns, const Records__Content *record);

#endif
