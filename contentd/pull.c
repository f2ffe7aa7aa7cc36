#include "contentd/pull.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/metrics.h"
#include "contentd/images.h"
#include "contentd/pull_internal.h"
#include "contentd/release.h"

#define DOCUMENTS_BYTES_MAX (64u << 20) /* index, manifest and config together */

/* ---- progress ---- */

static void send_progress(struct pull *p, const Xfer__Progress *m)
{
	if (!p->req->progress)
		return;
	pthread_mutex_lock(&p->progress_lock);
	/* Who does not listen any more may still want the image. */
	if (!p->progress_gone && cd_stream_send(p->req->progress, &m->base, NULL) < 0)
		p->progress_gone = true;
	pthread_mutex_unlock(&p->progress_lock);
}

static void image_progress(struct pull *p, const char *event)
{
	Xfer__Progress m = XFER__PROGRESS__INIT;

	m.event = event;
	m.name = p->req->name;
	send_progress(p, &m);
}

void pull_progress(struct pull *p, const char *event, const char *what, const Contentd__Contentfs__V1__Descriptor *of,
                   int64_t done, int64_t total)
{
	AUTO_FREE char *name = xasprintf("%s-%s", what, of->digest);
	const char *parents[] = {p->req->name};
	Xfer__Progress m = XFER__PROGRESS__INIT;
	Types__Descriptor desc = TYPES__DESCRIPTOR__INIT;

	desc.media_type = of->media_type;
	desc.digest = of->digest;
	desc.size = of->size;
	m.event = event;
	m.name = name;
	m.parents = parents;
	m.n_parents = 1;
	m.progress = done;
	m.total = total;
	m.desc = &desc;
	send_progress(p, &m);
}

void pull_phase_end(struct pull *p, const char *name)
{
	int64_t now = clock_mono_ns();
	Xfer__Progress m = XFER__PROGRESS__INIT;

	m.event = "phase";
	m.name = name;
	m.progress = now - p->phase_began_ns;
	p->phase_began_ns = now;
	if (p->req->phases)
		send_progress(p, &m);
}

/* ---- opening ---- */

static void on_phase(void *arg, const char *phase, const char *digest)
{
	struct pull *p = arg;

	if (strcmp(phase, "resolved"))
		return;
	image_progress(p, "resolved");
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

static int open_image(struct pull *p, struct err *err)
{
	Contentd__Contentfs__V1__OpenRequest req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	Contentd__Contentfs__V1__Platform platform = CONTENTD__CONTENTFS__V1__PLATFORM__INIT;
	AUTO_FD int docs_fd = -1;

	req.reference = (char *)p->req->reference;
	req.lazy = p->req->lazy && p->req->snapshotter;
	if (p->req->platform) {
		platform.os = (char *)p->req->platform->os;
		platform.architecture = (char *)p->req->platform->architecture;
		platform.variant = (char *)p->req->platform->variant;
		req.platform = &platform;
	}
	image_progress(p, "resolving");
	TRY(ffs_client_open(p->data, p->call, &req, on_phase, p, &p->image, &docs_fd, err));
	TRY(read_documents(p, docs_fd, err));
	if (!p->image->target || !p->image->manifest || !p->image->config)
		return err_set(err, ERR_INTERNAL, "contentfs gave an image without a manifest");
	TRY(pull_layers_init(p, err));
	pull_phase_end(p, "open layers");
	return 0;
}

/* ---- the whole ---- */

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

/* Snapshots, and the mount that the first container will need. */
static int make_snapshots(struct pull *p, struct err *err)
{
	if (!p->top)
		return 0;
	TRY(pull_layers_commit(p, err));
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
	TRY(rpc_cancelled(p->call, err));
	return pull_records_commit(p, err);
}

static int put_image(struct pull *p, struct err *err)
{
	const Contentd__Contentfs__V1__Descriptor *target = p->image->target;
	Types__Descriptor desc = TYPES__DESCRIPTOR__INIT;
	Images__Image image = IMAGES__IMAGE__INIT;

	desc.media_type = target->media_type;
	desc.digest = target->digest;
	desc.size = target->size;
	image.name = p->req->name;
	image.labels = p->req->labels;
	image.n_labels = p->req->n_labels;
	image.target = &desc;
	return cd_image_put(p->d, p->req->ns, &image, err);
}

static int keep(struct pull *p, struct err *err)
{
	TRY(store(p, err));
	TRY(put_image(p, err));
	if (p->top)
		cd_pin_image(p->d, p->req->ns, p->req->name, p->image->target->digest);
	return 0;
}

static int run(struct pull *p, struct err *err)
{
	int r;

	TRY(open_image(p, err)); /* contentfs says which image */
	TRY(pull_layers_unpack(p, err));
	pull_phase_end(p, "unpack");
	/* The chain is in use, until the image record says so itself. */
	if (p->top)
		cd_release_busy(p->d, p->space, p->top);
	r = keep(p, err);
	if (p->top)
		cd_release_done(p->d, p->space, p->top);
	TRY_WRAP(r, err, "image %s", p->req->reference);
	image_progress(p, "done");
	return 0;
}

METRIC_COUNTER(pulls_total, "contentd_pulls_total", "Pulls that have ended.", "code");
METRIC_HISTOGRAM(pull_seconds, "contentd_pull_seconds",
                 "How long pulls took that succeeded: of a lazy image, until it could be started.");

int cd_pull(struct cd_daemon *d, struct rpc_call *c, const struct cd_pull_req *req, struct err *err)
{
	struct pull p = {.d = d, .call = c, .req = req, .space = {req->ns, req->snapshotter}};
	int64_t began_ns;
	int r;

	TRY(cd_data(d, c, &p.data, err));
	TRY(cd_snapshots(d, c, &p.snaps, err));
	pthread_mutex_init(&p.progress_lock, NULL);
	began_ns = p.phase_began_ns = clock_mono_ns();
	r = run(&p, err);
	metric_add(&pulls_total, 1, err_code_camel(r < 0 ? err->code : ERR_OK));
	if (r >= 0)
		metric_observe_ns(&pull_seconds, clock_mono_ns() - began_ns);
	pthread_mutex_destroy(&p.progress_lock);
	buf_fini(&p.docs);
	pb_free(p.image);
	free(p.layers);
	return r;
}
