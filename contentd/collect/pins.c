#include "contentd/collect/pins.h"

#include "base/map.h"
#include "contentd/collect/refs.h"
#include "rpc/proto/images.pb-c.h"

#define PREFIX "image/"

/* "image/<namespace>/<name>": namespaces have no slash. */
static char *pin_name(const char *ns, const char *image)
{
	return xasprintf(PREFIX "%s/%s", ns, image);
}

/* ---- one image ---- */

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

static bool leads_to(const struct pins *p, const struct digest *key)
{
	vec_each(&p->keys, k)
		if (digest_eq(k, key))
			return true;
	return false;
}

/* `with`: only when it leads to that index; NULL: whatever it leads to. */
static int pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target,
                     const struct digest *with, struct err *err)
{
	AUTO_FREE char *pin = pin_name(ns, image);
	struct pins p = {0};
	struct ffs_client *data;
	int r;

	if (cd_data(d, NULL, &data, NULL) < 0 || cd_snapshots(d, NULL, &p.snaps, NULL) < 0)
		return 0; /* then there are no such layers */
	r = cd_refs_of(d, image, ns, target, &(struct cd_refs){.chain = note_keys, .arg = &p}, err);
	if (r >= 0 && (!with || leads_to(&p, with)))
		r = p.keys.n ? pin_keys(data, pin, &p, err) : ffs_client_unpin(data, pin, err);
	vec_fini(&p.keys);
	return r < 0 ? err_wrap(err, "pin the layers of image %s", image) : 0;
}

void cd_pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target)
{
	struct err err = ERR_INIT;

	if (pin_image(d, ns, image, target, NULL, &err) < 0)
		log_warn("%s", err.msg);
}

static int unpin(struct cd_daemon *d, const char *pin, struct err *err)
{
	struct ffs_client *data;

	TRY(cd_data(d, NULL, &data, err));
	return ffs_client_unpin(data, pin, err);
}

void cd_unpin_image(struct cd_daemon *d, const char *ns, const char *image)
{
	AUTO_FREE char *pin = pin_name(ns, image);
	struct err err = ERR_INIT;

	if (d->data && unpin(d, pin, &err) < 0)
		log_warn("unpin %s: %s", pin, err.msg);
}

/* ---- all ---- */

/* Nobody makes an image of that name meanwhile: its pin comes after its record. */
static int drop_orphan(struct cd_daemon *d, const char *pin, struct err *err)
{
	struct str name = str_of(pin), ns_part;
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	AUTO_FREE char *ns = NULL;
	int r;

	if (!str_skip(&name, STR(PREFIX)) || !str_split(&name, '/', &ns_part))
		return 0; /* not an image's */
	ns = str_dup(ns_part);
	h = cd_meta_hold(d->meta, CD_IMAGE, ns, name);
	r = cd_meta_has(d->meta, CD_IMAGE, ns, name, err);
	if (r)
		return r;
	log_info("unpinning %s, which has no image", pin);
	return unpin(d, pin, err);
}

struct images {
	const struct map *but; /* names of pins; or NULL */
	struct arena arena;
	VEC(const char *) names; /* pairs of namespace and name */
};

static int note_image(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct images *l = arg;
	const char *image = ((Images__Image *)record)->name;
	AUTO_FREE char *pin = pin_name(ns, image);

	if (l->but && map_has(l->but, str_of(pin)))
		return 0;
	vec_push(&l->names, (const char *)arena_strdup(&l->arena, ns));
	vec_push(&l->names, image);
	return 0;
}

/* Who removes its record removes the pin after that. */
static int pin_stored(struct cd_daemon *d, const char *ns, const char *name, struct arena *a, const struct digest *with,
                      struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_IMAGE, ns, str_of(name));
	Images__Image *image;
	int r = cd_meta_get(d->meta, CD_IMAGE, ns, str_of(name), a, &image, err);

	if (r == -ERR_NOT_FOUND)
		return 0;
	TRY(r);
	return image->target ? pin_image(d, ns, name, image->target->digest, with, err) : 0;
}

/* One that cannot be pinned does not keep the others from it, unless nothing can: then contentfs does not answer. */
static int pin_images(struct cd_daemon *d, const char *ns, const struct map *but, const struct digest *with,
                      struct err *err)
{
	struct images l = {.but = but};
	int r;

	arena_init(&l.arena, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_IMAGE, ns, STR_NONE, &l.arena, note_image, &l, err);
	for (size_t i = 0; r >= 0 && i < l.names.n; i += 2) {
		struct err why = ERR_INIT;

		if (pin_stored(d, l.names.p[i], l.names.p[i + 1], &l.arena, with, &why) >= 0)
			continue;
		if (why.code == ERR_DEADLINE || why.code == ERR_UNAVAILABLE)
			r = err_set(err, why.code, "%s", why.msg);
		else
			log_warn("%s", why.msg);
	}
	vec_fini(&l.names);
	arena_fini(&l.arena);
	return r < 0 ? r : 0;
}

int cd_pins_renew(struct cd_daemon *d, const char *ns, const struct digest *with, struct err *err)
{
	return pin_images(d, ns, NULL, with, err);
}

static int pin_missing(struct cd_daemon *d, const Contentd__Contentfs__V1__PinsResponse *have, struct err *err)
{
	struct map pins = MAP_INIT;
	int r;

	for (size_t i = 0; i < have->n_names; i++)
		map_put(&pins, str_of(have->names[i]), NULL);
	r = pin_images(d, NULL, &pins, NULL, err);
	map_fini(&pins);
	return r;
}

int cd_pins_reconcile(struct cd_daemon *d, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__PinsResponse *have = NULL;
	struct ffs_client *data;

	if (!d->data)
		return 0; /* a daemon without contentfs */
	TRY(cd_data(d, NULL, &data, err));
	TRY(ffs_client_pins(data, &have, err));
	for (size_t i = 0; i < have->n_names; i++)
		TRY(drop_orphan(d, have->names[i], err));
	return pin_missing(d, have, err);
}
