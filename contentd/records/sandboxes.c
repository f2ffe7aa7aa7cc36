/* The sandbox Store: records of groups of containers. Nothing here runs them; there is no Controller. */
#include "base/clock.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/listing.h"
#include "contentd/services.h"
#include "rpc/proto/sandbox.pb-c.h"

/* ---- reading ---- */

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Types__Sandbox *s = object;

	if (n == 1 && str_eqc(path[0], "id")) {
		*value = str_of(s->sandbox_id);
		return true;
	}
	return n > 1 && str_eqc(path[0], "labels") && cd_kvs_field(s->labels, s->n_labels, path + 1, n - 1, value);
}

static int store_get(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Sandbox__StoreGetRequest *req = request;
	Sandbox__StoreGetResponse rsp = SANDBOX__STORE_GET_RESPONSE__INIT;
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_meta_get(d->meta, CD_SANDBOX, ns, str_of(req->sandbox_id), rpc_arena(c), &rsp.sandbox, err));
	return rpc_reply(c, &rsp.base, err);
}

static int store_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Sandbox__StoreListRequest *req = request;
	Sandbox__StoreListResponse rsp = SANDBOX__STORE_LIST_RESPONSE__INIT;
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_SANDBOX, (const char *const *)req->filters, req->n_filters, field, &l, err));
	rsp.list = (Types__Sandbox **)l.found.p;
	rsp.n_list = l.found.n;
	return rpc_reply(c, &rsp.base, err);
}

/* ---- changing ---- */

static int check(struct arena *a, Types__Sandbox *s, struct err *err)
{
	if (!s)
		return err_set(err, ERR_INVALID, "sandbox is missing");
	TRY(cd_ident_check("sandbox id", s->sandbox_id, err));
	for (size_t i = 0; i < s->n_extensions; i++)
		if (!*s->extensions[i]->key)
			return err_set(err, ERR_INVALID, "sandbox \"%s\" has an extension without a key",
			               s->sandbox_id);
	return cd_kvs_clean(a, KVS(s, labels), LABEL_BYTES_MAX, err);
}

static int create(struct cd_daemon *d, const char *ns, const Types__Sandbox *s, struct err *err)
{
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_SANDBOX, ns, str_of(s->sandbox_id));

	TRY(cd_meta_absent(d->meta, CD_SANDBOX, ns, str_of(s->sandbox_id), err));
	return cd_meta_put(d->meta, CD_SANDBOX, ns, str_of(s->sandbox_id), &s->base, err);
}

static int store_create(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Sandbox__StoreCreateRequest *req = request;
	Sandbox__StoreCreateResponse rsp = SANDBOX__STORE_CREATE_RESPONSE__INIT;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(check(rpc_arena(c), req->sandbox, err));
	req->sandbox->created_at = req->sandbox->updated_at = pb_time_new(rpc_arena(c), clock_wall());
	TRY(create(svc, ns, req->sandbox, err));
	rsp.sandbox = req->sandbox;
	return rpc_reply(c, &rsp.base, err);
}

static int apply_path(struct arena *a, const char *text, const Types__Sandbox *from, Types__Sandbox *to,
                      struct err *err)
{
	struct cd_mask_path path = cd_mask_path(text);

	if (str_eqc(path.field, "labels"))
		cd_kvs_apply(a, path.key, from->labels, from->n_labels, KVS(to, labels));
	else if (str_eqc(path.field, "extensions"))
		cd_kvs_apply_any(a, path.key, from->extensions, from->n_extensions, KVS(to, extensions));
	else if (!strcmp(text, "spec"))
		to->spec = from->spec;
	else if (strcmp(text, "runtime"))
		return err_set(err, ERR_INVALID, "field \"%s\" of a sandbox cannot be updated", text);
	else if (strcmp(from->runtime ? from->runtime->name : "", to->runtime ? to->runtime->name : ""))
		return err_set(err, ERR_INVALID, "the runtime of a sandbox cannot be changed");
	else
		to->runtime = from->runtime; /* its options */
	return 0;
}

/* *out is what is stored afterwards. */
static int update(struct cd_daemon *d, struct arena *a, const char *ns, const Sandbox__StoreUpdateRequest *req,
                  Types__Sandbox **out, struct err *err)
{
	static const char *const all[] = {"labels", "extensions", "spec", "runtime"};
	const char *const *paths = req->n_fields ? (const char *const *)req->fields : all;
	size_t n = req->n_fields ? req->n_fields : ARRAY_LEN(all);
	struct str id = str_of(req->sandbox->sandbox_id);
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_SANDBOX, ns, id);

	TRY(cd_meta_get(d->meta, CD_SANDBOX, ns, id, a, out, err));
	for (size_t i = 0; i < n; i++)
		TRY(apply_path(a, paths[i], req->sandbox, *out, err));
	(*out)->updated_at = pb_time_new(a, clock_wall());
	return cd_meta_put(d->meta, CD_SANDBOX, ns, id, &(*out)->base, err);
}

static int store_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Sandbox__StoreUpdateRequest *req = request;
	Sandbox__StoreUpdateResponse rsp = SANDBOX__STORE_UPDATE_RESPONSE__INIT;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(check(rpc_arena(c), req->sandbox, err));
	TRY(update(svc, rpc_arena(c), ns, req, &rsp.sandbox, err));
	return rpc_reply(c, &rsp.base, err);
}

static int store_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Sandbox__StoreDeleteRequest *req = request;
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	return cd_meta_remove(d->meta, CD_SANDBOX, ns, str_of(req->sandbox_id), err);
}

static const struct rpc_method methods[] = {
    {"Create", 0, store_create}, {"Update", 0, store_update}, {"Delete", 0, store_delete},
    {"List", 0, store_list},     {"Get", 0, store_get},
};

const struct rpc_service cd_sandboxes_service = {&sandbox__store__descriptor, methods, ARRAY_LEN(methods)};
