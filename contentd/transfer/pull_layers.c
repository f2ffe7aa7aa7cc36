#include "contentd/transfer/pull_internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "contentd/collect/pins.h"
#include "contentd/content/blobs.h"
#include "contentd/diff/apply.h"
#include "contentd/ident.h"
#include "contentd/layer_index.h"
#include "registry/manifest.h"

#include <fcntl.h>
#include <stdio.h>

#define UNPACK_THREADS 3                   /* layers at a time: more only share the same link and cores */
#define PROGRESS_EVERY_NS (50 * NS_PER_MS) /* per layer */
#define LAYERS_MAX 1000

/* ---- what was opened ---- */

int pull_layers_init(struct pull *p, struct err *err)
{
	const char *below = NULL;

	if (p->image->n_layers > LAYERS_MAX)
		return err_set(err, ERR_INVALID, "more than %d layers", LAYERS_MAX);
	p->layers = xcalloc(p->image->n_layers + 1, sizeof(*p->layers));
	p->n_layers = p->image->n_layers;
	for (size_t i = 0; i < p->n_layers; i++)
		p->layers[i].index_fd = -1;
	for (size_t i = 0; i < p->n_layers; i++) {
		const Contentd__Contentfs__V1__Layer *from = p->image->layers[i];
		struct pull_layer *l = &p->layers[i];

		if (!from->descriptor)
			return err_set(err, ERR_INTERNAL, "contentfs gave a layer without a descriptor");
		l->from = from;
		l->lazy = from->lazy;
		TRY(digest_parse(str_of(from->descriptor->digest), &l->blob, err));
		if (!p->documents_only && reg_media_is_encrypted(str_of(from->descriptor->media_type)))
			return err_set(err, ERR_UNIMPLEMENTED,
			               "image %s: layer %s is encrypted (%s): encrypted images cannot be unpacked",
			               p->reference, from->descriptor->digest, from->descriptor->media_type);
		if (!p->snapshotter)
			continue;
		TRY_WRAP(digest_parse(str_of(from->diff_id), &l->diff_id, err), err, "DiffID of layer %s",
		         from->descriptor->digest);
		if (*from->index_key && !digest_from_hex(str_of(from->index_key), &l->key))
			return err_set(err, ERR_INTERNAL, "contentfs gave a malformed index key");
		cd_chain_id(below, &l->diff_id, l->chain);
		below = l->chain;
	}
	p->top = below;
	return 0;
}

/* ---- ordinary layers ---- */

struct job {
	struct pull *pull;
	struct pull_layer *layer;
	int64_t told_ns; /* when progress was last sent */
};

static void on_progress(void *arg, int64_t done, int64_t total)
{
	struct job *j = arg;
	int64_t now = clock_mono_ns();

	if (now - j->told_ns < PROGRESS_EVERY_NS && done != total)
		return;
	j->told_ns = now;
	pull_progress(j->pull, *j->pull->source ? "downloading" : "extracting", "layer", j->layer->from->descriptor,
	              done, total ?: j->layer->from->descriptor->size);
}

/* From the registry (with a copy into `fd`, if there is one), or from a blob that is here. */
static int unpack_from(struct job *j, int fd, bool is_blob, struct err *err)
{
	Contentd__Contentfs__V1__UnpackRequest req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	AUTO(pb) Contentd__Contentfs__V1__UnpackResponse *rsp = NULL;
	struct pull_layer *l = j->layer;

	req.reference = (char *)j->pull->source;
	req.access = j->pull->access;
	req.isolated = cd_is_isolated(j->pull->d);
	req.layer = l->from->descriptor;
	req.diff_id = l->from->diff_id;
	req.from_fd = is_blob;
	req.tee = !is_blob && fd >= 0;
	req.gzip_index = pull_indexes_wanted(j->pull, l) && l->index_fd < 0;
	if (req.gzip_index)
		TRY(ffs_client_unpack_index(j->pull->data, j->pull->call, &req, fd, on_progress, j, &rsp, &l->index_fd,
		                            err));
	else
		TRY(ffs_client_unpack(j->pull->data, j->pull->call, &req, fd, on_progress, j, &rsp, err));
	if (!digest_from_hex(str_of(rsp->index_key), &l->key))
		return err_set(err, ERR_INTERNAL, "contentfs gave a malformed index key");
	l->lazy = false;
	l->held = true;
	return 0;
}

