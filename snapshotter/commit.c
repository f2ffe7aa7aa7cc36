/* How committed snapshots come about: from an active one, or as layer indexes at once. */
#include "snapshotter/internal.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

/* ---- from an active snapshot ---- */

static char *dir_of(uint64_t id)
{
	return xasprintf("%llu/fs", (unsigned long long)id);
}

static int sync_dir(struct snap_store *s, const char *path, struct err *err)
{
	AUTO_FD int fd = openat(s->snapshots_fd, path, O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0)
		return err_errno(err, errno, "sync snapshot directory %s", path);
	return 0;
}

static int load_active(struct snap_store *s, struct snap_space sp, const char *key, struct snap_record *out,
                       struct err *err)
{
	TRY(snap_record_load(s->kv, sp, key, out, err));
	if (out->info.kind != SNAP_ACTIVE)
		return err_set(err, ERR_PRECONDITION, "snapshot %s is not active", key);
	return 0;
}

/* The parent given at commit. */
static int rebase(struct snap_store *s, struct snap_space sp, struct snap_record *r, const char *parent,
                  struct err *err)
{
	AUTO(snap_record) struct snap_record above = {0};

	if (!*parent || !strcmp(parent, r->info.parent))
		return 0;
	if (*r->info.parent)
		return err_set(err, ERR_INVALID, "snapshot %s has another parent than %s", r->info.name, parent);
	TRY_WRAP(snap_record_load(s->kv, sp, parent, &above, err), err, "parent");
	if (above.info.kind != SNAP_COMMITTED)
		return err_set(err, ERR_PRECONDITION, "parent snapshot %s is not committed", parent);
	if (r->info.indexed && above.info.has_dir)
		return err_set(err, ERR_PRECONDITION, "snapshot %s is a layer index, its parent %s a directory",
		               r->info.name, parent);
	free(r->info.parent);
	r->info.parent = xstrdup(parent);
	return 0;
}

/* What is in the directory of an active snapshot, as it is when it is committed. */
struct contents {
	uint64_t id;
	bool empty;
	int64_t bytes, inodes;
};

static int commit_record(struct snap_store *s, struct snap_space sp, const char *name, const char *key,
                         const char *parent, const struct labels *labels, const struct contents *own, uint64_t *gone,
                         struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	if (snap_record_exists(s->kv, sp, name))
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", name);
	TRY(load_active(s, sp, key, &r, err));
	if (r.id != own->id)
		return err_set(err, ERR_ABORTED, "snapshot %s was removed and made anew meanwhile", key);
	TRY(rebase(s, sp, &r, parent, err));
	free(r.info.name);
	r.info.name = xstrdup(name);
	r.info.kind = SNAP_COMMITTED;
	vec_clear(&r.lower);
	if (r.info.indexed && own->empty) {
		*gone = r.id;
		r.id = 0;
	} else {
		r.bytes += own->bytes;
		r.inodes += own->inodes;
	}
	snap_record_stamp(&r);
	labels_copy(labels, &r.info.labels);
	FAILPOINT("snapshot-commit");
	return snap_record_put(s->kv, sp, &r, key, err);
}

int snap_commit(struct snap_store *s, struct snap_space sp, const char *name, const char *key, const char *parent,
                const struct labels *labels, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO_FREE char *path = NULL;
	struct contents own = {0};
	uint64_t gone = 0;
	int ret;

	if (!*name)
		return err_set(err, ERR_INVALID, "snapshot name is empty");
	pthread_mutex_lock(&s->lock);
	snap_wait_made(s, sp, key);
	pthread_mutex_unlock(&s->lock);
	TRY(load_active(s, sp, key, &r, err));
	own.id = r.id;
	path = dir_of(r.id);
	TRY(snap_disk_usage(s->snapshots_fd, path, &own.bytes, &own.inodes, err));
	own.empty = own.inodes == 1;
	if (!r.info.indexed || !own.empty)
		TRY(sync_dir(s, path, err));
	pthread_mutex_lock(&s->lock);
	ret = commit_record(s, sp, name, key, parent, labels, &own, &gone, err);
	pthread_mutex_unlock(&s->lock);
	TRY(ret);
	TRY(kv_sync(s->kv, err));
	FAILPOINT("snapshot-committed");
	if (gone)
		snap_drop_dir(s, gone);
	return 0;
}

/* ---- what is unpacked into an active snapshot ---- */

struct found {
	uint64_t id;
	char **ns, **snapshotter, **key;
};

static int find_one(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct str ns, snapshotter, name;
	struct found *f = arg;

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &r, err));
	if (r.id != f->id || r.info.kind != SNAP_ACTIVE)
		return 0;
	*f->ns = str_dup(ns);
	*f->snapshotter = str_dup(snapshotter);
	*f->key = str_dup(name);
	return 1;
}

int snap_find(struct snap_store *s, const char *path, char **ns, char **snapshotter, char **key, struct err *err)
{
	struct found f = {.ns = ns, .snapshotter = snapshotter, .key = key};
	struct str rest = str_of(path);

	*key = NULL;
	if (str_skip(&rest, str_of(s->root)) && str_skip(&rest, STR("/snapshots/")) && str_ends(rest, STR("/fs")) &&
	    str_u64(str_sub(rest, 0, rest.n - 3), 10, &f.id))
		TRY(kv_scan(s->kv, SNAP_KEY_RECORDS, find_one, &f, err));
	return *key ? 0 : err_set(err, ERR_NOT_FOUND, "no active snapshot has the directory %s", path);
}

