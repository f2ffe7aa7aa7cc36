/*
 * The registry client: OCI distribution over HTTP, asynchronous at heart.
 *
 * One I/O thread per client drives all transfers. A request is submitted from any thread and its completion callback is
 * called exactly once, on the I/O thread, also when it is cancelled or the client goes away: callbacks must not block
 * and hand CPU work (inflate, hash) to a pool. The blocking functions at the end wrap the same requests.
 *
 *   submit ──► queue per (lane, host) ──► connection ──► 401? token, once for all that wait ──► redirect, by hand
 *                                              └──► answer ──► data callback … done callback
 *
 * Two lanes of connections, never mixed: *demand* (somebody waits: manifests, opening layers, chunk reads) on one
 * HTTP/2 connection where the server speaks it over TLS, else on a few HTTP/1.1 ones; *bulk* (whole layers, background
 * fill, push) on several HTTP/1.1 connections of its own, because many large streams on one HTTP/2 connection starve
 * each other (measured: p99 twenty times the median).
 *
 * What a request survives: refused and broken connections, 5xx, 429 (Retry-After), bodies that end early (the rest is
 * asked for, from the byte where it broke), silence (see stall_ms), expired tokens and expired storage URLs. It retries
 * with exponential back-off and jitter until max_attempts in a row brought no byte (two, when all there is is silence), or
 * until its deadline. What it does not retry: 400, 401 after authorization, 403, 404, 416 and answers that contradict the question.
 *
 * Error codes: ERR_NOT_FOUND (404), ERR_UNAUTHENTICATED (401), ERR_PERMISSION (403), ERR_OUT_OF_RANGE (416),
 * ERR_EXHAUSTED (429 to the end, or a body beyond its bound), ERR_UNAVAILABLE (network and 5xx to the end),
 * ERR_DEADLINE (no time for another attempt after silence or a broken line), ERR_CANCELLED, ERR_DATA_LOSS (wrong digest,
 * size or Content-Range), ERR_UNIMPLEMENTED (the server ignores ranges where that would cost too much), ERR_INVALID
 * (other 4xx, bad arguments). Messages name host, repository, blob or manifest, HTTP status and the registry's own text;
 * never a query string, a token or a password.
 *
 * Hosts are named as in reg_ref.host. HTTPS always, except for loopback hosts without TLS material and hosts listed as
 * plain_http. Authorization goes to the registry's own scheme, host and port alone.
 */
#ifndef REGISTRY_CLIENT_H
#define REGISTRY_CLIENT_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "registry/auth.h"
#include "registry/manifest.h"
#include "registry/reference.h"

#include <pthread.h>
#include <stdint.h>

struct reg_client;
struct reg_request;

enum reg_lane { REG_DEMAND, REG_BULK, REG_LANES };

#define REG_NO_DEADLINE INT64_MAX

struct reg_client_opts {
	const char *user_agent;      /* NULL: "contentd/<version>" */
	unsigned demand_connections; /* HTTP/1.1 connections per host, 0 = 6 */
	unsigned bulk_connections;   /* 0 = 4 */
	unsigned
	    answer_ms; /* silence for so long, of a new connection or instead of an answer, ends an attempt; 0 = 15000 */
	unsigned stall_ms; /* a transfer with less than 1 KiB in this time is retried on a new connection; 0 = 10000 */
	unsigned backoff_ms; /* first back-off, doubled up to 32 times this; 0 = 100 */
};

/* Starts the I/O thread. `opts` NULL = defaults. */
int reg_client_new(const struct reg_client_opts *opts, struct reg_client **out, struct err *err);

/* Ends all requests with ERR_CANCELLED, so that blocked callers return; later ones end so at once. Any thread. */
void reg_client_stop(struct reg_client *c);

/* Stops, runs the callbacks of what was in flight, joins the thread, wipes secrets. No other call may be running or
 * follow; handles of requests may still be unreferenced. Not from a callback. */
void reg_client_free(struct reg_client *c);
DEFINE_AUTO_FREE(reg_client);

/*
 * Hosts. Settings are looked up by the reference host of a request, and by "host[:port]" of each redirect target, so a
 * storage server with a private CA gets an entry of its own. All of these: any thread, at any time; they concern
 * requests submitted later. Texts are copied.
 */
