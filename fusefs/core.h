/*
 * Inside of the data plane (data.h): the structures that its files share. Not for anybody else.
 *
 *   layers.c   a mapped index, its members in blob order, and the claims of all layers
 *   files.c    one struct ffs_file per object name: what is known and present of it
 *   partial.c  the file on disk that a multi-chunk object is gathered in
 *   plan.c     which members one request should bring
 *   fetch.c    requests, and members as they arrive
 *   flights.c  chunks that somebody waits for: delivered, tried again, failed
 *   read.c     reads: who waits for which chunk, until when
 *   settle.c   whole files, and names whose size is in doubt
 *   fill.c     the scheduler thread: deadlines, retries, whole layers in the background
 *   publish.c  the publisher thread: complete files become objects
 *   proof/     the prover thread: is a layer what its image says (proof/README.md)
 *
 * Words: a *member* is what has to be fetched at once, a gzip member or zstd frame; it holds one chunk, or several
 * small ones. A *flight* is a chunk that somebody waits for. A *request* transfers consecutive members.
 *
 * Locking: one mutex, d->lock, guards all fields here that do not say otherwise. It is never held across I/O on the
 * network, inflating, hashing, a callback or a write to a file; short look-ups of names in the store do happen under
 * it only where the comment of a function says so.
 */
#ifndef FUSEFS_CORE_H
#define FUSEFS_CORE_H

#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/vec.h"
#include "estargz/gzseek/points.h"
#include "estargz/index/index.h"
#include "estargz/inflate/inflate.h"
#include "fusefs/data.h"
#include "fusefs/keyhash.h"
#include "fusefs/proof/gaps.h"

#include <pthread.h>
#include <stdatomic.h>

#define FFS_READ_MAX (1u << 20)     /* one read of the kernel */
#define FFS_STEP_BYTES (4u << 20)   /* one step of assembling a whole file */
#define FFS_WINDOW_MIN (256u << 10) /* design: clamp(1.5 x RTT x bandwidth, ...) */
#define FFS_WINDOW_MAX (1u << 20)
#define FFS_BULK_BYTES (4u << 20)            /* one request of the background */
#define FFS_BULK_REQUESTS 2                  /* of them at a time, so that the link never waits for a round trip */
#define FFS_BULK_GAP (64u << 10)             /* present bytes that it is cheaper to fetch again than to skip */
#define FFS_MEMBER_INFLATED_MAX (256u << 20) /* a member that needs more is not fetchable */

#define FFS_IMPOSSIBLE_MEMBER "the image places it where it cannot be"

/* ---- layers ---- */

enum member_state {
	MEMBER_ABSENT,
	MEMBER_INFLIGHT,  /* a request brings it */
	MEMBER_INFLATING, /* its bytes are here, the pool has them */
	MEMBER_DONE,
};

struct member {
	uint64_t offset; /* in the blob */
	uint32_t bytes;  /* to fetch; 0 = cannot be right, never fetched */
	uint32_t first;  /* its chunks are order[first .. next member's first) */
};

/* Where a blob comes from, and by whose account. Constant. */
struct origin {
	char *reference, *owner;
};

struct layer {
	struct digest key;
	struct str bytes;         /* the mapped index */
	struct ffs_source source; /* as the layer was loaded */
	struct esgz_index *ix;
	const struct esgz_index_info *info;
	struct str points_bytes; /* the mapped points */
	struct esgz_points
	    *points; /* of a layer that is read from points, whose members are the spans behind them; else NULL */
	struct member *members; /* ascending by offset; one more than n_members, which ends the last */
	uint32_t n_members;
	uint32_t *order; /* chunk numbers in blob order; holes, which lie nowhere, are not among them */
	uint32_t n_holes;
	uint32_t *entry_of;    /* chunk number -> entry number */
	uint64_t member_bytes; /* sum */
	uint32_t n_files;      /* regular files with content */

	_Atomic(const struct origin *) origin; /* where the blob comes from now; each lives as long as the layer */
	struct gaps *gaps;                     /* guards itself; NULL: not of a lazy layer */

