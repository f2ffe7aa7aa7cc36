#include "contentd/node/verify.h"

#include "base/clock.h"
#include "base/file.h"
#include "contentd/content/blobs.h"
#include "contentd/node/users.h"
#include "rpc/proto/node.pb-c.h"

#define READ_BYTES (1u << 20)
#define PROGRESS_NS (200 * NS_PER_MS)

struct blob {
	struct digest digest;
	int64_t bytes;
};

struct verify {
	struct cd_daemon *d;
	struct snap_store *snaps;
	struct ffs_client *data;
	struct rpc_call *call;
	bool repair;
	Node__VerifySummary sum;
	struct hasher *hasher;
	char *bytes;
	const char *phase;
	int64_t done, total; /* bytes of the phase */
	int64_t told_ns;
	bool users_loaded;
	struct cd_users users;
};

/* ---- telling ---- */

static int tell_progress(struct verify *v, struct err *err)
{
	Node__VerifyEvent event = NODE__VERIFY_EVENT__INIT;
	int64_t now = clock_mono_ns();

	if (now - v->told_ns < PROGRESS_NS)
		return 0;
	v->told_ns = now;
	event.phase = v->phase;
	event.done = v->done;
	event.total = v->total;
	return rpc_send(v->call, &event.base, err);
}

/* Loaded at the first damage: mostly there is none. */
static int load_users(struct verify *v, struct err *err)
{
	if (v->users_loaded)
		return 0;
	v->users_loaded = true;
	return cd_users_load(v->d, v->snaps, rpc_arena(v->call), &v->users, err);
}

static void add_users(struct verify *v, Node__Damage *m, const struct cd_image_names *names)
{
	const char **all;

	if (!names)
		return;
	all = arena_alloc(rpc_arena(v->call), (m->n_images + names->v.n) * sizeof(*all));
	if (m->n_images)
		memcpy(all, m->images, m->n_images * sizeof(*all));
	memcpy(all + m->n_images, names->v.p, names->v.n * sizeof(*all));
	m->images = all;
	m->n_images += names->v.n;
}

static int tell(struct verify *v, Node__Damage *m, struct err *err)
{
	Node__VerifyEvent event = NODE__VERIFY_EVENT__INIT;

	v->sum.damaged++;
	v->sum.repaired += m->repaired;
	event.damage = m;
	return rpc_send(v->call, &event.base, err);
}

static void outcome(struct verify *v, Node__Damage *m, bool repaired, const char *text)
{
	m->repaired = repaired;
	m->outcome = arena_strdup(rpc_arena(v->call), text);
}

/* ---- records of a blob ---- */

struct records {
	struct arena *arena;
	struct str digest;
	VEC(const char *) namespaces;
	Records__Content *fetchable; /* one that says where it can be fetched, or NULL */
	const char *fetcher;         /* whose that is */
};

static int note_record(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct records *r = arg;
	Records__Content *content = record;

	if (!str_eq(name, r->digest))
		return 0;
	vec_push(&r->namespaces, arena_strdup(r->arena, ns));
	if (content->info && *content->source) {
		r->fetchable = content;
		r->fetcher = r->namespaces.p[r->namespaces.n - 1];
	}
	return 0;
}

static int records_of(struct verify *v, const char *digest, struct records *out, struct err *err)
{
	*out = (struct records){.arena = rpc_arena(v->call), .digest = str_of(digest)};
	return cd_meta_scan(v->d->meta, CD_CONTENT, NULL, out->digest, out->arena, note_record, out, err);
}

static int drop_records(struct verify *v, const struct records *r, struct err *err)
{
	for (size_t i = 0; i < r->namespaces.n; i++) {
		AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
		AUTO(cd_hold) struct cd_hold h = cd_meta_hold(v->d->meta, CD_CONTENT, r->namespaces.p[i], r->digest);

		cd_batch_remove(&b, CD_CONTENT, r->namespaces.p[i], r->digest);
		TRY(cd_meta_commit(v->d->meta, &b, err));
	}
	return 0;
}

/* ---- blobs ---- */

static int fetch_again(struct verify *v, const struct records *r, struct err *err)
{
	AUTO_FD int fd = -1;
	int64_t bytes;

	return cd_content_open_blob(v->d, v->call, r->fetcher, r->fetchable, &fd, &bytes, err);
}

/* A blob whose bytes are wrong is of no use to anybody, and a record of it keeps right ones from being written. */
static int repair_blob(struct verify *v, const struct blob *b, const char *digest, Node__Damage *m, struct err *err)
{
	struct err why = ERR_INIT;
	struct records r;
	int rc = records_of(v, digest, &r, err);

	if (rc >= 0)
		rc = cd_blob_drop(v->d->content, &b->digest, err);
	if (rc >= 0 && !r.fetchable)
		rc = drop_records(v, &r, err);
	vec_fini(&r.namespaces);
	TRY(rc);
	if (!r.fetchable)
		outcome(v, m, false,
		        "removed: nobody says where it can be fetched, so it has to be pulled or ingested again");
	else if (fetch_again(v, &r, &why) >= 0)
		outcome(v, m, true, "fetched again");
	else
		outcome(
		    v, m, false,
		    arena_printf(rpc_arena(v->call), "removed, to be fetched when it is read; not now: %s", why.msg));
	return 0;
}

