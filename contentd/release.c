#include "contentd/release.h"

#include "base/map.h"
#include "contentd/kvs.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"

#include <stdatomic.h>

#define REF_CONTENT "containerd.io/gc.ref.content"
#define REF_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define WALK_MAX 100000 /* records on the way from one image: labels are the client's */

struct cd_release {
	pthread_mutex_t lock; /* one release at a time */
	struct map kept;      /* "<namespace><NUL><snapshotter><NUL><chain><NUL>" that images lead to; lock */
	struct map busy;      /* the same of pulls, to a count; lock */
	atomic_bool stale;    /* `kept` is not what the records say */
};

struct cd_release *cd_release_new(void)
{
	struct cd_release *r = xcalloc(1, sizeof(*r));

	pthread_mutex_init(&r->lock, NULL);
	atomic_init(&r->stale, true);
	return r;
}

void cd_release_free(struct cd_release *r)
{
	if (!r)
		return;
	map_fini(&r->kept);
	map_fini(&r->busy);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

char *cd_pin_name(const char *ns, const char *image)
{
	return xasprintf("image/%s/%s", ns, image);
}

static void chain_key(struct snap_space space, const char *chain, struct buf *out)
{
	buf_adds(out, space.ns);
	buf_addc(out, '\0');
	buf_adds(out, space.snapshotter);
	buf_addc(out, '\0');
	buf_adds(out, chain);
	buf_addc(out, '\0');
}

/* ---- from images to chains ---- */

struct image {
	char *ns, *name, *target;
};

struct images {
	VEC(struct image) v;
};

static void images_fini(struct images *l)
{
	vec_each(&l->v, i)
	{
		free(i->ns);
		free(i->name);
		free(i->target);
	}
	vec_fini(&l->v);
}
DEFINE_AUTO_FINI(images);

static int note_image(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Images__Image *i = record;
	struct images *l = arg;

	if (i->target)
		vec_push(&l->v, (struct image){xstrdup(ns), xstrdup(i->name), xstrdup(i->target->digest)});
	return 0;
}

/* The records that one image leads to, breadth first. */
struct walk {
	const struct image *image;
	VEC(const char *) queue; /* digests, in the arena */
	struct map seen;
	struct arena arena;
};

static void visit(struct walk *w, const char *digest)
{
	if (w->queue.n >= WALK_MAX || map_has(&w->seen, str_of(digest)))
		return;
	map_put(&w->seen, str_of(digest), NULL);
	vec_push(&w->queue, digest);
}

/* "overlayfs" of "containerd.io/gc.ref.snapshot.overlayfs", which may have more behind a slash. */
static const char *snapshotter_of(struct arena *a, struct str key)
{
	struct str name;

	return str_skip(&key, STR(REF_SNAPSHOT)) && str_split(&key, '/', &name) ? arena_str(a, name) : NULL;
}

static int walk_image(struct cd_daemon *d, struct walk *w, int (*fn)(void *arg, const char *image,
                      struct snap_space space, const char *chain, struct err *err), void *arg, struct err *err)
{
	const char *label = arena_printf(&w->arena, "%s/%s", w->image->ns, w->image->name);

	visit(w, w->image->target);
	for (size_t at = 0; at < w->queue.n; at++) {
		Records__Content *record;

		if (cd_meta_get(d->meta, CD_CONTENT, w->image->ns, str_of(w->queue.p[at]), &w->arena, &record, NULL) < 0 ||
		    !record->info)
			continue; /* not every reference has to exist */
		for (size_t i = 0; i < record->info->n_labels; i++) {
			const Kv__Entry *l = record->info->labels[i];
			const char *snapshotter = snapshotter_of(&w->arena, str_of(l->key));

			if (snapshotter)
				TRY(fn(arg, label, (struct snap_space){w->image->ns, snapshotter}, l->value, err));
			else if (str_starts(str_of(l->key), STR(REF_CONTENT)))
				visit(w, l->value);
		}
	}
	return 0;
}

int cd_image_chains(struct cd_daemon *d, int (*fn)(void *arg, const char *image, struct snap_space space,
                                                   const char *chain, struct err *err),
                    void *arg, struct err *err)
{
	AUTO(images) struct images images = {0};
	struct arena a;
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_IMAGE, NULL, STR_NONE, &a, note_image, &images, err);
	arena_fini(&a);
	for (size_t i = 0; i < images.v.n && r >= 0; i++) {
		struct walk w = {.image = &images.v.p[i]};

		arena_init(&w.arena, SIZE_MAX);
		r = walk_image(d, &w, fn, arg, err);
		vec_fini(&w.queue);
		map_fini(&w.seen);
		arena_fini(&w.arena);
	}
	return r < 0 ? r : 0;
}

