/* The Snapshots service: containerd's metadata rules (leases, events, filters, masks) over the snapshotter. */
#include "contentd/adopt.h"
#include "contentd/daemon.h"
#include "contentd/diff/apply.h"
#include "contentd/filter/filter.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"
#include "contentd/remote/labels.h"
#include "contentd/remote/remote.h"
#include "contentd/services.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"

#define LIST_BATCH 100 /* entries in one message of a list */

/* What every call begins with. */
struct scope {
	struct cd_daemon *d;
	struct rpc_call *call;
	struct snap_store *store;
	struct snap_space space; /* ns "": a proxied space, for which there are neither leases nor events */
	const char *lease;
};

/* Namespaces and leases that a call may name are those of the containerd in front. */
static int scope_open_proxied(struct scope *s, struct err *err)
{
	s->space.ns = "";
	return cd_snapshots(s->d, s->call, &s->store, err);
}

static int scope_open(struct scope *s, struct rpc_call *c, void *svc, const char *snapshotter, struct err *err)
{
	*s = (struct scope){.d = svc, .call = c, .space.snapshotter = snapshotter};
	if (cd_is_proxied(svc, snapshotter))
		return scope_open_proxied(s, err);
	TRY(cd_call_ns(c, &s->space.ns, err));
	if (!cd_is_snapshotter(svc, snapshotter))
		return err_set(err, ERR_INVALID, "snapshotter not loaded: \"%.100s\"", snapshotter);
	TRY(cd_call_lease_if_any(svc, c, s->space.ns, &s->lease, err));
	return cd_snapshots(svc, c, &s->store, err);
}

/* For what the lease of the call is to keep: one that it names must be there. */
static int scope_open_to_add(struct scope *s, struct rpc_call *c, void *svc, const char *snapshotter, struct err *err)
{
	TRY(scope_open(s, c, svc, snapshotter, err));
	return *s->space.ns ? cd_call_lease(svc, c, s->space.ns, &s->lease, err) : 0;
}

static void publish(const struct scope *s, const char *topic, const ProtobufCMessage *event)
{
	if (*s->space.ns)
		cd_events_publish(s->d->events, s->space.ns, topic, event);
}

/* Before anybody looks whether it is there. */
static void use(const struct scope *s, const char *name)
{
	if (*name)
		cd_use_for_call(
		    s->d, s->call,
		    &(struct gc_id){GC_SNAPSHOT, str_of(s->space.ns), str_of(s->space.snapshotter), str_of(name)});
}

/* Has the lease of the call, if any, keep `add` and no longer keep `remove`; each may be NULL. */
static int lease_change(const struct scope *s, const char *add, const char *remove, struct err *err)
{
	AUTO_FREE char *type = xasprintf("snapshots/%s", s->space.snapshotter);
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	if (!s->lease)
		return 0;
	if (remove)
		cd_lease_remove(&b, s->space.ns, s->lease, type, remove);
	if (add)
		cd_lease_add(&b, s->space.ns, s->lease, type, add);
	return cd_meta_commit(s->d->meta, &b, err);
}

/* ---- conversions ---- */

static void mounts_out(struct arena *a, const struct snap_mounts *from, Types__Mount ***list, size_t *n)
{
	*n = from->v.n;
	*list = arena_alloc(a, (from->v.n + 1) * sizeof(**list));
	for (size_t i = 0; i < from->v.n; i++) {
		const struct snap_mount *m = &from->v.p[i];
		Types__Mount *out = pb_new(a, &types__mount__descriptor);
		const char **options = arena_alloc(a, (m->options.n + 1) * sizeof(*options));

		for (size_t k = 0; k < m->options.n; k++)
			options[k] = arena_strdup(a, m->options.p[k]);
		out->type = arena_strdup(a, m->type);
		out->source = arena_strdup(a, m->source);
		out->options = options;
		out->n_options = m->options.n;
		(*list)[i] = out;
	}
}

static Snapshots__Info *info_out(struct arena *a, const struct snap_info *from)
{
	Snapshots__Info *i = pb_new(a, &snapshots__info__descriptor);

	i->name = arena_strdup(a, from->name);
	i->parent = arena_strdup(a, from->parent);
	i->kind = (Snapshots__Kind)from->kind; /* the numbers are the API's */
	i->created_at = pb_time_new(a, from->created);
	i->updated_at = pb_time_new(a, from->updated);
	cd_kvs_from_labels(a, &from->labels, KVS(i, labels));
	return i;
}

static int labels_in(struct arena *a, Kv__Entry **list, size_t n, struct labels *out, struct err *err)
{
	TRY(cd_kvs_clean(a, &list, &n, LABEL_BYTES_MAX, err));
	return cd_kvs_to_labels(list, n, out, err);
}

