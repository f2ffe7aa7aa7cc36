/*
 * The data of the node: which object names the loaded layers know, where their bytes are, and how missing ones get
 * here. One per worker process. Puts together the object table (which claims exist, which chunks are present), the
 * fetcher (single-flight per chunk, lanes) and the publisher. Knows nothing of FUSE and of the socket above it, and
 * asks the network through struct ffs_blobs (blobs.h).
 *
 *   session.c (FUSE) ──► ffs_data_find, ffs_data_read ──┐
 *   service.c (ttrpc) ─► add_layer, pin, fill, status ──┴─► objects ─► plan ─► flights ─► blobs ─► pool ─► publisher
 *
 * Any thread may call any function. No call waits for the network; callbacks run on threads of the data plane, must
 * not block and may call back into it.
 */
#ifndef FUSEFS_DATA_H
#define FUSEFS_DATA_H

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"
#include "fusefs/blobs.h"
#include "fusefs/store.h"

struct ffs_data;
struct ffs_file;

/* Who waits for a chunk; smaller goes first. The numbers are those of enum pool_lane. */
enum ffs_lane { FFS_DEMAND, FFS_READAHEAD, FFS_PREFETCH, FFS_BACKGROUND, FFS_LANES };

enum ffs_background {
	FFS_BACKGROUND_OFF,   /* only what is read, and explicit fills */
	FFS_BACKGROUND_ON,    /* the rest of pinned layers, when no read has missed for quiet_ns */
	FFS_BACKGROUND_EAGER, /* the same without waiting for quiet */
};

struct ffs_data_opts {
	enum ffs_background background;
	int64_t quiet_ns;        /* 0 = 500 ms */
	int64_t read_timeout_ns; /* longest wait of one read, then EIO; 0 = 60 s */
	uint64_t memory_bytes;   /* compressed and inflated bytes in flight or cached; 0 = 64 MiB */
	int64_t cache_ns;        /* how long a cached chunk stays that nobody reads; 0 = 5 s */
	unsigned threads;        /* that inflate and hash; 0 = one per CPU */
	bool no_window;          /* a miss brings what it needs and nothing around it */
	unsigned open_files;     /* unfinished files held open although nobody reads them; 0 = 4096 */
	bool no_proof;           /* layers that are here as a whole are not proven */
};

/* Starts the threads. The store and the blob source must outlive it. `opts` NULL = defaults. */
int ffs_data_new(struct ffs_store *store, const struct ffs_blobs *blobs, const struct ffs_data_opts *opts,
                 struct ffs_data **out, struct err *err);
/* Ends all transfers, answers all reads with ERR_CANCELLED, publishes what is complete, joins the threads. */
void ffs_data_free(struct ffs_data *d);
DEFINE_AUTO_FREE(ffs_data);

/* ---- layers ---- */

/* Maps an index that is in the store and makes its claims known; idempotent. ERR_NOT_FOUND: no such index or source. */
int ffs_data_add_layer(struct ffs_data *d, const struct digest *index_key, struct err *err);

/* The blob comes from this registry and repository, by this owner's account, from now on. Absent layer: nothing. */
void ffs_data_set_origin(struct ffs_data *d, const struct digest *index_key, const char *reference, const char *owner);

/* A configuration promises this DiffID of the layer: it can be proven, once it is here as a whole. Absent layer: nothing. */
void ffs_data_promise(struct ffs_data *d, const struct digest *index_key, const struct digest *diff_id);

/* What is known of a layer against a configuration that promises `diff_id`; reason: as ffs_facts_verdict. Ordinary layers are
 * proven. Absent layer: unproven. */
enum ffs_verdict ffs_data_verdict(struct ffs_data *d, const struct digest *index_key, const struct digest *diff_id,
                                  struct buf *reason);

/* A lazy layer that is proven to have this DiffID, and comes from that registry and repository (NULL: from anywhere). */
bool ffs_data_find_proven(struct ffs_data *d, const struct digest *diff_id, const char *reference, struct digest *key);

/* Forgets a layer: reads of files that only it could deliver fail from then on, its transfers end. Absent: nothing. */
void ffs_data_remove_layer(struct ffs_data *d, const struct digest *index_key);

bool ffs_data_has_layer(struct ffs_data *d, const struct digest *index_key);

/* Whether a layer that is loaded has a file whose object, or claim, goes by this name. */
bool ffs_data_is_claimed(struct ffs_data *d, const struct digest *key);

/* Background fill runs for pinned layers only, in the order in which they were pinned. Absent layer: nothing. */
void ffs_data_set_pinned(struct ffs_data *d, const struct digest *index_key, bool pinned);

/* ---- filling ---- */

/* Completion of a fill: result 0 when all of the layer's files are published, else the negative code of `err`, the
 * last thing that went wrong. Called exactly once. */
