/* The Node service: what only contentd has. */
#include "base/map.h"
#include "contentd/kvs.h"
#include "contentd/refs.h"
#include "contentd/services.h"
#include "contentd/usage.h"

#include <sys/utsname.h>

/* ---- which images use which layer ---- */

struct users {
	struct cd_daemon *d;
	struct snap_store *snaps;
	struct arena *arena;
	struct map layers; /* index key (hex) -> struct layer_users, in the arena */
};

struct layer_users {
	VEC(const char *) images; /* in the arena */
};

static void add_user(struct users *u, const struct digest *key, const char *image)
{
	char hex[65];
	struct layer_users *l = map_get(&u->layers, str_of(digest_hex(key, hex)));

	if (!l) {
		l = arena_zalloc(u->arena, 1, sizeof(*l));
		map_put(&u->layers, str_of(hex), l);
	}
	if (!l->images.n || strcmp(*vec_last(&l->images), image))
		vec_push(&l->images, arena_strdup(u->arena, image));
}

static int note_chain(void *arg, const char *image, struct snap_space space, const char *chain, struct err *err)
{
	AUTO_FREE struct digest *keys = NULL;
	struct users *u = arg;
	unsigned n = 0;

	/* A chain that a client has unpacked, or that is gone, has no indexes. */
	if (snap_chain_indexes(u->snaps, space, chain, &keys, &n, NULL) < 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		add_user(u, &keys[i], image);
	return 0;
}

static void users_fini(struct users *u)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(&u->layers, &at, &key, &value);)
		vec_fini(&((struct layer_users *)value)->images);
	map_fini(&u->layers);
}

/* ---- Info ---- */

static Node__LayerFill *fill_new(struct arena *a, const struct users *u, const Contentd__Contentfs__V1__LayerStatus *s)
{
	const struct layer_users *l = map_get(&u->layers, str_of(s->index_key));
	Node__LayerFill *f = pb_new(a, &node__layer_fill__descriptor);

	f->index_key = s->index_key;
	f->blob = s->blob;
	f->lazy = s->lazy;
	f->content_bytes = s->content_bytes;
	f->present_bytes = s->present_bytes;
	f->error = s->error;
	if (l) {
		f->images = arena_alloc(a, l->images.n * sizeof(*f->images));
		memcpy(f->images, l->images.p, l->images.n * sizeof(*f->images));
		f->n_images = l->images.n;
	}
	return f;
}

static void add_data(struct arena *a, const struct users *u, const Contentd__Contentfs__V1__StatusResponse *s,
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

static int answer(struct rpc_call *c, struct users *u, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__StatusResponse *status = NULL;
	Node__InfoResponse rsp = NODE__INFO_RESPONSE__INIT;
	struct ffs_client *data;
	struct utsname uts;

	rsp.version = CONTENTD_VERSION;
	rsp.root = u->d->config.root;
	rsp.state = u->d->config.state;
	rsp.kernel = uname(&uts) == 0 ? uts.release : "";
	rsp.pid = (uint32_t)getpid();
	rsp.level = (uint32_t)snap_store_level(u->snaps);
	rsp.level_reason = snap_store_level_reason(u->snaps);
	TRY(cd_data(u->d, c, &data, err));
	TRY(cd_refs_of_images(u->d, &(struct cd_refs){.chain = note_chain, .arg = u}, err));
	TRY(ffs_client_status(data, NULL, 0, &status, err));
	add_data(u->arena, u, status, &rsp);
	return rpc_reply(c, &rsp.base, err);
}

static int node_info(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	struct users u = {.d = svc, .arena = rpc_arena(c)};
	int r;

	TRY(cd_snapshots(svc, c, &u.snaps, err));
	r = answer(c, &u, err);
	users_fini(&u);
	return r;
}

static int node_disk_usage(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Node__DiskUsageResponse rsp = NODE__DISK_USAGE_RESPONSE__INIT;

	TRY(cd_usage(svc, rpc_arena(c), &rsp, err));
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method methods[] = {
    {"Info", 0, node_info},
    {"DiskUsage", 0, node_disk_usage},
};

const struct rpc_service cd_node_service = {&node__node__descriptor, methods, ARRAY_LEN(methods)};