	/* Guarded by d->lock. */
	VEC(struct origin *) origins; /* all that it had */
	uint8_t *state;               /* enum member_state; DONE is a hint for planning, the files know */
	uint8_t *published;           /* per entry: its object was seen to exist */
	unsigned refs;                /* the list, files, requests, jobs, fills */
	bool removed, pinned;
	struct digest promised; /* DiffID; zeros: none is known */
	struct ffs_facts facts; /* the prover's: it alone changes them */
	char unproven[256];     /* why it could not be proven, the last time; empty: not tried, or it could */
	bool filled;            /* all of its files were published, once */
	int64_t prove_ns;       /* when the prover is to take it up; 0: not wanted */
	int64_t prove_retry_ns; /* how long it waited for the last time; 0: it did not fail yet */
	unsigned prove_wholes;  /* times that it fetched the blob for nothing */
	unsigned suspected; /* chunks that did not come as its index says; two: the prover is to take the whole blob */
	uint32_t window;    /* bytes of a demand request */
	uint32_t run_end;   /* member behind the last demand request */
	uint64_t run_bytes; /* of that request */
	char error[256];
	int64_t logged_ns;   /* last complaint */
	unsigned suppressed; /* complaints since */
	struct layer *next;
};

/* One regular file of one layer, under one of its names (claim or content). */
struct claim {
	struct layer *layer;
	uint32_t entry;
	uint32_t next; /* index + 1 of the next one in the bucket */
	uint64_t hash;
	bool by_content;
};

struct claims {
	VEC(struct claim) list;
	uint32_t *buckets; /* index + 1 */
	size_t n_buckets;  /* power of two */
};

int layer_load(struct ffs_store *store, const struct digest *key, struct layer **out, struct err *err);
void layer_free(struct layer *l);
DEFINE_AUTO_FREE(layer);
/* The chunks of member m. */
static inline uint32_t member_chunks(const struct layer *l, uint32_t m)
{
	return l->members[m + 1].first - l->members[m].first;
}
/* Of a layer with points: the one that the member lies behind; its number. */
uint32_t layer_point(const struct layer *l, uint32_t m, struct esgz_point *out);
/* The member that holds the chunk. */
uint32_t layer_member_of(const struct layer *l, const struct esgz_chunk *c);

void claims_add(struct claims *c, struct layer *l);
void claims_remove(struct claims *c, struct layer *l);
void claims_fini(struct claims *c);
/* Finds the next claim of `key` after *at (0 at first). */
bool claims_next(const struct claims *c, const struct digest *key, bool by_content, uint32_t *at, struct layer **l,
                 struct esgz_entry *e, uint32_t *entry);

/* ---- files ---- */

enum file_state {
	FILE_UNKNOWN,   /* not looked at on disk yet */
	FILE_FILLING,   /* some chunks may be here */
	FILE_READY,     /* all are; the publisher has it */
	FILE_PUBLISHED, /* an object */
	FILE_FALSE,     /* all chunks as claimed, the whole not: never again */
};

/* Bytes of one verified chunk; shared by readers and the cache. */
struct cbuf {
	atomic_uint refs;
	struct ffs_data *d;
	size_t n;
	uint8_t bytes[];
};

struct cached {
	struct cbuf *buf;
	struct ffs_file *file;
	uint32_t chunk;
	struct cached *file_next;
	struct cached *newer, *older;
	int64_t used_ns;
};

struct read_op;
struct waiter {
	struct read_op *op;
	struct waiter *next;
};

struct flight {
	struct ffs_file *file;
	uint32_t chunk; /* of the file */
	struct waiter *waiters;
	const struct layer *from;  /* whose request or job brings it; the file's home may be another one by now */
	struct flight *next;       /* of the file */
	struct flight *retry_next; /* d->retries */
	int64_t retry_ns;          /* waits for a new attempt at that time; 0 = a request or job has it */
	unsigned attempts;         /* failed ones in a row, of any kind */
	unsigned corrupt;          /* deliveries from the present source that did not match */
	unsigned sources_tried;
	struct err *err; /* the last failure, or NULL */
};

struct whole_wait {
	void (*fn)(void *arg, bool published, const struct err *err);
	void *arg;
	struct whole_wait *next;
};