static int apply_index(struct snap_store *s, struct snap_space sp, const char *key, const struct digest *index_key,
                       int64_t usage_bytes, int64_t usage_inodes, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO(snap_record) struct snap_record above = {0};
	bool empty;

	TRY(load_active(s, sp, key, &r, err));
	TRY(snap_check_parent(s, sp, r.info.parent, &above, err));
	TRY(snap_dir_is_empty(s, r.id, &empty, err));
	if (r.info.indexed || above.info.has_dir || !empty)
		return 1;
	r.info.indexed = true;
	r.info.index_key = *index_key;
	r.bytes = usage_bytes;
	r.inodes = usage_inodes;
	r.info.updated = clock_wall();
	return snap_record_put(s->kv, sp, &r, NULL, err);
}

int snap_apply_index(struct snap_store *s, struct snap_space sp, const char *key, const struct digest *index_key,
                     int64_t usage_bytes, int64_t usage_inodes, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = apply_index(s, sp, key, index_key, usage_bytes, usage_inodes, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int drop_index(struct snap_store *s, struct snap_space sp, const char *key, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	TRY(load_active(s, sp, key, &r, err));
	r.info.indexed = false;
	r.bytes = r.inodes = 0;
	return snap_record_put(s->kv, sp, &r, NULL, err);
}

int snap_drop_index(struct snap_store *s, struct snap_space sp, const char *key, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = drop_index(s, sp, key, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int snap_dir_mounts(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
                    struct snap_mounts *out, struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;
	AUTO(snap_record) struct snap_record r = {0};
	bool empty;

	TRY(load_active(s, sp, key, &r, err));
	TRY(snap_dir_is_empty(s, r.id, &empty, err));
	if (!empty)
		return err_set(err, ERR_PRECONDITION, "snapshot %s: something was written into it", key);
	r.info.indexed = false;
	if (strcmp(parent, r.info.parent) != 0)
		TRY(snap_chain_load(s, sp, parent, &chain, err));
	else
		TRY(snap_chain_of(s, sp, &r, &chain, err));
	return snap_mounts_make(s, SNAP_ACTIVE, r.id, &chain, out, err);
}

/* ---- as layer indexes at once ---- */

static int put_indexed(struct snap_store *s, struct snap_space sp, const struct snap_layer *l, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO(snap_record) struct snap_record above = {0};

	TRY(snap_check_parent(s, sp, l->parent, &above, err));
	r.info.name = xstrdup(l->name);
	r.info.parent = xstrdup(l->parent);
	r.info.kind = SNAP_COMMITTED;
	r.info.indexed = true;
	r.info.index_key = l->index_key;
	r.bytes = l->usage_bytes;
	r.inodes = l->usage_inodes;
	snap_record_stamp(&r);
	labels_copy(l->labels, &r.info.labels);
	return snap_record_put(s->kv, sp, &r, NULL, err);
}

static bool has_dir(struct snap_store *s, struct snap_space sp, const char *name)
{
	AUTO(snap_record) struct snap_record r = {0};

	return *name && snap_record_load(s->kv, sp, name, &r, NULL) >= 0 && r.info.has_dir;
}

/* 1 when there is something new. */
static int add_chain(struct snap_store *s, struct snap_space sp, struct snap_layer *layers, unsigned n, unsigned *done,
                     struct err *err)
{
	int added = 0;

	for (*done = 0; *done < n; ++*done) {
		struct snap_layer *l = &layers[*done];

		l->existed = snap_record_exists(s->kv, sp, l->name);
		if (!l->existed && has_dir(s, sp, l->parent))
			break;
		if (l->existed)
			continue;
		TRY(put_indexed(s, sp, l, err));
		added = 1;
	}
	return added;
}

int snap_add_chain(struct snap_store *s, struct snap_space sp, struct snap_layer *layers, unsigned n, unsigned *done,
                   struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = add_chain(s, sp, layers, n, done, err);
	pthread_mutex_unlock(&s->lock);
	return r > 0 ? kv_sync(s->kv, err) : r;
}

int snap_add_indexed(struct snap_store *s, struct snap_space sp, const char *name, const char *parent,
                     const struct digest *index_key, int64_t usage_bytes, int64_t usage_inodes,
                     const struct labels *labels, struct err *err)
{
	struct snap_layer l = {.name = name,
	                       .parent = parent,
	                       .index_key = *index_key,
	                       .usage_bytes = usage_bytes,
	                       .usage_inodes = usage_inodes,
	                       .labels = labels};
	unsigned done;

	TRY(snap_add_chain(s, sp, &l, 1, &done, err));
	if (l.existed)
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", name);
	if (!done)
		return err_set(err, ERR_PRECONDITION, "snapshot %s: parent %s is a plain directory layer", name,
		               parent);
	return 0;
}

static int replace_indexed(struct snap_store *s, struct snap_space sp, const char *name, const struct digest *index_key,
                           int64_t usage_bytes, int64_t usage_inodes, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	TRY(snap_record_load(s->kv, sp, name, &r, err));
	if (r.info.kind != SNAP_COMMITTED || !r.info.indexed)
		return err_set(err, ERR_PRECONDITION, "snapshot %s is not an indexed layer", name);
	r.info.index_key = *index_key;
	r.bytes = usage_bytes;
	r.inodes = usage_inodes;
	r.info.updated = clock_wall();
	return snap_record_put(s->kv, sp, &r, NULL, err);
}

int snap_replace_indexed(struct snap_store *s, struct snap_space sp, const char *name, const struct digest *index_key,
                         int64_t usage_bytes, int64_t usage_inodes, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = replace_indexed(s, sp, name, index_key, usage_bytes, usage_inodes, err);
	pthread_mutex_unlock(&s->lock);
	TRY(r);
	return kv_sync(s->kv, err);
}
