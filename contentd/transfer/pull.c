#include "contentd/transfer/pull.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/metrics.h"
#include "contentd/content/blobs.h"
#include "contentd/transfer/pull_internal.h"
#include "contentd/transfer/recording.h"

#define DOCUMENTS_BYTES_MAX (64u << 20) /* index, manifest and config together */

/* ---- progress ---- */

void pull_progress(struct pull *p, const char *event, const char *what, const Contentd__Contentfs__V1__Descriptor *of,
                   int64_t done, int64_t total)
{
	AUTO_FREE char *name = xasprintf("%s-%s", what, of->digest);
	Types__Descriptor desc = TYPES__DESCRIPTOR__INIT;

	desc.media_type = of->media_type;
	desc.digest = of->digest;
	desc.size = of->size;
	cd_progress_step(p->progress, event, name, p->name, &desc, done, total);
}

void pull_phase_end(struct pull *p, const char *name)
{
	int64_t now = clock_mono_ns();
	Xfer__Progress m = XFER__PROGRESS__INIT;

	m.event = "phase";
	m.name = name;
	m.progress = now - p->phase_began_ns;
	p->phase_began_ns = now;
	if (p->phases)
		cd_progress_send(p->progress, &m);
}

/* ---- opening ---- */

static void on_phase(void *arg, Contentd__Contentfs__V1__OpenProgress *at)
{
	struct pull *p = arg;

	if (strcmp(at->phase, "resolved"))
		return;
	cd_progress_step(p->progress, "pulling image content", p->name, NULL, NULL, 0, 0);
	pull_phase_end(p, "resolve");
}

static int read_documents(struct pull *p, int fd, struct err *err)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < p->image->n_documents; i++) {
		const Contentd__Contentfs__V1__Document *doc = p->image->documents[i];

		if (!doc->descriptor || doc->descriptor->size < 0 || doc->offset > DOCUMENTS_BYTES_MAX ||
		    doc->descriptor->size > DOCUMENTS_BYTES_MAX)
			return err_set(err, ERR_INTERNAL, "contentfs gave a document of unlikely size");
		if (doc->offset + (uint64_t)doc->descriptor->size > bytes)
			bytes = doc->offset + (uint64_t)doc->descriptor->size;
	}
	TRY(fd_pread_all(fd, buf_reserve(&p->docs, bytes), bytes, 0, err));
	p->docs.n = bytes;
	return 0;
}

static int open_image(struct pull *p, const Types__Platform *want, struct err *err)
{
	Contentd__Contentfs__V1__OpenRequest req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	Contentd__Contentfs__V1__Platform platform = CONTENTD__CONTENTFS__V1__PLATFORM__INIT;
	AUTO_FD int docs_fd = -1;

	req.reference = (char *)p->reference;
	req.access = p->access;
	req.isolated = cd_is_isolated(p->d);
	req.lazy = p->lazy && p->snapshotter;
	req.documents_only = p->documents_only || !p->snapshotter;
	if (want) {
		platform.os = (char *)want->os;
		platform.architecture = (char *)want->architecture;
		platform.variant = (char *)want->variant;
		req.platform = &platform;
	}
	TRY(ffs_client_open(p->data, p->call, &req, on_phase, p, &p->image, &docs_fd, err));
	TRY(read_documents(p, docs_fd, err));
	if (!p->image->target || !p->image->manifest || !p->image->config || p->image->n_documents < 2)
		return err_set(err, ERR_INTERNAL, "contentfs gave an image without a manifest");
	p->source = p->image->reference;
	TRY(pull_layers_init(p, err));
	pull_use_all(p);
	FAILPOINT("pull-opened");
	pull_phase_end(p, "open layers");
	return 0;
}

/* ---- storing ---- */

/* Documents are written, and synced, while snapshots are made and mounted. */
struct writing {
	struct pull *pull;
	pthread_t thread;
	int result;
	struct err err;
};

static void *write_documents(void *arg)
{
	struct writing *w = arg;

	w->result = pull_documents_write(w->pull, &w->err);
	return NULL;
}

