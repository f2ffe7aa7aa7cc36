#include "contentd/diff/apply.h"

#include "base/file.h"
#include "contentd/content/blobs.h"
#include "contentd/layer_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define LABEL_SOURCE STR("containerd.io/distribution.source.")

/* ---- scratch directories ---- */

/* An empty directory to mount on, in <state>/diff. */
struct scratch {
	char *path;
};

static void scratch_fini(struct scratch *s)
{
	if (s->path)
		rmdir(s->path);
	free(s->path);
}
DEFINE_AUTO_FINI(scratch);

static int scratch_make(struct cd_daemon *d, struct scratch *out, struct err *err)
{
	AUTO_FREE char *parent = xasprintf("%s/diff", d->config.state);
	AUTO_FREE char *path = xasprintf("%s/XXXXXX", parent);

	TRY(dir_make(parent, 0700, err));
	if (!mkdtemp(path) || chmod(path, 0755) < 0) /* the mode that a tree begins with */
		return err_errno(err, errno, "make a directory in %s", parent);
	out->path = STEAL(path);
	return 0;
}

int diff_open_tree(struct cd_daemon *d, const struct tree_mounts *mounts, int *fd, struct err *err)
{
	AUTO(scratch) struct scratch at = {NULL};

	TRY(scratch_make(d, &at, err));
	return tree_open(mounts, at.path, fd, err);
}

/* ---- into a directory ---- */

static int unpack_into(struct cd_daemon *d, struct rpc_call *c, int blob_fd, const struct tree_mounts *mounts,
                       bool sync, struct unpacked *out, struct err *err)
{
	AUTO_FD int root_fd = -1;

	TRY(diff_open_tree(d, mounts, &root_fd, err));
	TRY(diff_unpack(blob_fd, root_fd, c, out, err));
	if (sync && syncfs(root_fd) < 0)
		return err_errno(err, errno, "sync the file system");
	return 0;
}

int diff_fill_dir(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *key, const char *parent,
                  int blob_fd, struct unpacked *out, struct err *err)
{
	AUTO(snap_mounts) struct snap_mounts mounts = SNAP_MOUNTS_INIT;
	AUTO(tree_mounts) struct tree_mounts list = TREE_MOUNTS_INIT;
	struct snap_store *snaps;

	TRY(cd_snapshots(d, c, &snaps, err));
	TRY(snap_dir_mounts(snaps, space, key, parent, &mounts, err));
	tree_mounts_of_snapshot(&mounts, &list);
	return unpack_into(d, c, blob_fd, &list, false, out, err);
}

int diff_index_to_dir(struct cd_daemon *d, struct rpc_call *c, struct snap_space space, const char *key,
                      const char *parent, struct err *err)
{
	AUTO(snap_info) struct snap_info info = {0};
	AUTO_FD int fd = -1;
	struct snap_store *snaps;
	struct unpacked unpacked;
	struct esgz_index_info index;
	int64_t bytes;

	TRY(cd_snapshots(d, c, &snaps, err));
	TRY(snap_stat(snaps, space, key, &info, err));
	if (!info.indexed)
		return 0;
	TRY(cd_layer_index_info(d, &info.index_key, &index, err));
	TRY_WRAP(cd_blob_open(d->content, &index.blob, &fd, &bytes, err), err, "the layer of snapshot %s, as files",
	         key);
	TRY(diff_fill_dir(d, c, space, key, parent, fd, &unpacked, err));
	return snap_drop_index(snaps, space, key, err);
}

/* ---- into an index ---- */

struct target {
	struct snap_store *snaps;
	struct ffs_client *data;
	char *ns, *snapshotter, *key;
};

static void target_fini(struct target *t)
{
	free(t->ns);
	free(t->snapshotter);
	free(t->key);
}
DEFINE_AUTO_FINI(target);

static struct snap_space space_of(const struct target *t)
{
	return (struct snap_space){t->ns, t->snapshotter};
}

/* True when the mounts are those of an active snapshot that can have an index; t->key is set when they are ours at all. */
static bool takes_index(struct cd_daemon *d, struct rpc_call *c, const char *dir, struct target *t)
{
	AUTO(snap_info) struct snap_info info = {0};
	AUTO(snap_info) struct snap_info above = {0};

	if (!dir || cd_snapshots(d, c, &t->snaps, NULL) < 0 ||
	    snap_find(t->snaps, dir, &t->ns, &t->snapshotter, &t->key, NULL) < 0 ||
	    snap_stat(t->snaps, space_of(t), t->key, &info, NULL) < 0 || info.indexed)
		return false;
	if (*info.parent && (snap_stat(t->snaps, space_of(t), info.parent, &above, NULL) < 0 || above.has_dir))
		return false;
	return cd_data(d, c, &t->data, NULL) >= 0;
}

