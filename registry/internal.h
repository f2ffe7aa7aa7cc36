/*
 * Inside the client: the parts of an in-flight request and who owns what. Private to registry/.
 *
 *   client.c    life, hosts, settings, estimates         lane.c   curl multi on the loop, queues per origin
 *   request.c   one request: attempts, 401, redirects,   token.c  Bearer tokens, single-flight
 *               back-off, deadline, stall                wait.c   blocking on a request
 *   receive.c   what arrives in an attempt               blob.c, document.c, push.c, upload.c, referrers.c
 *   account.c   what requests present                             the operations
 *
 * Everything marked [io] is touched by the I/O thread alone; [lock] is guarded by reg_client.lock, which is never held
 * across I/O or a callback; the rest does not change after construction.
 */
#ifndef REGISTRY_INTERNAL_H
#define REGISTRY_INTERNAL_H

#include "base/digest.h"
#include "base/loop.h"
#include "base/map.h"
#include "registry/client.h"
#include "registry/http.h"
#include "registry/url.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

/* Intrusive ring. An element out of any ring points to itself. */
struct link {
	struct link *prev, *next;
};
static inline void link_init(struct link *l)
{
	l->prev = l->next = l;
}
static inline bool link_alone(const struct link *l)
{
	return l->next == l;
}
static inline void link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}
static inline void link_append(struct link *ring, struct link *l)
{
	l->prev = ring->prev;
	l->next = ring;
	ring->prev->next = l;
	ring->prev = l;
}

#define ESTIMATE_SAMPLES 8

enum auth_mode { AUTH_UNKNOWN, AUTH_BASIC_MODE, AUTH_BEARER_MODE };

struct reg_account {
	atomic_uint refs;
	uint64_t id; /* of this process; 0 is nobody's */
	struct reg_credentials credentials;
	struct reg_endpoint *endpoints; /* owned */
	size_t n_endpoints;
};
static inline uint64_t account_id(const struct reg_account *a)
{
	return a ? a->id : 0;
}

/* A registry host, by reference name, or a mirror by the URL that it is asked under; lives as long as the client. */
struct host {
	char *name;
	/* [lock] */
	bool has_opts;
	struct reg_host_opts opts;     /* texts owned */
	struct reg_account *account;   /* of requests that bring none; a reference */
	int64_t rtt_ns, rtt_before_ns; /* least of this period and of the one before; 0 = none */
	int64_t rtt_period_ns;         /* when this period began */
	uint64_t bandwidth[ESTIMATE_SAMPLES];
	unsigned n_bandwidth;   /* samples ever taken */
	int64_t avoid_until_ns; /* it did not answer, and there was another server */
	/* [io] */
	enum auth_mode auth; /* as the last challenge said */
	char *realm, *service;
	uint64_t bytes; /* body bytes received: the base of bandwidth samples */
	int64_t last_use_ns;
};

/* Requests of one lane to one scheme://host:port. [io] */
struct origin {
	char *name;
	bool http2;      /* known to speak it */
	bool http1_only; /* HTTP/2 failed too often here */
	unsigned http2_errors;
	int64_t http2_error_ns; /* the last one counted */
	unsigned active;
	unsigned pins;     /* by callers that come back to it */
	struct link queue; /* of reg_request.queue_link */
};

struct lane {
	struct reg_client *client;
	enum reg_lane which;
	unsigned connections; /* HTTP/1.1, per origin */
	CURLM *multi;
	struct loop_timer *timer;
	struct map origins; /* name -> struct origin */
};

struct token;

struct reg_client {
	struct loop *loop;
	pthread_t thread;
	char *user_agent;
	int64_t answer_ns, stall_ns, backoff_ns;

	pthread_mutex_t lock;
	struct map hosts; /* [lock]; name -> struct host, never removed */
	bool stopping;    /* [lock] */

	/* [io] */
	bool draining; /* the stop has reached the I/O thread */
	CURLSH *share;
	struct lane lanes[REG_LANES];
	struct link requests; /* of reg_request.all_link */
	struct map tokens;    /* key -> struct token */
	uint64_t token_serial;
	struct map urls; /* blob key -> struct cached_url */
	CURL *idle[8];
	unsigned n_idle;
	uint64_t random;