struct reg_host_opts {
	const char *api;     /* "host[:port]" to contact instead; NULL = reg_host_api() */
	const char *ca_file; /* PEM bundle used instead of the system's; NULL = the system's */
	bool skip_verify;    /* accept any certificate */
	bool plain_http;     /* speak HTTP without TLS */
	bool force_https;    /* HTTPS on a loopback host too (implied by ca_file and skip_verify) */
	bool http1;          /* never HTTP/2 */
};

/* `opts` NULL removes the entry. */
int reg_client_set_host(struct reg_client *c, const char *host, const struct reg_host_opts *opts, struct err *err);

/* A server that has what a registry host names: the registry itself, or a mirror of it. */
#define REG_CAN_PULL 1u    /* blobs, and manifests by digest */
#define REG_CAN_RESOLVE 2u /* manifests by tag */
#define REG_CAN_PUSH 4u
struct reg_endpoint {
	const char *base; /* "https://mirror.example:5000/v2": what comes before "/<repository>/..." */
	bool is_registry; /* credentials go to it; mirrors get none but their headers, and are told the host (ns=) */
	unsigned can;
	const char *ca_file, *cert_file, *key_file; /* PEM; NULL = the system's, and none */
	bool skip_verify;
	const char *const *headers; /* "Name: value", of each request to it, not to where it redirects */
	size_t n_headers;
};

/*
 * Accounts: what a request presents to its registry, and, with endpoints, which servers are asked for it: in their order,
 * each once, the next one whenever one has failed, the last one with all the patience that a request has. Of one that did
 * not answer no blobs are wanted for half a minute. A push goes to the first that takes it.
 *
 * Tokens, and the URLs that redirects led to, are kept for each account by itself: what one may read opens nothing to
 * another, nor to requests without one. Constant; counted; the credentials are a copy, wiped with the last reference. NULL is
 * the account of nobody: anonymous, at the host itself.
 */
struct reg_account;
struct reg_account *reg_account_new(const struct reg_credentials *credentials); /* empty ones give NULL */
struct reg_account *reg_account_new_via(const struct reg_credentials *credentials, const struct reg_endpoint *endpoints,
                                        size_t n);                                        /* copied; n 0: as above */
const struct reg_endpoint *reg_account_endpoints(const struct reg_account *a, size_t *n); /* borrowed */
struct reg_account *reg_account_ref(struct reg_account *a);                               /* NULL is fine, below, too */
void reg_account_unref(struct reg_account *a);
DEFINE_CLEANUP(reg_account, struct reg_account *, reg_account_unref(*it));
const struct reg_credentials *reg_account_credentials(const struct reg_account *a); /* borrowed */
/* Its tokens are wiped, as it is not going to be used any more. */
void reg_client_forget(struct reg_client *c, const struct reg_account *account);

/* The account of requests to a host that bring none, for programs that act for one user; credentials NULL or empty =
 * anonymous from now on. */
void reg_client_set_credentials(struct reg_client *c, const char *host, const struct reg_credentials *credentials);

/* Opens the demand connection of a host and learns how it wants to be authorized, off the critical path; returns at
 * once, failures are silent (the first real request reports them). Does nothing within 30 s of the last use. */
void reg_client_warm(struct reg_client *c, const char *host);

/*
 * What the last transfers from a host taught, for sizing windows (clamp(1.5 x RTT x bandwidth, 256 KiB, 1 MiB)). Blob
 * transfers that were redirected count for the registry host that was asked. Zero where nothing is known yet.
 */
struct reg_estimate {
	int64_t rtt_ns;             /* least of the last 10-20 s (connect, or request to first byte) */
	uint64_t bandwidth_bytes_s; /* greatest of the recent delivery rates, all transfers of the host together */
};
void reg_host_estimate(struct reg_client *c, const char *host, struct reg_estimate *out);

/* Sums since start. bytes_in is bodies as received, retries included. */
struct reg_counters {
	uint64_t requests, retries, redirects, tokens, errors;
	uint64_t bytes_in, bytes_out;
	uint64_t connections; /* opened */
};
void reg_client_counters(struct reg_client *c, struct reg_counters *out);

/*
 * Requests.
 *
 * Submitting copies what it needs from the question. `out` may be NULL; otherwise it receives a handle, set
 * before the first callback, that the caller gives back with reg_request_unref(), at any time. On failure of the call itself (bad arguments) no callback comes.
 */