static int fetch_blob(struct job *j, int fd, struct err *err)
{
	Contentd__Contentfs__V1__FetchBlobRequest req = CONTENTD__CONTENTFS__V1__FETCH_BLOB_REQUEST__INIT;

	req.reference = (char *)j->pull->source;
	req.access = j->pull->access;
	req.blob = j->layer->from->descriptor;
	return ffs_client_fetch_blob(j->pull->data, j->pull->call, &req, fd, on_progress, j, err);
}

/* Downloads and keeps the blob, and unpacks it on the way or not. 1: somebody else is writing that blob; it is worth
 * another look. */
static int keep_blob(struct job *j, bool unpack, struct err *err)
{
	const char *digest = j->layer->from->descriptor->digest;
	AUTO_FREE char *ref = xasprintf("layer-%s", digest);
	AUTO(cd_writer) struct cd_writer *w = NULL;
	struct pull *p = j->pull;
	int r;

	r = cd_writer_open(p->d->content, p->ns, ref, j->layer->from->descriptor->size, digest, &w, err);
	if (r == -ERR_UNAVAILABLE) {
		TRY(cd_content_wait(p->d->content, p->ns, ref, p->call, err));
		return 1;
	}
	if (r >= 0)
		r = cd_writer_truncate(w, err);
	TRY_WRAP(r, err, "image %s, layer %s", p->reference, digest); /* contentfs says so itself */
	if (unpack)
		r = unpack_from(j, cd_writer_fd(w), false, err);
	else
		r = fetch_blob(j, cd_writer_fd(w), err);
	if (r < 0) {
		cd_writer_abort(w, NULL);
		return r;
	}
	TRY_WRAP(cd_writer_commit(w, &j->layer->blob, err), err, "image %s, layer %s", p->reference, digest);
	j->layer->held = true;
	return 0;
}

static int make_layer(struct job *j, struct err *err)
{
	struct pull *p = j->pull;
	AUTO_FD int fd = -1;
	int64_t bytes;
	int r;

	do {
		r = cd_content_open_here(p->d, p->ns, &j->layer->blob, &fd, &bytes, err);
		TRY(r);
		if (r)
			return p->snapshotter ? unpack_from(j, fd, true, err) : 0;
		if (p->snapshotter && !p->d->config.keep_layer_blobs)
			return unpack_from(j, -1, false, err);
		r = keep_blob(j, p->snapshotter, err);
	} while (r > 0);
	return r;
}

/* ---- several at a time ---- */

struct crew {
	struct pull *pull;
	pthread_mutex_t lock;
	size_t next;    /* lock: the next layer to look at */
	int result;     /* lock: the first failure */
	struct err err; /* lock */
};

/* Layers that need work: without an index, or, when nothing is unpacked, all. */
static struct pull_layer *take_layer(struct crew *c)
{
	struct pull *p = c->pull;
	struct pull_layer *l = NULL;

	pthread_mutex_lock(&c->lock);
	while (!l && c->result >= 0 && c->next < p->n_layers) {
		l = &p->layers[c->next++];
		if (p->snapshotter && !digest_is_zero(&l->key))
			l = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return l;
}

static void note_result(struct crew *c, int r, const struct err *err)
{
	if (r >= 0)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->result >= 0) {
		c->result = r;
		c->err = *err;
	}
	pthread_mutex_unlock(&c->lock);
}

static void *work(void *arg)
{
	struct crew *c = arg;
	struct pull_layer *l;

	while ((l = take_layer(c))) {
		struct job j = {.pull = c->pull, .layer = l};
		struct err err = ERR_INIT;
		int r = make_layer(&j, &err);

		note_result(c, r, &err);
		if (r >= 0)
			pull_progress(c->pull, c->pull->snapshotter ? "extracted" : "downloaded", "layer",
			              l->from->descriptor, l->from->descriptor->size, l->from->descriptor->size);
	}
	return NULL;
}

/* A pull that was killed between unpacking a layer and keeping its blob: nobody comes back for that. */
static void drop_ingest(struct pull *p, const struct pull_layer *l)
{
	AUTO_FREE char *ref = xasprintf("layer-%s", l->from->descriptor->digest);

	if (!cd_ingest_condemn(p->d->content, p->ns, ref))
		return;
	cd_ingest_drop(p->d->content, p->ns, ref, NULL);
}

