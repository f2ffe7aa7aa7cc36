/*
 * The client side of contentfs: what contentd uses to command the data plane. Blocking calls; any thread; many may be
 * outstanding. A connection that breaks (the worker was replaced) is made anew and the call repeated: every verb is
 * idempotent. When nobody serves the socket within its patience the call fails with ERR_UNAVAILABLE.
 *
 * A contentfs that is there and does not answer (stopped, or stuck on its disk) is not waited for, either: a verb that needs
 * no network fails with ERR_DEADLINE after `answer_ns`, and those that come after it fail at once, with ERR_UNAVAILABLE, but
 * for one a second that tries. What it was asked may still be done.
 */
#ifndef FUSEFS_CLIENT_H
#define FUSEFS_CLIENT_H

#include "base/digest.h"
#include "base/err.h"
#include "rpc/proto/contentfs.pb-c.h"

struct ffs_client;
struct rpc_call;

/*
 * For who collects layer indexes while others ask for them: told before a question whose answer names indexes (Open,
 * Unpack), and after it. `answered` sees to it that they stay for as long as `on_behalf` lasts, or returns true when one
 * of them was deleted since the question was asked: then it is asked again. keys NULL: there was no answer. Any thread.
 */
struct ffs_client_watch {
	uint64_t (*asked)(void *arg);
	bool (*answered)(void *arg, uint64_t asked, struct rpc_call *on_behalf, const char *const *keys, size_t n);
	void *arg;
};

/* What is needed to start contentfs when none serves the state directory. */
struct ffs_client_opts {
	const char *root, *state; /* absolute */
	const char *program;      /* path of the contentfs binary */
	const char *config;       /* config file to hand on, or NULL */
	const char *const *extra; /* further arguments, NULL-terminated, or NULL */
	/* A connection broke: whoever waits for files waits for us, if nobody else is left to start a worker, so make
	 * some call soon. On a thread that must not block; may be NULL. */
	void (*lost)(void *arg);
	void *arg;
	int64_t answer_ns;             /* how long a verb may take that needs no network; 0: 30 s */
	struct ffs_client_watch watch; /* zeroed: nobody collects */
};

/* Connects to <state>/contentfs.sock; starts contentfs (detached, its stderr to <state>/contentfs.log) when none
 * answers, handing it the descriptors kept from an earlier one if there are any. Returns when it serves. */
int ffs_client_new(const struct ffs_client_opts *opts, struct ffs_client **out, struct err *err);
/* Ends the calls that nobody can cancel, and all that come: ERR_UNAVAILABLE. For the end of the caller's life. */
void ffs_client_abort(struct ffs_client *c);
void ffs_client_free(struct ffs_client *c);
DEFINE_AUTO_FREE(ffs_client);

typedef void (*ffs_progress_fn)(void *arg, int64_t done, int64_t total);

/* The calls that may take long end early when `on_behalf` (may be NULL) is cancelled, with its error. */

/* Told of each phase that is reached, and of each layer as it is known: `at->layer` may be taken (and set to NULL). Again
 * from the beginning when the call had to be repeated. Nobody sees to it that the index of such a layer stays: that is for
 * the answer. */
typedef void (*ffs_open_progress_fn)(void *arg, Contentd__Contentfs__V1__OpenProgress *at);

/* Resolves and opens. *docs_fd: memory file with the documents; *out: pb_free. */
int ffs_client_open(struct ffs_client *c, struct rpc_call *on_behalf, const Contentd__Contentfs__V1__OpenRequest *req,
                    ffs_open_progress_fn progress, void *arg, Contentd__Contentfs__V1__OpenResponse **out, int *docs_fd,
                    struct err *err);

/* `fd`: the ingest (tee; empty), or the blob (from_fd), or -1. */
int ffs_client_unpack(struct ffs_client *c, struct rpc_call *on_behalf,
                      const Contentd__Contentfs__V1__UnpackRequest *req, int fd, ffs_progress_fn progress, void *arg,
                      Contentd__Contentfs__V1__UnpackResponse **out, struct err *err);

