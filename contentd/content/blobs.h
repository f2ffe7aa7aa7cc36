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

/* A descriptor over the bytes of a record. When there is no file the blob is fetched from the record's source, by the
 * account with which the namespace last opened an image there, verified and kept; calls for the same blob at the same time
 * share one transfer. A namespace that is isolated fetches what only others have brought. `c` may be NULL. ERR_NOT_FOUND
 * when there is neither file nor source, ERR_DATA_LOSS when the file has another size than the record says. */
int cd_content_open_blob(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Records__Content *record,
                         int *fd, int64_t *bytes, struct err *err);

/* Whether namespaces are kept from what others have brought (content.sharing). */
bool cd_is_isolated(const struct cd_daemon *d);
/* 1 when a namespace may use bytes that are here although it has not brought them: none is isolated, or one that has them
 * shares what it has. */
int cd_content_is_shared(struct cd_daemon *d, const char *digest, struct err *err);
/* A descriptor over a file that is here and that the namespace may use: it has had the bytes, or they are shared. Never
 * fetches. 1 when there is one. */
int cd_content_open_here(struct cd_daemon *d, const char *ns, const struct digest *digest, int *fd, int64_t *bytes,
                         struct err *err);

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