/* ---- making ---- */

/* A client that unpacks names the snapshot it is about to make: when that is there, there is nothing to do. */
static int check_target(const struct scope *s, const struct labels *labels, struct err *err)
{
	AUTO(snap_info) struct snap_info info = {0};
	const char *target = labels_get(labels, CD_LABEL_SNAPSHOT_REF);
	int r;

	/* A containerd in front has its own names for what it has committed. */
	if (!target || !*s->space.ns)
		return 0;
	r = snap_stat(s->store, s->space, target, &info, err);
	if (r == -ERR_NOT_FOUND)
		return 0;
	TRY(r);
	TRY(lease_change(s, target, NULL, err));
	return err_set(err, ERR_EXISTS, "snapshot \"%.200s\": already exists", target);
}

/* One whose contents can be read on demand is made at once: there is nothing to do for the client, either. */
static int check_remote(const struct scope *s, const char *parent, const struct labels *labels, struct err *err)
{
	const char *target = labels_get(labels, CD_LABEL_SNAPSHOT_REF);
	int r = cd_remote_prepare(s->d, s->call, s->space, s->lease, parent, labels, err);

	if (r == CD_REMOTE_ORDINARY)
		return 0;
	TRY(r);
	if (*s->space.ns)
		TRY(cd_meta_touch(s->d->meta, s->space.ns, err));
	TRY(lease_change(s, target, NULL, err));
	return err_set(err, ERR_EXISTS, "target snapshot \"%.200s\": already exists", target);
}

/* What another namespace has unpacked need not be unpacked again. */
static int check_others(const struct scope *s, const char *parent, const struct labels *labels, struct err *err)
{
	const char *target = labels_get(labels, CD_LABEL_SNAPSHOT_REF);
	int r;

	if (!target || !*s->space.ns)
		return 0;
	r = cd_snapshot_adopt(s->d, s->call, s->store, s->space, target, parent, labels, err);
	if (r <= 0)
		return r;
	TRY(cd_meta_touch(s->d->meta, s->space.ns, err));
	TRY(lease_change(s, target, NULL, err));
	return err_set(err, ERR_EXISTS, "target snapshot \"%.200s\": already exists", target);
}

typedef int (*prepare_fn)(struct snap_store *s, struct snap_space sp, const char *key, const char *parent,
                          const struct labels *labels, struct snap_mounts *out, struct err *err);

static int prepare(const struct scope *s, prepare_fn fn, const char *key, const char *parent, Kv__Entry **list,
                   size_t n, struct snap_mounts *mounts, struct err *err)
{
	AUTO(labels) struct labels labels = LABELS_INIT;
	int r;

	TRY(cd_name_check("snapshot key", key, err));
	use(s, key);
	use(s, parent);
	TRY(labels_in(rpc_arena(s->call), list, n, &labels, err));
	use(s, labels_get(&labels, CD_LABEL_SNAPSHOT_REF) ?: "");
	if (fn == snap_prepare)
		TRY(check_remote(s, parent, &labels, err));
	TRY(check_target(s, &labels, err));
	if (fn == snap_prepare)
		TRY(check_others(s, parent, &labels, err));
	r = fn(s->store, s->space, key, parent, &labels, mounts, err);
	if (r == -ERR_EXISTS) {
		TRY(lease_change(s, key, NULL, err));
		return r;
	}
	TRY(r);
	if (*s->space.ns)
		TRY(cd_meta_touch(s->d->meta, s->space.ns, err));
	return lease_change(s, key, NULL, err);
}

static int snapshots_prepare(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__PrepareSnapshotRequest *req = request;
	Snapshots__PrepareSnapshotResponse rsp = SNAPSHOTS__PREPARE_SNAPSHOT_RESPONSE__INIT;
	Event__SnapshotPrepare event = EVENT__SNAPSHOT_PREPARE__INIT;
	AUTO(snap_mounts) struct snap_mounts mounts = SNAP_MOUNTS_INIT;
	struct scope s;

	TRY(scope_open_to_add(&s, c, svc, req->snapshotter, err));
	TRY(prepare(&s, snap_prepare, req->key, req->parent, req->labels, req->n_labels, &mounts, err));
	event.key = req->key;
	event.parent = req->parent;
	event.snapshotter = req->snapshotter;
	publish(&s, "/snapshot/prepare", &event.base);
	mounts_out(rpc_arena(c), &mounts, &rsp.mounts, &rsp.n_mounts);
	return rpc_reply(c, &rsp.base, err);
}

