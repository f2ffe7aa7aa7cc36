#include "fusefs/verbs.h"

#include "base/log.h"
#include "rpc/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* ---- what comes in ---- */

int parse_index_key(const char *text, struct digest *out, struct err *err)
{
	if (!digest_from_hex(str_of(text), out))
		return err_set(err, ERR_INVALID, "\"%.80s\" is not an index key (64 hex digits)", text);
	return 0;
}

int parse_descriptor(const PB(Descriptor) * d, const char *what, struct digest *digest, uint64_t *bytes,
                     struct err *err)
{
	if (!d)
		return err_set(err, ERR_INVALID, "no %s given", what);
	TRY_WRAP(digest_parse(str_of(d->digest), digest, err), err, "%s", what);
	if (d->size < 0 || (uint64_t)d->size > DESCRIPTOR_BYTES_MAX)
		return err_set(err, ERR_INVALID, "%s %s has %lld bytes", what, d->digest, (long long)d->size);
	*bytes = (uint64_t)d->size;
	return 0;
}

char *repository_text(const struct reg_ref *ref, char dst[static REG_REF_TEXT_MAX])
{
	snprintf(dst, REG_REF_TEXT_MAX, "%s/%s", ref->host, ref->repository);
	return dst;
}

int send_progress(struct rpc_call *c, int64_t *sent_ns, uint64_t done, uint64_t total, struct err *err)
{
	PB(TransferProgress) p = CONTENTD__CONTENTFS__V1__TRANSFER_PROGRESS__INIT;
	int64_t now = clock_mono_ns();

	if (now - *sent_ns < PROGRESS_NS)
		return 0;
	*sent_ns = now;
	p.done = (int64_t)done;
	p.total = (int64_t)total;
	return ttrpc_progress(c, &p.base, err);
}

/* ---- status ---- */

static int layer_status(struct rpc_call *c, struct ffs_service *s, const struct digest *key, bool sizes_only,
                        PB(LayerStatus) * out, struct err *err)
{
	struct arena *a = rpc_arena(c);
	struct ffs_layer_status st;
	char hex[65], text[DIGEST_TEXT_MAX];

	TRY(ffs_data_layer_status(s->w->data, key, sizes_only, &st, err));
	out->index_key = arena_strdup(a, digest_hex(&st.index_key, hex));
	out->blob = arena_strdup(a, digest_text(&st.blob, text));
	out->lazy = st.lazy;
	out->gzip_index = st.gzip_index;
	out->content_bytes = st.content_bytes;
	out->present_bytes = st.present_bytes;
	out->files = st.files;
	out->files_published = st.files_published;
	out->pinned = st.pinned;
	out->error = arena_strdup(a, st.error);
	out->verdict = (char *)ffs_verdict_name(st.verdict);
	if (!digest_is_zero(&st.diff_id))
		out->diff_id = arena_strdup(a, digest_text(&st.diff_id, text));
	out->verdict_reason = arena_strdup(a, st.reason);
	return 0;
}

/* Of a layer that was named it is an error not to be loaded; another one has just gone. */
static int status_of(struct rpc_call *c, struct ffs_service *s, const struct digest *keys, size_t n,
                     const PB(StatusRequest) * req, PB(StatusResponse) * out, struct err *err)
{
	struct arena *a = rpc_arena(c);

	out->layers = arena_zalloc(a, n, sizeof(*out->layers));
	for (size_t i = 0; i < n; i++) {
		PB(LayerStatus) *l = pb_new(a, &contentd__contentfs__v1__layer_status__descriptor);
		struct err why = ERR_INIT;

		TRY(rpc_cancelled(c, err));
		if (layer_status(c, s, &keys[i], req->sizes_only, l, &why) >= 0)
			out->layers[out->n_layers++] = l;
		else if (req->n_index_keys || why.code != ERR_NOT_FOUND)
			return err_set(err, why.code, "%s", why.msg);
	}
	return 0;
}

static int status_layers(struct rpc_call *c, struct ffs_service *s, const PB(StatusRequest) * req,
                         PB(StatusResponse) * out, struct err *err)
{
	AUTO(ffs_keys) struct ffs_keys keys = FFS_KEYS_INIT;
	AUTO_FREE struct digest *all = NULL;
	size_t n = 0;

	for (size_t i = 0; i < req->n_index_keys; i++)
		TRY(parse_index_key(req->index_keys[i], vec_add(&keys.v), err));
	if (req->n_index_keys)
		return status_of(c, s, keys.v.p, keys.v.n, req, out, err);
	ffs_data_layers(s->w->data, &all, &n);
	return status_of(c, s, all, n, req, out, err);
}

