#include "contentd/daemon.h"
#include "contentd/filter/filter.h"
#include "contentd/services.h"
#include "contentd/tasks/tasks.h"
#include "rpc/proto/introspection.pb-c.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define DIFF "containerd.services.diff.v1.Diff"
#define TYPE_RUNTIME "io.containerd.runtime.v2"

/* What clients look for when they decide what this server can do; the names are containerd's. Rows of type and id. */
static const struct plugin {
	const char *type, *id;
	bool has_platform;
	const char *service; /* listed when this is served; NULL: always */
} PLUGINS[] = {
    {"io.containerd.content.v1", "content"},
    {"io.containerd.metadata.v1", "rocksdb"},
    {"io.containerd.differ.v1", "walking", true, DIFF},
    {"io.containerd.event.v1", "exchange"},
    {"io.containerd.lease.v1", "manager"},
    {"io.containerd.sandbox.store.v1", "local"},
    {TYPE_RUNTIME, "task", true}, /* buildkitd takes its platforms from here */
    {TYPE_RUNTIME, "shim"},
    {"io.containerd.transfer.v1", "local"},
    {"io.containerd.streaming.v1", "manager"},
    {"io.containerd.service.v1", "containers-service"},
    {"io.containerd.service.v1", "content-service"},
    {"io.containerd.service.v1", "diff-service", false, DIFF},
    {"io.containerd.service.v1", "images-service"},
    {"io.containerd.service.v1", "introspection-service"},
    {"io.containerd.service.v1", "leases-service"},
    {"io.containerd.service.v1", "namespaces-service"},
    {"io.containerd.service.v1", "snapshots-service"},
    {"io.containerd.service.v1", "tasks-service"},
    {"io.containerd.grpc.v1", "containers"},
    {"io.containerd.grpc.v1", "content"},
    {"io.containerd.grpc.v1", "diff", false, DIFF},
    {"io.containerd.grpc.v1", "events"},
    {"io.containerd.grpc.v1", "healthcheck"},
    {"io.containerd.grpc.v1", "images"},
    {"io.containerd.grpc.v1", "introspection"},
    {"io.containerd.grpc.v1", "leases"},
    {"io.containerd.grpc.v1", "namespaces"},
    {"io.containerd.grpc.v1", "sandboxes"},
    {"io.containerd.grpc.v1", "snapshots"},
    {"io.containerd.grpc.v1", "streaming"},
    {"io.containerd.grpc.v1", "tasks"},
    {"io.containerd.grpc.v1", "transfer"},
    {"io.containerd.grpc.v1", "version"},
};

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Introspection__Plugin *p = object;

	if (n != 1 || !(str_eqc(path[0], "type") || str_eqc(path[0], "id")))
		return false;
	*value = str_of(str_eqc(path[0], "type") ? p->type : p->id);
	return true;
}

static Types__Platform *platform(struct arena *a)
{
	Types__Platform *p = pb_new(a, &types__platform__descriptor);
	struct utsname u;

	p->os = "linux";
	p->architecture = "amd64";
	if (uname(&u) == 0 && !strcmp(u.machine, "aarch64")) {
		p->architecture = "arm64";
		p->variant = "v8";
	}
	return p;
}

static Introspection__Plugin *plugin_new(struct arena *a, const char *type, const char *id, bool has_platform)
{
	Introspection__Plugin *p = pb_new(a, &introspection__plugin__descriptor);

	p->type = type;
	p->id = id;
	if (has_platform) {
		p->platforms = arena_alloc(a, sizeof(*p->platforms));
		p->platforms[0] = platform(a);
		p->n_platforms = 1;
	}
	return p;
}

/* Clients take the data folder for disk usage from the export "root". */
static Introspection__Plugin *snapshotter_new(struct arena *a, const struct cd_daemon *d, const char *name)
{
	Introspection__Plugin *p = plugin_new(a, "io.containerd.snapshotter.v1", name, true);

	p->exports = arena_alloc(a, sizeof(*p->exports));
	p->exports[0] = pb_kv_new(a, "root", arena_printf(a, "%s/snapshots", d->config.root));
	p->n_exports = 1;
	return p;
}

