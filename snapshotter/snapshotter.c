#include "snapshotter/internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int snap_check_parent(struct snap_store *s, struct snap_space sp, const char *parent, struct snap_record *out,
                      struct err *err)
{
	if (!*parent)
		return 0;
	TRY_WRAP(snap_record_load(s->kv, sp, parent, out, err), err, "parent");
	if (out->info.kind != SNAP_COMMITTED)
		return err_set(err, ERR_INVALID, "parent snapshot %s is not committed", parent);
	return 0;
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
	TRY(snap_reaper_new(s, &s->reaper, err));
	return snap_sweep(s, err);
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
	pthread_cond_init(&s->made, NULL);
	s->making = MAP_INIT;
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
	snap_reaper_free(s->reaper);
	snap_meta_close(s->meta);
	if (s->snapshots_fd >= 0)
		close(s->snapshots_fd);
	map_fini(&s->making);
	pthread_cond_destroy(&s->made);
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

static bool is_making(struct snap_store *s, struct snap_space sp, const char *key)
{
	AUTO(buf) struct buf k = BUF_INIT;

	snap_key_record(sp, key, &k);
	return map_has(&s->making, buf_str(&k));
}

static void set_making(struct snap_store *s, struct snap_space sp, const char *key, bool on)
{
	AUTO(buf) struct buf k = BUF_INIT;

	snap_key_record(sp, key, &k);
	if (on)
		map_put(&s->making, buf_str(&k), NULL);
	else
		map_del(&s->making, buf_str(&k));
	pthread_cond_broadcast(&s->made);
}

void snap_wait_made(struct snap_store *s, struct snap_space sp, const char *key)
{
	while (is_making(s, sp, key))
		pthread_cond_wait(&s->made, &s->lock);
}

static int create(struct snap_store *s, struct snap_space sp, enum snap_kind kind, const char *key, const char *parent,
                  const struct labels *labels, struct snap_chain *chain, uint64_t *id, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	AUTO(snap_record) struct snap_record above = {0};

	if (!*key)
		return err_set(err, ERR_INVALID, "snapshot key is empty");
	if (snap_record_exists(s->kv, sp, key))
		return err_set(err, ERR_EXISTS, "snapshot %s already exists", key);
	TRY(snap_check_parent(s, sp, parent, &above, err));
	TRY(snap_chain_load(s, sp, parent, chain, err));
	vec_each(&chain->indexes, it)
		vec_push(&r.lower, *it);
	r.info.name = xstrdup(key);
	r.info.parent = xstrdup(parent);
	r.info.kind = kind;
	snap_record_stamp(&r);
	labels_copy(labels, &r.info.labels);
	TRY(snap_record_create(s->kv, sp, &r, err));
	set_making(s, sp, key, true);
	*id = r.id;
	return 0;
}

/* What is half made goes as if it had never been. */
static void unmake(struct snap_store *s, struct snap_space sp, const char *key, uint64_t id)
{
	AUTO(snap_record) struct snap_record r = {0};
	struct err err = ERR_INIT;

	if (snap_record_load(s->kv, sp, key, &r, &err) < 0 || snap_record_delete(s->kv, sp, &r, &err) < 0)
		log_warn("snapshot %s: %s", key, err.msg); /* the next start finds it without its directory */
	snap_drop_dir(s, id);
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
	pthread_mutex_lock(&s->lock);
	if (r < 0)
		unmake(s, sp, key, id);
	set_making(s, sp, key, false);
	pthread_mutex_unlock(&s->lock);
	return r < 0 ? err_wrap(err, "snapshot %s", key) : 0;
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
	TRY(snap_chain_of(s, sp, &r, &chain, err));
	if (r.info.indexed)
		TRY(snap_dirs_follow(s, r.id, &chain, err));
	return snap_mounts_make(s, r.info.kind, r.id, &chain, out, err);
}

/* ---- the rest ---- */

static int remove_record(struct snap_store *s, struct snap_space sp, const char *key, struct snap_record *r,
                         struct err *err)
{
	bool parent;

	snap_wait_made(s, sp, key);
	TRY(snap_record_load(s->kv, sp, key, r, err));
	TRY(snap_record_has_children(s->kv, sp, key, &parent, err));
	if (parent)
		return err_set(err, ERR_PRECONDITION, "cannot remove snapshot %s: it has children", key);
	return snap_record_delete(s->kv, sp, r, err);
}

int snap_remove(struct snap_store *s, struct snap_space sp, const char *key, struct err *err)
{
	AUTO(snap_record) struct snap_record r = {0};
	int ret;

	pthread_mutex_lock(&s->lock);
	ret = remove_record(s, sp, key, &r, err);
	pthread_mutex_unlock(&s->lock);
	TRY(ret);
	TRY(kv_sync(s->kv, err));
	if (r.id)
		snap_drop_dir(s, r.id);
	return 0;
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
	return snap_record_put(s->kv, sp, &r, NULL, err);
}

int snap_update_labels(struct snap_store *s, struct snap_space sp, const char *key, const struct labels *labels,
                       struct snap_info *out, struct err *err)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = update_labels(s, sp, key, labels, err);
	pthread_mutex_unlock(&s->lock);
	TRY(r);
	TRY(kv_sync(s->kv, err));
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
	TRY(snap_disk_usage(s->snapshots_fd, path, bytes, inodes, err));
	*bytes += r.bytes;
	*inodes += r.inodes;
	return 0;
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
	AUTO(snap_lower) struct snap_lower lower = {0};

	TRY(snap_chain_load(s, sp, name, &chain, err));
	if (!chain.indexes.n)
		return 0;
	return snap_meta_ensure(s->meta, chain.indexes.p, (unsigned)chain.indexes.n, &lower, err);
}
