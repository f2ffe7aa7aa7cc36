/* From a registry to the image store: what a client asks for, as a pull. */
#include "contentd/ident.h"
#include "contentd/transfer/pull.h"
#include "contentd/transfer/transfer.h"

struct parts {
	VEC(struct cd_pull_part) v;
};

static bool same_platform(const Types__Platform *a, const Types__Platform *b)
{
	return a && b && !strcmp(a->os, b->os) && !strcmp(a->architecture, b->architecture) &&
	       !strcmp(a->variant, b->variant);
}

static bool is_asked_for(const struct parts *parts, const Types__Platform *p)
{
	vec_each(&parts->v, part)
		if (same_platform(part->platform, p))
			return true;
	return false;
}

/* Each unpacking is a part, and each platform that none of them is for. An unpacking without a platform is for the one
 * that the store names, if it is one. */
static int choose_parts(struct cd_transfer *t, const Xfer__ImageStore *store, struct parts *parts, struct err *err)
{
	for (size_t i = 0; i < store->n_unpacks; i++) {
		struct cd_pull_part part = {.platform = store->unpacks[i]->platform};

		if (!part.platform && store->n_platforms == 1)
			part.platform = store->platforms[0];
		TRY(cd_store_snapshotter(t, store->unpacks[i], &part.snapshotter, err));
		vec_push(&parts->v, part);
	}
	for (size_t i = 0; i < store->n_platforms; i++)
		if (!is_asked_for(parts, store->platforms[i]))
			vec_push(&parts->v, (struct cd_pull_part){.platform = store->platforms[i]});
	if (!parts->v.n)
		vec_push(&parts->v, (struct cd_pull_part){NULL, NULL});
	return 0;
}

static int choose_lazy(const Xfer__ImageStore *store, struct cd_pull_req *req, struct err *err)
{
	const char *lazy = pb_kv_get(store->labels, store->n_labels, CD_LABEL_LAZY);

	req->lazy = !lazy || !*lazy || !strcmp(lazy, "auto");
	req->phases = lazy != NULL; /* a client that knows the one knows the other */
	if (!req->lazy && strcmp(lazy, "off"))
		return err_set(err, ERR_INVALID, "label " CD_LABEL_LAZY " must be auto or off, not \"%.40s\"", lazy);
	return 0;
}

struct put {
	struct cd_transfer *t;
	const Xfer__ImageStore *store;
};

static int put_images(void *arg, Types__Descriptor *target, struct err *err)
{
	const struct put *p = arg;

	return cd_store_put_all(p->t, p->store, target, err);
}

static int pull(struct cd_transfer *t, const Xfer__OCIRegistry *from, const Xfer__ImageStore *to, struct parts *parts,
                struct err *err)
{
	struct put put = {t, to};
	struct cd_pull_req req = {.ns = t->ns,
	                          .lease = t->lease,
	                          .reference = from->reference,
	                          .name = *to->name ? to->name : from->reference,
	                          .put = put_images,
	                          .arg = &put,
	                          .limit = to->manifest_limit,
	                          .progress = t->progress};

	TRY(choose_parts(t, to, parts, err));
	TRY(choose_lazy(to, &req, err));
	/* Without platforms all of an index is wanted; with some, only what describes the others, if at all. */
	req.rest = !to->n_platforms ? CD_PULL_REST_WHOLE : to->all_metadata ? CD_PULL_REST_METADATA : CD_PULL_REST_NONE;
	req.parts = parts->v.p;
	req.n_parts = parts->v.n;
	TRY(cd_transfer_access(t, from->resolver, from->reference, &req.access, err));
	return cd_pull(t->d, t->call, &req, err);
}

int cd_transfer_pull(struct cd_transfer *t, const Xfer__OCIRegistry *from, Xfer__ImageStore *to, struct err *err)
{
	struct parts parts = {0};
	int r;

	TRY(cd_name_check("image reference", from->reference, err));
	TRY(cd_store_check(t, to, err));
	r = pull(t, from, to, &parts, err);
	vec_fini(&parts.v);
	return r;
}
