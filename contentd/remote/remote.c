#include "contentd/remote/remote.h"

#include "contentd/collect/pins.h"
#include "contentd/collect/store.h"
#include "contentd/content/blobs.h"
#include "contentd/ident.h"
#include "contentd/remote/images.h"
#include "contentd/transfer/recording.h"
#include "estargz/index/index.h"

#define LABEL_REMOTE_VALUE "remote snapshot"

bool cd_is_proxied(const struct cd_daemon *d, const char *snapshotter)
{
	vec_each(&d->config.snapshotter_proxy_names, name)
		if (!strcmp(*name, snapshotter))
			return true;
	return false;
}

/* ---- pins ---- */

/* Image records pin the layers of our own namespaces. */
static bool has_pin(struct snap_space space, const struct snap_info *info)
{
	return !*space.ns && info->kind == SNAP_COMMITTED && info->indexed;
}

static void pin(struct cd_daemon *d, struct snap_space space, const struct snap_info *info)
{
	AUTO_FREE char *name = xasprintf("snapshot/%s/%s", space.snapshotter, info->name);
	struct err why = ERR_INIT;
	struct ffs_client *data;
	char hex[65];
	const char *key = digest_hex(&info->index_key, hex);

	if (cd_data(d, NULL, &data, &why) < 0 || ffs_client_pin(data, name, &key, 1, &why) < 0)
		log_warn("%s: its layer is not pinned: %s", name, why.msg);
}

static int unpin(struct cd_daemon *d, struct snap_space space, const struct snap_info *info, struct err *err)
{
	AUTO_FREE char *name = xasprintf("snapshot/%s/%s", space.snapshotter, info->name);
	struct ffs_client *data;

	TRY(cd_data(d, NULL, &data, err));
	return ffs_client_unpin(data, name, err);
}

/* Pins follow records, in both directions: whoever changes either holds the snapshot. */
static void pin_held(struct cd_daemon *d, struct snap_store *snaps, struct snap_space space, const char *name)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_SNAPSHOT, space.ns, str_of(name));
	AUTO(snap_info) struct snap_info info = {0};

	if (snap_stat(snaps, space, name, &info, NULL) >= 0 && has_pin(space, &info))
		pin(d, space, &info);
}

int cd_remote_remove(struct cd_daemon *d, struct snap_space space, const char *key, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_SNAPSHOT, space.ns, str_of(key));
	AUTO(snap_info) struct snap_info info = {0};
	struct snap_store *snaps;
	int r;

	TRY(cd_snapshots(d, NULL, &snaps, err));
	TRY(snap_stat(snaps, space, key, &info, err));
	if (!has_pin(space, &info))
		return snap_remove(snaps, space, key, err);
	/* A crash in between leaves a snapshot without a pin, which the next start finds. */
	TRY(unpin(d, space, &info, err));
	r = snap_remove(snaps, space, key, err);
	if (r < 0)
		pin(d, space, &info);
	return r;
}

struct names {
	VEC(char *) v;
};

static int note_name(void *arg, const struct snap_info *info, struct err *err)
{
	if (info->kind == SNAP_COMMITTED && info->indexed)
		vec_push(&((struct names *)arg)->v, xstrdup(info->name));
	return 0;
}

void cd_remote_start(struct cd_daemon *d)
{
	vec_each(&d->config.snapshotter_proxy_names, snapshotter) {
		struct snap_space space = {"", *snapshotter};
		struct names names = {VEC_INIT};
		struct err why = ERR_INIT;

		if (snap_list(d->snaps, space, note_name, &names, &why) < 0)
			log_warn("snapshots of %s: %s", *snapshotter, why.msg);
		vec_each(&names.v, name) {
			pin_held(d, d->snaps, space, *name);
			free(*name);
		}
		vec_fini(&names.v);
	}
}

/* ---- one layer ---- */

/* One Prepare. */
struct preparing {
	struct cd_daemon *d;
	struct rpc_call *call;
	struct snap_store *snaps;
	struct ffs_client *data;
	struct snap_space space;
	const char *parent, *lease;
	const struct labels *labels;
	struct cd_remote_layer layer;
	struct cd_remote_image *image;                /* a reference */
	const Contentd__Contentfs__V1__Layer *opened; /* the image's */
	struct digest key;                            /* of the layer's index */
};