/* Until a label of the image names the chain. */
void pull_use_mount(struct pull *p)
{
	AUTO_FREE struct digest *keys = xcalloc(p->n_layers + 1, sizeof(*keys));
	struct digest name;
	char hex[65];

	for (size_t i = 0; i < p->n_layers; i++)
		keys[i] = p->layers[i].key;
	snap_meta_key(keys, (unsigned)p->n_layers, &name);
	cd_use_for_call(p->d, p->call, &(struct gc_id){.kind = GC_METADATA, .key = str_of(digest_hex(&name, hex))});
}

/* Snapshots, and the mount that the first container will need. */
static int make_snapshots(struct pull *p, struct err *err)
{
	if (!p->top)
		return 0;
	TRY(pull_layers_commit(p, err));
	pull_use_mount(p);
	FAILPOINT("pull-snapshots");
	TRY_WRAP(snap_warm(p->snaps, p->space, p->top, err), err, "mount the metadata image");
	pull_phase_end(p, "mount");
	return 0;
}

static int store(struct pull *p, struct err *err)
{
	struct writing w = {.pull = p, .err = ERR_INIT};
	int r, failed = pthread_create(&w.thread, NULL, write_documents, &w);

	if (failed)
		return err_errno(err, failed, "pthread_create");
	r = make_snapshots(p, err);
	pthread_join(w.thread, NULL);
	if (r >= 0 && w.result < 0) {
		*err = w.err;
		r = w.result;
	}
	TRY(r);
	FAILPOINT("pull-stored");
	TRY(rpc_cancelled(p->call, err));
	return pull_records_commit(p, err);
}

/* ---- one part ---- */

int pull_init(struct pull *p, struct cd_daemon *d, struct rpc_call *c, const char *ns, struct err *err)
{
	*p = (struct pull){.d = d, .call = c, .ns = ns, .source = "", .docs = BUF_INIT};
	p->phase_began_ns = clock_mono_ns();
	TRY(cd_data(d, c, &p->data, err));
	return cd_snapshots(d, c, &p->snaps, err);
}

void pull_use_all(struct pull *p)
{
	for (size_t i = 0; i < p->image->n_documents; i++)
		cd_use_blob_for_call(p->d, p->call, p->ns, p->image->documents[i]->descriptor->digest);
	for (size_t i = 0; i < p->n_layers; i++) {
		const struct gc_id snapshot = {GC_SNAPSHOT, str_of(p->ns), str_of(p->snapshotter),
		                               str_of(p->layers[i].chain)};

		cd_use_blob_for_call(p->d, p->call, p->ns, p->layers[i].from->descriptor->digest);
		if (p->snapshotter)
			cd_use_for_call(p->d, p->call, &snapshot);
	}
}

void pull_fini(struct pull *p)
{
	buf_fini(&p->docs);
	if (!p->image_borrowed)
		pb_free(p->image);
	for (size_t i = 0; i < p->n_layers; i++)
		if (p->layers[i].index_fd >= 0)
			close(p->layers[i].index_fd);
	free(p->layers);
}

/* contentfs says which image. */
static int run_part(struct pull *p, const Types__Platform *platform, struct err *err)
{
	TRY(open_image(p, platform, err));
	pull_indexes_begin(p);
	if (!p->documents_only)
		TRY(pull_layers_unpack(p, err));
	pull_phase_end(p, "unpack");
	FAILPOINT("pull-unpacked");
	TRY_WRAP(store(p, err), err, "image %s", p->reference);
	return 0;
}

/* ---- the whole ---- */

struct whole {
	struct cd_daemon *d;
	struct rpc_call *call;
	const struct cd_pull_req *req;
	VEC(struct pull *) parts; /* those that are done, and the current one */
	struct arena arena;
};

static int begin(struct whole *w, const char *reference, const char *snapshotter, struct pull **out, struct err *err)
{
	struct pull *p = xcalloc(1, sizeof(*p));

	vec_push(&w->parts, p);
	TRY(pull_init(p, w->d, w->call, w->req->ns, err));
	p->lease = w->req->lease;
	p->reference = reference;
	p->snapshotter = snapshotter;
	p->space = (struct snap_space){w->req->ns, snapshotter};
	p->name = w->req->name;
	p->lazy = w->req->lazy;
	p->phases = w->req->phases;
	p->progress = w->req->progress;
	p->access = w->req->access;
	*out = p;
	return 0;
}

static bool is_done(const struct whole *w, const struct digest *manifest)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(manifest, text);
	vec_each(&w->parts, p)
		if ((*p)->image && !strcmp((*p)->image->manifest->digest, text))
			return true;
	return false;
}

