#include "contentd/records/leases.h"

#include "base/clock.h"
#include "base/log.h"
#include "contentd/daemon.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/listing.h"
#include "contentd/services.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/leases.pb-c.h"

#include <errno.h>
#include <sys/random.h>

#define OWN_LEASE_S 86400
#define LABEL_OWN "contentd.io/lease.call" /* lasts as long as a call */

/* ---- resources ---- */

/* Names of resource records: "<lease><NUL><type><NUL><id>". */
static void resource_name(const char *lease, const char *type, const char *id, struct buf *out)
{
	buf_adds(out, lease);
	buf_addc(out, '\0');
	buf_adds(out, type);
	buf_addc(out, '\0');
	buf_adds(out, id);
}

void cd_lease_add(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id)
{
	Records__Resource r = RECORDS__RESOURCE__INIT;
	AUTO(buf) struct buf name = BUF_INIT;

	resource_name(lease, type, id, &name);
	r.type = type;
	r.id = id;
	cd_batch_put(b, CD_RESOURCE, ns, buf_str(&name), &r.base);
}

void cd_lease_remove(struct cd_batch *b, const char *ns, const char *lease, const char *type, const char *id)
{
	AUTO(buf) struct buf name = BUF_INIT;

	resource_name(lease, type, id, &name);
	cd_batch_remove(b, CD_RESOURCE, ns, buf_str(&name));
}

static int check_resource(const Leases__Resource *r, struct err *err)
{
	struct str type;

	if (!r)
		return err_set(err, ERR_INVALID, "resource is missing");
	type = str_of(r->type);
	if (str_eqc(type, "content"))
		return cd_digest_check(r->id, err);
	if (str_eqc(type, "ingests") || str_eqc(type, "images"))
		return cd_name_check("resource id", r->id, err);
	if (str_skip(&type, STR("snapshots"))) {
		if (!str_skip(&type, STR("/")) || !type.n || str_find(type, '/') >= 0)
			return err_set(err, ERR_INVALID, "resource type \"%.100s\" must be snapshots/<snapshotter>",
			               r->type);
		return cd_name_check("resource id", r->id, err);
	}
	return err_set(err, ERR_UNIMPLEMENTED, "resource type \"%.100s\": not implemented", r->type);
}

/* ---- reading ---- */

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Leases__Lease *l = object;

	if (n == 1 && str_eqc(path[0], "id")) {
		*value = str_of(l->id);
		return value->n > 0;
	}
	return n > 1 && str_eqc(path[0], "labels") && cd_kvs_field(l->labels, l->n_labels, path + 1, n - 1, value);
}

static int leases_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__ListRequest *req = request;
	Leases__ListResponse rsp = LEASES__LIST_RESPONSE__INIT;
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_LEASE, (const char *const *)req->filters, req->n_filters, field, &l, err));
	rsp.leases = (Leases__Lease **)l.found.p;
	rsp.n_leases = l.found.n;
	return rpc_reply(c, &rsp.base, err);
}

static int lease_exists(struct cd_daemon *d, const char *ns, const char *id, struct err *err)
{
	int r = cd_meta_has(d->meta, CD_LEASE, ns, str_of(id), err);

	return r ? r : err_set(err, ERR_NOT_FOUND, "lease \"%.200s\": not found", id);
}

struct resources {
	VEC(Leases__Resource *) found;
	struct arena *arena;
};

static int resource_one(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	struct resources *l = arg;
	const Records__Resource *from = record;
	Leases__Resource *r = pb_new(l->arena, &leases__resource__descriptor);

	r->type = from->type;
	r->id = from->id;
	vec_push(&l->found, r);
	return 0;
}

/* In order of types: content, images, ingests, snapshots, as they stand in the table. */
static int leases_list_resources(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__ListResourcesRequest *req = request;
	Leases__ListResourcesResponse rsp = LEASES__LIST_RESOURCES_RESPONSE__INIT;
	struct resources l = {.arena = rpc_arena(c)};
	struct cd_daemon *d = svc;
	const char *ns;
	int r;

	TRY(cd_call_ns(c, &ns, err));
	TRY(lease_exists(d, ns, req->id, err));
	r = cd_meta_scan(d->meta, CD_RESOURCE, ns, str_make(req->id, strlen(req->id) + 1), l.arena, resource_one, &l,
	                 err);
	rsp.resources = l.found.p;
	rsp.n_resources = l.found.n;
	if (r >= 0)
		r = rpc_reply(c, &rsp.base, err);
	vec_fini(&l.found);
	return r;
}

/* ---- changing ---- */

/* "<nanoseconds>-<4 characters>", as containerd's. */
static int random_id(struct arena *a, const char **out, struct err *err)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8_t r[4];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		return err_errno(err, errno, "getrandom");
	*out = arena_printf(a, "%ld-%c%c%c%c", clock_wall().tv_nsec, alphabet[r[0] % 64], alphabet[r[1] % 64],
	                    alphabet[r[2] % 64], alphabet[r[3] % 64]);
	return 0;
}

static int drop_one(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	cd_batch_remove(arg, CD_RESOURCE, ns, name);
	return 0;
}

static int drop_list(struct cd_daemon *d, struct arena *a, const char *ns, const char *lease, struct cd_batch *b,
                     struct err *err)
{
	return cd_meta_scan(d->meta, CD_RESOURCE, ns, str_make(lease, strlen(lease) + 1), a, drop_one, b, err);
}

