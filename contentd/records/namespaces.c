#include "contentd/daemon.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/services.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"

/* ---- reading ---- */

/* An unknown one answers without labels: pulling clients ask for defaults of namespaces that do not exist yet. */
static int namespaces_get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__GetNamespaceRequest *req = request;
	Namespaces__GetNamespaceResponse rsp = NAMESPACES__GET_NAMESPACE_RESPONSE__INIT;
	Namespaces__Namespace none = NAMESPACES__NAMESPACE__INIT;
	struct cd_daemon *d = svc;
	int r;

	TRY(cd_ident_check("namespace", req->name, err));
	r = cd_meta_get(d->meta, CD_NAMESPACE, req->name, STR_NONE, rpc_arena(c), &rsp.namespace_, err);
	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	if (r < 0)
		rsp.namespace_ = &none;
	rsp.namespace_->name = req->name;
	return rpc_reply(c, &rsp.base, err);
}

struct listing {
	struct arena *arena;
	VEC(Namespaces__Namespace *) found;
};

static int list_one(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct listing *l = arg;
	Namespaces__Namespace *n = record;

	n->name = arena_strdup(l->arena, ns);
	vec_push(&l->found, n);
	return 0;
}

static int namespaces_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Namespaces__ListNamespacesResponse rsp = NAMESPACES__LIST_NAMESPACES_RESPONSE__INIT;
	struct listing l = {.arena = rpc_arena(c)};
	struct cd_daemon *d = svc;
	int r = cd_meta_scan(d->meta, CD_NAMESPACE, NULL, STR_NONE, l.arena, list_one, &l, err);

	rsp.namespaces = l.found.p;
	rsp.n_namespaces = l.found.n;
	if (r >= 0)
		r = rpc_reply(c, &rsp.base, err);
	vec_fini(&l.found);
	return r;
}

/* ---- changing: rare, and against everything else in the namespace, so the whole table is held ---- */

static int clean(struct arena *a, const Namespaces__Namespace *from, Namespaces__Namespace *to, struct err *err)
{
	if (!from)
		return err_set(err, ERR_INVALID, "namespace is missing");
	TRY(cd_ident_check("namespace", from->name, err));
	namespaces__namespace__init(to);
	to->name = from->name;
	to->labels = from->labels;
	to->n_labels = from->n_labels;
	return cd_kvs_clean(a, KVS(to, labels), LABEL_BYTES_MAX, err);
}

static int create(struct cd_daemon *d, const Namespaces__Namespace *n, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold_all(d->meta);

	TRY(cd_meta_absent(d->meta, CD_NAMESPACE, n->name, STR_NONE, err));
	return cd_meta_put(d->meta, CD_NAMESPACE, n->name, STR_NONE, &n->base, err);
}

static int namespaces_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__CreateNamespaceRequest *req = request;
	Namespaces__CreateNamespaceResponse rsp = NAMESPACES__CREATE_NAMESPACE_RESPONSE__INIT;
	Event__NamespaceCreate event = EVENT__NAMESPACE_CREATE__INIT;
	struct cd_daemon *d = svc;
	Namespaces__Namespace n;

	TRY(clean(rpc_arena(c), req->namespace_, &n, err));
	TRY(create(d, &n, err));
	event.name = n.name;
	event.labels = n.labels;
	event.n_labels = n.n_labels;
	cd_events_publish(d->events, n.name, "/namespaces/create", &event.base);
	rsp.namespace_ = &n;
	return rpc_reply(c, &rsp.base, err);
}

/* Only single labels can be named; without a mask all are replaced. Makes the namespace when it is not there. */
static int update(struct cd_daemon *d, struct arena *a, Namespaces__Namespace *n, const Pb__FieldMask *mask,
                  struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold_all(d->meta);
	Namespaces__Namespace none = NAMESPACES__NAMESPACE__INIT, *old = &none;
	int r = cd_meta_get(d->meta, CD_NAMESPACE, n->name, STR_NONE, a, &old, err);

	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	for (size_t i = 0; mask && i < mask->n_paths; i++) {
		struct cd_mask_path path = cd_mask_path(mask->paths[i]);

		if (!str_eqc(path.field, "labels") || !path.key)
			return err_set(err, ERR_INVALID, "field \"%s\" of a namespace cannot be updated",
			               mask->paths[i]);
		cd_kvs_apply(a, path.key, n->labels, n->n_labels, KVS(old, labels));
	}
	if (mask && mask->n_paths) {
		n->labels = old->labels;
		n->n_labels = old->n_labels;
	}
	return cd_meta_put(d->meta, CD_NAMESPACE, n->name, STR_NONE, &n->base, err);
}