struct ffs_file {
	struct digest key;
	uint64_t size;
	struct ffs_file *hash_next;

	/* Set while a layer claims it under this name (then key is the claim key). */
	struct layer *home;
	uint32_t entry, first_chunk, n_chunks;
	struct digest content;

	enum file_state state;
	bool exposed;      /* a handle is out: never freed */
	bool probing;      /* somebody looks at the disk for it; others wait on d->probed */
	unsigned busy;     /* reads, jobs and the publisher that use it: not freed, fd not closed */
	int fd;            /* FILLING, READY */
	int stale_fd;      /* of an earlier life, perhaps still being read; or -1 */
	bool warm;         /* came in a demand window: wanted soon, worth keeping in the page cache */
	uint64_t *present; /* bit per chunk */
	uint64_t
	    *storing; /* bit per chunk: being written; nobody else writes it, or marks it after the file was sealed */
	uint64_t *unsure; /* bit per chunk: marked present by an earlier boot; must be verified first. NULL if none */
	uint32_t n_present;
	uint32_t n_holes; /* of these: zeros that the layer names, there from the first. Alone they need no fd */
	struct flight *flights;
	struct cached *cached;
	struct whole_wait *whole;
	struct ffs_file *publish_next;
};

static inline bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}
static inline void bit_set(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= 1ull << (i % 64);
}
static inline void bit_clear(uint64_t *bits, uint32_t i)
{
	bits[i / 64] &= ~(1ull << (i % 64));
}
static inline size_t bits_words(uint32_t n)
{
	return ((size_t)n + 63) / 64;
}

struct ffs_file *file_lookup(struct ffs_data *d, const struct digest *key);
/* Found or made. For an entry of a lazy layer. */
struct ffs_file *file_of_entry(struct ffs_data *d, struct layer *l, uint32_t entry, const struct esgz_entry *e);
struct ffs_file *file_new(struct ffs_data *d, const struct digest *key, uint64_t size);
/* (Re)connects a file with a layer that claims it; false when none does. `not_this`: look for another source. */
bool file_find_home(struct ffs_data *d, struct ffs_file *f, const struct layer *not_this);
void file_chunk(const struct ffs_file *f, uint32_t i, struct esgz_chunk *out);
/* The chunk that holds byte `at` of the file. */
uint32_t file_chunk_at(const struct ffs_file *f, uint64_t at);
/* Drops one `busy`; frees what nobody needs any more. */
void file_unbusy(struct ffs_data *d, struct ffs_file *f);
void file_free(struct ffs_data *d, struct ffs_file *f);
/* Looks at the disk, when nobody has yet: an object under either name, or a partial file. f is busy; takes the lock,
 * gives it up meanwhile. Afterwards state is not UNKNOWN, or the error says why. */
int file_probe(struct ffs_data *d, struct ffs_file *f, struct err *err);
/* Is the object of this entry published? Looks at the disk, without the lock. */
bool entry_published(struct ffs_data *d, const struct esgz_entry *e);
/* What was published, or being gathered, is no more: starts from nothing. Lock held. */
void file_vanished(struct ffs_data *d, struct ffs_file *f);
/* Opens the object of a published file: by its name, or by its content's. */
int file_open_object(struct ffs_data *d, const struct ffs_file *f, int *fd, struct err *err);
/* Opens the partial file if it is not; lock held, given up meanwhile. f is busy. */
int file_open_partial(struct ffs_data *d, struct ffs_file *f, struct err *err);
/* Stores a verified chunk on disk and marks it present; hands the file to the publisher when it was the last one.
 * f is busy; no lock held. */
void file_store(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, const struct cbuf *buf);

/* Something that was fetched cannot be kept: notes it for fills, complains now and then. No lock held. */
void disk_failed(struct ffs_data *d, const struct err *why);

struct cbuf *cbuf_new(struct ffs_data *d, size_t n); /* accounted */
void cbuf_ref(struct cbuf *b);
void cbuf_unref(struct cbuf *b);                                                /* no lock held */
struct cbuf *cache_get(struct ffs_data *d, struct ffs_file *f, uint32_t chunk); /* referenced, or NULL */
void cache_put(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, struct cbuf *buf);
void cache_drop(struct ffs_data *d, struct ffs_file *f);
/* Evicts until the cache fits the memory bound. */
void cache_trim(struct ffs_data *d);
/* Evicts what was last used before that. */
void cache_age(struct ffs_data *d, int64_t before_ns);