/* Asks the request to end with ERR_CANCELLED; a no-op when it is over. Any thread, callbacks included. */
void reg_request_cancel(struct reg_request *r);

/* Continues a request whose data callback said REG_FLOW_PAUSE; also before that answer has taken effect. Any thread. */
void reg_request_resume(struct reg_request *r);

void reg_request_unref(struct reg_request *r); /* NULL is fine */

/* What a completion callback is told; everything in it lives during the call only, unless stolen. */
struct reg_answer {
	int result;            /* 0 or -(code) */
	const struct err *err; /* never NULL; set when result < 0 */
	int status;            /* last HTTP status, 0 if none came */
	struct buf *body;      /* the bytes where they were gathered (may be taken with buf_steal), else NULL */
	struct str media_type; /* Content-Type without parameters, of manifests */
	struct digest digest;  /* of a manifest's bytes */
	uint64_t offset;       /* blob offset of the first byte delivered */
	uint64_t length;       /* bytes delivered; less than asked only where the blob ends, or after REG_FLOW_STOP */
	uint64_t blob_size;    /* of the whole blob; 0 = not learned */
	int64_t rtt_ns;        /* request to first byte of the last attempt; 0 if it opened a connection */
};

typedef void reg_done_fn(void *arg, struct reg_answer *answer);

enum reg_flow {
	REG_FLOW_MORE,  /* bytes taken, go on */
	REG_FLOW_PAUSE, /* bytes NOT taken: the same ones come again after reg_request_resume() */
	REG_FLOW_STOP,  /* bytes taken, nothing more wanted: the request ends with success */
};

/* Bytes of a body as they arrive, at most 16 KiB a call, each byte once and in order, `offset` counted in the blob. A
 * retry continues where the last call ended. On the I/O thread; must not block. */
typedef enum reg_flow reg_data_fn(void *arg, uint64_t offset, struct str bytes);

/* GET a manifest or index, by digest if the reference has one, else by tag. The bytes are gathered (at most
 * REG_MANIFEST_BYTES_MAX); their digest is computed, and must match when asked by digest. */
struct reg_manifest_get {
	const struct reg_ref *ref;
	struct reg_account *account; /* NULL: the host's */
	enum reg_lane lane;
	int64_t deadline_ns; /* CLOCK_MONOTONIC; REG_NO_DEADLINE for none. 0 is refused, so that it is not forgotten */
	unsigned max_attempts; /* in a row without a byte; 0 = 6, but 2 of silence */
	reg_done_fn *done;
	void *arg;
};
int reg_manifest_get(struct reg_client *c, const struct reg_manifest_get *q, struct reg_request **out, struct err *err);

/*
 * GET a blob or a part of it: [offset, offset + length), or with suffix != 0 its last `suffix` bytes (the whole, if it
 * is smaller). length REG_TO_END = from offset to the end. The digest is not verified here: ranges are verified by chunk,
 * whole layers by the hasher in the reader's pipeline.
 *
 * Where the bytes go: `data` if set; else into `dst` if set (dst_bytes of the caller's memory, untouched by us after
 * done); else gathered into answer.body. For dst and body the range must be bounded: length or suffix, or max_bytes.
 */
#define REG_TO_END UINT64_MAX
#define REG_SKIP_MAX (32u << 20) /* a server without ranges makes us read and drop at most this much per request */

struct reg_blob_get {
	const struct reg_ref *ref;   /* host and repository */
	struct reg_account *account; /* NULL: the host's */
	struct digest digest;
	uint64_t blob_size; /* from the descriptor; 0 = unknown. A server that says otherwise is ERR_DATA_LOSS */
	uint64_t offset, length;
	uint64_t suffix;
	enum reg_lane lane;
	int64_t deadline_ns;
	unsigned max_attempts;
	uint64_t max_bytes; /* of dst or body; 0 = length or suffix */
	reg_data_fn *data;
	void *dst;
	size_t dst_bytes;
	reg_done_fn *done;
	void *arg;
};
int reg_blob_get(struct reg_client *c, const struct reg_blob_get *q, struct reg_request **out, struct err *err);

/* HEAD a blob: answer.blob_size. Storage servers that refuse HEAD are asked for one byte instead. */
struct reg_blob_head {
	const struct reg_ref *ref;
	struct reg_account *account; /* NULL: the host's */
	struct digest digest;
	enum reg_lane lane;
	int64_t deadline_ns;
	unsigned max_attempts;
	reg_done_fn *done;
	void *arg;
};
int reg_blob_head(struct reg_client *c, const struct reg_blob_head *q, struct reg_request **out, struct err *err);

