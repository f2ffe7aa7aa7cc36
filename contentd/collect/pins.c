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

void cd_pin_image(struct cd_daemon *d, const char *ns, const char *image, const char *target)
{
	AUTO_FREE char *pin = pin_name(ns, image);
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

struct unpinned {
	struct map pins; /* names there are */
	struct arena arena;
	VEC(const char *) images; /* pairs of namespace and record */
	VEC(Images__Image *) records;
};

static int note_unpinned(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct unpinned *u = arg;
	Images__Image *image = record;
	AUTO_FREE char *pin = pin_name(ns, image->name);

	if (!image->target || map_has(&u->pins, str_of(pin)))
		return 0;
	vec_push(&u->images, (const char *)arena_strdup(&u->arena, ns));
	vec_push(&u->records, image);
	return 0;
}

static int pin_missing(struct cd_daemon *d, const Contentd__Contentfs__V1__PinsResponse *have, struct err *err)
{
	struct unpinned u = {.pins = MAP_INIT};
	int r;

	for (size_t i = 0; i < have->n_names; i++)
		map_put(&u.pins, str_of(have->names[i]), NULL);
	arena_init(&u.arena, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_IMAGE, NULL, STR_NONE, &u.arena, note_unpinned, &u, err);
	for (size_t i = 0; r >= 0 && i < u.records.n; i++)
		cd_pin_image(d, u.images.p[i], u.records.p[i]->name, u.records.p[i]->target->digest);
	vec_fini(&u.images);
	vec_fini(&u.records);
	map_fini(&u.pins);
	arena_fini(&u.arena);
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
