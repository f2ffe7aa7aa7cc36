/*
 * One Open on its way: what open.c (the verb), open_layer.c (a lazy layer), open_toc.c (the TOCs of layers that have none of
 * their own) and open_gzip.c (gzip indexes of ordinary layers) share.
 *
 *   resolve ──► { configuration, footer and TOC of every lazy layer } at once ──► indexes on the pool ──► answer
 *          │                        └─► image of TOCs, once ──► { TOC of each such layer } ──┤
 *          └──► referrers, once, if the host is trusted ──► { artifact of each gzip layer } ──┘
 *
 * Every part that is under way counts in `busy`; parts end on the client's I/O thread or on the pool. The thread of the call
 * tells of each layer that has ended, once the configuration is here.
 */
#ifndef FUSEFS_OPEN_H
#define FUSEFS_OPEN_H

#include "estargz/toc/anchor.h"
#include "fusefs/access.h"

struct open;

struct open_layer {
	struct open *open;
	const struct reg_descriptor *d;
	struct esgz_anchor anchor; /* what the manifest says of its TOC */
	bool claimed;              /* it names one */
	struct digest key;         /* of the index; set while `claimed` */
	struct pool_job job;
	struct buf tail;           /* the last bytes of the blob, and those before them that were missing */
	uint64_t tail_offset;      /* of these in the blob */
	struct esgz_footer footer; /* once the tail is here */
	struct open_layer
	    *waiting;     /* guarded by open.lock: the next one that waits for the image of TOCs, or the referrers */
	unsigned n_tried; /* of open.gzip.manifests */
	struct digest diff_id;       /* of a gzip index that was found: what it says of the layer; else zeros */
	struct reg_request *request; /* guarded by open.lock */
	bool found;                  /* its index is in the store and loaded; final when the part has ended */
	bool failed;                 /* for now; final as well */
	bool refused;                /* it was found false; final once the call's thread has told of it */
	struct err why;              /* why it is not lazy; final as well */
	bool ended;                  /* guarded by open.lock */
	Contentd__Contentfs__V1__Layer *answer; /* the call's thread's: it was told of */
};

/* The image of TOCs: asked for by the first layer that has none of its own. */
struct open_tocs {
	struct pool_job job;
	struct buf bytes;              /* its manifest; from answer to job */
	struct reg_manifest *manifest; /* once `known` */
	struct err why;                /* there is none; once `known` */
	/* Guarded by open.lock. */
	bool asked, known;
	struct reg_request *request;
	struct open_layer *waiting;
};

#define OPEN_GZIP_REFERRERS_MAX 4

/* The gzip indexes beside the image: looked for by the first layer that could have one. */
struct open_gzip {
	bool begun, started; /* the call's thread's: somebody wants it; there is a thread */
	pthread_t thread;
	struct reg_canceller canceller; /* of what that waits for; once `started` */
	/* Constant once `known`. */
	struct reg_manifest *manifests[OPEN_GZIP_REFERRERS_MAX]; /* newest first */
	unsigned n;
	struct err why; /* they could not be looked for */
	/* Guarded by open.lock. */
	bool known;
	struct open_layer *waiting;
};

struct open {
	struct ffs_service *s;
	const struct reg_ref *ref;
	const char *reference; /* normalised, for messages */
	struct access access;
	bool isolated; /* layers that were unpacked from other repositories are not used */
	int64_t deadline_ns;
	bool documents_only; /* the configuration need not be an image's */
	bool each;           /* layers fail alone */
	struct reg_image *image;
	struct open_layer *layers; /* base first */
	size_t n_layers;

	pthread_mutex_t lock; /* guards what follows, and what says so */
	pthread_cond_t change;
	unsigned busy; /* parts under way */
	bool cancelled;
	struct err fatal; /* the first failure that is not one layer's format */
	struct reg_request *config_request;
	struct buf config;
	bool config_here;
	struct open_tocs tocs;
	struct open_gzip gzip;

	/* The call's thread's. */
	bool config_checked;
	struct reg_config *parsed; /* NULL with documents_only */
};

/* Begins to open a layer, if its manifest entry makes it a lazy one. */
void open_layer_begin(struct open *o, struct open_layer *l);

/* For the two that follow: asks for bytes; an index, and its points, into the store; the same from the layer's JSON; and the
 * end of the layer's part, with why it is not lazy, or NULL. */
int open_layer_get(struct open_layer *l, struct reg_blob_get *q, struct err *err);
int open_layer_put(struct open_layer *l, struct str index, struct str points, const struct ffs_split *split,
                   struct err *err);
int open_layer_store(struct open_layer *l, struct buf *json, struct err *err);
void open_layer_end(struct open_layer *l, const struct err *why);

/* Negative: the answer holds no bytes, and why. */
int open_layer_refused(const struct reg_answer *answer, struct err *why);

/* Has the index of a layer, whose footer says so, built by the TOC in another image. The layer ends by itself, unless
 * this fails. */
int open_toc_begin(struct open_layer *l, struct err *err);
void open_tocs_fini(struct open_tocs *t);

/* Whether the layer can have a gzip index, and is asked for one; sees to it: the layer ends by itself, unless this fails. The
 * call's thread alone. */
bool open_gzip_wanted(const struct open_layer *l);
int open_gzip_begin(struct open_layer *l, struct err *err);
/* The index that was found is of a layer with another DiffID than its configuration names; then the ones before it are tried.
 * The call's thread alone, of a layer that has ended and of which nobody was told: after the second it has not ended. */
bool open_gzip_is_of_another(const struct open_layer *l, const struct digest *diff_id);
void open_gzip_again(struct open_layer *l);
void open_gzip_cancel(struct open_gzip *g); /* the call's thread, too */
void open_gzip_fini(struct open_gzip *g);

/* What was found of its index when that was here says that it is false; then it is refused. */
bool open_layer_refused_before(struct open_layer *l);
/* Its blob comes from where this caller reads it, and by his account, from now on. */
void open_layer_move(const struct open_layer *l);

/* It is false: used as an ordinary one. */
void open_layer_refuse(struct open_layer *l, const char *why);

/* Whether the index is here and its blob comes from the repository whose manifest this caller has just read. */
bool open_comes_from_here(const struct open *o, const struct digest *key);

/* A part has begun; has ended. `l`: the layer that it was, or NULL. */
void open_enter(struct open *o);
void open_leave(struct open *o, struct open_layer *l);

/* Remembers what makes the whole call fail. */
void open_fail(struct open *o, const struct err *why);

#endif
