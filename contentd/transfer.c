/* The Transfer service: pairs of source and destination; from a registry to the image store is a pull. */
#include "base/clock.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/pull.h"
#include "contentd/services.h"
#include "rpc/proto/transfer.pb-c.h"

#define AUTH_PATIENCE_NS (60 * NS_PER_S) /* a person may have to type */

/* ---- credentials ---- */

/* The registry host as references name it: "docker.io" when the first part is no host. */
static const char *host_of(struct arena *a, const char *reference)
{
	struct str rest = str_of(reference), head;

	str_split(&rest, '/', &head);
	if (rest.n && (str_find(head, '.') >= 0 || str_find(head, ':') >= 0 || str_eqc(head, "localhost")))
		return arena_str(a, head);
	return "docker.io";
}

static int ask(struct rpc_call *c, struct cd_stream *s, const char *host, const char *reference,
               Xfer__AuthResponse **out, struct err *err)
{
	Xfer__AuthRequest req = XFER__AUTH_REQUEST__INIT;
	int r;

	req.host = host;
	req.reference = reference;
	TRY(cd_stream_send(s, &req.base, err));
	r = cd_stream_recv(s, &xfer__auth_response__descriptor, c, clock_mono_ns() + AUTH_PATIENCE_NS, rpc_arena(c),
	                   out, err);
	TRY(r);
	return r ? 0 : err_set(err, ERR_UNAVAILABLE, "the client closed its stream without an answer");
}

/* Asks the client for credentials before anything is fetched, once, and hands them to contentfs, which keeps them in
 * memory. */
static int authenticate(struct cd_daemon *d, struct rpc_call *c, struct cd_stream *s, const char *reference,
                        struct err *err)
{
	Contentd__Contentfs__V1__SetCredentialsRequest set = CONTENTD__CONTENTFS__V1__SET_CREDENTIALS_REQUEST__INIT;
	const char *host = host_of(rpc_arena(c), reference);
	Xfer__AuthResponse *answer;
	struct ffs_client *data;

	TRY_WRAP(ask(c, s, host, reference, &answer, err), err, "credentials for %s", host);
	set.host = (char *)host;
	switch (answer->authtype) {
	case XFER__AUTH_TYPE__NONE:
		return 0;
	case XFER__AUTH_TYPE__CREDENTIALS:
		set.username = (char *)answer->username;
		set.secret = (char *)answer->secret;
		break;
	case XFER__AUTH_TYPE__REFRESH:
		set.secret = (char *)answer->secret;
		set.identity_token = true;
		break;
	default:
		return err_set(err, ERR_UNIMPLEMENTED,
		               "credentials for %s: only passwords and identity tokens: not implemented", host);
	}
	TRY(cd_data(d, c, &data, err));
	return ffs_client_set_credentials(data, &set, err);
}

/* ---- pulling ---- */

/* The first unpack configuration decides; its platform, or that of the store, is the image's. */
static int choose_unpack(struct cd_daemon *d, const Xfer__ImageStore *store, struct cd_pull_req *req, struct err *err)
{
	if (store->n_unpacks > 1 || store->n_platforms > 1)
		return err_set(err, ERR_UNIMPLEMENTED, "more than one platform: not implemented");
	if (store->n_platforms)
		req->platform = store->platforms[0];
	if (!store->n_unpacks)
		return 0;
	req->snapshotter = store->unpacks[0]->snapshotter;
	if (!*req->snapshotter)
		req->snapshotter = d->config.snapshotter_names.p[0];
	if (!cd_is_snapshotter(d, req->snapshotter))
		return err_set(err, ERR_INVALID, "snapshotter not loaded: \"%.100s\"", req->snapshotter);
	if (store->unpacks[0]->platform)
		req->platform = store->unpacks[0]->platform;
	return 0;
}

static int choose_lazy(Kv__Entry *const *labels, size_t n, struct cd_pull_req *req, struct err *err)
{
	const char *lazy = pb_kv_get(labels, n, CD_LABEL_LAZY);

	req->lazy = !lazy || !*lazy || !strcmp(lazy, "auto");
	req->phases = lazy != NULL; /* a client that knows the one knows the other */
	if (!req->lazy && strcmp(lazy, "off"))
		return err_set(err, ERR_INVALID, "label " CD_LABEL_LAZY " must be auto or off, not \"%.40s\"", lazy);
	return 0;
}

/* `auth` and `progress` are the caller's to close, NULL when the request names none. */
static int pull(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Xfer__OCIRegistry *source,
                Xfer__ImageStore *store, struct cd_stream *auth, struct cd_stream *progress, struct err *err)
{
	struct cd_pull_req req = {.ns = ns, .reference = source->reference, .name = store->name, .progress = progress};

	TRY(cd_name_check("image reference", source->reference, err));
	TRY(cd_name_check("image name", store->name, err));
	TRY(cd_call_lease(d, c, ns, &req.lease, err));
	TRY(cd_kvs_clean(rpc_arena(c), KVS(store, labels), LABEL_BYTES_MAX, err));
	req.labels = store->labels;
	req.n_labels = store->n_labels;
	TRY(choose_unpack(d, store, &req, err));
	TRY(choose_lazy(store->labels, store->n_labels, &req, err));
	if (auth)
		TRY(authenticate(d, c, auth, source->reference, err));
	return cd_pull(d, c, &req, err);
}

static int open_stream(struct cd_daemon *d, const char *ns, const char *id, struct cd_stream **out, struct err *err)
{
	return id && *id ? cd_streams_get(d->streams, ns, id, out, err) : 0;
}

static int from_registry(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Transfer__TransferRequest *req,
                         struct err *err)
{
	AUTO(cd_stream) struct cd_stream *auth = NULL;
	AUTO(cd_stream) struct cd_stream *progress = NULL;
	Xfer__OCIRegistry *source;
	Xfer__ImageStore *store;

	TRY(pb_any_unpack_in(rpc_arena(c), req->source, &xfer__ociregistry__descriptor, &source, err));
	TRY(pb_any_unpack_in(rpc_arena(c), req->destination, &xfer__image_store__descriptor, &store, err));
	if (source->resolver)
		TRY(open_stream(d, ns, source->resolver->auth_stream, &auth, err));
	if (req->options)
		TRY(open_stream(d, ns, req->options->progress_stream, &progress, err));
	return pull(d, c, ns, source, store, auth, progress, err);
}

static int transfer_transfer(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Transfer__TransferRequest *req = request;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	if (!req->source || !req->destination)
		return err_set(err, ERR_INVALID, "source or destination is missing");
	if (pb_any_is(req->source, &xfer__ociregistry__descriptor) &&
	    pb_any_is(req->destination, &xfer__image_store__descriptor))
		return from_registry(svc, c, ns, req, err);
	return err_set(err, ERR_UNIMPLEMENTED, "transfer from %.100s to %.100s: not implemented", req->source->type_url,
	               req->destination->type_url);
}

static const struct rpc_method methods[] = {
    {"Transfer", RPC_LONG, transfer_transfer},
};

const struct rpc_service cd_transfer_service = {&transfer__transfer__descriptor, methods, ARRAY_LEN(methods)};