static int namespaces_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__UpdateNamespaceRequest *req = request;
	Namespaces__UpdateNamespaceResponse rsp = NAMESPACES__UPDATE_NAMESPACE_RESPONSE__INIT;
	Event__NamespaceUpdate event = EVENT__NAMESPACE_UPDATE__INIT;
	struct cd_daemon *d = svc;
	Namespaces__Namespace n;

	TRY(clean(rpc_arena(c), req->namespace_, &n, err));
	TRY(update(d, rpc_arena(c), &n, req->update_mask, err));
	event.name = n.name;
	event.labels = req->namespace_->labels; /* what was asked for, removals too */
	event.n_labels = req->namespace_->n_labels;
	cd_events_publish(d->events, n.name, "/namespaces/update", &event.base);
	rsp.namespace_ = &n;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- removing ---- */

static int stop_at_first(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	*(bool *)arg = true;
	return 1;
}

static int stop_at_snapshot(void *arg, const struct snap_info *i, struct err *err)
{
	*(bool *)arg = true;
	return 0;
}

/* Appends the nouns of what is in a namespace. Leases, ingests and sandboxes do not count: they go with it. */
static int contents_of(struct cd_daemon *d, struct snap_store *snaps, const char *ns, struct arena *a, struct buf *out,
                       struct err *err)
{
	static const struct {
		enum cd_kind kind;
		const char *noun;
	} kinds[] = {{CD_IMAGE, "images"}, {CD_CONTENT, "blobs"}, {CD_CONTAINER, "containers"}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		bool any = false;

		TRY(cd_meta_scan(d->meta, kinds[i].kind, ns, STR_NONE, a, stop_at_first, &any, err));
		if (any)
			buf_addf(out, "%s%s", out->n ? ", " : "", kinds[i].noun);
	}
	for (size_t i = 0; i < d->config.snapshotter_names.n; i++) {
		struct snap_space space = {ns, d->config.snapshotter_names.p[i]};
		bool any = false;

		TRY(snap_list(snaps, space, stop_at_snapshot, &any, err));
		if (any)
			buf_addf(out, "%ssnapshots of %s", out->n ? ", " : "", space.snapshotter);
	}
	return 0;
}

struct prune {
	struct cd_batch *batch;
	enum cd_kind kind;
};

static int prune_one(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct prune *p = arg;

	cd_batch_remove(p->batch, p->kind, ns, name);
	return 0;
}

static int drop(struct cd_daemon *d, struct snap_store *snaps, struct arena *a, const char *ns, struct err *err)
{
	static const enum cd_kind kinds[] = {CD_LEASE, CD_RESOURCE, CD_SANDBOX};
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(buf) struct buf contents = BUF_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold_all(d->meta);
	void *record;

	TRY(cd_meta_get(d->meta, CD_NAMESPACE, ns, STR_NONE, a, &record, err));
	TRY(contents_of(d, snaps, ns, a, &contents, err));
	if (contents.n)
		return err_set(err, ERR_PRECONDITION, "namespace \"%s\" must be empty, but it still has %s", ns,
		               buf_cstr(&contents));
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		TRY(cd_meta_scan(d->meta, kinds[i], ns, STR_NONE, a, prune_one, &(struct prune){&b, kinds[i]}, err));
	cd_batch_remove(&b, CD_NAMESPACE, ns, STR_NONE);
	return cd_meta_commit(d->meta, &b, err);
}

static int note_ingest(void *arg, const struct cd_ingest_status *s, struct err *err)
{
	vec_push((struct cd_names *)arg, xstrdup(s->ref));
	return 0;
}

/* An ingest that goes meanwhile is no failure. */
static int drop_ingests(struct cd_daemon *d, const char *ns, struct err *err)
{
	struct cd_names refs = {0};
	int r = cd_ingest_each(d->content, ns, note_ingest, &refs, err);

	vec_each(&refs, ref) {
		if (r >= 0)
			r = cd_ingest_abort(d->content, ns, *ref, err);
		r = r == -ERR_NOT_FOUND ? 0 : r;
		free(*ref);
	}
	vec_fini(&refs);
	return r;
}

static int namespaces_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Namespaces__DeleteNamespaceRequest *req = request;
	Event__NamespaceDelete event = EVENT__NAMESPACE_DELETE__INIT;
	struct cd_daemon *d = svc;
	struct snap_store *snaps;

	TRY(cd_ident_check("namespace", req->name, err));
	TRY(cd_snapshots(d, c, &snaps, err));
	TRY(drop(d, snaps, rpc_arena(c), req->name, err));
	TRY(drop_ingests(d, req->name, err));
	event.name = req->name;
	cd_events_publish(d->events, req->name, "/namespaces/delete", &event.base);
	return 0;
}

static const struct rpc_method methods[] = {
    {"Get", 0, namespaces_get},       {"List", 0, namespaces_list},     {"Create", 0, namespaces_create},
    {"Update", 0, namespaces_update}, {"Delete", 0, namespaces_delete},
};

const struct rpc_service cd_namespaces_service = {&namespaces__namespaces__descriptor, methods, ARRAY_LEN(methods)};