static size_t announce(struct pull *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_layers; i++) {
		const struct pull_layer *l = &p->layers[i];
		bool ready = p->snapshotter && !digest_is_zero(&l->key);
		int64_t size = l->from->descriptor->size;

		pull_progress(p, ready ? l->lazy ? "lazy" : "already exists" : "waiting", "layer", l->from->descriptor,
		              ready ? size : 0, size);
		if (ready)
			drop_ingest(p, l);
		n += !ready;
	}
	return n;
}

int pull_layers_unpack(struct pull *p, struct err *err)
{
	struct crew c = {.pull = p};
	pthread_t threads[UNPACK_THREADS];
	size_t n = 0, wanted = announce(p);

	if (!wanted)
		return 0;
	pthread_mutex_init(&c.lock, NULL);
	/* This thread works, too. */
	while (n + 1 < wanted && n + 1 < UNPACK_THREADS && pthread_create(&threads[n], NULL, work, &c) == 0)
		n++;
	work(&c);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&c.lock);
	if (c.result < 0 && err)
		*err = c.err;
	return c.result;
}

/* ---- snapshots ---- */

/*
 * There is a snapshot of that chain id already. A chain id is what an image says of itself, and a lazy layer's contents
 * are only claimed, so another image may have claimed the same id for other contents: what was made first must not be
 * what this image gets. Contents that are proven to have the DiffID settle it, whichever image they came from.
 */
static int settle(struct pull *p, struct pull_layer *l, bool *replaced, struct err *err)
{
	struct job j = {.pull = p, .layer = l};
	AUTO(snap_info) struct snap_info there = {0};

	TRY(snap_stat(p->snaps, p->space, l->chain, &there, err));
	if (!there.indexed || there.has_dir || digest_eq(&there.index_key, &l->key) ||
	    cd_layer_index_proves(p->d, &there.index_key, &l->diff_id)) {
		if (there.indexed)
			l->key = there.index_key;
		return 0;
	}
	if (!cd_layer_index_proves(p->d, &l->key, &l->diff_id)) {
		log_info("layer %s of %s: another image claims other contents for the same chain id: proving it",
		         l->from->descriptor->digest, p->reference);
		TRY(make_layer(&j, err));
	}
	TRY(snap_replace_indexed(p->snaps, p->space, l->chain, &l->key, l->content_bytes, l->files, err));
	*replaced = true;
	return 0;
}

/* Other images lead to what was replaced. Who leads to a layer of the chain leads to all that are below it. */
static void renew_pins(struct pull *p, const struct pull_layer *lowest)
{
	struct err why = ERR_INIT;

	if (lowest && cd_pins_renew(p->d, p->ns, &lowest->key, &why) < 0)
		log_warn("%s", why.msg);
}

/* What snap_usage will answer: sizes and numbers of files, from contentfs, which has the indexes loaded. */
static int measure(struct pull *p, struct err *err)
{
	AUTO_FREE char *text = xcalloc(p->n_layers + 1, 65);
	AUTO_FREE const char **keys = xcalloc(p->n_layers + 1, sizeof(*keys));
	AUTO(pb) Contentd__Contentfs__V1__StatusResponse *rsp = NULL;

	for (size_t i = 0; i < p->n_layers; i++)
		keys[i] = digest_hex(&p->layers[i].key, text + 65 * i);
	TRY(ffs_client_sizes(p->data, keys, (unsigned)p->n_layers, &rsp, err));
	for (size_t i = 0; i < p->n_layers; i++)
		for (size_t k = 0; k < rsp->n_layers; k++)
			if (!strcmp(rsp->layers[k]->index_key, keys[i])) {
				p->layers[i].content_bytes = (int64_t)rsp->layers[k]->content_bytes;
				p->layers[i].files = rsp->layers[k]->files;
			}
	return 0;
}

/* ---- above plain directories ---- */

/* A descriptor of the layer's blob, which is fetched if it is not here. */
static int blob_here(struct pull *p, struct pull_layer *l, int *fd, struct err *err)
{
	struct job j = {.pull = p, .layer = l};
	int64_t bytes;

	for (;;) {
		int r = l->held ? cd_blob_open(p->d->content, &l->blob, fd, &bytes, NULL) >= 0
		                : cd_content_open_here(p->d, p->ns, &l->blob, fd, &bytes, err);

		if (r)
			return r < 0 ? r : 0;
		TRY(keep_blob(&j, false, err));
	}
}