/* An expired one of that name may just have been collected, and its list not yet. */
static int create(struct cd_daemon *d, struct arena *a, const char *ns, const Leases__Lease *l, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_LEASE, ns, str_of(l->id));

	TRY(cd_meta_absent(d->meta, CD_LEASE, ns, str_of(l->id), err));
	TRY(drop_list(d, a, ns, l->id, &b, err));
	cd_batch_put(&b, CD_LEASE, ns, str_of(l->id), &l->base);
	return cd_meta_commit(d->meta, &b, err);
}

static int leases_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__CreateRequest *req = request;
	Leases__CreateResponse rsp = LEASES__CREATE_RESPONSE__INIT;
	Leases__Lease l = LEASES__LEASE__INIT;
	struct arena *a = rpc_arena(c);
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	l.id = req->id;
	if (!*l.id)
		TRY(random_id(a, &l.id, err));
	TRY(cd_name_check("lease id", l.id, err));
	l.labels = req->labels;
	l.n_labels = req->n_labels;
	TRY(cd_kvs_clean(a, KVS(&l, labels), LABEL_BYTES_MAX, err));
	l.created_at = pb_time_new(a, clock_wall());
	TRY(create(d, a, ns, &l, err));
	rsp.lease = &l;
	return rpc_reply(c, &rsp.base, err);
}

int cd_lease_begin(struct cd_daemon *d, struct arena *a, const char *ns, const char **id, struct err *err)
{
	Leases__Lease l = LEASES__LEASE__INIT;
	struct timespec until = clock_wall();
	char text[40];

	TRY(random_id(a, id, err));
	until.tv_sec += OWN_LEASE_S;
	l.id = *id;
	l.created_at = pb_time_new(a, clock_wall());
	cd_kvs_set(a, KVS(&l, labels), CD_LABEL_EXPIRE, arena_strdup(a, time_rfc3339(until, text)));
	cd_kvs_set(a, KVS(&l, labels), LABEL_OWN, "true");
	return create(d, a, ns, &l, err);
}

static int drop(struct cd_daemon *d, struct arena *a, const char *ns, const char *id, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_LEASE, ns, str_of(id));

	TRY(lease_exists(d, ns, id, err));
	TRY(drop_list(d, a, ns, id, &b, err));
	cd_batch_remove(&b, CD_LEASE, ns, str_of(id));
	return cd_meta_commit(d->meta, &b, err);
}

void cd_lease_end(struct cd_daemon *d, const char *ns, const char *id)
{
	struct err why = ERR_INIT;
	struct arena a;

	arena_init(&a, SIZE_MAX);
	if (drop(d, &a, ns, id, &why) < 0)
		log_warn("lease %s of namespace %s stays until it expires: %s", id, ns, why.msg);
	arena_fini(&a);
}

struct left {
	struct arena *arena;
	VEC(const char *) names; /* pairs of namespace and id */
};

static int note_left(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Leases__Lease *lease = record;
	struct left *l = arg;

	if (!pb_kv_get(lease->labels, lease->n_labels, LABEL_OWN))
		return 0;
	vec_push(&l->names, (const char *)arena_strdup(l->arena, ns));
	vec_push(&l->names, (const char *)arena_str(l->arena, name));
	return 0;
}

int cd_leases_end_left(struct cd_daemon *d, struct err *err)
{
	struct arena a;
	struct left l = {.arena = &a};
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_LEASE, NULL, STR_NONE, &a, note_left, &l, err);
	for (size_t i = 0; r >= 0 && i < l.names.n; i += 2)
		r = drop(d, &a, l.names.p[i], l.names.p[i + 1], err);
	vec_fini(&l.names);
	arena_fini(&a);
	return r;
}

static int leases_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__DeleteRequest *req = request;
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(drop(d, rpc_arena(c), ns, req->id, err));
	return req->sync ? cd_collector_run(cd_collector_now(d), c, err) : 0;
}

/* Adding twice, and removing what is not there, are fine; so is naming an object that does not exist. */
static int change_resource(struct rpc_call *c, struct cd_daemon *d, const char *lease, const Leases__Resource *r,
                           bool add, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_name_check("lease id", lease, err));
	h = cd_meta_hold(d->meta, CD_LEASE, ns, str_of(lease));
	TRY(lease_exists(d, ns, lease, err));
	TRY(check_resource(r, err));
	if (add)
		cd_lease_add(&b, ns, lease, r->type, r->id);
	else
		cd_lease_remove(&b, ns, lease, r->type, r->id);
	return cd_meta_commit(d->meta, &b, err);
}

static int leases_add_resource(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__AddResourceRequest *req = request;

	return change_resource(c, svc, req->id, req->resource, true, err);
}

static int leases_delete_resource(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Leases__DeleteResourceRequest *req = request;

	return change_resource(c, svc, req->id, req->resource, false, err);
}

static const struct rpc_method methods[] = {
    {"Create", 0, leases_create},
    {"Delete", RPC_LONG, leases_delete},
    {"List", 0, leases_list},
    {"AddResource", 0, leases_add_resource},
    {"DeleteResource", 0, leases_delete_resource},
    {"ListResources", 0, leases_list_resources},
};

const struct rpc_service cd_leases_service = {&leases__leases__descriptor, methods, ARRAY_LEN(methods)};