/* The same of a request for a gzip index. *index_fd: a memory file with its artifact, or -1: there is none. */
int ffs_client_unpack_index(struct ffs_client *c, struct rpc_call *on_behalf,
                            const Contentd__Contentfs__V1__UnpackRequest *req, int fd, ffs_progress_fn progress,
                            void *arg, Contentd__Contentfs__V1__UnpackResponse **out, int *index_fd, struct err *err);

int ffs_client_fetch_blob(struct ffs_client *c, struct rpc_call *on_behalf,
                          const Contentd__Contentfs__V1__FetchBlobRequest *req, int fd, ffs_progress_fn progress,
                          void *arg, struct err *err);

/* Of these three `deadline_ns` may be earlier than the call's own; 0: it is not.
 * `fd`: the bytes, or -1 to ask only. *outcome: one of the response's. */
int ffs_client_push_blob(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                         const Contentd__Contentfs__V1__PushBlobRequest *req, int fd, ffs_progress_fn progress,
                         void *arg, int *outcome, struct err *err);
/* `fd`: a file with the document. */
int ffs_client_push_manifest(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                             const Contentd__Contentfs__V1__PushManifestRequest *req, int fd, struct err *err);

/* *out: pb_free. */
int ffs_client_referrers(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                         const Contentd__Contentfs__V1__ReferrersRequest *req,
                         Contentd__Contentfs__V1__ReferrersResponse **out, struct err *err);

int ffs_client_pin(struct ffs_client *c, const char *name, const char *const *index_keys, unsigned n, struct err *err);
int ffs_client_unpin(struct ffs_client *c, const char *name, struct err *err);
int ffs_client_fill(struct ffs_client *c, struct rpc_call *on_behalf, const char *const *index_keys, unsigned n,
                    ffs_progress_fn progress, void *arg, struct err *err);
/* Reads and checks all indexes and objects, which takes as long as the disk does; remove: deletes what is damaged. *out:
 * pb_free. */
int ffs_client_verify(struct ffs_client *c, struct rpc_call *on_behalf, bool remove, ffs_progress_fn progress,
                      void *arg, Contentd__Contentfs__V1__VerifyResponse **out, struct err *err);
int ffs_client_delete_layers(struct ffs_client *c, const char *const *index_keys, unsigned n, struct err *err);

/* Deletes objects and partial files that no layer index names. Long, and can be repeated: what is deleted is deleted. Ends
 * early with an error when `on_behalf` (may be NULL) is cancelled, or when contentfs gives no sign of life for answer_ns.
 * *out: pb_free. */
int ffs_client_sweep(struct ffs_client *c, struct rpc_call *on_behalf, Contentd__Contentfs__V1__SweepResponse **out,
                     struct err *err);

/* Names of all pins. *out: pb_free. */
int ffs_client_pins(struct ffs_client *c, Contentd__Contentfs__V1__PinsResponse **out, struct err *err);

int ffs_client_status(struct ffs_client *c, const char *const *index_keys, unsigned n,
                      Contentd__Contentfs__V1__StatusResponse **out, struct err *err);
/* The same, but not what is present of the layers: that takes milliseconds for a large one. */
int ffs_client_sizes(struct ffs_client *c, const char *const *index_keys, unsigned n,
                     Contentd__Contentfs__V1__StatusResponse **out, struct err *err);
/* What contentfs counts, in Prometheus' text format; ERR_DEADLINE after deadline_ns. Makes no attempt to bring contentfs
 * back: ERR_UNAVAILABLE when it is not connected. */
int ffs_client_metrics(struct ffs_client *c, int64_t deadline_ns, struct buf *out, struct err *err);
/* Has it open its log and the settings of registry hosts again, and take another level and format of log. */
int ffs_client_reload(struct ffs_client *c, const char *log_level, const char *log_format, struct err *err);

#endif
