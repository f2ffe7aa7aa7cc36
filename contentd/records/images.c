#include "contentd/records/images.h"

#include "base/clock.h"
#include "contentd/collect/pins.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"
#include "contentd/records/listing.h"
#include "contentd/services.h"

int cd_image_get(struct cd_daemon *d, const char *ns, const char *name, struct arena *a, Images__Image **out,
                 struct err *err)
{
	return cd_meta_get(d->meta, CD_IMAGE, ns, str_of(name), a, out, err);
}

/* ---- reading ---- */

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Images__Image *i = object;

	if (n == 1 && str_eqc(path[0], "name")) {
		*value = str_of(i->name);
		return value->n > 0;
	}
	if (n == 2 && str_eqc(path[0], "target") && i->target) {
		*value = str_of(str_eqc(path[1], "digest")      ? i->target->digest
		                : str_eqc(path[1], "mediatype") ? i->target->media_type
		                                                : NULL);
		return value->n > 0;
	}
	if (n > 1 && str_eqc(path[0], "labels"))
		return cd_kvs_field(i->labels, i->n_labels, path + 1, n - 1, value);
	if (n > 1 && str_eqc(path[0], "annotations") && i->target)
		return cd_kvs_field(i->target->annotations, i->target->n_annotations, path + 1, n - 1, value);
	return false;
}

static int images_get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Images__GetImageRequest *req = request;
	Images__GetImageResponse rsp = IMAGES__GET_IMAGE_RESPONSE__INIT;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_image_get(svc, ns, req->name, rpc_arena(c), &rsp.image, err));
	return rpc_reply(c, &rsp.base, err);
}

static int images_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Images__ListImagesRequest *req = request;
	Images__ListImagesResponse rsp = IMAGES__LIST_IMAGES_RESPONSE__INIT;
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_IMAGE, (const char *const *)req->filters, req->n_filters, field, &l, err));
	rsp.images = (Images__Image **)l.found.p;
	rsp.n_images = l.found.n;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- changing ---- */

static int check_target(const Types__Descriptor *t, struct err *err)
{
	if (!t)
		return err_set(err, ERR_INVALID, "image target is missing");
	TRY_WRAP(cd_digest_check(t->digest, err), err, "image target");
	if (t->size <= 0)
		return err_set(err, ERR_INVALID, "image target size must be positive");
	if (!*t->media_type)
		return err_set(err, ERR_INVALID, "image target has no media type");
	return 0;
}

/* A clean copy of what a client sent. The target is not checked: an update may not mean it. */
static int clean(struct arena *a, const Images__Image *from, Images__Image *to, struct err *err)
{
	if (!from)
		return err_set(err, ERR_INVALID, "image is missing");
	TRY(cd_name_check("image name", from->name, err));
	*to = *from;
	TRY(cd_kvs_clean(a, KVS(to, labels), LABEL_BYTES_MAX, err));
	if (!to->target)
		return 0;
	to->target = pb_new(a, &types__descriptor__descriptor);
	*to->target = *from->target;
	return cd_kvs_clean(a, KVS(to->target, annotations), 0, err);
}

/* The caller holds the image. */
static int put(struct cd_daemon *d, const char *ns, const char *lease, const Images__Image *i, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	cd_batch_put(&b, CD_IMAGE, ns, str_of(i->name), &i->base);
	/* An image is a root by itself, unless it expires. */
	if (lease && pb_kv_get(i->labels, i->n_labels, CD_LABEL_EXPIRE))
		cd_lease_add(&b, ns, lease, "images", i->name);
	return cd_meta_commit(d->meta, &b, err);
}

static void publish(struct cd_daemon *d, const char *ns, const Images__Image *i, bool created)
{
	/* ImageCreate and ImageUpdate are alike but for their names. */
	Images__ImageCreate create = IMAGES__IMAGE_CREATE__INIT;
	Images__ImageUpdate update = IMAGES__IMAGE_UPDATE__INIT;

	create.name = update.name = i->name;
	create.labels = update.labels = i->labels;
	create.n_labels = update.n_labels = i->n_labels;
	cd_events_publish(d->events, ns, created ? "/images/create" : "/images/update",
	                  created ? &create.base : &update.base);
}

static int create(struct cd_daemon *d, const char *ns, const char *lease, const Images__Image *i, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_IMAGE, ns, str_of(i->name));

	TRY(cd_meta_absent(d->meta, CD_IMAGE, ns, str_of(i->name), err));
	return put(d, ns, lease, i, err);
}

static int images_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Images__CreateImageRequest *req = request;
	Images__CreateImageResponse rsp = IMAGES__CREATE_IMAGE_RESPONSE__INIT;
	struct arena *a = rpc_arena(c);
	struct cd_daemon *d = svc;
	const char *ns, *lease;
	Images__Image i;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_call_lease(d, c, ns, &lease, err));
	TRY(clean(a, req->image, &i, err));
	TRY(check_target(i.target, err));
	i.created_at = i.updated_at = req->source_date_epoch ? req->source_date_epoch : pb_time_new(a, clock_wall());
	TRY(create(d, ns, lease, &i, err));
	publish(d, ns, &i, true);
	cd_pin_image(d, ns, i.name, i.target->digest);
	rsp.image = &i;
	return rpc_reply(c, &rsp.base, err);
}