typedef void ffs_fill_done_fn(void *arg, int result, const struct err *err);
/* Compressed bytes of the layer's members that are here now and that it has; at most every 50 ms. */
typedef void ffs_fill_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

struct ffs_fill_query {
	struct digest index_key;
	enum ffs_lane lane;             /* FFS_PREFETCH or FFS_BACKGROUND: reads always go first */
	int64_t deadline_ns;            /* CLOCK_MONOTONIC; INT64_MAX for none */
	ffs_fill_progress_fn *progress; /* may be NULL */
	ffs_fill_done_fn *done;
	void *arg;
};

/* Fetches everything that a layer lacks, now. *id (may be NULL) is for ffs_data_fill_cancel. ERR_NOT_FOUND: not
 * loaded (no callback then). */
int ffs_data_fill(struct ffs_data *d, const struct ffs_fill_query *q, uint64_t *id, struct err *err);
/* Ends it with ERR_CANCELLED; nothing when it is over. */
void ffs_data_fill_cancel(struct ffs_data *d, uint64_t id);

/* ---- status ---- */

struct ffs_layer_status {
	struct digest index_key, blob;
	bool lazy, pinned;
	bool gzip_index;                 /* an ordinary gzip layer, lazy by an index beside its image */
	uint64_t content_bytes;          /* of all regular files */
	uint64_t present_bytes;          /* of these, verified on this machine */
	uint32_t files, files_published; /* with content */
	char error[256];                 /* last reason a read of it failed; empty if none */
	enum ffs_verdict verdict;        /* for the last configuration that named the layer */
	struct digest diff_id;           /* what its DiffID is; zeros: not known */
	char reason[256];                /* of the verdict; may be empty */
};

/* Looks at the store for files that nothing was asked of yet: milliseconds for a large layer; not with `sizes_only`,
 * which leaves present_bytes and files_published 0. ERR_NOT_FOUND. */
int ffs_data_layer_status(struct ffs_data *d, const struct digest *index_key, bool sizes_only,
                          struct ffs_layer_status *out, struct err *err);

#define FFS_OBJECT_USERS_MAX 16

/* Which loaded layers have a file whose object goes by a name. */
struct ffs_object_users {
	struct digest content; /* what such an object contains: the name itself, unless it is a claim */
	bool lazy;             /* one of them says where its chunks are: it can be fetched when it is read */
	struct {
		struct digest key, blob;
	} layers[FFS_OBJECT_USERS_MAX];
	unsigned n; /* of layers: the first ones, if there are more */
};
void ffs_data_object_users(struct ffs_data *d, const struct digest *key, struct ffs_object_users *out);

/* Keys of all loaded layers; *keys is the caller's to free. */
void ffs_data_layers(struct ffs_data *d, struct digest **keys, size_t *n);

struct ffs_data_counters {
	uint64_t requests[FFS_LANES];  /* sent to the blob source */
	uint64_t read_errors;          /* reads that failed */
	uint64_t corrupt_chunks;       /* chunks that did not match their digest */
	uint64_t published;            /* objects */
	uint64_t proven, proven_false; /* layers, by this process */
	uint64_t memory_bytes;         /* in flight and cached now */
};
void ffs_data_counters(struct ffs_data *d, struct ffs_data_counters *out);

/* ---- objects: for the FUSE session ---- */

/* Finds what an object name stands for and its size. The handle lives as long as `d`. Answers from the loaded layers
 * and the store. `size_hint`: 0, or the size under which the name was handed out before: then it is believed, and the
 * name is found even when no loaded layer knows it (its reads fail).
 * ERR_NOT_FOUND: nobody claims it. Positive: FFS_FIND_LATER. */
#define FFS_FIND_LATER 1 /* the layers disagree about the size: `later` is called when the content has decided */
typedef void ffs_find_fn(void *arg, struct ffs_file *f, uint64_t size, const struct err *err);
int ffs_data_find(struct ffs_data *d, const struct digest *key, uint64_t size_hint, struct ffs_file **out,
                  uint64_t *size, ffs_find_fn *later, void *arg, struct err *err);

/* Reads [at, at + n), clamped to the size; n <= 1 MiB. `done` is called exactly once, possibly before this returns,
 * with the bytes (borrowed for the call) or the error. */
typedef void ffs_read_fn(void *arg, struct str bytes, const struct err *err);
void ffs_data_read(struct ffs_data *d, struct ffs_file *f, uint64_t at, size_t n, ffs_read_fn *done, void *arg);

/* For the heartbeat: takes the locks once, and lets go of cached chunks that nobody has read for a while. True when that
 * has left the cache empty: a time to give memory back. */
bool ffs_data_beat(struct ffs_data *d);

#endif