/* A registry that has the blob: where we had it from, or by the labels that clients set when they fetch it, which say host
 * (without its port) and repositories. */
static char *reference_of(const Records__Content *record)
{
	for (size_t i = 0; i < record->info->n_labels && !*record->source; i++) {
		struct str host = str_of(record->info->labels[i]->key);
		struct str rest = str_of(record->info->labels[i]->value), repository;

		if (str_skip(&host, LABEL_SOURCE) && str_split(&rest, ',', &repository) && repository.n)
			return xasprintf(STR_FMT "/" STR_FMT, STR_ARG(host), STR_ARG(repository));
	}
	return xstrdup(record->source);
}

static int unpack_to_index(struct target *t, struct rpc_call *c, const Types__Descriptor *layer,
                           const Records__Content *record, int blob_fd, Contentd__Contentfs__V1__UnpackResponse **out,
                           struct err *err)
{
	Contentd__Contentfs__V1__UnpackRequest req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	Contentd__Contentfs__V1__Descriptor desc = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	AUTO_FREE char *reference = reference_of(record);

	desc.media_type = (char *)layer->media_type;
	desc.digest = (char *)record->info->digest;
	desc.size = record->info->size;
	req.reference = reference;
	req.layer = &desc;
	req.from_fd = true;
	return ffs_client_unpack(t->data, c, &req, blob_fd, NULL, NULL, out, err);
}

static int64_t files_of(struct target *t, const char *key)
{
	AUTO(pb) Contentd__Contentfs__V1__StatusResponse *rsp = NULL;

	if (ffs_client_sizes(t->data, &key, 1, &rsp, NULL) < 0 || rsp->n_layers != 1)
		return 0;
	return rsp->layers[0]->files;
}

/* 1: somebody has written into the directory meanwhile. */
static int apply_index(struct target *t, struct rpc_call *c, const Types__Descriptor *layer,
                       const Records__Content *record, int blob_fd, struct unpacked *out, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__UnpackResponse *rsp = NULL;
	struct digest key;

	TRY(unpack_to_index(t, c, layer, record, blob_fd, &rsp, err));
	if (!digest_from_hex(str_of(rsp->index_key), &key))
		return err_set(err, ERR_INTERNAL, "contentfs gave a malformed index key");
	TRY(digest_parse(str_of(rsp->diff_id), &out->diff_id, err));
	out->plain_bytes = (uint64_t)rsp->plain_bytes;
	return snap_apply_index(t->snaps, space_of(t), t->key, &key, rsp->content_bytes, files_of(t, rsp->index_key),
	                        err);
}

/* ---- the choice ---- */

/* Where the snapshot is ours its mounts may be others than when the client got them: what was applied before lies below. */
static int apply_to_dir(struct cd_daemon *d, struct rpc_call *c, struct target *t, const struct tree_mounts *mounts,
                        int blob_fd, bool sync, struct unpacked *out, struct err *err)
{
	AUTO(snap_mounts) struct snap_mounts now = SNAP_MOUNTS_INIT;
	AUTO(tree_mounts) struct tree_mounts list = TREE_MOUNTS_INIT;

	if (!t->key)
		return unpack_into(d, c, blob_fd, mounts, sync, out, err);
	TRY(snap_mounts(t->snaps, space_of(t), t->key, &now, err));
	tree_mounts_of_snapshot(&now, &list);
	return unpack_into(d, c, blob_fd, &list, sync, out, err);
}

int diff_apply(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Types__Descriptor *layer,
               const struct tree_mounts *mounts, bool sync, struct unpacked *out, struct err *err)
{
	AUTO(target) struct target t = {0};
	Records__Content *record = NULL;
	AUTO_FD int fd = -1;
	int64_t bytes;
	int r = 1;

	TRY(cd_content_get(d, ns, layer->digest, rpc_arena(c), &record, err));
	TRY(cd_content_open_blob(d, c, ns, record, &fd, &bytes, err));
	if (takes_index(d, c, tree_writable_dir(mounts), &t))
		r = apply_index(&t, c, layer, record, fd, out, err);
	if (r > 0)
		r = apply_to_dir(d, c, &t, mounts, fd, sync, out, err);
	return r;
}
