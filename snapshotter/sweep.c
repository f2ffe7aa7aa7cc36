/* What becomes of directories that no record names: after a crash, and after a removal. */
#include "snapshotter/internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* ---- the thread that removes ---- */

struct snap_reaper {
	struct snap_store *store;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool wanted, busy, stop; /* lock */
};

static bool must_stop(struct snap_reaper *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

static void remove_trash(struct snap_reaper *r)
{
	int dir_fd = r->store->snapshots_fd;
	AUTO_DIR DIR *d = NULL;
	struct err err = ERR_INIT;
	struct dirent *e;

	if (dir_iter_open(dir_fd, &d, &err) < 0) {
		log_warn("removed snapshots: %s", err.msg);
		return;
	}
	while (!must_stop(r) && dir_iter_next(d, &e, &err) > 0)
		if (str_starts(str_of(e->d_name), STR(SNAP_TRASH)) && dir_remove(dir_fd, e->d_name, &err) < 0)
			log_warn("remove snapshot directory %s: %s", e->d_name, err.msg);
}

static void *reap(void *arg)
{
	struct snap_reaper *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		if (!r->wanted) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		r->wanted = false;
		r->busy = true;
		pthread_mutex_unlock(&r->lock);
		remove_trash(r);
		pthread_mutex_lock(&r->lock);
		r->busy = false;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int snap_reaper_new(struct snap_store *s, struct snap_reaper **out, struct err *err)
{
	struct snap_reaper *r = xcalloc(1, sizeof(*r));
	int failed;

	r->store = s;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	failed = pthread_create(&r->thread, NULL, reap, r);
	if (failed) {
		pthread_cond_destroy(&r->changed);
		pthread_mutex_destroy(&r->lock);
		free(r);
		return err_errno(err, failed, "pthread_create");
	}
	*out = r;
	return 0;
}

void snap_reaper_free(struct snap_reaper *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void wake(struct snap_reaper *r)
{
	pthread_mutex_lock(&r->lock);
	r->wanted = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void snap_cleanup(struct snap_store *s)
{
	struct snap_reaper *r = s->reaper;

	pthread_mutex_lock(&r->lock);
	while (r->wanted || r->busy)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void discard(struct snap_store *s, const char *name)
{
	AUTO_FREE char *trash = xasprintf(SNAP_TRASH "%s", name);

	if (renameat(s->snapshots_fd, name, s->snapshots_fd, trash) < 0 && errno != ENOENT)
		log_warn("snapshot directory %s: %s", name, strerror(errno));
}

void snap_drop_dir(struct snap_store *s, uint64_t id)
{
	AUTO_FREE char *name = xasprintf("%llu", (unsigned long long)id);
	AUTO_FREE char *link = xasprintf("%s/" SNAP_LINKS "/%s", s->state, name);

	unlink(link);
	discard(s, name);
	wake(s->reaper);
}

/* ---- after a crash ---- */

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
		TRY(snap_record_delete(s->kv, (struct snap_space){l->ns, l->snapshotter}, &l->record, err));
	return w->lost.n ? kv_sync(s->kv, err) : 0;
}

/* Directories that no record names: left by a crash between making one and recording it, or by a removal. */
static int drop_strays(struct snap_store *s, const struct sweep *w, struct err *err)
{
	AUTO_DIR DIR *d = NULL;
	struct dirent *e;
	int more;

	TRY_WRAP(dir_iter_open(s->snapshots_fd, &d, err), err, "snapshot directories");
	while ((more = dir_iter_next(d, &e, err)) > 0) {
		uint64_t id;

		if (str_starts(str_of(e->d_name), STR(SNAP_TRASH)))
			continue;
		if (!str_u64(str_of(e->d_name), 10, &id) || !map_has(&w->ids, map_key_u64(&id)))
			discard(s, e->d_name);
	}
	TRY(more);
	wake(s->reaper);
	return 0;
}

int snap_sweep(struct snap_store *s, struct err *err)
{
	AUTO(sweep) struct sweep w = {.store = s, .ids = MAP_INIT};

	TRY(kv_scan(s->kv, SNAP_KEY_RECORDS, note_record, &w, err));
	TRY(drop_lost(s, &w, err));
	return drop_strays(s, &w, err);
}