/*
 * Blocking calls. Any thread except the I/O thread. `deadline_ns` as above. Those without an account use the host's.
 */

#define REG_DOCUMENTS_MAX 3 /* index, nested index, manifest */

/* From a reference to one image: every document on the way, outermost first; the last one is the image manifest. */
struct reg_image {
	struct reg_manifest *documents[REG_DOCUMENTS_MAX];
	unsigned n_documents;
};

void reg_image_free(struct reg_image *image);
DEFINE_AUTO_FREE(reg_image);
static inline const struct reg_manifest *reg_image_manifest(const struct reg_image *i)
{
	return i->documents[i->n_documents - 1];
}

/* Ends what it was given to, from any thread: reg_canceller_cancel(k) fits rpc_on_cancel. One thing at a time. */
struct reg_canceller {
	pthread_mutex_t lock;
	pthread_cond_t changed;      /* cancelled */
	struct reg_request *current; /* lock */
	bool cancelled;              /* lock */
};
void reg_canceller_init(struct reg_canceller *k);
void reg_canceller_fini(struct reg_canceller *k);
void reg_canceller_cancel(void *canceller);
/* For a request of the caller's own: from now on it is ended, too; at once, if the call was before. Until _leave, which
 * comes before its handle is given back. */
void reg_canceller_enter(struct reg_canceller *k, struct reg_request *r);
void reg_canceller_leave(struct reg_canceller *k);

/* Fetches and parses one manifest or index. canceller NULL: it cannot be cancelled. */
int reg_manifest_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                       int64_t deadline_ns, struct reg_canceller *canceller, struct reg_manifest **out,
                       struct err *err);

/* Fetches the reference and, through an index, the manifest for `platform` (NULL = reg_platform_host()). One round trip
 * for a plain manifest, two through an index, plus one for a token that is not cached. */
int reg_image_resolve(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                      const struct reg_platform *platform, int64_t deadline_ns, struct reg_image **out,
                      struct err *err);

/* Fetches a whole small blob (a configuration) of the descriptor's size, at most max_bytes, and checks its digest. */
int reg_blob_fetch(struct reg_client *c, const struct reg_ref *ref, const struct reg_descriptor *descriptor,
                   size_t max_bytes, int64_t deadline_ns, struct buf *out, struct err *err);

/* Size of a blob; ERR_NOT_FOUND when the repository lacks it. */
int reg_blob_stat(struct reg_client *c, const struct reg_ref *ref, const struct digest *digest, int64_t deadline_ns,
                  uint64_t *size, struct err *err);

/*
 * Pushes one blob, unless the repository has it already: HEAD, then a mount from `mount_from` (a repository of the same
 * registry, or NULL), then POST and the bytes. They come from fd at [fd_offset, fd_offset + size) if fd >= 0, read
 * with pread as the connection takes them, else from `bytes`. A large upload that breaks goes on where the registry
 * says that it stopped; a small one starts again.
 * Returns 0 when uploaded, or:
 */
#define REG_PUSH_PRESENT 1 /* nothing was sent: it was there */
#define REG_PUSH_MOUNTED 2 /* nothing was sent: mounted from the other repository */
#define REG_PUSH_MISSING 3 /* only_ask: its bytes are needed */
struct reg_blob_push {
	const struct reg_ref *ref;
	struct reg_account *account; /* NULL: the host's */
	struct digest digest;
	uint64_t size;
	int fd;
	off_t fd_offset;
	struct str bytes;
	const char *mount_from;
	bool only_ask; /* without bytes: is it there, or can it be mounted? */
	int64_t deadline_ns;
	struct reg_canceller *canceller;            /* NULL: it cannot be cancelled */
	void (*progress)(void *arg, uint64_t sent); /* NULL, or called on the I/O thread */
	void *arg;
};
int reg_blob_push(struct reg_client *c, const struct reg_blob_push *q, struct err *err);

/* PUTs a manifest or index under the reference's tag, else under its digest, with exactly these bytes. */
int reg_manifest_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str bytes,
                      struct str media_type, int64_t deadline_ns, struct reg_canceller *canceller, struct err *err);

#endif