static int fill_and_commit(struct pull *p, struct pull_layer *l, const char *key, const char *parent,
                           const struct labels *labels, struct err *err)
{
	AUTO_FD int fd = -1;
	struct unpacked unpacked;

	TRY(blob_here(p, l, &fd, err));
	TRY(diff_fill_dir(p->d, p->call, p->space, key, parent, fd, &unpacked, err));
	if (!digest_eq(&unpacked.diff_id, &l->diff_id))
		return err_set(err, ERR_DATA_LOSS, "its DiffID is not what the image says");
	return snap_commit(p->snaps, p->space, l->chain, key, "", labels, err);
}

/* A client has unpacked the layers below into directories: this one has to become a directory, too. */
static int commit_plain(struct pull *p, struct pull_layer *l, const char *parent, const struct labels *labels,
                        struct err *err)
{
	AUTO(snap_mounts) struct snap_mounts unused = SNAP_MOUNTS_INIT;
	char random[17];
	AUTO_FREE char *key = xasprintf("extract-%s %s", random_hex(random, 8), l->chain);
	int r;

	/* Nothing else speaks for it until it is committed. */
	cd_use_for_call(p->d, p->call,
	                &(struct gc_id){GC_SNAPSHOT, str_of(p->ns), str_of(p->snapshotter), str_of(key)});
	TRY(snap_prepare(p->snaps, p->space, key, parent, &LABELS_INIT, &unused, err));
	r = fill_and_commit(p, l, key, parent, labels, err);
	if (r < 0)
		snap_remove(p->snaps, p->space, key, NULL);
	return r == -ERR_EXISTS ? 0 : r;
}

/* ---- the chain ---- */

struct chain {
	struct snap_layer *layers;
	struct labels *labels;
	size_t n;
};

static void chain_fini(struct chain *c)
{
	for (size_t i = 0; i < c->n; i++)
		labels_fini(&c->labels[i]);
	free(c->labels);
	free(c->layers);
}
DEFINE_AUTO_FINI(chain);

static int chain_make(struct pull *p, struct chain *c, struct err *err)
{
	*c = (struct chain){xcalloc(p->n_layers + 1, sizeof(*c->layers)), xcalloc(p->n_layers + 1, sizeof(*c->labels)),
	                    p->n_layers};
	for (size_t i = 0; i < p->n_layers; i++) {
		const struct pull_layer *l = &p->layers[i];

		TRY(labels_set(&c->labels[i], "containerd.io/snapshot.ref", l->chain, err));
		c->layers[i] = (struct snap_layer){.name = l->chain,
		                                   .parent = i ? p->layers[i - 1].chain : "",
		                                   .index_key = l->key,
		                                   .usage_bytes = l->content_bytes,
		                                   .usage_inodes = l->files,
		                                   .labels = &c->labels[i]};
	}
	return 0;
}

/* The layers that were there already, from the base on. *replaced: the lowest of them that has another index now. */
static int settle_all(struct pull *p, struct chain *c, size_t at, unsigned n, const struct pull_layer **replaced,
                      struct err *err)
{
	for (size_t i = at; i < at + n; i++) {
		struct pull_layer *l = &p->layers[i];
		bool this = false;

		if (c->layers[i].existed)
			TRY_WRAP(settle(p, l, &this, err), err, "layer %s", l->from->descriptor->digest);
		if (this && !*replaced)
			*replaced = l;
	}
	return 0;
}

static int commit_chain(struct pull *p, struct chain *c, const struct pull_layer **replaced, struct err *err)
{
	for (size_t at = 0; at < c->n;) {
		unsigned done;

		TRY(snap_add_chain(p->snaps, p->space, c->layers + at, (unsigned)(c->n - at), &done, err));
		TRY(settle_all(p, c, at, done, replaced, err));
		at += done;
		if (at == c->n)
			return 0;
		TRY_WRAP(commit_plain(p, &p->layers[at], c->layers[at].parent, c->layers[at].labels, err), err,
		         "layer %s", p->layers[at].from->descriptor->digest);
		at++;
	}
	return 0;
}

int pull_layers_commit(struct pull *p, struct err *err)
{
	const struct pull_layer *replaced = NULL;
	AUTO(chain) struct chain c = {0};
	int r;

	TRY(measure(p, err));
	TRY(chain_make(p, &c, err));
	r = commit_chain(p, &c, &replaced, err);
	renew_pins(p, replaced);
	TRY(r);
	return cd_meta_touch(p->d->meta, p->ns, err);
}
