#include "snapshotter/internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- records ---- */

static bool exists(struct snap_store *s, struct snap_space sp, const char *name)
{
	AUTO(buf) struct buf key = BUF_INIT;
	AUTO(buf) struct buf value = BUF_INIT;

	snap_key_record(sp, name, &key);
	return kv_get(s->kv, buf_str(&key), &value, NULL) >= 0;
}

static int stop_at_first(void *arg, struct str key, struct str value, struct err *err)
{
	*(bool *)arg = true;
	return 1;
}

static int has_children(struct snap_store *s, struct snap_space sp, const char *name, bool *out, struct err *err)
{
	AUTO(buf) struct buf prefix = BUF_INIT;

	*out = false;
	snap_key_children(sp, name, &prefix);
	return kv_scan(s->kv, buf_str(&prefix), stop_at_first, out, err);
}

static int next_id(struct snap_store *s, uint64_t *out, struct err *err)
{
	AUTO(buf) struct buf value = BUF_INIT;
	struct err why = ERR_INIT;
	uint64_t last = 0;
	char text[24];

	if (kv_get(s->kv, SNAP_KEY_ID, &value, &why) >= 0) {
		if (!str_u64(buf_str(&value), 10, &last))
			return err_set(err, ERR_DATA_LOSS, "snapshot id counter is damaged");
	} else if (why.code != ERR_NOT_FOUND) {
		return err_set(err, why.code, "snapshot id counter: %s", why.msg);
	}
	*out = last + 1;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)*out);
	/* Not synced: the record that uses it is, and the log of the table is in order. */
	return kv_write(s->kv, &(struct kv_op){SNAP_KEY_ID, str_of(text), false}, 1, false, err);
}

struct write {
	struct buf record_key, record, child_key;
};

static void write_fini(struct write *w)
{
	buf_fini(&w->record_key);
	buf_fini(&w->record);
	buf_fini(&w->child_key);
}
DEFINE_AUTO_FINI(write);

/* Stores a record and its mark below the parent; `old` (may be NULL) is a key that ceases in the same step. */
static int put_record(struct snap_store *s, struct snap_space sp, const struct snap_record *r, const char *old,
                      bool sync, struct err *err)
{
	AUTO(write) struct write w = {BUF_INIT, BUF_INIT, BUF_INIT};
	AUTO(write) struct write gone = {BUF_INIT, BUF_INIT, BUF_INIT};
	struct kv_op ops[4];
	unsigned n = 0;

	if (old) {
		snap_key_record(sp, old, &gone.record_key);
		ops[n++] = (struct kv_op){.key = buf_str(&gone.record_key), .remove = true};
		if (*r->info.parent) {
			snap_key_child(sp, r->info.parent, old, &gone.child_key);
			ops[n++] = (struct kv_op){.key = buf_str(&gone.child_key), .remove = true};
		}
	}
	snap_key_record(sp, r->info.name, &w.record_key);
	snap_record_encode(r, &w.record);
	ops[n++] = (struct kv_op){buf_str(&w.record_key), buf_str(&w.record), false};
	if (*r->info.parent) {
		snap_key_child(sp, r->info.parent, r->info.name, &w.child_key);
		ops[n++] = (struct kv_op){buf_str(&w.child_key), STR_NONE, false};
	}
	return kv_write(s->kv, ops, n, sync, err);
}

static int check_parent(struct snap_store *s, struct snap_space sp, const char *parent, struct snap_record *out,
                        struct err *err)
{
	if (!*parent)
		return 0;
	TRY_WRAP(snap_record_load(s->kv, sp, parent, out, err), err, "parent");
	if (out->info.kind != SNAP_COMMITTED)
		return err_set(err, ERR_INVALID, "parent snapshot %s is not committed", parent);
	return 0;
}

static void stamp(struct snap_record *r)
{
	r->info.created = r->info.updated = clock_wall();
}

static int delete_record(struct snap_store *s, struct snap_space sp, const struct snap_record *r, struct err *err)
{
	AUTO(write) struct write w = {BUF_INIT, BUF_INIT, BUF_INIT};
	struct kv_op ops[2];
	unsigned n = 0;

	snap_key_record(sp, r->info.name, &w.record_key);
	ops[n++] = (struct kv_op){.key = buf_str(&w.record_key), .remove = true};
	if (*r->info.parent) {
		snap_key_child(sp, r->info.parent, r->info.name, &w.child_key);
		ops[n++] = (struct kv_op){.key = buf_str(&w.child_key), .remove = true};
	}
	return kv_write(s->kv, ops, n, true, err);
}