/* ---- partial files (partial.c): no lock ---- */

/* Opens or makes the partial file of a claim and reads its chunk map. `present` and `unsure` have bits_words(n_chunks)
 * words of zeros. *any_unsure: there are such bits. */
int partial_open(int dir_fd, const struct digest *key, uint64_t size, uint32_t n_chunks, int *fd, uint64_t *present,
                 uint64_t *unsure, bool *any_unsure, struct err *err);
/* True when there is one. */
bool partial_exists(int dir_fd, const struct digest *key);
int partial_write(int fd, const void *p, size_t n, uint64_t at, struct err *err);
int partial_read(int fd, void *p, size_t n, uint64_t at, struct err *err);
/* Notes in the map that chunk i is there. */
int partial_mark(int fd, uint64_t size, uint32_t i, struct err *err);
/* Cuts the map off: what is left is the content. */
int partial_seal(int fd, uint64_t size, struct err *err);
void partial_remove(int dir_fd, const struct digest *key);

/* ---- requests ---- */

struct fill;

struct request {
	struct ffs_data *d;
	struct layer *layer;
	enum ffs_lane lane;
	struct fill *fill; /* that it belongs to, or NULL */
	void *handle;
	uint32_t first, end; /* members */
	uint64_t until;      /* end of the byte range */
	int64_t sent_ns;
	unsigned refs;
	bool over;                   /* done came */
	bool sent;                   /* get() was called or is being called */
	bool cancelled;              /* nobody wants it any more */
	bool paused;                 /* waits for memory */
	bool cancel_due, resume_due; /* to be said to the source, as soon as there is a handle */
	struct request *next;        /* d->requests */

	/* The I/O thread's alone. */
	uint64_t pos;    /* bytes before it are taken */
	uint32_t member; /* arriving now, or next */
	uint8_t *buf;    /* NULL between members */
	size_t got;
};

/* plan.c: members [*first, *end) that one request should bring, m among them. Pure. */
void plan_demand(const struct layer *l, uint32_t m, uint32_t window, uint64_t need_until, uint32_t *end);
bool plan_bulk(const struct layer *l, uint32_t from, uint32_t max_bytes, uint32_t gap, uint32_t *first, uint32_t *end);

/* Sees to it that the chunk of a flight arrives: joins a transfer or starts one. `need_until`: blob offset up to which
 * the same reader needs bytes. Lock held; what has to be sent is added to d->outbox. */
void fetch_flight(struct ffs_data *d, struct flight *f, uint64_t need_until);
/* Starts the transfer of members [first, end). Lock held; see above. */
struct request *fetch_members(struct ffs_data *d, struct layer *l, uint32_t first, uint32_t end, enum ffs_lane lane,
                              struct fill *fill);
/* Does what was decided under the lock: sends, cancels and resumes requests, tells readers of failures. No lock held; to
 * be called after whatever may have left work for it. */
void fetch_send(struct ffs_data *d);
/* Has what came together of a layer's gaps written, when nobody has anything better to do. No lock held; l is referenced. */
void fetch_flush_gaps(struct ffs_data *d, struct layer *l);
/* The last that a job at the pool does: fetch_send, and it is not counted any more. No lock held. */
void fetch_job_end(struct ffs_data *d);
/* An attempt for a flight failed: it will be retried, tried from another source, or its readers are to be told, by
 * fetch_send. Lock held. */
void flight_failed(struct ffs_data *d, struct flight *f, const struct err *err);
/* No attempt is left: takes it away; its readers are to be told, by fetch_send. Lock held. */
void flight_give_up(struct ffs_data *d, struct flight *f, const struct err *err);
void flights_tell_failed(struct ffs_data *d);
/* Verified bytes of a chunk: to those who wait, to the cache (warm: neighbours of what was missed, too), to the disk. f is
 * busy; no lock held. */
