/* The Transfer service: which pair of source and destination a call is about. */
#include "contentd/records/leases.h"
#include "contentd/services.h"
#include "contentd/transfer/transfer.h"
#include "rpc/proto/transfer.pb-c.h"

typedef int (*pair_fn)(struct cd_transfer *t, const void *source, void *destination, struct err *err);

static int pull(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_pull(t, from, to, err);
}

static int push(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_push(t, from, to, err);
}

static int import(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_import(t, from, to, err);
}

static int export(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_export(t, from, to, err);
}

static int tag(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_tag(t, from, to, err);
}

static int echo(struct cd_transfer *t, const void *from, void *to, struct err *err)
{
	return cd_transfer_echo(t, from, to, err);
}

static const struct {
	const ProtobufCMessageDescriptor *source, *destination;
	pair_fn fn;
} pairs[] = {
    {&xfer__ociregistry__descriptor, &xfer__image_store__descriptor, pull},
    {&xfer__image_store__descriptor, &xfer__ociregistry__descriptor, push},
    {&xfer__image_import_stream__descriptor, &xfer__image_store__descriptor, import},
    {&xfer__image_store__descriptor, &xfer__image_export_stream__descriptor, export},
    {&xfer__image_store__descriptor, &xfer__image_store__descriptor, tag},
    {&xfer__image_import_stream__descriptor, &xfer__image_export_stream__descriptor, echo},
};

static int run_pair(struct cd_transfer *t, size_t which, const Transfer__TransferRequest *req, struct err *err)
{
	struct arena *a = rpc_arena(t->call);
	void *source, *destination;

	TRY(pb_any_unpack_in(a, req->source, pairs[which].source, &source, err));
	TRY(pb_any_unpack_in(a, req->destination, pairs[which].destination, &destination, err));
	return pairs[which].fn(t, source, destination, err);
}

/* Under a lease: that of the call, or one of our own. */
static int run_leased(struct cd_transfer *t, size_t which, const Transfer__TransferRequest *req, struct err *err)
{
	int r;

	TRY(cd_call_lease(t->d, t->call, t->ns, &t->lease, err));
	if (t->lease)
		return run_pair(t, which, req, err);
	TRY(cd_lease_begin(t->d, rpc_arena(t->call), t->ns, &t->lease, err));
	r = run_pair(t, which, req, err);
	cd_lease_end(t->d, t->ns, t->lease);
	return r;
}

static int run_told(struct cd_transfer *t, size_t which, const Transfer__TransferRequest *req, struct err *err)
{
	AUTO(cd_stream) struct cd_stream *stream = NULL;
	struct cd_progress progress;
	int r;

	if (req->options)
		TRY(cd_transfer_stream(t, req->options->progress_stream, &stream, err));
	cd_progress_init(&progress, stream);
	t->progress = &progress;
	r = run_leased(t, which, req, err);
	cd_progress_fini(&progress);
	return r;
}

static int transfer_transfer(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Transfer__TransferRequest *req = request;
	struct cd_transfer t = {.d = svc, .call = c};

	TRY(cd_call_ns(c, &t.ns, err));
	if (!req->source || !req->destination)
		return err_set(err, ERR_INVALID, "source or destination is missing");
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (pb_any_is(req->source, pairs[i].source) && pb_any_is(req->destination, pairs[i].destination))
			return run_told(&t, i, req, err);
	return err_set(err, ERR_UNIMPLEMENTED, "transfer from %.100s to %.100s: not implemented", req->source->type_url,
	               req->destination->type_url);
}

static const struct rpc_method methods[] = {
    {"Transfer", RPC_LONG, transfer_transfer},
};

const struct rpc_service cd_transfer_service = {&transfer__transfer__descriptor, methods, ARRAY_LEN(methods)};