static int blob_damaged(struct verify *v, const struct blob *b, const struct err *why, struct err *err)
{
	Node__Damage m = NODE__DAMAGE__INIT;
	char digest[DIGEST_TEXT_MAX], hex[65];

	TRY(load_users(v, err));
	m.kind = "blob";
	m.name = digest_text(&b->digest, digest);
	m.path = arena_printf(rpc_arena(v->call), "%s/content/blobs/sha256/%s", v->d->config.root,
	                      digest_hex(&b->digest, hex));
	m.reason = why->msg;
	add_users(v, &m, cd_users_of_blob(&v->users, digest));
	if (v->repair)
		TRY(repair_blob(v, b, digest, &m, err));
	return tell(v, &m, err);
}

static int hash_blob(struct verify *v, int fd, int64_t bytes, struct digest *out, struct err *err)
{
	hasher_reset(v->hasher);
	for (int64_t at = 0; at < bytes;) {
		size_t n = bytes - at < READ_BYTES ? (size_t)(bytes - at) : READ_BYTES;

		TRY(rpc_cancelled(v->call, err));
		TRY(fd_pread_all_uncached(fd, v->bytes, n, at, err));
		hasher_add(v->hasher, v->bytes, n);
		at += (int64_t)n;
		v->done += (int64_t)n;
		TRY(tell_progress(v, err));
	}
	hasher_done(v->hasher, out);
	return 0;
}

static int verify_blob(struct verify *v, const struct blob *b, struct err *err)
{
	struct err why = ERR_INIT;
	char text[DIGEST_TEXT_MAX];
	AUTO_FD int fd = -1;
	struct digest sum;
	int64_t bytes;
	int r;

	r = cd_blob_open(v->d->content, &b->digest, &fd, &bytes, &why);
	if (r == -ERR_NOT_FOUND)
		return 0; /* collected meanwhile */
	if (r >= 0)
		r = hash_blob(v, fd, bytes, &sum, &why);
	TRY(rpc_cancelled(v->call, err));
	/* No descriptor, no memory, nobody who listens: that says nothing of the blob, and it must not cost it. */
	if (r < 0 && (err_is_transient(&why) || why.code == ERR_CANCELLED))
		return err_set(err, why.code, "%s", why.msg);
	v->sum.blobs++;
	if (r >= 0 && digest_eq(&sum, &b->digest))
		return 0;
	if (r >= 0)
		err_set(&why, ERR_DATA_LOSS, "its content is %s", digest_text(&sum, text));
	return blob_damaged(v, b, &why, err);
}

struct blobs {
	VEC(struct blob) v;
	int64_t bytes;
};

static int note_blob(void *arg, const struct digest *d, int64_t bytes, struct err *err)
{
	struct blobs *all = arg;

	vec_push(&all->v, (struct blob){*d, bytes});
	all->bytes += bytes;
	return 0;
}

static int verify_blobs(struct verify *v, struct err *err)
{
	struct blobs all = {0};
	int r = cd_blob_each(v->d->content, note_blob, &all, err);

	v->phase = "blobs";
	v->done = 0;
	v->total = all.bytes;
	for (size_t i = 0; i < all.v.n && r >= 0; i++)
		r = verify_blob(v, &all.v.p[i], err);
	vec_fini(&all.v);
	v->sum.bytes += (uint64_t)v->done;
	return r;
}

/* ---- layers: indexes and objects ---- */

static void on_progress(void *arg, int64_t done, int64_t total)
{
	struct verify *v = arg;

	v->done = done;
	v->total = total;
	tell_progress(v, NULL); /* who does not listen any more cancels the call */
}

/* Makes the index of a lazy layer again, by what it came from. */
static int open_again(struct verify *v, const struct records *r, const char *index_key, struct err *err)
{
	Contentd__Contentfs__V1__OpenRequest req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO(pb) Contentd__Contentfs__V1__OpenResponse *rsp = NULL;
	AUTO_FD int fd = -1;

	access.owner = (char *)r->fetcher;
	access.remembered = true;
	req.reference = (char *)r->fetchable->source;
	req.access = &access;
	req.lazy = true;
	TRY(ffs_client_open(v->data, v->call, &req, NULL, NULL, &rsp, &fd, err));
	for (size_t i = 0; i < rsp->n_layers; i++)
		if (!strcmp(rsp->layers[i]->index_key, index_key))
			return 0;
	return err_set(err, ERR_NOT_FOUND, "%s is another image now", r->fetchable->source);
}

