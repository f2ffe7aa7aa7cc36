/*
 * From the image store to a registry: blobs three at a time, then manifests and indexes from the inside out, the root
 * under the name that was asked for. What the repository has is not sent; what another repository of that registry has
 * (containerd.io/distribution.source labels) is mounted. A layer without a file is only fetched when its bytes are
 * needed, so that an image goes back to where it came from without any of them.
 */
#include "base/clock.h"
#include "contentd/content/blobs.h"
#include "contentd/kvs.h"
#include "contentd/transfer/recording.h"
#include "contentd/transfer/transfer.h"
#include "registry/reference.h"

#define PUSH_THREADS 3
#define PROGRESS_EVERY_NS (50 * NS_PER_MS)

struct push {
	struct cd_transfer *t;
	struct ffs_client *data;
	Contentd__Contentfs__V1__Access *access;
	const char *reference; /* normalised */
	const char *host, *repository;
	const char *image; /* name, for progress */
	struct cd_tree tree;
	struct reg_ref ref;
};

/* One part on its way. */
struct job {
	struct push *push;
	const struct cd_tree_node *node;
	Types__Descriptor desc;
	char *name; /* for progress */
	int64_t told_ns;
	struct arena arena;
};

static void job_init(struct job *j, struct push *p, const struct cd_tree_node *n)
{
	char text[DIGEST_TEXT_MAX];

	*j = (struct job){.push = p, .node = n};
	arena_init(&j->arena, SIZE_MAX);
	types__descriptor__init(&j->desc);
	j->desc.media_type = arena_str(&j->arena, n->d.media_type);
	j->desc.digest = arena_strdup(&j->arena, digest_text(&n->d.digest, text));
	j->desc.size = (int64_t)n->d.size;
	j->name = cd_progress_name(j->desc.media_type, j->desc.digest);
}

static void job_fini(struct job *j)
{
	free(j->name);
	arena_fini(&j->arena);
}
DEFINE_AUTO_FINI(job);

static void tell(struct job *j, const char *event, int64_t done)
{
	cd_progress_step(j->push->t->progress, event, j->name, j->push->image, &j->desc, done, j->desc.size);
}

static void on_progress(void *arg, int64_t done, int64_t total)
{
	struct job *j = arg;
	int64_t now = clock_mono_ns();

	if (now - j->told_ns < PROGRESS_EVERY_NS && done != total)
		return;
	j->told_ns = now;
	tell(j, "uploading", done);
}

/* ---- blobs ---- */