	struct {
		atomic_uint_fast64_t requests, retries, redirects, tokens, errors, bytes_in, bytes_out, connections;
	} counters;
};

enum request_state { REQUEST_NEW, REQUEST_WAIT_TOKEN, REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_BACKOFF, REQUEST_DONE };

/* What the server said in the current attempt. */
struct response {
	int status;
	bool complete; /* the header is */
	char *location, *content_type;
	bool has_length;
	uint64_t length; /* Content-Length */
	bool has_content_range;
	struct http_content_range content_range;
	uint64_t kept_bytes; /* of an upload, by its Range */
	uint64_t piece_min;  /* of an upload: OCI-Chunk-Min-Length */
	bool has_subject;    /* of a manifest: OCI-Subject */
	char *next;          /* of a list: the page after this one */
	int64_t retry_after_s;
	struct reg_challenges challenges;
};

/* Conditions of request_ops. */
#define OP_AGAIN 1   /* complete(): the body ended early, ask for the rest */
#define OP_HANDLED 1 /* status(): the operation has arranged what comes next */

/* An operation on top of struct reg_request, which is its first member. All run on the I/O thread, except free. */
struct request_ops {
	/* Adds the operation's own header lines of the next attempt; may be NULL. */
	void (*headers)(struct reg_request *r, struct curl_slist **list);
	/* A status that is not 2xx, before the usual treatment; may be NULL. */
	int (*status)(struct reg_request *r);
	/* The header of a 2xx has arrived: 0, or an error that ends the request; may be NULL. */
	int (*accept)(struct reg_request *r, struct err *err);
	/* Bytes of a 2xx body; NULL = gathered in r->body. Sets *err and returns REG_FLOW_STOP to fail. */
	enum reg_flow (*body)(struct reg_request *r, struct str bytes, struct err *err);
	/* A 2xx has ended: 0, OP_AGAIN, or an error; may be NULL. */
	int (*complete)(struct reg_request *r, struct err *err);
	/* The request is over: tell the caller. */
	void (*finish)(struct reg_request *r, struct reg_answer *answer);
	/* Frees what the operation added; any thread; may be NULL. */
	void (*free)(struct reg_request *r);
};

/* Less of a body than this within the time of a stall is none: a server that drips would keep a request for ever. */
#define REQUEST_SLOW_BYTES 1024

struct reg_request {
	struct reg_client *client;
	atomic_uint refs;
	const struct request_ops *ops;

	/* The question. */
	struct host *host;           /* [io] after submission: where it goes to now */
	struct reg_account *account; /* a reference, or NULL */
	struct host *registry;       /* with a path: the host that was asked for */
	char *path;                  /* "/<repository>/...", below a server's base: others can be asked; or NULL */
	unsigned need;               /* REG_CAN_... */
	size_t endpoint;             /* [io] after submission: of the account's, if it has any */
	bool asks_all;               /* those, too, that did not answer lately */
	char *url_name;              /* what url_key is for, or NULL */
	enum reg_lane lane;
	const char *method; /* [io] after submission: "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" */
	char *what;         /* for messages: "docker.io/library/alpine: blob sha256:…" */
	char *url;          /* at the registry (or token server) */
	char *scope;        /* of the token; NULL = the request never carries Authorization of the registry */
	bool elsewhere;     /* url is not at `host` but at a server that it named: no estimates, settings of its own */
	char *basic;        /* a ready Basic header line for this URL alone (token servers); wiped */
	char *url_key;      /* under which to keep the final URL; NULL = it is not kept */
	int64_t deadline_ns, stall_ns, patience_ns; /* the latter: until the first line of an answer */
	unsigned max_attempts, max_silences;
	size_t body_max;
	reg_done_fn *done;
	void *arg;
	/* Upload: size and source. */
	bool upload;
	uint64_t upload_size;
	int upload_fd; /* borrowed; -1 = upload_bytes */
	off_t upload_fd_offset;
	struct str upload_bytes;
	char *form;           /* POST body; wiped */
	uint64_t upload_base; /* bytes that were sent before this request: for progress */
	void (*upload_progress)(void *arg, uint64_t sent);
	void *upload_arg;