/* All plugins, in the arena. */
static Introspection__Plugin **plugins_all(struct arena *a, const struct cd_daemon *d, size_t *n)
{
	size_t n_names = d->config.snapshotter_names.n;
	Introspection__Plugin **all = arena_alloc(a, (ARRAY_LEN(PLUGINS) + n_names) * sizeof(*all));

	*n = 0;
	for (size_t i = 0; i < ARRAY_LEN(PLUGINS); i++)
		if (!PLUGINS[i].service || cd_knows_service(PLUGINS[i].service))
			all[(*n)++] = plugin_new(a, PLUGINS[i].type, PLUGINS[i].id, PLUGINS[i].has_platform);
	for (size_t i = 0; i < n_names; i++)
		all[(*n)++] = snapshotter_new(a, d, d->config.snapshotter_names.p[i]);
	return all;
}

static int introspection_plugins(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Introspection__PluginsRequest *req = request;
	Introspection__PluginsResponse rsp = INTROSPECTION__PLUGINS_RESPONSE__INIT;
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	Introspection__Plugin **all;
	size_t n;

	TRY(cd_filter_new((const char *const *)req->filters, req->n_filters, &filter, err));
	all = plugins_all(rpc_arena(c), svc, &n);
	rsp.plugins = all;
	for (size_t i = 0; i < n; i++)
		if (cd_filter_match(filter, field, all[i]))
			rsp.plugins[rsp.n_plugins++] = all[i];
	return rpc_reply(c, &rsp.base, err);
}

/* Only runtimes can be asked for more: a RuntimeRequest gives a RuntimeInfo. */
static int extra(struct cd_daemon *d, struct arena *a, const Introspection__PluginInfoRequest *req, Pb__Any **out,
                 struct err *err)
{
	Types__RuntimeRequest *runtime;
	Types__RuntimeInfo *info;

	if (!d->tasks || strcmp(req->type, TYPE_RUNTIME) || strcmp(req->id, "task") ||
	    !pb_any_is(req->options, &types__runtime_request__descriptor))
		return err_set(err, ERR_UNIMPLEMENTED, "such options of plugin %.100s.%.100s: not implemented",
		               req->type, req->id);
	TRY(pb_any_unpack_in(a, req->options, &types__runtime_request__descriptor, &runtime, err));
	TRY(cd_tasks_runtime_info(d->tasks, runtime, a, &info, err));
	*out = pb_any_new(a, &info->base);
	return 0;
}

static int introspection_plugin_info(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Introspection__PluginInfoRequest *req = request;
	Introspection__PluginInfoResponse rsp = INTROSPECTION__PLUGIN_INFO_RESPONSE__INIT;
	Introspection__Plugin **all;
	size_t n;

	all = plugins_all(rpc_arena(c), svc, &n);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(all[i]->type, req->type) && !strcmp(all[i]->id, req->id))
			rsp.plugin = all[i];
	if (!rsp.plugin)
		return err_set(err, ERR_NOT_FOUND, "plugin %.100s.%.100s: not found", req->type, req->id);
	if (req->options)
		TRY(extra(svc, rpc_arena(c), req, &rsp.extra, err));
	return rpc_reply(c, &rsp.base, err);
}

static int introspection_server(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Introspection__ServerResponse rsp = INTROSPECTION__SERVER_RESPONSE__INIT;
	const struct cd_daemon *d = svc;
	struct stat st;

	rsp.uuid = d->uuid;
	rsp.pid = (uint64_t)getpid();
	if (stat("/proc/self/ns/pid", &st) == 0)
		rsp.pidns = st.st_ino;
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method methods[] = {
    {"Plugins", 0, introspection_plugins},
    {"Server", 0, introspection_server},
    {"PluginInfo", 0, introspection_plugin_info},
};

const struct rpc_service cd_introspection_service = {&introspection__introspection__descriptor, methods,
                                                     ARRAY_LEN(methods)};
