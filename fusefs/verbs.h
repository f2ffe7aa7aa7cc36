/*
 * Inside of the service (service.h): what the files of the verbs share. Not for anybody else.
 *
 *   service.c      life-cycle, Status, Keep
 *   access.c       who asks, and what he presents to registries
 *   keep.c         Pin, Unpin, Pins, DeleteLayers, Fill; indexes and pins at the start of a worker
 *   open.c         Open: resolve, then everything else at once
 *   open_layer.c   one lazy layer, from its descriptor to its index
 *   unpack.c       Unpack: ordinary layers into objects
 *   sweep.c        Sweep: objects that no index names
 *   fetch_blob.c   FetchBlob
 *   push.c         PushBlob, PushManifest, Referrers
 *   verify.c       Verify
 *   download.c     a blob as blocks of bytes, for the two above
 *   secrets.c      credentials in memory that a successor inherits
 *   certs.c        certs.d
 *   observe.c      Metrics, Reload
 */
#ifndef FUSEFS_VERBS_H
#define FUSEFS_VERBS_H

#include "base/clock.h"
#include "base/map.h"
#include "base/pool.h"
#include "estargz/inflate/layer.h"
#include "fusefs/secrets.h"
#include "fusefs/service.h"
#include "registry/client.h"
#include "rpc/proto/contentfs.pb-c.h"
#include "rpc/ttrpc.h"

#include <pthread.h>
#include <stdatomic.h>

/* Generated names without their prefix. */
#define PB(name) Contentd__Contentfs__V1__##name

#define OPEN_DEADLINE_NS (120 * NS_PER_S) /* when the caller names none */
#define PROGRESS_NS (100 * NS_PER_MS)     /* least distance of two progress messages */
#define DESCRIPTOR_BYTES_MAX (1ull << 40) /* larger layers are refused */

/*
 * A layer that is unpacked. All of it is guarded by the service's lock until it is over; from then on only `refs` is, and
 * the rest changes no more.
 */
struct unpacking {
	unsigned refs; /* its owner, and those who wait for its result or answer with it */
	bool over;
	bool any_diff_id; /* its owner checks none */
	bool makes_index; /* its owner wants the gzip index, too */
	struct digest diff_id;
	struct err why; /* ERR_OK: done */
	struct esgz_layer_result result;
	uint64_t content_bytes;
	struct buf index; /* the artifact; empty: none */
};

/* Who has learned for which image that no gzip index stands beside it (open_gzip.c). */
struct no_index {
	struct digest key; /* of owner, repository and manifest */
	int64_t until_ns;
};
#define NO_INDEX_MAX 256

struct ffs_service {
	struct ffs_worker *w;
	struct ttrpc_server *server;
	struct pool *pool; /* builds indexes */
	atomic_bool stopped;

	/* Serialises Pin, Unpin, DeleteLayers and what makes an index known, their work on disk included: it is rare and
	 * short. */
	pthread_mutex_t pins_lock;
	struct map pins; /* name -> struct pin */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t unpacked;
	struct map unpacking;                   /* blob digest -> struct unpacking */
	struct no_index no_index[NO_INDEX_MAX]; /* a ring */
	unsigned no_index_next;
};

/* ---- what comes in ---- */

int parse_index_key(const char *text, struct digest *out, struct err *err);
/* All fields checked; `what` names it in errors. */
int parse_descriptor(const PB(Descriptor) * d, const char *what, struct digest *digest, uint64_t *bytes,
                     struct err *err);

/* "host/repository", where blobs of the reference come from; dst has REG_REF_TEXT_MAX bytes. */
char *repository_text(const struct reg_ref *ref, char dst[static REG_REF_TEXT_MAX]);

/* ---- verbs ---- */

int verb_open(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_unpack(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_fetch_blob(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_push_blob(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_push_manifest(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_referrers(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_pin(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_unpin(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_fill(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_pins(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_sweep(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_delete_layers(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_verify(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_metrics(struct rpc_call *c, const void *request, void *svc, struct err *err);
int verb_reload(struct rpc_call *c, const void *request, void *svc, struct err *err);

/* Around each verb: counts it, and logs it at debug. */
void verb_done(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns);

/* 0, or why the call ends whatever its work came to: rpc_cancelled, or this worker stops. The registry's requests are
 * cancelled then before the calls are; who asks again finds the next worker. */
int verb_cut_off(struct ffs_service *s, struct rpc_call *c, struct err *err);

/* Sends TransferProgress, unless one was sent just now. *sent_ns: 0 at first. */
int send_progress(struct rpc_call *c, int64_t *sent_ns, uint64_t done, uint64_t total, struct err *err);

/* ---- the stored state, when a worker starts (keep.c) ---- */

int load_layers(struct ffs_service *s, struct err *err);
int load_pins(struct ffs_service *s, struct err *err);
void free_pins(struct ffs_service *s);

/* A referrer was pushed: what was known of images without gzip indexes is so no more (open_gzip.c). */
void forget_no_index(struct ffs_service *s);

/* Makes a stored index known to the data. One that is damaged is removed, with a warning: ERR_NOT_FOUND then. */
int load_layer(struct ffs_service *s, const struct digest *key, struct err *err);

/* Writes an index and makes it known; once more when a DeleteLayers comes in between. As ffs_index_put. */
int store_layer(struct ffs_service *s, const struct digest *key, struct str index, struct str points,
                const struct ffs_source *src, bool durable, struct err *err);

/* Registers <certs_dir>/<host>/ca.crt with the client. An absent directory is fine; what is wrong is logged. */
void load_certs(struct reg_client *client, const char *certs_dir);

#endif
