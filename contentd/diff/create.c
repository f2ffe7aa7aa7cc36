#include "contentd/diff/create.h"

#include "base/clock.h"
#include "base/random.h"
#include "contentd/content/blobs.h"
#include "contentd/diff/apply.h"
#include "contentd/diff/compare.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"

#include <errno.h>
#include <fcntl.h>

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"
#define MEDIA_DEFAULT "application/vnd.oci.image.layer.v1.tar+gzip"

static const struct {
	const char *media_type;
	enum esgz_compression kind;
} KINDS[] = {
    {MEDIA_DEFAULT, ESGZ_GZIP},
    {"application/vnd.oci.image.layer.v1.tar", ESGZ_PLAIN},
    {"application/vnd.oci.image.layer.v1.tar+zstd", ESGZ_ZSTD},
    {"application/vnd.docker.image.rootfs.diff.tar.gzip", ESGZ_GZIP},
    {"application/vnd.docker.image.rootfs.diff.tar", ESGZ_PLAIN},
};

struct create {
	struct cd_daemon *d;
	struct rpc_call *call;
	const Diff__DiffRequest *req;
	const char *ns, *lease;
	enum esgz_compression kind;
	struct tree_mounts left, right;
	struct cd_writer *writer;
	struct digest diff_id;
};

static void create_fini(struct create *c)
{
	tree_mounts_fini(&c->left);
	tree_mounts_fini(&c->right);
	cd_writer_close(c->writer);
}
DEFINE_AUTO_FINI(create);

/* ---- an upper directory above the other side ---- */

/* The lower directories of what one overlay or bind mount shows, as overlayfs lists them; NULL when it shows something
 * else. *upper: the topmost directory, when it is one that was written through overlayfs. */
static char *layers_of(const struct tree_mounts *m, char **upper)
{
	const struct tree_mount *only = m->v.n == 1 ? &m->v.p[0] : NULL;
	const char *lower, *dir;

	*upper = NULL;
	if (!only || *only->target)
		return NULL;
	if (!strcmp(only->type, "bind"))
		return xstrdup(only->source);
	lower = tree_option(only, "lowerdir=");
	if (strcmp(only->type, "overlay") || !lower || tree_option(only, "metacopy=on") ||
	    tree_option(only, "redirect_dir=on"))
		return NULL;
	dir = tree_option(only, "upperdir=");
	if (dir) {
		*upper = xstrdup(dir);
		return xasprintf("%s:%s", dir, lower);
	}
	if (strchr(lower, ':') && !strchr(lower, '\\'))
		*upper = str_dup(str_sub(str_of(lower), 0, (size_t)(strchr(lower, ':') - lower)));
	return xstrdup(lower);
}

/* A view has an empty directory of its own at the bottom where overlayfs would not take one layer alone. */
static bool shows(const char *left, const char *rest, const char *snapshots)
{
	size_t n = strlen(rest);

	if (strncmp(left, rest, n))
		return false;
	return !left[n] ||
	       (left[n] == ':' && str_starts(str_of(left + n + 1), str_of(snapshots)) && !strchr(left + n + 1, ':'));
}