static int verb_status(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(StatusResponse) rsp = CONTENTD__CONTENTFS__V1__STATUS_RESPONSE__INIT;
	struct ffs_service *s = svc;
	struct ffs_data_counters n;
	struct reg_counters reg;

	TRY(status_layers(c, s, request, &rsp, err));
	ffs_data_counters(s->w->data, &n);
	reg_client_counters(s->w->client, &reg);
	rsp.version = CONTENTD_VERSION;
	rsp.holder_pid = (uint32_t)ffs_worker_holder_pid(s->w);
	rsp.worker_pid = (uint32_t)getpid();
	rsp.worker_generation = s->w->generation;
	rsp.mount = s->w->mount;
	rsp.demand_requests = n.requests[FFS_DEMAND] + n.requests[FFS_READAHEAD];
	rsp.background_requests = n.requests[FFS_PREFETCH] + n.requests[FFS_BACKGROUND];
	rsp.fetched_bytes = reg.bytes_in;
	rsp.read_errors = n.read_errors;
	ffs_worker_fuse_counters(s->w, &rsp.fuse_reads, &rsp.fuse_lookups);
	return rpc_reply(c, &rsp.base, err);
}

/* ---- what a successor needs ---- */

static int hand_over(struct rpc_call *c, int fd, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_errno(err, errno, "hand a descriptor over");
	return ttrpc_reply_fd(c, copy, err);
}

static int verb_keep(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(KeepResponse) rsp = CONTENTD__CONTENTFS__V1__KEEP_RESPONSE__INIT;
	struct ffs_service *s = svc;
	const int fds[] = {s->w->fuse_fd, s->w->state_fd, s->w->creds_fd, s->w->listen_fd, s->w->lock_fd};

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		TRY(hand_over(c, fds[i], err));
	rsp.holder_pid = (uint32_t)ffs_worker_holder_pid(s->w);
	rsp.worker_pid = (uint32_t)getpid();
	return rpc_reply(c, &rsp.base, err);
}

/* ---- life-cycle ---- */

static const struct rpc_method METHODS[] = {
    {"Open", RPC_LONG, verb_open},
    {"Unpack", RPC_LONG, verb_unpack},
    {"FetchBlob", RPC_LONG, verb_fetch_blob},
    {"PushBlob", RPC_LONG, verb_push_blob},
    {"PushManifest", RPC_LONG, verb_push_manifest},
    {"Referrers", RPC_LONG, verb_referrers},
    {"Pin", 0, verb_pin},
    {"Unpin", 0, verb_unpin},
    {"Fill", RPC_LONG, verb_fill},
    {"DeleteLayers", 0, verb_delete_layers},
    {"Sweep", RPC_LONG, verb_sweep},
    {"Pins", 0, verb_pins},
    {"Status", 0, verb_status},
    {"Metrics", 0, verb_metrics},
    {"Reload", 0, verb_reload},
    {"Keep", 0, verb_keep},
    {"Verify", RPC_LONG, verb_verify},
};

static bool allow(const struct ucred *peer, void *arg)
{
	if (peer->uid == 0)
		return true;
	log_warn("uid %u (pid %d) may not command contentfs", (unsigned)peer->uid, (int)peer->pid);
	return false;
}

static int make_server(struct ffs_service *s, struct err *err)
{
	const struct ttrpc_server_opts opts = {.allow = allow, .after = verb_done, .arg = s};
	const struct rpc_service service = {.descriptor = &contentd__contentfs__v1__data__descriptor,
	                                    .methods = METHODS,
	                                    .n_methods = ARRAY_LEN(METHODS),
	                                    .svc = s};
	int fd;

	TRY(ttrpc_server_new(&opts, &s->server, err));
	TRY(ttrpc_server_add(s->server, &service, err));
	fd = fcntl(s->w->listen_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, errno, "listening socket");
	return ttrpc_server_listen(s->server, fd, err);
}

static int set_up(struct ffs_service *s, struct err *err)
{
	load_certs(s->w->client, s->w->opts->certs_dir);
	TRY(pool_new(cpu_count(), "index", &s->pool, err));
	TRY(load_layers(s, err));
	TRY(load_pins(s, err));
	return make_server(s, err);
}

int ffs_service_new(struct ffs_worker *w, struct ffs_service **out, struct err *err)
{
	AUTO(ffs_service) struct ffs_service *s = xcalloc(1, sizeof(*s));

	s->w = w;
	pthread_mutex_init(&s->pins_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->unpacked, NULL);
	TRY(set_up(s, err));
	*out = STEAL(s);
	return 0;
}

int ffs_service_start(struct ffs_service *s, struct err *err)
{
	return ttrpc_server_start(s->server, err);
}

int verb_cut_off(struct ffs_service *s, struct rpc_call *c, struct err *err)
{
	TRY(rpc_cancelled(c, err));
	return atomic_load(&s->stopped) ? err_set(err, ERR_UNAVAILABLE, "contentfs ends") : 0;
}

void ffs_service_stop(struct ffs_service *s)
{
	if (atomic_exchange(&s->stopped, true))
		return;
	reg_client_stop(s->w->client);
	if (s->server)
		ttrpc_server_stop(s->server);
}

void ffs_service_free(struct ffs_service *s)
{
	if (!s)
		return;
	ffs_service_stop(s);
	ttrpc_server_free(s->server);
	pool_free(s->pool);
	free_pins(s);
	map_fini(&s->unpacking);
	pthread_cond_destroy(&s->unpacked);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->pins_lock);
	free(s);
}