static size_t common_prefix(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

/* The repository to mount from: of those that have the blob, the one most like the target, since its owner is likelier
 * to be the same. "" when there is none. */
static const char *mount_source(struct job *j, const Records__Content *record)
{
	const char *key = cd_source_label(&j->arena, j->push->host), *best = "";
	struct str rest = str_of(pb_kv_get(record->info->labels, record->info->n_labels, key)), one;

	while (str_split(&rest, ',', &one)) {
		const char *repository = arena_str(&j->arena, one);

		if (one.n && strcmp(repository, j->push->repository) &&
		    (!*best ||
		     common_prefix(repository, j->push->repository) > common_prefix(best, j->push->repository)))
			best = repository;
	}
	return best;
}

static int send_blob(struct job *j, const Records__Content *record, int fd, int *outcome, struct err *err)
{
	Contentd__Contentfs__V1__PushBlobRequest req = CONTENTD__CONTENTFS__V1__PUSH_BLOB_REQUEST__INIT;
	Contentd__Contentfs__V1__Descriptor blob = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;

	blob.media_type = (char *)j->desc.media_type;
	blob.digest = (char *)j->desc.digest;
	blob.size = j->desc.size;
	req.reference = (char *)j->push->reference;
	req.blob = &blob;
	req.mount_from = (char *)mount_source(j, record);
	req.access = j->push->access;
	return ffs_client_push_blob(j->push->data, j->push->t->call, 0, &req, fd, on_progress, j, outcome, err);
}

static int push_blob(struct job *j, struct err *err)
{
	struct cd_transfer *t = j->push->t;
	Records__Content *record;
	AUTO_FD int fd = -1;
	struct digest digest;
	int64_t bytes;
	int outcome;

	TRY(cd_content_get(t->d, t->ns, j->desc.digest, &j->arena, &record, err));
	TRY(digest_parse(str_of(j->desc.digest), &digest, err));
	TRY(cd_content_open_here(t->d, t->ns, &digest, &fd, &bytes, err));
	TRY(send_blob(j, record, fd, &outcome, err));
	if (outcome == CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__OUTCOME__MISSING) {
		TRY(cd_content_open_blob(t->d, t->call, t->ns, record, &fd, &bytes, err));
		TRY(send_blob(j, record, fd, &outcome, err));
	}
	tell(j, outcome == CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__OUTCOME__UPLOADED ? "done" : "already exists",
	     j->desc.size);
	return 0;
}

/* ---- several at a time ---- */

struct crew {
	struct push *push;
	pthread_mutex_t lock;
	size_t next;    /* lock: the next node to look at */
	int result;     /* lock: the first failure */
	struct err err; /* lock */
};

static const struct cd_tree_node *take(struct crew *c)
{
	const struct cd_tree_node *n = NULL;

	pthread_mutex_lock(&c->lock);
	while (!n && c->result >= 0 && c->next < c->push->tree.nodes.n) {
		n = &c->push->tree.nodes.p[c->next++];
		if (n->doc || reg_media_is_foreign(n->d.media_type))
			n = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void *work(void *arg)
{
	struct crew *c = arg;
	const struct cd_tree_node *n;

	while ((n = take(c))) {
		AUTO(job) struct job j;
		struct err err = ERR_INIT;
		int r;

		job_init(&j, c->push, n);
		r = push_blob(&j, &err);
		pthread_mutex_lock(&c->lock);
		if (r < 0 && c->result >= 0) {
			c->result = r;
			c->err = err;
		}
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static int push_blobs(struct push *p, struct err *err)
{
	struct crew c = {.push = p};
	pthread_t threads[PUSH_THREADS];
	size_t n = 0;

	vec_each(&p->tree.nodes, node) {
		AUTO(job) struct job j;

		job_init(&j, p, node);
		tell(&j, "waiting", 0);
	}
	pthread_mutex_init(&c.lock, NULL);
	while (n + 1 < PUSH_THREADS && n + 1 < p->tree.nodes.n && pthread_create(&threads[n], NULL, work, &c) == 0)
		n++;
	work(&c); /* this thread, too */
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&c.lock);
	if (c.result < 0 && err)
		*err = c.err;
	return c.result;
}

/* ---- documents ---- */

/* "host/repository@digest", or the reference itself for the root. */
static const char *document_reference(struct job *j, bool is_root)
{
	if (is_root)
		return j->push->reference;
	return arena_printf(&j->arena, "%s/%s@%s", j->push->host, j->push->repository, j->desc.digest);
}

static int push_document(struct push *p, const struct cd_tree_node *n, bool is_root, struct err *err)
{
	Contentd__Contentfs__V1__PushManifestRequest req = CONTENTD__CONTENTFS__V1__PUSH_MANIFEST_REQUEST__INIT;
	AUTO(job) struct job j;
	Records__Content *record;
	AUTO_FD int fd = -1;
	int64_t bytes;

	job_init(&j, p, n);
	TRY(cd_content_get(p->t->d, p->t->ns, j.desc.digest, &j.arena, &record, err));
	TRY(cd_content_open_blob(p->t->d, p->t->call, p->t->ns, record, &fd, &bytes, err));
	req.reference = (char *)document_reference(&j, is_root);
	req.media_type = (char *)j.desc.media_type;
	req.access = p->access;
	TRY(ffs_client_push_manifest(p->data, p->t->call, 0, &req, fd, err));
	tell(&j, "done", j.desc.size);
	return 0;
}

/* Parents stand before their children, and every registry wants children first. */
static int push_documents(struct push *p, struct err *err)
{
	for (size_t i = p->tree.nodes.n; i-- > 0;)
		if (p->tree.nodes.p[i].doc)
			TRY(push_document(p, &p->tree.nodes.p[i], i == 0, err));
	return 0;
}

/* ---- the whole ---- */

/* What was pushed can be mounted from there, next time. */
static int note_source(struct push *p, struct err *err)
{
	AUTO_FREE struct str *names = xcalloc(p->tree.nodes.n + 1, sizeof(*names));
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	AUTO(cd_recording) struct cd_recording r;
	char text[DIGEST_TEXT_MAX];

	cd_recording_init(&r, p->t->d, p->t->ns, NULL, "");
	for (size_t i = 0; i < p->tree.nodes.n; i++)
		names[i] = str_of(arena_strdup(&r.arena, digest_text(&p->tree.nodes.p[i].d.digest, text)));
	h = cd_meta_hold_many(p->t->d->meta, CD_CONTENT, p->t->ns, names, p->tree.nodes.n);
	for (size_t i = 0; i < p->tree.nodes.n; i++) {
		Records__Content *record;

		/* Deleted meanwhile: there is nothing to note it on. */
		if (cd_content_get(p->t->d, p->t->ns, names[i].p, &r.arena, &record, NULL) < 0)
			continue;
		cd_recording_add_source(&r, record, p->reference);
		cd_recording_put(&r, record);
	}
	return cd_recording_commit(&r, err);
}

/* With platforms, and an index of which one image remains, that image alone is what the name shall mean: an index whose
 * entries are missing is refused by registries. */
static int load(struct push *p, const Xfer__ImageStore *from, Types__Descriptor *target, struct err *err)
{
	const struct cd_tree_filter filter = {.platforms = from->platforms, .n_platforms = from->n_platforms};
	const struct cd_tree_node *root;

	TRY(cd_tree_load(p->t->d, p->t->call, p->t->ns, target, &filter, &p->tree, err));
	root = &p->tree.nodes.p[0];
	if (root->kind != CD_TREE_INDEX || root->n_children == root->doc->n_entries)
		return 0;
	if (!root->n_children)
		return err_set(err, ERR_NOT_FOUND, "nothing is for the wanted platforms");
	if (root->n_children == 1) {
		const struct cd_tree_node *only = &p->tree.nodes.p[p->tree.children.p[root->first_child]];
		Types__Descriptor one = TYPES__DESCRIPTOR__INIT;
		struct arena *a = rpc_arena(p->t->call);
		char text[DIGEST_TEXT_MAX];

		one.media_type = arena_str(a, only->d.media_type);
		one.digest = arena_strdup(a, digest_text(&only->d.digest, text));
		one.size = (int64_t)only->d.size;
		cd_tree_fini(&p->tree);
		p->tree = (struct cd_tree){0};
		return cd_tree_load(p->t->d, p->t->call, p->t->ns, &one, &filter, &p->tree, err);
	}
	return 0;
}

static int push(struct push *p, const Xfer__ImageStore *from, const Xfer__OCIRegistry *to, struct err *err)
{
	struct cd_images images = {0};
	struct arena *a = rpc_arena(p->t->call);
	char text[REG_REF_TEXT_MAX];
	Types__Descriptor target;
	int r;

	TRY_WRAP(reg_ref_parse(str_of(to->reference), &p->ref, err), err, "push to %s", to->reference);
	p->reference = arena_strdup(a, reg_ref_text(&p->ref, text));
	p->host = p->ref.host;
	p->repository = p->ref.repository;
	r = cd_store_lookup(p->t, from, &images, err);
	if (r >= 0) {
		target = *images.v.p[0]->target;
		p->image = images.v.p[0]->name;
	}
	vec_fini(&images.v);
	TRY(r);
	cd_progress_headline(p->t->progress, "Pushing to %s", p->reference);
	cd_progress_step(p->t->progress, "pushing content", p->image, NULL, &target, 0, 0);
	TRY_WRAP(load(p, from, &target, err), err, "image %s", p->image);
	TRY(cd_transfer_access(p->t, to->resolver, to->reference, &p->access, err));
	TRY(cd_data(p->t->d, p->t->call, &p->data, err));
	TRY(push_blobs(p, err));
	TRY(push_documents(p, err));
	TRY(note_source(p, err));
	cd_progress_step(p->t->progress, "pushed content", p->image, NULL, &target, 0, 0);
	cd_progress_headline(p->t->progress, "Completed push to %s", p->reference);
	return 0;
}

int cd_transfer_push(struct cd_transfer *t, const Xfer__ImageStore *from, const Xfer__OCIRegistry *to, struct err *err)
{
	struct push p = {.t = t};
	int r = push(&p, from, to, err);

	cd_tree_fini(&p.tree);
	return r;
}
