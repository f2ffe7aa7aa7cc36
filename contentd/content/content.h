/*
 * The content store's files: blobs by digest in <root>/content/blobs/sha256/<hex> (mode 0444, complete and verified), and
 * ingests, blobs that are being written, in <root>/content/ingest/<sha256 of namespace and ref>/. An ingest belongs to a
 * (namespace, ref), has one writer at a time, and survives writers and restarts. Which namespace knows which blob is
 * metadata (meta/meta.h), not kept here. Any thread; a writer has one owner.
 */
#ifndef CONTENTD_CONTENT_CONTENT_H
#define CONTENTD_CONTENT_CONTENT_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/vec.h"
#include "rpc/service.h"

#include <time.h>

struct cd_content;

/* Opens or makes the directories below `root`. */
int cd_content_open(const char *root, struct cd_content **out, struct err *err);
void cd_content_close(struct cd_content *c);

static inline void cd_content_cleanup(struct cd_content **c)
{
	cd_content_close(*c);
}

/* ---- blobs ---- */

/* Opens for reading; ERR_NOT_FOUND. */
int cd_blob_open(struct cd_content *c, const struct digest *d, int *fd, int64_t *bytes, struct err *err);
bool cd_blob_has(struct cd_content *c, const struct digest *d);

/* Stores small blobs whose digests the caller has checked; existing ones are left alone. Durable when it returns. */
struct cd_blob_new {
	struct digest digest;
	struct str bytes;
};
int cd_blobs_put(struct cd_content *c, const struct cd_blob_new *blobs, size_t n, struct err *err);

/* Deleting, in two steps (collect/graph.h). Condemned: nobody finds it, and who wants to store it waits; no I/O. Drop
 * removes the file, spare takes the verdict back. */
void cd_blob_condemn(struct cd_content *c, const struct digest *d);
void cd_blob_spare(struct cd_content *c, const struct digest *d);
int cd_blob_drop(struct cd_content *c, const struct digest *d, struct err *err);

/* Calls fn for every blob; a negative return ends with that code. */
int cd_blob_each(struct cd_content *c, int (*fn)(void *arg, const struct digest *d, int64_t bytes, struct err *err),
                 void *arg, struct err *err);

/* ---- ingests ---- */

struct cd_ingest_status {
	char *ns, *ref;
	char *expected; /* digest, or "" */
	int64_t offset, total;
	struct timespec started, updated;
	struct timespec expires; /* zero: it has to be leased to outlive its writer */
};
void cd_ingest_status_fini(struct cd_ingest_status *s);
DEFINE_AUTO_FINI(cd_ingest_status);

/* ERR_NOT_FOUND. */
int cd_ingest_stat(struct cd_content *c, const char *ns, const char *ref, struct cd_ingest_status *out,
                   struct err *err);
/* All ingests of a namespace (NULL: all); those that cannot be read are skipped. */
int cd_ingest_each(struct cd_content *c, const char *ns,
                   int (*fn)(void *arg, const struct cd_ingest_status *s, struct err *err), void *arg, struct err *err);
/* Checks the directory of an ingest as it lies in content/ingest: ERR_DATA_LOSS says what is wrong with it. */
int cd_ingest_check(int ingest_fd, const char *name, struct err *err);
/* True while a writer has it. */
bool cd_ingest_is_busy(struct cd_content *c, const char *ns, const char *ref);
/* Removes it, also under a writer, whose later calls fail; ERR_NOT_FOUND. */
int cd_ingest_abort(struct cd_content *c, const char *ns, const char *ref, struct err *err);

/* The same for an ingest; false when it has a writer. Who wants to write to a condemned one waits. */
bool cd_ingest_condemn(struct cd_content *c, const char *ns, const char *ref);
void cd_ingest_spare(struct cd_content *c, const char *ns, const char *ref);
int cd_ingest_drop(struct cd_content *c, const char *ns, const char *ref, struct err *err);

struct cd_writer;

/* Begins or resumes. `total` 0 and `expected` "" mean unknown; a total other than that of an earlier open begins anew.
 * ERR_UNAVAILABLE when another writer has the ref: who only wants what that one makes waits (cd_content_wait), and looks. */
int cd_writer_open(struct cd_content *c, const char *ns, const char *ref, int64_t total, const char *expected,
                   struct cd_writer **out, struct err *err);
/* The same, for one who may come before the writer that it follows has gone: waits that long for it. */
int cd_writer_open_within(struct cd_content *c, const char *ns, const char *ref, int64_t total, const char *expected,
                          int64_t patience_ns, struct cd_writer **out, struct err *err);
/* Until when the ingest is kept though no lease lists it (the collector looks); NULL: not at all. As it was, if this is
 * not called. */
int cd_writer_set_expiry(struct cd_writer *w, const struct timespec *when, struct err *err);
/* Keeps the data for a later writer. */
void cd_writer_close(struct cd_writer *w);

static inline void cd_writer_cleanup(struct cd_writer **w)
{
	cd_writer_close(*w);
}

/* Waits until nobody writes the ref any more, or until `call` (may be NULL) is cancelled. */
int cd_content_wait(struct cd_content *c, const char *ns, const char *ref, struct rpc_call *call, struct err *err);

int64_t cd_writer_offset(const struct cd_writer *w);
struct timespec cd_writer_started(const struct cd_writer *w);
struct timespec cd_writer_updated(const struct cd_writer *w);
/* Of the bytes so far. */
void cd_writer_digest(struct cd_writer *w, struct digest *out);

/* Appends. ERR_NOT_FOUND after an abort. */
int cd_writer_write(struct cd_writer *w, struct str bytes, struct err *err);
int cd_writer_truncate(struct cd_writer *w, struct err *err); /* to nothing */

/* The file itself, for contentfs to append to and to verify; after that the writer is committed, aborted or closed, and
 * nothing else. Borrowed. */
int cd_writer_fd(struct cd_writer *w);

/* Publishes as the blob `digest` (which the caller has compared with what was expected), durably, and removes the
 * ingest. When the blob exists already the data is dropped: no error. The writer is only good for closing then. */
int cd_writer_commit(struct cd_writer *w, const struct digest *digest, struct err *err);
/* Removes the ingest; only good for closing then. */
int cd_writer_abort(struct cd_writer *w, struct err *err);

#endif