static int snapshots_view(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__ViewSnapshotRequest *req = request;
	Snapshots__ViewSnapshotResponse rsp = SNAPSHOTS__VIEW_SNAPSHOT_RESPONSE__INIT;
	AUTO(snap_mounts) struct snap_mounts mounts = SNAP_MOUNTS_INIT;
	struct scope s;

	TRY(scope_open_to_add(&s, c, svc, req->snapshotter, err));
	TRY(prepare(&s, snap_view, req->key, req->parent, req->labels, req->n_labels, &mounts, err));
	mounts_out(rpc_arena(c), &mounts, &rsp.mounts, &rsp.n_mounts);
	return rpc_reply(c, &rsp.base, err);
}

static int snapshots_mounts(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__MountsRequest *req = request;
	Snapshots__MountsResponse rsp = SNAPSHOTS__MOUNTS_RESPONSE__INIT;
	AUTO(snap_mounts) struct snap_mounts mounts = SNAP_MOUNTS_INIT;
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	TRY(snap_mounts(s.store, s.space, req->key, &mounts, err));
	mounts_out(rpc_arena(c), &mounts, &rsp.mounts, &rsp.n_mounts);
	return rpc_reply(c, &rsp.base, err);
}

/* A layer index that is given a parent which is a directory has to become one, too. */
static int before_rebase(const struct scope *s, const char *key, const char *parent, struct err *err)
{
	AUTO(snap_info) struct snap_info info = {0};
	AUTO(snap_info) struct snap_info above = {0};

	if (!*parent)
		return 0;
	TRY(snap_stat(s->store, s->space, key, &info, err));
	if (!info.indexed || *info.parent || snap_stat(s->store, s->space, parent, &above, NULL) < 0 || !above.has_dir)
		return 0; /* snap_commit says what is wrong, if anything is */
	return diff_index_to_dir(s->d, s->call, s->space, key, parent, err);
}

static int snapshots_commit(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__CommitSnapshotRequest *req = request;
	Event__SnapshotCommit event = EVENT__SNAPSHOT_COMMIT__INIT;
	AUTO(labels) struct labels labels = LABELS_INIT;
	struct scope s;

	TRY(scope_open_to_add(&s, c, svc, req->snapshotter, err));
	TRY(cd_name_check("snapshot name", req->name, err));
	use(&s, req->name);
	use(&s, req->key);
	TRY(labels_in(rpc_arena(c), req->labels, req->n_labels, &labels, err));
	TRY(before_rebase(&s, req->key, req->parent, err));
	TRY(snap_commit(s.store, s.space, req->name, req->key, req->parent, &labels, err));
	TRY(lease_change(&s, req->name, req->key, err));
	event.key = req->key;
	event.name = req->name;
	event.snapshotter = req->snapshotter;
	publish(&s, "/snapshot/commit", &event.base);
	return 0;
}

static int snapshots_remove(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__RemoveSnapshotRequest *req = request;
	Event__SnapshotRemove event = EVENT__SNAPSHOT_REMOVE__INIT;
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	if (!*s.space.ns)
		return cd_remote_remove(s.d, s.space, req->key, err);
	use(&s, req->key); /* the collector leaves it to us: it goes once, and is told once */
	TRY(snap_remove(s.store, s.space, req->key, err));
	TRY(lease_change(&s, NULL, req->key, err));
	event.key = req->key;
	event.snapshotter = req->snapshotter;
	publish(&s, "/snapshot/remove", &event.base);
	return 0;
}

/* ---- reading ---- */

static int snapshots_stat(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__StatSnapshotRequest *req = request;
	Snapshots__StatSnapshotResponse rsp = SNAPSHOTS__STAT_SNAPSHOT_RESPONSE__INIT;
	AUTO(snap_info) struct snap_info info = {0};
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	TRY(snap_stat(s.store, s.space, req->key, &info, err));
	rsp.info = info_out(rpc_arena(c), &info);
	return rpc_reply(c, &rsp.base, err);
}

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	static const char *const kinds[] = {"unknown", "view", "active", "committed"};
	const Snapshots__Info *i = object;

	if (n > 1 && str_eqc(path[0], "labels"))
		return cd_kvs_field(i->labels, i->n_labels, path + 1, n - 1, value);
	if (n != 1)
		return false;
	*value = str_of(str_eqc(path[0], "name")     ? i->name
	                : str_eqc(path[0], "parent") ? i->parent
	                : str_eqc(path[0], "kind")   ? kinds[i->kind & 3]
	                                             : NULL);
	return value->p != NULL; /* a base snapshot's parent is "", and can be asked for */
}

struct listing {
	struct arena *arena;
	struct cd_filter *filter;
	VEC(Snapshots__Info *) found;
};

static int list_one(void *arg, const struct snap_info *info, struct err *err)
{
	struct listing *l = arg;
	Snapshots__Info *i = info_out(l->arena, info);

	if (cd_filter_match(l->filter, field, i))
		vec_push(&l->found, i);
	return 0;
}