/* Nothing indexed lies above a directory. 0, or CD_REMOTE_ORDINARY, also when there is no such parent: Prepare says so. */
static int check_parent(struct preparing *p, struct err *err)
{
	AUTO(snap_info) struct snap_info info = {0};
	int r;

	if (!*p->parent)
		return 0;
	r = snap_stat(p->snaps, p->space, p->parent, &info, err);
	if (r == -ERR_NOT_FOUND)
		return CD_REMOTE_ORDINARY;
	TRY(r);
	if (info.kind != SNAP_COMMITTED)
		return CD_REMOTE_ORDINARY;
	if (!info.has_dir)
		return 0;
	log_info("snapshot %s is an ordinary one: so is %s, on which it stands", p->layer.target, p->parent);
	return CD_REMOTE_ORDINARY;
}

/* The layer as the image has it, looked up once more when the image of a while ago lacks it. */
static int find_layer(struct preparing *p, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	for (int i = 0; i <= 1; i++) {
		AUTO(cd_remote_image) struct cd_remote_image *stale = STEAL(p->image);

		TRY(cd_remote_layer_find(p->d, p->call, p->space.ns, &p->layer, stale, &p->image, &p->opened, err));
		if (p->opened && (!*p->opened->index_key || cd_index_is_here(p->d, p->call, p->opened->index_key)))
			return 0;
	}
	return err_set(err, ERR_NOT_FOUND, "image %s has no layer %s", p->image->reference,
	               digest_text(&p->layer.blob, text));
}

/* The chain id that the client names is that of the layer's DiffID in the image's configuration, above the parent's. */
static int check_chain(struct preparing *p, struct err *err)
{
	struct digest diff_id;
	char chain[DIGEST_TEXT_MAX];

	TRY(digest_parse(str_of(p->opened->diff_id), &diff_id, err));
	if (strlen(p->parent) >= DIGEST_TEXT_MAX)
		return err_set(err, ERR_INVALID, "the parent is no chain id");
	cd_chain_id(p->parent, &diff_id, chain);
	if (strcmp(chain, p->layer.target) != 0)
		return err_set(err, ERR_INVALID, "layer %s of %s makes the chain id %s", p->opened->descriptor->digest,
		               p->image->reference, chain);
	return 0;
}

static int open_layer(struct preparing *p, struct err *err)
{
	struct digest claimed;

	TRY(cd_data(p->d, p->call, &p->data, err));
	TRY(find_layer(p, err));
	TRY(check_chain(p, err));
	/* Also what was unpacked before has an index. */
	if (!*p->opened->index_key)
		return err_set(err, ERR_UNIMPLEMENTED, "layer %s: %s", p->opened->descriptor->digest,
		               p->opened->reason);
	if (!digest_from_hex(str_of(p->opened->index_key), &p->key))
		return err_set(err, ERR_INTERNAL, "contentfs gave a malformed index key");
	if (!p->opened->lazy || digest_is_zero(&p->layer.toc))
		return 0;
	esgz_index_key(ESGZ_TRUST_TOC, &p->layer.blob, &p->layer.toc, &claimed);
	if (!digest_eq(&claimed, &p->key))
		return err_set(err, ERR_INVALID, "layer %s: the client names another table of contents",
		               p->opened->descriptor->digest);
	return 0;
}

static int sizes(struct preparing *p, int64_t *bytes, int64_t *files, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__StatusResponse *rsp = NULL;
	char hex[65];
	const char *key = digest_hex(&p->key, hex);

	*bytes = *files = 0;
	TRY(ffs_client_sizes(p->data, &key, 1, &rsp, err));
	for (size_t i = 0; i < rsp->n_layers; i++) {
		*bytes = (int64_t)rsp->layers[i]->content_bytes;
		*files = rsp->layers[i]->files;
	}
	return 0;
}

/* Downloads the layer: its contents have the DiffID of the image's configuration, or it fails. */
static int prove(struct preparing *p, struct err *err)
{
	Contentd__Contentfs__V1__UnpackRequest req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	AUTO(pb) Contentd__Contentfs__V1__UnpackResponse *rsp = NULL;

	log_info("layer %s of %s: another image claims other contents for the same chain id: proving it",
	         p->opened->descriptor->digest, p->image->reference);
	access.owner = p->image->owner;
	access.remembered = true;
	req.reference = p->image->reference;
	req.access = &access;
	req.isolated = cd_is_isolated(p->d);
	req.layer = p->opened->descriptor;
	req.diff_id = p->opened->diff_id;
	TRY(ffs_client_unpack(p->data, p->call, &req, -1, NULL, NULL, &rsp, err));
	return digest_from_hex(str_of(rsp->index_key), &p->key)
	           ? 0
	           : err_set(err, ERR_INTERNAL, "contentfs gave a malformed index key");
}