/* The topmost directory of the right side, when below it lies exactly what the left side shows; -1 when not. */
static int upper_over_left(const struct create *c)
{
	AUTO_FREE char *snapshots = xasprintf("%s/snapshots/", c->d->config.root);
	AUTO_FREE char *upper = NULL;
	AUTO_FREE char *unused = NULL;
	AUTO_FREE char *left = layers_of(&c->left, &unused);
	AUTO_FREE char *right = layers_of(&c->right, &upper);
	size_t n = upper ? strlen(upper) : 0;

	if (!left || !upper || !shows(left, right + n + 1, snapshots))
		return -1;
	return open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ---- writing ---- */

static int on_bytes(void *arg, struct str bytes, struct err *err)
{
	struct create *c = arg;

	return cd_writer_write(c->writer, bytes, err);
}

/* upper_fd -1: compares the trees. 1: it has to. */
static int write_layer(struct create *c, int left_fd, int upper_fd, struct err *err)
{
	AUTO(layer_out) struct layer_out *out = NULL;
	AUTO(emit) struct emit e = {0};
	AUTO_FD int right_fd = -1;
	int r;

	TRY(cd_writer_truncate(c->writer, err));
	TRY(layer_out_new(c->kind, on_bytes, c, &out, err));
	emit_init(&e, out, c->call);
	e.has_epoch = c->req->source_date_epoch;
	e.epoch = pb_time(c->req->source_date_epoch);
	if (upper_fd >= 0) {
		r = compare_upper(&e, left_fd, upper_fd, err);
	} else {
		TRY_WRAP(diff_open_tree(c->d, &c->right, &right_fd, err), err, "right side");
		r = compare_trees(&e, left_fd, right_fd, err);
	}
	if (r)
		return r;
	TRY(emit_end(&e, err));
	return layer_out_finish(out, &c->diff_id, err);
}

static int write_blob(struct create *c, struct err *err)
{
	AUTO_FD int upper_fd = upper_over_left(c);
	AUTO_FD int left_fd = -1;
	int r;

	TRY_WRAP(diff_open_tree(c->d, &c->left, &left_fd, err), err, "left side");
	r = write_layer(c, left_fd, upper_fd, err);
	return r > 0 ? write_layer(c, left_fd, -1, err) : r;
}

/* ---- records ---- */

static int labels_of(struct create *c, Kv__Entry ***list, size_t *n, struct err *err)
{
	struct arena *a = rpc_arena(c->call);
	char text[DIGEST_TEXT_MAX];

	*list = c->req->labels;
	*n = c->req->n_labels;
	TRY(cd_kvs_clean(a, list, n, LABEL_BYTES_MAX, err));
	if (c->kind != ESGZ_PLAIN)
		cd_kvs_set(a, list, n, LABEL_UNCOMPRESSED, arena_strdup(a, digest_text(&c->diff_id, text)));
	return 0;
}

/* The blob was here: it gets the labels that it lacks, and the lease. */
static int add_labels(struct create *c, const char *digest, Kv__Entry **labels, size_t n, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(c->d->meta, CD_CONTENT, c->ns, str_of(digest));
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	struct arena *a = rpc_arena(c->call);
	Records__Content *record = NULL;
	bool changed = false;

	TRY(cd_content_get(c->d, c->ns, digest, a, &record, err));
	for (size_t i = 0; i < n; i++)
		if (!pb_kv_get(record->info->labels, record->info->n_labels, labels[i]->key)) {
			cd_kvs_set(a, KVS(record->info, labels), labels[i]->key, labels[i]->value);
			changed = true;
		}
	if (changed) {
		record->info->updated_at = pb_time_new(a, clock_wall());
		cd_batch_put(&b, CD_CONTENT, c->ns, str_of(digest), &record->base);
	}
	if (c->lease)
		cd_lease_add(&b, c->ns, c->lease, "content", digest);
	return cd_meta_commit(c->d->meta, &b, err);
}

static int publish(struct create *c, const char *ref, struct created *out, struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	struct cd_content_new content = {.ns = c->ns, .lease = c->lease, .ref = ref};
	int r;

	cd_writer_digest(c->writer, &out->digest);
	out->bytes = (uint64_t)cd_writer_offset(c->writer);
	content.digest = digest_text(&out->digest, text);
	cd_use_blob_for_call(c->d, c->call, c->ns, text);
	TRY(cd_writer_commit(c->writer, &out->digest, err));
	content.bytes = (int64_t)out->bytes;
	TRY(labels_of(c, &content.labels, &content.n_labels, err));
	r = cd_content_put(c->d, rpc_arena(c->call), &content, err);
	return r == -ERR_EXISTS ? add_labels(c, text, content.labels, content.n_labels, err) : r;
}

/* ---- the whole ---- */

static int parse(struct create *c, struct created *out, struct err *err)
{
	const char *type = *c->req->media_type ? c->req->media_type : MEDIA_DEFAULT;
	Kv__Entry **labels;
	size_t n;

	TRY(cd_call_ns(c->call, &c->ns, err));
	TRY(cd_call_lease(c->d, c->call, c->ns, &c->lease, err));
	TRY(labels_of(c, &labels, &n, err)); /* before the work */
	for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
		if (!strcmp(KINDS[i].media_type, type)) {
			c->kind = KINDS[i].kind;
			out->media_type = KINDS[i].media_type;
			return 0;
		}
	return err_set(err, ERR_UNIMPLEMENTED, "a layer cannot be made as \"%.200s\": not implemented", type);
}

int diff_create(struct cd_daemon *d, struct rpc_call *call, const Diff__DiffRequest *req, struct created *out,
                struct err *err)
{
	AUTO(create) struct create c = {.d = d, .call = call, .req = req};
	char random[33];
	AUTO_FREE char *ref = *req->ref ? xstrdup(req->ref) : xasprintf("diff-%s", random_hex(random, 16));
	int r;

	TRY(parse(&c, out, err));
	tree_mounts_of_api(req->left, req->n_left, &c.left);
	tree_mounts_of_api(req->right, req->n_right, &c.right);
	TRY(cd_writer_open(d->content, c.ns, ref, 0, "", &c.writer, err));
	r = write_blob(&c, err);
	if (r >= 0)
		r = publish(&c, ref, out, err);
	if (r < 0)
		cd_writer_abort(c.writer, NULL);
	return r;
}