/* Unpacks an ordinary layer again, from its blob if that is here. */
static int unpack_again(struct verify *v, const struct records *r, const char *index_key, struct err *err)
{
	Contentd__Contentfs__V1__UnpackRequest req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO(pb) Contentd__Contentfs__V1__UnpackResponse *rsp = NULL;
	Contentd__Contentfs__V1__Descriptor layer = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	const Records__Content *record = r->fetchable;
	struct digest digest;
	AUTO_FD int fd = -1;
	int64_t bytes;

	TRY(digest_parse(str_of(record->info->digest), &digest, err));
	layer.media_type = (char *)record->media_type;
	layer.digest = (char *)record->info->digest;
	layer.size = record->info->size;
	access.owner = (char *)r->fetcher;
	access.remembered = true;
	req.reference = (char *)record->source;
	req.access = &access;
	req.layer = &layer;
	req.from_fd = cd_blob_open(v->d->content, &digest, &fd, &bytes, NULL) >= 0;
	TRY(ffs_client_unpack(v->data, v->call, &req, fd, NULL, NULL, &rsp, err));
	if (strcmp(rsp->index_key, index_key))
		return err_set(err, ERR_DATA_LOSS, "unpacking %s gave another layer", layer.digest);
	return 0;
}

static int make_again(struct verify *v, const Contentd__Contentfs__V1__Damage *from,
                      const Contentd__Contentfs__V1__DamagedLayer *layer, struct err *err)
{
	struct records r;
	int rc = records_of(v, layer->blob, &r, err);

	vec_fini(&r.namespaces);
	TRY(rc);
	if (!r.fetchable)
		return err_set(err, ERR_NOT_FOUND, "nobody says where blob %s can be fetched", layer->blob);
	return from->lazy ? open_again(v, &r, layer->index_key, err) : unpack_again(v, &r, layer->index_key, err);
}

/* contentfs has removed what is damaged. Files of lazy layers come by themselves. */
static void repair_layer(struct verify *v, const Contentd__Contentfs__V1__Damage *from, Node__Damage *m)
{
	struct err why = ERR_INIT;

	if (from->lazy && !strcmp(from->kind, "object")) {
		outcome(v, m, true, "removed: it is fetched when it is read");
		return;
	}
	for (size_t i = 0; i < from->n_layers; i++)
		if (make_again(v, from, from->layers[i], &why) >= 0) {
			outcome(v, m, true, "made again");
			return;
		}
	outcome(v, m, false,
	        arena_printf(rpc_arena(v->call), "removed, and not made again: %s; pull the image again",
	                     from->n_layers ? why.msg : "no layer is known to have it"));
}

static int layer_damaged(struct verify *v, const Contentd__Contentfs__V1__Damage *from, struct err *err)
{
	Node__Damage m = NODE__DAMAGE__INIT;

	TRY(load_users(v, err));
	m.kind = from->kind;
	m.name = from->name;
	m.path = arena_printf(rpc_arena(v->call), "%s/%s", v->d->config.root, from->path);
	m.reason = from->reason;
	for (size_t i = 0; i < from->n_layers; i++)
		add_users(v, &m, cd_users_of_layer(&v->users, from->layers[i]->index_key));
	if (from->removed)
		repair_layer(v, from, &m);
	return tell(v, &m, err);
}

/* Tells how many indexes it removed. */
static int verify_layers_once(struct verify *v, size_t *n_removed, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__VerifyResponse *rsp = NULL;

	*n_removed = 0;
	v->phase = "layers";
	v->done = v->total = 0;
	TRY(ffs_client_verify(v->data, v->call, v->repair, on_progress, v, &rsp, err));
	v->sum.indexes = rsp->indexes;
	v->sum.objects = rsp->objects;
	v->sum.bytes += rsp->bytes;
	for (size_t i = 0; i < rsp->n_damages; i++) {
		*n_removed += rsp->damages[i]->removed && !strcmp(rsp->damages[i]->kind, "index");
		TRY(layer_damaged(v, rsp->damages[i], err));
	}
	v->sum.damaged += rsp->damaged - rsp->n_damages;
	return 0;
}

/* What files of a lazy layer have to be is in its index alone: those whose index was made again are looked at only now. */
static int verify_layers(struct verify *v, struct err *err)
{
	size_t n_removed;

	TRY(verify_layers_once(v, &n_removed, err));
	return n_removed ? verify_layers_once(v, &n_removed, err) : 0;
}

/* ---- the whole ---- */

/* Blobs first: layers are made again from them. */
static int verify(struct verify *v, struct err *err)
{
	Node__VerifyEvent event = NODE__VERIFY_EVENT__INIT;

	TRY(cd_snapshots(v->d, v->call, &v->snaps, err));
	TRY(cd_data(v->d, v->call, &v->data, err));
	TRY(verify_blobs(v, err));
	TRY(verify_layers(v, err));
	event.summary = &v->sum;
	return rpc_send(v->call, &event.base, err);
}

int cd_node_verify(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Node__VerifyRequest *req = request;
	AUTO(hasher) struct hasher *hasher = hasher_new();
	AUTO_FREE char *bytes = xmalloc(READ_BYTES);
	struct verify v = {.d = svc,
	                   .call = c,
	                   .repair = req->repair,
	                   .sum = NODE__VERIFY_SUMMARY__INIT,
	                   .hasher = hasher,
	                   .bytes = bytes,
	                   .users = CD_USERS_INIT};
	int r = verify(&v, err);

	cd_users_fini(&v.users);
	return r;
}