	/* [io] */
	enum request_state state;
	struct link all_link, queue_link, token_link;
	struct loop_timer *timer;
	char *target;     /* where the next attempt goes: url, or what a redirect said */
	bool foreign;     /* target is another origin than url: no Authorization there */
	bool from_cache;  /* target came from the URL cache */
	bool re_resolved; /* the registry was already asked again after storage refused */
	bool sent_token, sent_basic;
	unsigned redirects, auth_tries, attempts;
	unsigned silences;     /* among them: that ended without a sign of the server */
	uint64_t token_serial; /* of the token that the attempt carried */
	int64_t retry_at_ns, progress_ns;
	int64_t failing_ns; /* when the first of `attempts` began */
	struct err last;    /* why the last attempt failed; code OK if none did */

	/* [io] the current attempt */
	CURL *easy;
	struct curl_slist *header_list;
	struct origin *origin;
	bool fresh, paused, was_paused, stopped, refused, progressed;
	struct response response;
	struct buf body, error_body;
	uint64_t uploaded;
	int64_t start_ns, answer_ns; /* handed to curl, first header line */
	int64_t body_start_ns, body_end_ns, rtt_ns;
	uint64_t body_start_bytes;
	uint64_t attempt_bytes, unnoted_bytes; /* of the body; since progress_ns was set */
	char curl_error[CURL_ERROR_SIZE];
};

/* client.c */
struct host *host_get(struct reg_client *c, const char *name);
/* Builds "scheme://authority" for a registry host by its settings. Heap. */
char *host_base_url(struct reg_client *c, struct host *h);
/* Copies of the settings for an authority that is contacted; the texts are the caller's. */
struct contact {
	char *ca_file, *cert_file, *key_file;
	bool skip_verify, plain_http, http1;
};
void contact_get(struct reg_client *c, struct host *asked, bool foreign, const char *authority, struct contact *out);
void contact_fini(struct contact *k);
void host_sample_rtt(struct reg_client *c, struct host *h, int64_t rtt_ns);
void host_sample_bandwidth(struct reg_client *c, struct host *h, uint64_t bytes, int64_t ns);
uint64_t client_random(struct reg_client *c); /* [io] */
CURL *client_easy_take(struct reg_client *c);
void client_easy_give(struct reg_client *c, CURL *easy);
#define COUNT(client, name, n) atomic_fetch_add_explicit(&(client)->counters.name, (n), memory_order_relaxed)

/* Final URLs of redirected blobs [io]. */
const char *url_cache_get(struct reg_client *c, const char *key);
void url_cache_put(struct reg_client *c, const char *key, const char *url);
void url_cache_drop(struct reg_client *c, const char *key);
void url_cache_fini(struct reg_client *c);

/* endpoint.c */
/* Where a new request goes: sets its url, by its host, account and url_name. `path` is taken. */
int request_route(struct reg_request *r, unsigned need, TAKE(char *) path, struct err *err);
const struct reg_endpoint *request_endpoint(const struct reg_request *r);       /* NULL: the host itself */
const struct reg_credentials *request_credentials(const struct reg_request *r); /* for where it goes to now */
/* [io] */
bool request_has_other(const struct reg_request *r);
bool request_go_elsewhere(struct reg_request *r); /* false: there is nowhere else, or no point */
void request_answered(const struct reg_request *r);
/* Settings for a connection; foreign: to another origin than url's. */
void request_contact(const struct reg_request *r, bool foreign, const char *authority, struct contact *out);
void request_endpoint_headers(const struct reg_request *r, struct curl_slist **list);
bool request_brings_authorization(const struct reg_request *r);