/* ---- life-cycle ---- */

static int check_path(const char *path, struct err *err)
{
	if (path[0] != '/')
		return err_set(err, ERR_INVALID, "path %s is not absolute", path);
	for (const char *c = path; *c; c++)
		if (*c == ':' || *c == ',' || *c == '\\')
			return err_set(err, ERR_INVALID, "path %s: overlayfs takes no ':', ',' or '\\' in it", path);
	return 0;
}

/* A record whose directory is missing. */
struct lost {
	char *ns, *snapshotter;
	struct snap_record record;
};

struct sweep {
	struct snap_store *store;
	struct map ids; /* directories that a record names */
	VEC(struct lost) lost;
};

static void sweep_fini(struct sweep *w)
{
	map_fini(&w->ids);
	vec_each(&w->lost, l) {
		free(l->ns);
		free(l->snapshotter);
		snap_record_fini(&l->record);
	}
	vec_fini(&w->lost);
}
DEFINE_AUTO_FINI(sweep);

static int note_record(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct str ns, snapshotter, name;
	struct sweep *w = arg;
	char dir[32];

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &r, err));
	if (!r.id)
		return 0;
	map_put(&w->ids, map_key_u64(&r.id), w);
	snprintf(dir, sizeof(dir), "%llu/fs", (unsigned long long)r.id);
	if (faccessat(w->store->snapshots_fd, dir, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (r.info.kind == SNAP_COMMITTED) {
		log_error("snapshot %s: its directory %s/snapshots/%s is missing", r.info.name, w->store->root, dir);
		return 0;
	}
	/* Prepare had not answered when the process died: nobody knows this snapshot. */
	vec_push(&w->lost, (struct lost){str_dup(ns), str_dup(snapshotter), r});
	r = (struct snap_record){0};
	return 0;
}

static int drop_lost(struct snap_store *s, struct sweep *w, struct err *err)
{
	vec_each(&w->lost, l)
		TRY(delete_record(s, (struct snap_space){l->ns, l->snapshotter}, &l->record, err));
	return 0;
}

/* Removes directories that no record names: left by a crash between making one and recording it, or by a removal. */
static int drop_strays(struct snap_store *s, const struct sweep *w, struct err *err)
{
	int fd = openat(s->snapshots_fd, ".", O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d)
		return err_errno(err, errno, "list snapshot directories");
	while ((e = readdir(d))) {
		struct err why = ERR_INIT;
		uint64_t id;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (str_u64(str_of(e->d_name), 10, &id) && map_has(&w->ids, map_key_u64(&id)))
			continue;
		if (dir_remove(s->snapshots_fd, e->d_name, &why) < 0)
			log_warn("left-over snapshot directory %s: %s", e->d_name, why.msg);
	}
	closedir(d);
	return 0;
}

/* Brings records and directories together after a crash. */
static int sweep(struct snap_store *s, struct err *err)
{
	AUTO(sweep) struct sweep w = {.store = s, .ids = MAP_INIT};

	TRY(kv_scan(s->kv, SNAP_KEY_RECORDS, note_record, &w, err));
	TRY(drop_lost(s, &w, err));
	return drop_strays(s, &w, err);
}

static int open_store(struct snap_store *s, enum snap_level level, struct err *err)
{
	AUTO_FREE char *snapshots = xasprintf("%s/snapshots", s->root);

	TRY(check_path(s->root, err));
	TRY(check_path(s->state, err));
	TRY(dir_make(snapshots, 0700, err));
	TRY(dir_make(s->state, 0711, err));
	s->snapshots_fd = open(snapshots, O_DIRECTORY | O_CLOEXEC);
	if (s->snapshots_fd < 0)
		return err_errno(err, errno, "open %s", snapshots);
	TRY(snap_meta_open(s->root, s->state, &s->meta, err));
	if (level == SNAP_LEVEL_AUTO)
		TRY(snap_probe(s->root, s->state, &level, &s->level_reason, err));
	else
		s->level_reason = xstrdup("set by configuration");
	s->level = level;
	snap_meta_set_level(s->meta, level);
	return sweep(s, err);
}

int snap_store_new(const struct snap_opts *opts, struct snap_store **out, struct err *err)
{
	struct snap_store *s = xcalloc(1, sizeof(*s));
	int r;

	s->root = xstrdup(opts->root);
	s->state = xstrdup(opts->state);
	s->kv = opts->kv;
	s->snapshots_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	r = open_store(s, opts->level, err);
	if (r < 0) {
		snap_store_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void snap_store_free(struct snap_store *s)
{
	if (!s)
		return;
	snap_meta_close(s->meta);
	if (s->snapshots_fd >= 0)
		close(s->snapshots_fd);
	pthread_mutex_destroy(&s->lock);
	free(s->level_reason);
	free(s->root);
	free(s->state);
	free(s);
}

enum snap_level snap_store_level(const struct snap_store *s)
{
	return s->level;
}

const char *snap_store_level_reason(const struct snap_store *s)
{
	return s->level_reason;
}

/* ---- creating ---- */

static void remove_dir(struct snap_store *s, uint64_t id)
{
	AUTO_FREE char *name = xasprintf("%llu", (unsigned long long)id);
	AUTO_FREE char *trash = xasprintf(".rm-%llu", (unsigned long long)id);
	struct err err = ERR_INIT;

	if (renameat(s->snapshots_fd, name, s->snapshots_fd, trash) < 0 && errno == ENOENT)
		return;
	if (dir_remove(s->snapshots_fd, trash, &err) < 0)
		log_warn("remove snapshot directory %s: %s", name, err.msg);
}

static int create(struct snap_store *s, struct snap_space sp, enum snap_kind kind, const char *key, const char *parent,
                  const struct labels *labels, struct snap_chain *chain, uint64_t *id, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO(snap_record) struct snap_record above = {0};

	if (!*key)
		return err_set(err, ERR_INVALID, "snapshot key is empty");
	if (exists(s, sp, key))
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", key);
	TRY(check_parent(s, sp, parent, &above, err));
	TRY(snap_chain_load(s, sp, parent, chain, err));
	TRY(next_id(s, &r.id, err));
	r.info.name = xstrdup(key);
	r.info.parent = xstrdup(parent);
	r.info.kind = kind;
	stamp(&r);
	labels_copy(labels, &r.info.labels);
	*id = r.id;
	return put_record(s, sp, &r, NULL, false, err);
}

/* The record comes first, so that a crash leaves a directory with a name, or a name whose directory is made again. */
static int prepare(struct snap_store *s, struct snap_space sp, enum snap_kind kind, const char *key, const char *parent,
                   const struct labels *labels, struct snap_mounts *out, struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;
	uint64_t id = 0;
	int r;

	pthread_mutex_lock(&s->lock);
	r = create(s, sp, kind, key, parent, labels, &chain, &id, err);
	pthread_mutex_unlock(&s->lock);
	TRY(r);
	r = snap_dirs_make(s, kind, id, &chain, err);
	if (r >= 0)
		r = snap_mounts_make(s, kind, id, &chain, out, err);
	if (r < 0) {
		struct err ignored = ERR_INIT;

		snap_remove(s, sp, key, &ignored);
		return err_wrap(err, "snapshot %s", key);
	}
	return 0;
}

int snap_prepare(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
                 const struct labels *labels, struct snap_mounts *out, struct err *err)
{
	return prepare(s, sp, SNAP_ACTIVE, key, parent, labels, out, err);
}

int snap_view(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
              const struct labels *labels, struct snap_mounts *out, struct err *err)
{
	return prepare(s, sp, SNAP_VIEW, key, parent, labels, out, err);
}

int snap_mounts(struct snap_store *s, struct snap_space sp, const char *key, struct snap_mounts *out, struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;
	AUTO(snap_record) struct snap_record r = {0};

	TRY(snap_record_load(s->kv, sp, key, &r, err));
	if (r.info.kind == SNAP_COMMITTED)
		return err_set(err, ERR_PRECONDITION, "snapshot %s is committed: it has no mounts", key);
	TRY(snap_chain_load(s, sp, r.info.parent, &chain, err));
	return snap_mounts_make(s, r.info.kind, r.id, &chain, out, err);
}

/* ---- committing ---- */

static int sync_dir(struct snap_store *s, uint64_t id, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%llu/fs", (unsigned long long)id);
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

static int commit_record(struct snap_store *s, struct snap_space sp, const char *name, const char *key,
                         const struct labels *labels, int64_t bytes, int64_t inodes, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	if (exists(s, sp, name))
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", name);
	TRY(load_active(s, sp, key, &r, err));
	free(r.info.name);
	r.info.name = xstrdup(name);
	r.info.kind = SNAP_COMMITTED;
	r.bytes = bytes;
	r.inodes = inodes;
	stamp(&r);
	labels_copy(labels, &r.info.labels);
	return put_record(s, sp, &r, key, true, err);
}

int snap_commit(struct snap_store *s, struct snap_space sp, const char *name, const char *key,
                const struct labels *labels, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO_FREE char *path = NULL;
	int64_t bytes, inodes;
	int ret;

	if (!*name)
		return err_set(err, ERR_INVALID, "snapshot name is empty");
	TRY(load_active(s, sp, key, &r, err));
	path = xasprintf("%llu/fs", (unsigned long long)r.id);
	TRY(snap_disk_usage(s->snapshots_fd, path, &bytes, &inodes, err));
	TRY(sync_dir(s, r.id, err));
	pthread_mutex_lock(&s->lock);
	ret = commit_record(s, sp, name, key, labels, bytes, inodes, err);
	pthread_mutex_unlock(&s->lock);
	return ret;
}

static int add_indexed(struct snap_store *s, struct snap_space sp, struct snap_record *r, struct err *err)
{
	AUTO(snap_record) struct snap_record above = {0};

	if (exists(s, sp, r->info.name))
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", r->info.name);
	TRY(check_parent(s, sp, r->info.parent, &above, err));
	if (*r->info.parent && !above.info.indexed)
		return err_set(err, ERR_PRECONDITION, "snapshot %s: parent %s is a plain directory layer", r->info.name,
		               r->info.parent);
	return put_record(s, sp, r, NULL, true, err);
}

int snap_add_indexed(struct snap_store *s, struct snap_space sp, const char *name, const char *parent,
                     const struct digest *index_key, int64_t usage_bytes, int64_t usage_inodes,
                     const struct labels *labels, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	int ret;

	r.info.name = xstrdup(name);
	r.info.parent = xstrdup(parent);
	r.info.kind = SNAP_COMMITTED;
	r.info.indexed = true;
	r.info.index_key = *index_key;
	r.bytes = usage_bytes;
	r.inodes = usage_inodes;
	stamp(&r);
	labels_copy(labels, &r.info.labels);
	pthread_mutex_lock(&s->lock);
	ret = add_indexed(s, sp, &r, err);
	pthread_mutex_unlock(&s->lock);
	return ret;
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
	return put_record(s, sp, &r, NULL, true, err);
}

int snap_replace_indexed(struct snap_store *s, struct snap_space sp, const char *name, const struct digest *index_key,
                         int64_t usage_bytes, int64_t usage_inodes, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = replace_indexed(s, sp, name, index_key, usage_bytes, usage_inodes, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* ---- the rest ---- */

static int remove_record(struct snap_store *s, struct snap_space sp, const char *key, struct snap_record *r,
                         struct err *err)
{
	bool parent;

	TRY(snap_record_load(s->kv, sp, key, r, err));
	TRY(has_children(s, sp, key, &parent, err));
	if (parent)
		return err_set(err, ERR_PRECONDITION, "cannot remove snapshot %s: it has children", key);
	return delete_record(s, sp, r, err);
}

int snap_remove(struct snap_store *s, struct snap_space sp, const char *key, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	int ret;

	pthread_mutex_lock(&s->lock);
	ret = remove_record(s, sp, key, &r, err);
	pthread_mutex_unlock(&s->lock);
	if (ret >= 0 && r.id)
		remove_dir(s, r.id);
	return ret;
}

int snap_stat(struct snap_store *s, struct snap_space sp, const char *key, struct snap_info *out, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	TRY(snap_record_load(s->kv, sp, key, &r, err));
	*out = r.info;
	r.info = (struct snap_info){0};
	return 0;
}

static int update_labels(struct snap_store *s, struct snap_space sp, const char *key, const struct labels *labels,
                         struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};

	TRY(snap_record_load(s->kv, sp, key, &r, err));
	labels_copy(labels, &r.info.labels);
	r.info.updated = clock_wall();
	return put_record(s, sp, &r, NULL, true, err);
}

int snap_update_labels(struct snap_store *s, struct snap_space sp, const char *key, const struct labels *labels,
                       struct snap_info *out, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = update_labels(s, sp, key, labels, err);
	pthread_mutex_unlock(&s->lock);
	TRY(r);
	return snap_stat(s, sp, key, out, err);
}

struct list {
	int (*fn)(void *arg, const struct snap_info *i, struct err *err);
	void *arg;
};

static int list_one(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct str ns, snapshotter, name;
	struct list *l = arg;

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &r, err));
	return l->fn(l->arg, &r.info, err);
}

int snap_list(struct snap_store *s, struct snap_space sp,
              int (*fn)(void *arg, const struct snap_info *i, struct err *err), void *arg, struct err *err)
{
	AUTO(buf) struct buf prefix = BUF_INIT;

	snap_key_record(sp, "", &prefix);
	return kv_scan(s->kv, buf_str(&prefix), list_one, &(struct list){fn, arg}, err);
}

int snap_usage(struct snap_store *s, struct snap_space sp, const char *key, int64_t *bytes, int64_t *inodes,
               struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO_FREE char *path = NULL;

	TRY(snap_record_load(s->kv, sp, key, &r, err));
	*bytes = r.info.kind == SNAP_COMMITTED ? r.bytes : 0;
	*inodes = r.info.kind == SNAP_COMMITTED ? r.inodes : 0;
	if (r.info.kind != SNAP_ACTIVE)
		return 0;
	path = xasprintf("%llu/fs", (unsigned long long)r.id);
	return snap_disk_usage(s->snapshots_fd, path, bytes, inodes, err);
}

int snap_chain_indexes(struct snap_store *s, struct snap_space sp, const char *name, struct digest **keys, unsigned *n,
                       struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;

	TRY(snap_chain_load(s, sp, name, &chain, err));
	*n = (unsigned)chain.indexes.n;
	*keys = chain.indexes.p;
	chain.indexes.p = NULL;
	return 0;
}

int snap_warm(struct snap_store *s, struct snap_space sp, const char *name, struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;
	AUTO_FREE char *lower = NULL;
	AUTO_FREE char *dir = NULL;

	TRY(snap_chain_load(s, sp, name, &chain, err));
	if (!chain.indexes.n)
		return 0;
	return snap_meta_ensure(s->meta, chain.indexes.p, (unsigned)chain.indexes.n, &lower, &dir, err);
}

/* ---- release ---- */

struct used_scan {
	VEC(char *) parents; /* triples: namespace, snapshotter, parent of every active snapshot and view */
};

static int note_used(void *arg, struct str key, struct str value, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct used_scan *u = arg;
	struct str ns, snapshotter, name;

	if (!snap_key_split(key, &ns, &snapshotter, &name))
		return err_set(err, ERR_DATA_LOSS, "bad snapshot key in the metadata");
	TRY(snap_record_decode(name, value, &r, err));
	if (r.info.kind == SNAP_COMMITTED)
		return 0;
	vec_push(&u->parents, str_dup(ns));
	vec_push(&u->parents, str_dup(snapshotter));
	vec_push(&u->parents, STEAL(r.info.parent));
	return 0;
}

struct digests {
	VEC(struct digest) v;
};

static int keep_chain(struct snap_store *s, struct snap_space sp, const char *name, struct digests *out,
                      struct err *err)
{
	AUTO(snap_chain) struct snap_chain chain = SNAP_CHAIN_INIT;
	struct digest key;

	TRY(snap_chain_load(s, sp, name, &chain, err));
	if (chain.indexes.n) {
		snap_meta_key(chain.indexes.p, (unsigned)chain.indexes.n, &key);
		vec_push(&out->v, key);
	}
	return 0;
}

static int keep_all(struct snap_store *s, const struct used_scan *u, const struct snap_keep *keep, unsigned n_keep,
                    struct digests *out, struct err *err)
{
	for (size_t i = 0; i + 2 < u->parents.n; i += 3)
		TRY(keep_chain(s, (struct snap_space){u->parents.p[i], u->parents.p[i + 1]}, u->parents.p[i + 2], out,
		               err));
	for (unsigned i = 0; i < n_keep; i++) {
		struct err why = ERR_INIT;

		/* A name that is gone keeps nothing. */
		if (keep_chain(s, keep[i].space, keep[i].name, out, &why) < 0 && why.code != ERR_NOT_FOUND)
			return err_set(err, why.code, "%s", why.msg);
	}
	return 0;
}

int snap_release(struct snap_store *s, const struct snap_keep *keep, unsigned n_keep, struct err *err)
{
	struct used_scan u = {VEC_INIT};
	struct digests images = {VEC_INIT};
	struct digests condemned = {VEC_INIT};
	int r;

	pthread_mutex_lock(&s->lock);
	r = kv_scan(s->kv, SNAP_KEY_RECORDS, note_used, &u, err);
	if (r >= 0)
		r = keep_all(s, &u, keep, n_keep, &images, err);
	if (r >= 0)
		condemned.v.n = snap_meta_condemn(s->meta, images.v.p, (unsigned)images.v.n, &condemned.v.p);
	pthread_mutex_unlock(&s->lock);
	snap_meta_drop(s->meta, condemned.v.p, (unsigned)condemned.v.n);
	vec_each(&u.parents, p)
		free(*p);
	vec_fini(&u.parents);
	vec_fini(&images.v);
	vec_fini(&condemned.v);
	return r;
}