/* "host/repository@digest". */
static const char *sibling(struct whole *w, const struct digest *d)
{
	char text[DIGEST_TEXT_MAX];
	const char *host, *repository;

	cd_reference_split(&w->arena, w->parts.p[0]->source, &host, &repository);
	return arena_printf(&w->arena, "%s/%s@%s", host, repository, digest_text(d, text));
}

/* The entries of the index that no part has asked for. */
static int pull_rest(struct whole *w, struct err *err)
{
	const struct pull *first = w->parts.p[0];
	const Contentd__Contentfs__V1__Document *doc = first->image->documents[0];
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	struct pull *p;

	if (first->image->n_documents < 3)
		return 0; /* no index */
	TRY(reg_manifest_parse(str_sub(buf_str(&first->docs), doc->offset, (size_t)doc->descriptor->size),
	                       str_of(doc->descriptor->media_type), &index, err));
	for (size_t i = 0; i < index->n_entries; i++) {
		if (w->req->limit && w->parts.n >= w->req->limit)
			return 0;
		if (is_done(w, &index->entries[i].digest))
			continue;
		TRY(begin(w, sibling(w, &index->entries[i].digest), NULL, &p, err));
		p->documents_only = w->req->rest == CD_PULL_REST_METADATA;
		TRY(run_part(p, NULL, err));
	}
	return 0;
}

static int pull_parts(struct whole *w, struct err *err)
{
	struct pull *p;

	for (size_t i = 0; i < w->req->n_parts; i++) {
		TRY(begin(w, w->req->reference, w->req->parts[i].snapshotter, &p, err));
		TRY(run_part(p, w->req->parts[i].platform, err));
	}
	return w->req->rest ? pull_rest(w, err) : 0;
}

/* The index leads to all parts, those that were asked for by digest included. */
static int join_parts(struct whole *w, const Types__Descriptor *target, struct err *err)
{
	const struct cd_tree_filter filter = {.skip_missing = true};
	AUTO(cd_recording) struct cd_recording r;
	AUTO(cd_tree) struct cd_tree tree = {0};

	cd_recording_init(&r, w->d, w->req->ns, w->req->lease, w->parts.p[0]->source);
	if (w->parts.n < 2)
		return 0;
	TRY(cd_tree_load(w->d, w->call, w->req->ns, target, &filter, &tree, err));
	return cd_recording_put_tree(&r, &tree, err);
}

static int run(struct whole *w, struct err *err)
{
	const Contentd__Contentfs__V1__Descriptor *from;
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;

	cd_progress_headline(w->req->progress, "Resolving from %s", w->req->reference);
	TRY(pull_parts(w, err));
	from = w->parts.p[0]->image->target;
	target.media_type = from->media_type;
	target.digest = from->digest;
	target.size = from->size;
	TRY(join_parts(w, &target, err));
	cd_progress_step(w->req->progress, "pulled image content", w->parts.p[0]->name, NULL, &target, 0, 0);
	FAILPOINT("pull-records");
	TRY_WRAP(w->req->put(w->req->arg, &target, err), err, "image %s", w->req->reference);
	FAILPOINT("pull-image");
	vec_each(&w->parts, p)
		pull_indexes_publish(*p);
	cd_progress_headline(w->req->progress, "Completed pull from %s", w->req->reference);
	return 0;
}

METRIC_COUNTER(pulls_total, "contentd_pulls_total", "Pulls that have ended.", "code");
METRIC_HISTOGRAM(pull_seconds, "contentd_pull_seconds",
                 "How long pulls took that succeeded: of a lazy image, until it could be started.");

int cd_pull(struct cd_daemon *d, struct rpc_call *c, const struct cd_pull_req *req, struct err *err)
{
	struct whole w = {.d = d, .call = c, .req = req};
	int64_t began_ns = clock_mono_ns();
	int r;

	arena_init(&w.arena, SIZE_MAX);
	r = run(&w, err);
	metric_add(&pulls_total, 1, err_code_camel(r < 0 ? err->code : ERR_OK));
	if (r >= 0)
		metric_observe_ns(&pull_seconds, clock_mono_ns() - began_ns);
	vec_each(&w.parts, p) {
		pull_fini(*p);
		free(*p);
	}
	vec_fini(&w.parts);
	arena_fini(&w.arena);
	return r;
}
