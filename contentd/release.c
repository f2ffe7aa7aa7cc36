#include "contentd/release.h"

#include "base/map.h"
#include "contentd/refs.h"

#include <stdatomic.h>

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

/* Index keys of the layers that one image leads to. */
struct pins {
	struct snap_store *snaps;
	VEC(struct digest) keys;
};

static int note_keys(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO_FREE struct digest *keys = NULL;
	struct pins *p = arg;
	unsigned n = 0;

	/* A chain that a client has unpacked itself has no indexes. */
	if (snap_chain_indexes(p->snaps, space, chain, &keys, &n, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		vec_push(&p->keys, keys[i]);
	return 0;
}

static int pin_keys(struct ffs_client *data, const char *pin, const struct pins *p, struct err *err)
{
	AUTO_FREE char *text = xcalloc(p->keys.n + 1, 65);
	AUTO_FREE const char **keys = xcalloc(p->keys.n + 1, sizeof(*keys));

	for (size_t i = 0; i < p->keys.n; i++)
		keys[i] = digest_hex(&p->keys.p[i], text + 65 * i);
	return ffs_client_pin(data, pin, keys, (unsigned)p->keys.n, err);
}

void cd_pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target)
{
	AUTO_FREE char *pin = cd_pin_name(ns, image);
	struct err err = ERR_INIT;
	struct pins p = {0};
	struct ffs_client *data;
	int r;

	if (cd_data(d, NULL, &data, &err) < 0 || cd_snapshots(d, NULL, &p.snaps, &err) < 0)
		return; /* then there are no such layers */
	r = cd_refs_of(d, image, ns, target, &(struct cd_refs){.chain = note_keys, .arg = &p}, &err);
	if (r >= 0)
		r = p.keys.n ? pin_keys(data, pin, &p, &err) : ffs_client_unpin(data, pin, &err);
	if (r < 0)
		log_warn("pin the layers of image %s: %s", image, err.msg);
	vec_fini(&p.keys);
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

/* ---- releasing ---- */

static int keep_chain(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO(buf) struct buf key = BUF_INIT;

	chain_key(space, chain, &key);
	map_put(arg, buf_str(&key), NULL);
	return 0;
}

struct proxied {
	struct map *kept;
	struct snap_space space;
};

static int keep_proxied(void *arg, const struct snap_info *info, struct err *err)
{
	const struct proxied *p = arg;

	return info->indexed ? keep_chain(p->kept, NULL, p->space, info->name, err) : 0;
}

/* What a containerd has in a proxied space may be a container's the next moment. */
static int keep_all_proxied(struct cd_daemon *d, struct snap_store *snaps, struct map *kept, struct err *err)
{
	vec_each(&d->config.snapshotter_proxy_names, name) {
		struct proxied p = {kept, {"", *name}};

		TRY(snap_list(snaps, p.space, keep_proxied, &p, err));
	}
	return 0;
}

/* Brings `kept` up to date. Changes that come meanwhile make it stale again. */
static int refresh(struct cd_daemon *d, struct cd_release *r, struct err *err)
{
	struct snap_store *snaps;

	TRY(cd_snapshots(d, NULL, &snaps, err));
	if (!atomic_exchange(&r->stale, false))
		return 0;
	map_fini(&r->kept);
	r->kept = MAP_INIT;
	if (cd_refs_of_images(d, &(struct cd_refs){.chain = keep_chain, .arg = &r->kept}, err) < 0 ||
	    keep_all_proxied(d, snaps, &r->kept, err) < 0) {
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
	if (refresh(d, r, &err) < 0 ||
	    (!map_has(&r->kept, buf_str(&key)) && !map_has(&r->busy, buf_str(&key)) && release(d, r, &err) < 0))
		log_warn("release of %s: %s", parent, err.msg);
	pthread_mutex_unlock(&r->lock);
}

void cd_release_proxied(struct cd_daemon *d)
{
	struct err err = ERR_INIT;

	pthread_mutex_lock(&d->release->lock);
	if (release(d, d->release, &err) < 0)
		log_warn("release of proxied snapshots: %s", err.msg);
	pthread_mutex_unlock(&d->release->lock);
}

void cd_release_changed(struct cd_daemon *d)
{
	atomic_store(&d->release->stale, true);
}

/* Adds to the number of pulls that make a chain. */
static void count_busy(struct cd_release *r, struct snap_space space, const char *chain, int change)
{
	AUTO(buf) struct buf key = BUF_INIT;
	intptr_t n;

	chain_key(space, chain, &key);
	pthread_mutex_lock(&r->lock);
	n = (intptr_t)map_get(&r->busy, buf_str(&key)) + change;
	if (n)
		map_put(&r->busy, buf_str(&key), (void *)n);
	else
		map_del(&r->busy, buf_str(&key));
	pthread_mutex_unlock(&r->lock);
}

void cd_release_busy(struct cd_daemon *d, struct snap_space space, const char *chain)
{
	count_busy(d->release, space, chain, 1);
}

void cd_release_done(struct cd_daemon *d, struct snap_space space, const char *chain)
{
	count_busy(d->release, space, chain, -1);
}