static int snapshots_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__ListSnapshotsRequest *req = request;
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	struct listing l = {.arena = rpc_arena(c)};
	struct scope s;
	int r;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	TRY(cd_filter_new((const char *const *)req->filters, req->n_filters, &filter, err));
	l.filter = filter;
	r = snap_list(s.store, s.space, list_one, &l, err);
	for (size_t i = 0; i < l.found.n && r >= 0; i += LIST_BATCH) {
		Snapshots__ListSnapshotsResponse rsp = SNAPSHOTS__LIST_SNAPSHOTS_RESPONSE__INIT;

		rsp.info = l.found.p + i;
		rsp.n_info = l.found.n - i > LIST_BATCH ? LIST_BATCH : l.found.n - i;
		r = rpc_send(c, &rsp.base, err);
	}
	vec_fini(&l.found);
	return r;
}

static int snapshots_usage(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__UsageRequest *req = request;
	Snapshots__UsageResponse rsp = SNAPSHOTS__USAGE_RESPONSE__INIT;
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	TRY(snap_usage(s.store, s.space, req->key, &rsp.size, &rsp.inodes, err));
	return rpc_reply(c, &rsp.base, err);
}

/* ---- changing labels ---- */

/* The labels that the request asks for, given those there are. */
static int new_labels(struct arena *a, const Snapshots__UpdateSnapshotRequest *req, const struct snap_info *old,
                      struct labels *out, struct err *err)
{
	const Pb__FieldMask *mask = req->update_mask;
	Kv__Entry **from = req->info->labels, **list;
	size_t n_from = req->info->n_labels, n;

	TRY(cd_kvs_clean(a, &from, &n_from, LABEL_BYTES_MAX, err));
	cd_kvs_from_labels(a, &old->labels, &list, &n);
	for (size_t i = 0; mask && i < mask->n_paths; i++) {
		struct cd_mask_path path = cd_mask_path(mask->paths[i]);

		if (!str_eqc(path.field, "labels"))
			return err_set(err, ERR_INVALID, "field \"%s\" of a snapshot cannot be updated",
			               mask->paths[i]);
		cd_kvs_apply(a, path.key, from, n_from, &list, &n);
	}
	if (!mask || !mask->n_paths)
		return cd_kvs_to_labels(from, n_from, out, err);
	return cd_kvs_to_labels(list, n, out, err);
}

static int update(const struct scope *s, const Snapshots__UpdateSnapshotRequest *req, struct snap_info *out,
                  struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(s->d->meta, CD_SNAPSHOT, s->space.ns, str_of(req->info->name));
	AUTO(snap_info) struct snap_info old = {0};
	AUTO(labels) struct labels labels = LABELS_INIT;

	use(s, req->info->name);
	TRY(snap_stat(s->store, s->space, req->info->name, &old, err));
	TRY(new_labels(rpc_arena(s->call), req, &old, &labels, err));
	return snap_update_labels(s->store, s->space, req->info->name, &labels, out, err);
}

static int snapshots_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__UpdateSnapshotRequest *req = request;
	Snapshots__UpdateSnapshotResponse rsp = SNAPSHOTS__UPDATE_SNAPSHOT_RESPONSE__INIT;
	AUTO(snap_info) struct snap_info info = {0};
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	if (!req->info)
		return err_set(err, ERR_INVALID, "info is missing");
	TRY(update(&s, req, &info, err));
	rsp.info = info_out(rpc_arena(c), &info);
	return rpc_reply(c, &rsp.base, err);
}

static int snapshots_cleanup(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Snapshots__CleanupRequest *req = request;
	struct scope s;

	TRY(scope_open(&s, c, svc, req->snapshotter, err));
	snap_cleanup(s.store);
	/* A containerd in front has just collected: what its snapshots needed goes now. */
	return *s.space.ns ? 0 : cd_collector_run(cd_collector_now(s.d), c, err);
}

static const struct rpc_method methods[] = {
    {"Prepare", 0, snapshots_prepare}, {"View", 0, snapshots_view},
    {"Mounts", 0, snapshots_mounts},   {"Commit", 0, snapshots_commit},
    {"Remove", 0, snapshots_remove},   {"Stat", 0, snapshots_stat},
    {"Update", 0, snapshots_update},   {"List", RPC_SERVER_STREAM, snapshots_list},
    {"Usage", 0, snapshots_usage},     {"Cleanup", RPC_LONG, snapshots_cleanup},
};

const struct rpc_service cd_snapshots_service = {&snapshots__snapshots__descriptor, methods, ARRAY_LEN(methods)};