/* There is a snapshot of that name. It is right when it has these contents, or proven ones. */
static int settle(struct preparing *p, const struct snap_info *there, struct err *err)
{
	struct digest proven, diff_id;
	struct err why = ERR_INIT;
	int64_t bytes, files;

	TRY(digest_parse(str_of(p->opened->diff_id), &diff_id, err));
	esgz_index_key(ESGZ_TRUST_DIFFID, &p->layer.blob, &diff_id, &proven);
	if (digest_eq(&there->index_key, &p->key) || digest_eq(&there->index_key, &proven))
		return 0;
	TRY(prove(p, err));
	TRY(sizes(p, &bytes, &files, err));
	TRY(snap_replace_indexed(p->snaps, p->space, p->layer.target, &p->key, bytes, files, err));
	/* What is in a proxied space has a pin of its own. */
	if (*p->space.ns && cd_pins_renew(p->d, p->space.ns, &p->key, &why) < 0)
		log_warn("%s", why.msg);
	return 0;
}

static int add(struct preparing *p, struct err *err)
{
	AUTO(labels) struct labels labels = LABELS_INIT;
	int64_t bytes, files;

	TRY(sizes(p, &bytes, &files, err));
	labels_copy(p->labels, &labels);
	TRY(labels_set(&labels, CD_LABEL_REMOTE, LABEL_REMOTE_VALUE, err));
	return snap_add_indexed(p->snaps, p->space, p->layer.target, p->parent, &p->key, bytes, files, &labels, err);
}

/* What was there before the layer was opened, or appeared meanwhile. CD_REMOTE_ORDINARY: of no use to this client. */
static int reuse(struct preparing *p, struct err *err)
{
	AUTO(snap_info) struct snap_info there = {0};

	TRY(snap_stat(p->snaps, p->space, p->layer.target, &there, err));
	if (there.kind != SNAP_COMMITTED || !there.indexed || there.has_dir || strcmp(there.parent, p->parent) != 0)
		return CD_REMOTE_ORDINARY;
	return settle(p, &there, err);
}

static int commit(struct preparing *p, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	do {
		r = reuse(p, &why);
		if (r == -ERR_NOT_FOUND)
			r = add(p, &why);
	} while (r == -ERR_EXISTS); /* made by another call just now */
	if (r < 0 && err)
		*err = why;
	return r;
}

/* By the node's account (fetch.docker_config) the namespace could not fetch it: a record would promise too much. */
static int record_blob(struct preparing *p, struct err *err)
{
	const Contentd__Contentfs__V1__Descriptor *blob = p->opened->descriptor;
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	AUTO(cd_recording) struct cd_recording r;
	Records__Content *record;

	cd_recording_init(&r, p->d, p->space.ns, p->lease, p->image->reference);
	if (!*p->space.ns || strcmp(p->image->owner, p->space.ns) != 0)
		return 0;
	cd_use_for_call(p->d, p->call,
	                &(struct gc_id){GC_CONTENT, str_of(p->space.ns), STR_NONE, str_of(blob->digest)});
	h = cd_meta_hold(p->d->meta, CD_CONTENT, p->space.ns, str_of(blob->digest));
	TRY(cd_recording_get(&r, blob->media_type, blob->digest, blob->size, &record, err));
	cd_recording_put(&r, record);
	return cd_recording_commit(&r, err);
}

static int make(struct preparing *p, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	TRY(cd_snapshots(p->d, p->call, &p->snaps, err));
	r = check_parent(p, err);
	if (r)
		return r;
	if (open_layer(p, &why) < 0) {
		TRY(rpc_cancelled(p->call, err));
		log_info("snapshot %s is an ordinary one: %s", p->layer.target, why.msg);
		return CD_REMOTE_ORDINARY;
	}
	r = commit(p, err);
	if (r)
		return r;
	if (!*p->space.ns)
		pin_held(p->d, p->snaps, p->space, p->layer.target);
	return record_blob(p, err);
}

int cd_remote_prepare(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *lease,
                      const char *parent, const struct labels *labels, struct err *err)
{
	struct preparing p = {.d = d, .call = c, .space = space, .parent = parent, .lease = lease, .labels = labels};
	struct err why = ERR_INIT;
	int r;

	if (!cd_remote_layer_parse(labels, &p.layer, &why)) {
		if (why.code != ERR_OK)
			log_info("snapshot %s is an ordinary one: %s", p.layer.target, why.msg);
		return CD_REMOTE_ORDINARY;
	}
	r = make(&p, err);
	cd_remote_image_unref(p.image);
	return r;
}
