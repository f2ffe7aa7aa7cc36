/* The image store as a side of transfers: which images a client means, and under which names it wants them kept. */
#include "contentd/collect/pins.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/images.h"
#include "contentd/transfer/transfer.h"

int cd_store_check(struct cd_transfer *t, Xfer__ImageStore *store, struct err *err)
{
	if (*store->name)
		TRY(cd_name_check("image name", store->name, err));
	for (size_t i = 0; i < store->n_extra_references; i++)
		TRY(cd_name_check("image reference", store->extra_references[i]->name, err));
	return cd_kvs_clean(rpc_arena(t->call), KVS(store, labels), LABEL_BYTES_MAX, err);
}

int cd_store_snapshotter(struct cd_transfer *t, const Xfer__UnpackConfiguration *u, const char **out, struct err *err)
{
	*out = *u->snapshotter ? u->snapshotter : t->d->config.snapshotter_names.p[0];
	if (!cd_is_snapshotter(t->d, *out))
		return err_set(err, ERR_INVALID, "snapshotter not loaded: \"%.100s\"", *out);
	return 0;
}

/* ---- reading ---- */

static int look_up(struct cd_transfer *t, const char *name, struct cd_images *out, struct err *err)
{
	Images__Image *image;

	TRY(cd_image_get(t->d, t->ns, name, rpc_arena(t->call), &image, err));
	if (!image->target)
		return err_set(err, ERR_DATA_LOSS, "image \"%s\" has no target", name);
	vec_push(&out->v, image);
	return 0;
}

int cd_store_lookup(struct cd_transfer *t, const Xfer__ImageStore *store, struct cd_images *out, struct err *err)
{
	if (*store->name)
		TRY(look_up(t, store->name, out, err));
	for (size_t i = 0; i < store->n_extra_references; i++) {
		if (store->extra_references[i]->is_prefix)
			return err_set(err, ERR_UNIMPLEMENTED, "images by prefix: not implemented");
		TRY(look_up(t, store->extra_references[i]->name, out, err));
	}
	return out->v.n ? 0 : err_set(err, ERR_INVALID, "no image is named");
}

/* ---- names ---- */

static void add_name(struct cd_image_names *out, const char *name)
{
	vec_each(&out->v, n)
		if (!strcmp(*n, name))
			return;
	vec_push(&out->v, name);
}

void cd_store_names(struct cd_transfer *t, const Xfer__ImageStore *store, const char *digest,
                    struct cd_image_names *out)
{
	if (*store->name)
		add_name(out, store->name);
	for (size_t i = 0; i < store->n_extra_references; i++) {
		const Xfer__ImageReference *r = store->extra_references[i];

		if (r->is_prefix)
			continue;
		add_name(out, r->add_digest ? arena_printf(rpc_arena(t->call), "%s@%s", r->name, digest) : r->name);
	}
}

/* "a/b" has "a/b:1", "a/b@sha256:..." and "a/b/c" in it, but not "a/bc". */
static bool is_below(struct str name, struct str prefix)
{
	return str_skip(&name, prefix) && (!name.n || strchr("/:@", name.p[0]));
}

/* What a reference makes of the name that an archive gives: a whole name stays, where it fits; a tag gets the prefix. */
static const char *translate(struct arena *a, const Xfer__ImageReference *r, struct str name)
{
	struct str prefix = str_of(r->name);

	if (str_find(name, '/') < 0 && str_find(name, ':') < 0 && str_find(name, '@') < 0)
		return arena_printf(a, "%s:" STR_FMT, r->name, STR_ARG(name));
	return r->allow_overwrite || is_below(name, prefix) ? arena_str(a, name) : NULL;
}

void cd_store_names_imported(struct cd_transfer *t, const Xfer__ImageStore *store, struct str full, struct str tag,
                             const char *digest, struct cd_image_names *out)
{
	struct arena *a = rpc_arena(t->call);
	struct str name = full.n ? full : tag;

	for (size_t i = 0; i < store->n_extra_references; i++) {
		const Xfer__ImageReference *r = store->extra_references[i];
		const char *found = NULL;

		if (!r->is_prefix)
			continue;
		if (name.n && name.n <= CD_NAME_MAX)
			found = translate(a, r, name);
		if (found)
			add_name(out, found);
		if (r->add_digest && !(found && r->skip_named_digest))
			add_name(out, arena_printf(a, "%s@%s", r->name, digest));
	}
}

/* ---- writing ---- */

int cd_store_put(struct cd_transfer *t, const Xfer__ImageStore *store, const char *name, Types__Descriptor *target,
                 struct err *err)
{
	Images__Image image = IMAGES__IMAGE__INIT;

	image.name = name;
	image.labels = store->labels;
	image.n_labels = store->n_labels;
	image.target = target;
	TRY(cd_image_put(t->d, t->ns, &image, err));
	cd_pin_image(t->d, t->ns, name, target->digest);
	cd_progress_step(t->progress, "saved", name, NULL, target, 0, 0);
	return 0;
}

int cd_store_put_all(struct cd_transfer *t, const Xfer__ImageStore *store, Types__Descriptor *target, struct err *err)
{
	struct cd_image_names names = {0};
	int r = 0;

	cd_store_names(t, store, target->digest, &names);
	if (!names.v.n)
		r = err_set(err, ERR_INVALID, "no image name is given");
	for (size_t i = 0; i < names.v.n && r >= 0; i++)
		r = cd_store_put(t, store, names.v.p[i], target, err);
	vec_fini(&names.v);
	return r < 0 ? r : 0;
}

/* ---- from store to store ---- */

int cd_transfer_tag(struct cd_transfer *t, const Xfer__ImageStore *from, Xfer__ImageStore *to, struct err *err)
{
	struct cd_images images = {0};
	Images__Image *image;
	int r;

	TRY(cd_store_check(t, to, err));
	r = cd_store_lookup(t, from, &images, err);
	image = r < 0 ? NULL : images.v.p[0];
	vec_fini(&images.v);
	TRY(r);
	return cd_store_put_all(t, to, image->target, err);
}