/* lane.c [io] */
int lane_init(struct lane *l, struct reg_client *c, enum reg_lane which, unsigned connections, struct err *err);
void lane_fini(struct lane *l);
/* Queues r->target; request_headers/request_body/request_ended are called as it goes. */
int lane_submit(struct reg_request *r, struct err *err);
/* Takes a queued or running request off the wire; `kill` also retires its connection. */
void lane_remove(struct reg_request *r, bool kill);
void lane_resume(struct reg_request *r);
/* Wipes and frees the header lines of an attempt. */
void lane_drop_headers(struct reg_request *r);

/* request.c */
/* Fills the common part; `size` is of the operation's struct. The texts are copied. account NULL: the host's. */
void *request_new(struct reg_client *c, size_t size, const struct request_ops *ops, struct host *host,
                  struct reg_account *account, enum reg_lane lane, const char *method, int64_t deadline_ns,
                  unsigned max_attempts);
/* Hands it to the I/O thread; on failure it is unreferenced and no callback comes. */
int request_submit(TAKE(struct reg_request *) r, struct reg_request **out, struct err *err);
/* As request_submit, with a function of the operation's own, which starts or unreferences it. */
void request_post(TAKE(struct reg_request *) r, void (*fn)(void *arg));
/* [io] */
bool request_take_challenge(struct reg_request *r); /* remembers how the host wants to be authorized */
void request_start_here(struct reg_request *r);
void request_attempt(struct reg_request *r);
void request_finish(struct reg_request *r, int result);
void request_arm(struct reg_request *r); /* after what it waits for has changed */
void request_retry(struct reg_request *r, int64_t delay_ns);
/* It cannot go on where it is, for the reason in r->last: another server is asked, or it ends. */
void request_fail(struct reg_request *r);
void request_on_end(struct reg_request *r, CURLcode code);

/* receive.c [io]: curl's callbacks, with the request as their argument. */
void response_fini(struct response *p);
static inline bool request_succeeds(const struct reg_request *r)
{
	return r->response.status >= 200 && r->response.status < 300;
}
size_t request_on_header(char *p, size_t one, size_t n, void *arg);
size_t request_on_body(char *p, size_t one, size_t n, void *arg);
size_t request_on_upload(char *p, size_t one, size_t n, void *arg);
int request_on_seek(void *arg, curl_off_t offset, int origin);

/* account.c; [lock] is held: reg_client_forget. */
void account_forget_locked(struct reg_client *c, const struct reg_account *a);

/* document.c: reg_manifest_fetch, from a server that can do what is needed (REG_CAN_...). */
int manifest_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, unsigned need,
                   int64_t deadline_ns, struct reg_canceller *canceller, struct reg_manifest **out, struct err *err);

/* token.c [io] */
enum token_state { TOKEN_READY, TOKEN_WAIT, TOKEN_FAILED };
/* The Authorization line for r's scope at its host. TOKEN_WAIT: r is in the token's ring and will be started again, or
 * finished. READY: *line is heap, to be wiped. */
enum token_state token_get(struct reg_request *r, char **line, struct err *err);
/* The token that r carried was refused. */
void token_refused(struct reg_request *r);
void tokens_fini(struct reg_client *c);
/* Forgets the tokens of an account. */
void tokens_forget(struct reg_client *c, uint64_t account);
char *basic_line(const struct reg_credentials *credentials);
void secret_free(char *s);

/* wait.c: blocking on an asynchronous request. */
struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int result;
	struct err err;
	int status;
	struct buf body;
	char media_type[REG_MEDIA_TYPE_MAX + 1];
	struct digest digest;
	uint64_t length, blob_size, piece_min;
	int64_t retry_after_ns;
	bool has_subject;
	char *location;
};
void waiter_init(struct waiter *w);
void waiter_fini(struct waiter *w);
DEFINE_AUTO_FINI(waiter);
void waiter_done(void *arg, struct reg_answer *answer); /* a reg_done_fn */
int waiter_wait(struct waiter *w, struct err *err);
/* For a request that whoever has the canceller (or NULL) may end; the handle is given back. */
int waiter_wait_cancellable(struct waiter *w, struct reg_canceller *k, TAKE(struct reg_request *) r, struct err *err);

#endif