/* ---- releasing ---- */

static int keep_chain(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;

	chain_key(space, chain, &key);
	map_put(arg, buf_str(&key), NULL);
	return 0;
}

/* Brings `kept` up to date. Changes that come meanwhile make it stale again. */
static int refresh(struct cd_daemon *d, struct cd_release *r, struct err *err)
{
	if (!atomic_exchange(&r->stale, false))
		return 0;
	map_fini(&r->kept);
	r->kept = MAP_INIT;
	if (cd_image_chains(d, keep_chain, &r->kept, err) < 0) {
		atomic_store(&r->stale, true);
		return -(int)err->code;
	}
	return 0;
}

static void add_keeps(const struct map *m, struct snap_keep *keeps, size_t *n)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(m, &at, &key, &value);) {
		const char *snapshotter = key.p + strlen(key.p) + 1;

		keeps[(*n)++] = (struct snap_keep){{key.p, snapshotter}, snapshotter + strlen(snapshotter) + 1};
	}
}

/* With the lock. */
static int release(struct cd_daemon *d, struct cd_release *r, struct err *err)
{
	AUTO_FREE struct snap_keep *keeps = NULL;
	struct snap_store *snaps;
	size_t n = 0;

	TRY(cd_snapshots(d, NULL, &snaps, err));
	TRY(refresh(d, r, err));
	keeps = xcalloc(r->kept.n + r->busy.n + 1, sizeof(*keeps));
	add_keeps(&r->kept, keeps, &n);
	add_keeps(&r->busy, keeps, &n);
	return snap_release(snaps, keeps, (unsigned)n, err);
}

void cd_release_image(struct cd_daemon *d, const char *ns, const char *image)
{
	AUTO_FREE char *pin = cd_pin_name(ns, image);
	struct err err = ERR_INIT;
	struct ffs_client *data;

	cd_release_changed(d);
	if (cd_data(d, NULL, &data, &err) < 0)
		return; /* then nothing is pinned or mounted */
	if (ffs_client_unpin(data, pin, &err) < 0)
		log_warn("unpin %s: %s", pin, err.msg);
	pthread_mutex_lock(&d->release->lock);
	if (release(d, d->release, &err) < 0)
		log_warn("release of image %s: %s", image, err.msg);
	pthread_mutex_unlock(&d->release->lock);
}

void cd_release_snapshot(struct cd_daemon *d, struct snap_space space, const char *parent)
{
	struct cd_release *r = d->release;
	AUTO(buf) struct buf key = BUF_INIT;
	struct err err = ERR_INIT;

	if (!*parent)
		return;
	chain_key(space, parent, &key);
	pthread_mutex_lock(&r->lock);
	if (refresh(d, r, &err) < 0 || (!map_has(&r->kept, buf_str(&key)) && !map_has(&r->busy, buf_str(&key)) &&
	                                release(d, r, &err) < 0))
		log_warn("release of %s: %s", parent, err.msg);
	pthread_mutex_unlock(&r->lock);
}

void cd_release_changed(struct cd_daemon *d)
{
	atomic_store(&d->release->stale, true);
}

void cd_release_busy(struct cd_daemon *d, struct snap_space space, const char *chain)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct cd_release *r = d->release;

	chain_key(space, chain, &key);
	pthread_mutex_lock(&r->lock);
	map_put(&r->busy, buf_str(&key), (char *)map_get(&r->busy, buf_str(&key)) + 1);
	pthread_mutex_unlock(&r->lock);
}

void cd_release_done(struct cd_daemon *d, struct snap_space space, const char *chain)
{
	AUTO(buf) struct buf key = BUF_INIT;
	struct cd_release *r = d->release;
	char *left;

	chain_key(space, chain, &key);
	pthread_mutex_lock(&r->lock);
	left = (char *)map_get(&r->busy, buf_str(&key)) - 1;
	if (left)
		map_put(&r->busy, buf_str(&key), left);
	else
		map_del(&r->busy, buf_str(&key));
	pthread_mutex_unlock(&r->lock);
}