void chunk_verified(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, struct cbuf *buf, bool warm);
/* The same for zeros: what is a hole in one of the layers that claim the file is data in another. */
void chunk_is_zeros(struct ffs_data *d, struct ffs_file *f, uint32_t chunk, uint32_t bytes);
struct flight *flight_find(struct ffs_file *f, uint32_t chunk);
struct flight *flight_new(struct ffs_file *f, uint32_t chunk);
/* Takes it off its file and the retries, and frees it; its waiters must be gone. */
void flight_free(struct ffs_data *d, struct flight *f);
/* Waits for `at` before it is tried again. Lock held. */
void flight_retry(struct ffs_data *d, struct flight *f, int64_t at);
/* Tries again what is due; the next time. No lock held. */
int64_t flights_retry(struct ffs_data *d, int64_t now);
/* Aborts transfers that nobody waits for, since somebody waits now. Lock held. */
void fetch_preempt(struct ffs_data *d);
/* Verifies a chunk that an earlier boot wrote, then goes on as for any flight. Lock held. */
void fetch_verify_local(struct ffs_data *d, struct flight *f);
/* The chunk is a hole in the layer that the file is at home in now, and was data in the one before. Lock held. */
void fetch_zeros(struct ffs_data *d, struct flight *f, uint32_t bytes);
/* Ends all; returns when no request and no job is left. */
void fetch_stop(struct ffs_data *d);
/* Notes and logs why reads of a file fail: image, layer, path. Lock held. */
void file_complain(struct ffs_data *d, struct ffs_file *f, const char *why);
/* The bytes of a chunk came: its waiters get them. No lock held. */
void waiters_deliver(struct ffs_data *d, struct waiter *w, struct ffs_file *f, uint32_t chunk, const struct cbuf *buf);
/* Memory was given back: requests that wait for some go on, by the next fetch_send. Lock held. */
void requests_resume(struct ffs_data *d);
/* Splits off those that wait for the chunk to be on disk, not for its bytes. */
struct waiter *waiters_of_disk(struct waiter **all);
void waiters_fail(struct ffs_data *d, struct waiter *w, const struct err *err);

/* ---- reads ---- */

/* Answers expired ones; the next deadline. No lock held. */
int64_t reads_expire(struct ffs_data *d, int64_t now);
void reads_cancel_all(struct ffs_data *d);
/* Gets the whole file published; fn comes once. No lock held. f is a claim. */
void file_settle(struct ffs_data *d, struct ffs_file *f, void (*fn)(void *arg, bool published, const struct err *err),
                 void *arg);
/* As ffs_data_read, for n of any size, without bytes: done comes when all of it is on disk. */
void file_bring(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, ffs_read_fn *done, void *arg);
/* Gets a content published by one of those that claim it with this size (0: any), the first one that tells the truth. No
 * lock held. */
void content_settle(struct ffs_data *d, const struct digest *content, uint64_t size,
                    void (*fn)(void *arg, bool published, uint64_t size, const struct err *err), void *arg);
bool flight_has_live_waiters(const struct flight *f);

/* ---- fills ---- */

struct fill {
	uint64_t id; /* 0: the background's own, of a pinned layer */
	struct layer *layer;
	enum ffs_lane lane;
	int64_t deadline_ns;
	ffs_fill_progress_fn *progress;
	ffs_fill_done_fn *done;
	void *arg;
	bool ended;
	bool probed;        /* the store was looked at */
	unsigned pass;      /* members that failed get a second one */
	uint32_t cursor;    /* members */
	uint32_t entry;     /* entries below it are published */
	uint32_t hole;      /* entries below it that are nothing but holes are on their way to objects */
	unsigned inflight;  /* requests */
	int64_t began_ns;   /* the background's own: when its layer was pinned */
	int64_t not_before; /* after failures */
	int64_t reported_ns;
	unsigned failures; /* in a row */
	struct err err;
	struct fill *next;
};

