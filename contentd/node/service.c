/* The Node service: what only contentd has. */
#include "contentd/collect/ask.h"
#include "contentd/dataplane.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/node/usage.h"
#include "contentd/node/users.h"
#include "contentd/node/verify.h"
#include "contentd/services.h"

#include <sys/utsname.h>

/* ---- Info ---- */

static Node__LayerFill *fill_new(struct arena *a, const struct cd_users *u,
                                 const Contentd__Contentfs__V1__LayerStatus *s)
{
	const struct cd_image_names *names = cd_users_of_layer(u, s->index_key);
	Node__LayerFill *f = pb_new(a, &node__layer_fill__descriptor);

	f->index_key = s->index_key;
	f->blob = s->blob;
	f->lazy = s->lazy;
	f->gzip_index = s->gzip_index;
	f->content_bytes = s->content_bytes;
	f->present_bytes = s->present_bytes;
	f->error = s->error;
	f->verdict = s->verdict;
	f->diff_id = s->diff_id;
	f->verdict_reason = s->verdict_reason;
	if (names) {
		f->images = arena_alloc(a, names->v.n * sizeof(*f->images));
		memcpy(f->images, names->v.p, names->v.n * sizeof(*f->images));
		f->n_images = names->v.n;
	}
	return f;
}

static void add_data(struct arena *a, const struct cd_users *u, const Contentd__Contentfs__V1__StatusResponse *s,
                     Node__InfoResponse *rsp)
{
	rsp->contentfs_holder_pid = s->holder_pid;
	rsp->contentfs_worker_pid = s->worker_pid;
	rsp->contentfs_generation = s->worker_generation;
	rsp->fetched_bytes = s->fetched_bytes;
	rsp->demand_requests = s->demand_requests;
	rsp->background_requests = s->background_requests;
	rsp->read_errors = s->read_errors;
	rsp->layers = arena_alloc(a, (s->n_layers + 1) * sizeof(*rsp->layers));
	for (size_t i = 0; i < s->n_layers; i++)
		rsp->layers[rsp->n_layers++] = fill_new(a, u, s->layers[i]);
}

static int answer(struct rpc_call *c, struct cd_daemon *d, struct snap_store *snaps, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__StatusResponse *status = NULL;
	AUTO(cd_users) struct cd_users users = CD_USERS_INIT;
	Node__InfoResponse rsp = NODE__INFO_RESPONSE__INIT;
	struct ffs_client *data;
	struct utsname uts;

	rsp.version = CONTENTD_VERSION;
	rsp.root = d->config.root;
	rsp.state = d->config.state;
	rsp.kernel = uname(&uts) == 0 ? uts.release : "";
	rsp.pid = (uint32_t)getpid();
	rsp.level = (uint32_t)snap_store_level(snaps);
	rsp.level_reason = snap_store_level_reason(snaps);
	TRY(cd_data(d, c, &data, err));
	TRY(cd_users_load(d, snaps, rpc_arena(c), &users, err));
	TRY(ffs_client_status(data, NULL, 0, &status, err));
	add_data(rpc_arena(c), &users, status, &rsp);
	return rpc_reply(c, &rsp.base, err);
}

static int node_info(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct snap_store *snaps;

	TRY(cd_snapshots(svc, c, &snaps, err));
	return answer(c, svc, snaps, err);
}

static int node_log(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Node__LogResponse rsp = NODE__LOG_RESPONSE__INIT;
	enum log_level level = log_level_get();
	const Node__LogRequest *req = request;
	bool json = *req->format ? !strcmp(req->format, "json") : log_is_json();

	if (*req->level && !log_level_parse(req->level, &level))
		return err_set(err, ERR_INVALID, "no log level \"%.40s\": error, warn, info or debug", req->level);
	if (*req->format && !json && strcmp(req->format, "text"))
		return err_set(err, ERR_INVALID, "no log format \"%.40s\": text or json", req->format);
	if (*req->level || *req->format) {
		log_set(level, json);
		TRY(cd_data_reload(svc, err));
	}
	rsp.level = log_level_name(log_level_get());
	rsp.format = log_is_json() ? "json" : "text";
	return rpc_reply(c, &rsp.base, err);
}

static int node_disk_usage(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Node__DiskUsageResponse rsp = NODE__DISK_USAGE_RESPONSE__INIT;

	TRY(cd_usage(svc, rpc_arena(c), &rsp, err));
	return rpc_reply(c, &rsp.base, err);
}

static int node_collect(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Node__CollectRequest *req = request;
	Node__CollectResponse rsp = NODE__COLLECT_RESPONSE__INIT;

	TRY(cd_collect_answer(svc, c, req->dry_run, &rsp, err));
	return rpc_reply(c, &rsp.base, err);
}

static int node_why(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Node__WhyRequest *req = request;
	Node__WhyResponse rsp = NODE__WHY_RESPONSE__INIT;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_name_check("name", req->name, err));
	TRY(cd_why_answer(svc, rpc_arena(c), ns, req->name, &rsp, err));
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method methods[] = {
    {"Info", 0, node_info},
    {"Log", 0, node_log},
    {"DiskUsage", RPC_LONG, node_disk_usage},
    {"Verify", RPC_SERVER_STREAM | RPC_LONG, cd_node_verify},
    {"Collect", RPC_LONG, node_collect},
    {"Why", RPC_LONG, node_why},
};

const struct rpc_service cd_node_service = {&node__node__descriptor, methods, ARRAY_LEN(methods)};