/* One path of a mask: takes the value of `from` over into `to`. */
static int apply_path(struct arena *a, const char *text, const Images__Image *from, Images__Image *to, struct err *err)
{
	struct cd_mask_path path = cd_mask_path(text);

	if (str_eqc(path.field, "labels")) {
		cd_kvs_apply(a, path.key, from->labels, from->n_labels, KVS(to, labels));
		return 0;
	}
	if (str_eqc(path.field, "target") && !path.key) {
		TRY(check_target(from->target, err));
		to->target = from->target;
		return 0;
	}
	if (str_eqc(path.field, "annotations") && to->target) {
		Types__Descriptor none = TYPES__DESCRIPTOR__INIT;
		const Types__Descriptor *t = from->target ? from->target : &none;

		cd_kvs_apply(a, path.key, t->annotations, t->n_annotations, KVS(to->target, annotations));
		return 0;
	}
	return err_set(err, ERR_INVALID, "field \"%s\" of an image cannot be updated", text);
}

/* *image is what the client sent, and becomes what is stored. */
static int update(struct cd_daemon *d, struct arena *a, const char *ns, const char *lease, Images__Image *image,
                  const Pb__FieldMask *mask, Pb__Timestamp *now, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_IMAGE, ns, str_of(image->name));
	Images__Image *stored;

	TRY(cd_image_get(d, ns, image->name, a, &stored, err));
	for (size_t i = 0; mask && i < mask->n_paths; i++)
		TRY(apply_path(a, mask->paths[i], image, stored, err));
	if (!mask || !mask->n_paths) {
		TRY(check_target(image->target, err));
		stored->labels = image->labels;
		stored->n_labels = image->n_labels;
		stored->target = image->target;
	}
	stored->updated_at = now;
	*image = *stored;
	return put(d, ns, lease, image, err);
}

static int images_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Images__UpdateImageRequest *req = request;
	Images__UpdateImageResponse rsp = IMAGES__UPDATE_IMAGE_RESPONSE__INIT;
	struct arena *a = rpc_arena(c);
	struct cd_daemon *d = svc;
	const char *ns, *lease;
	Pb__Timestamp *now;
	Images__Image i;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_call_lease(d, c, ns, &lease, err));
	TRY(clean(a, req->image, &i, err));
	now = req->source_date_epoch ? req->source_date_epoch : pb_time_new(a, clock_wall());
	TRY(update(d, a, ns, lease, &i, req->update_mask, now, err));
	publish(d, ns, &i, false);
	cd_pin_image(d, ns, i.name, i.target->digest);
	rsp.image = &i;
	return rpc_reply(c, &rsp.base, err);
}

static int put_pulled(struct cd_daemon *d, struct arena *a, const char *ns, Images__Image *i, bool *created,
                      struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_IMAGE, ns, str_of(i->name));
	Images__Image *stored;
	int r = cd_image_get(d, ns, i->name, a, &stored, err);

	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	*created = r < 0;
	i->updated_at = pb_time_new(a, clock_wall());
	i->created_at = *created ? i->updated_at : stored->created_at;
	return put(d, ns, NULL, i, err);
}

int cd_image_put(struct cd_daemon *d, const char *ns, const Images__Image *image, struct err *err)
{
	struct arena a;
	Images__Image i;
	bool created;
	int r;

	arena_init(&a, SIZE_MAX);
	r = clean(&a, image, &i, err);
	if (r >= 0)
		r = check_target(i.target, err);
	if (r >= 0)
		r = put_pulled(d, &a, ns, &i, &created, err);
	if (r >= 0)
		publish(d, ns, &i, created);
	arena_fini(&a);
	return r;
}

/* ---- removing ---- */

static int drop(struct cd_daemon *d, struct arena *a, const char *ns, const char *lease,
                const Images__DeleteImageRequest *req, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_IMAGE, ns, str_of(req->name));
	Images__Image *stored;

	TRY(cd_image_get(d, ns, req->name, a, &stored, err));
	if (req->target && *req->target->digest && stored->target &&
	    strcmp(req->target->digest, stored->target->digest))
		return err_set(err, ERR_NOT_FOUND, "image \"%s\" with target %s: not found", req->name,
		               req->target->digest);
	cd_batch_remove(&b, CD_IMAGE, ns, str_of(req->name));
	if (lease)
		cd_lease_remove(&b, ns, lease, "images", req->name);
	return cd_meta_commit(d->meta, &b, err);
}

static int images_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Images__DeleteImageRequest *req = request;
	Images__ImageDelete event = IMAGES__IMAGE_DELETE__INIT;
	struct cd_daemon *d = svc;
	const char *ns, *lease;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_call_lease_if_any(d, c, ns, &lease, err));
	TRY(drop(d, rpc_arena(c), ns, lease, req, err));
	event.name = req->name;
	cd_events_publish(d->events, ns, "/images/delete", &event.base);
	cd_unpin_image(d, ns, req->name);
	return req->sync ? cd_collector_run(cd_collector_now(d), c, err) : 0;
}

static const struct rpc_method methods[] = {
    {"Get", 0, images_get},
    {"List", 0, images_list},
    {"Create", 0, images_create},
    {"Update", 0, images_update},
    {"Delete", RPC_LONG, images_delete},
};

const struct rpc_service cd_images_service = {&images__images__descriptor, methods, ARRAY_LEN(methods)};