int fills_start(struct ffs_data *d, struct err *err);
void fills_stop(struct ffs_data *d);
/* Lock held; see above about d->outbox. */
void fills_cancel_all(struct ffs_data *d);
/* Something happened that the scheduler may wait for. Lock held. */
void fills_wake(struct ffs_data *d);
/* A request of a fill is over. Lock held. */
void fill_request_done(struct ffs_data *d, struct fill *f, int result, const struct err *err);
void fills_drop_layer(struct ffs_data *d, struct layer *l);

/* ---- publishing ---- */

int publisher_start(struct ffs_data *d, struct err *err);
void publisher_stop(struct ffs_data *d);
/* Lock held. */
void publisher_add(struct ffs_data *d, struct ffs_file *f);
/* Lock held; gives the waits to run without it. */
void whole_waits_run(struct ffs_data *d, struct whole_wait *w, bool published, const struct err *err);

/* ---- proving (proof/prover.c) ---- */

int prover_start(struct ffs_data *d, struct err *err);
/* Cancels what it does; to be called while requests still end by themselves. */
void prover_stop(struct ffs_data *d);
/* All of the layer's files are here: it is proven as soon as that is possible, if it is not. Lock held. */
void prover_add(struct ffs_data *d, struct layer *l);
/* A chunk of its blob was not what its index says. Once, the line may be at fault; from the second on the index may be, where
 * no image vouches for it: the whole blob decides, so that it does not stand between a good layer and its readers. Lock held. */
void prover_suspect(struct ffs_data *d, struct layer *l);
/* Whether jobs should keep the gaps of the layer: it will be filled, and is to be proven by them. Lock held. */
bool prover_wants_gaps(const struct ffs_data *d, const struct layer *l, bool bulk);

/* ---- all of it ---- */

struct inflater_slot {
	struct esgz_inflater *z;
	struct inflater_slot *next;
};

struct ffs_data {
	struct ffs_store *store;
	struct ffs_blobs blobs;
	struct ffs_data_opts opts;
	struct pool *pool;

	pthread_mutex_t lock;
	bool stopping;
	pthread_cond_t probed;  /* a file's `probing` ended */
	unsigned n_open;        /* partial files held open */
	int64_t disk_failed_ns; /* when something that was fetched could not be kept, and why; 0: never */
	struct err disk_err;

	struct layer *layers; /* in the order of adding */
	struct claims claims;

	struct ffs_file **buckets; /* by key */
	size_t n_buckets, n_files;

	struct cached *newest, *oldest;
	uint64_t memory;        /* of members in flight and chunk buffers */
	uint64_t memory_cached; /* of it: buffers in the cache */

	struct request *requests;
	unsigned n_requests;          /* that exist */
	unsigned n_jobs;              /* members at the pool */
	unsigned n_demand;            /* requests of that lane */
	VEC(struct request *) outbox; /* to send, cancel or resume, by their flags; each holds a reference */
	pthread_cond_t idle;          /* n_requests or n_jobs fell to 0 */
	struct flight *retries;
	struct failed *failed; /* readers to tell */
	unsigned n_bulk_jobs;  /* of n_jobs: that nobody waits for */
	int64_t last_demand_ns;

	struct read_op *ops_first, *ops_last; /* ascending deadlines */

	pthread_t scheduler;
	pthread_cond_t wake;
	bool scheduler_on, woken;
	struct fill *fills;
	uint64_t next_fill_id;

	pthread_t publisher;
	pthread_cond_t publish_wake;
	bool publisher_on, publisher_stopping;
	struct ffs_file *publish_first, **publish_last;

	pthread_t prover;
	pthread_cond_t prove_wake; /* CLOCK_MONOTONIC */
	bool prover_on, prover_stopping;

	struct inflater_slot *inflaters;
	struct ffs_data_counters counters;
};

/* Lock held. */
void layer_set_origin(struct layer *l, const char *reference, const char *owner);
static inline const char *layer_reference(const struct layer *l)
{
	return atomic_load(&l->origin)->reference;
}
void layer_ref(struct layer *l);
/* Lock held. */
void layer_unref(struct layer *l);
struct layer *layer_find(struct ffs_data *d, const struct digest *key);

/* An inflater for this thread's use; gives it back with the second. */
struct inflater_slot *inflater_take(struct ffs_data *d);
void inflater_give(struct ffs_data *d, struct inflater_slot *s);

#endif
