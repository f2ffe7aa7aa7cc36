/* The Diff service: what a layer may be called, and what becomes of it; the work is in apply.c and compare.c. */
#include "contentd/diff/apply.h"
#include "contentd/diff/create.h"
#include "contentd/ident.h"
#include "contentd/services.h"
#include "rpc/proto/diff.pb-c.h"

#define MEDIA_TAR "application/vnd.oci.image.layer.v1.tar"

/* OCI image specification, media-types.md; distribution's schema2.md. "+gzip" and the like follow. */
static const char *const LAYERS[] = {
    MEDIA_TAR,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
};

/* What a layer is compressed with is seen from its bytes; the name only says that it is a layer we know. */
static int check_layer(const Types__Descriptor *layer, struct err *err)
{
	struct str type = str_of(layer->media_type);

	if (str_ends(type, STR("+encrypted")))
		return err_set(err, ERR_UNIMPLEMENTED,
		               "layer %s is encrypted (%s): decryption is not supported: not implemented",
		               layer->digest, layer->media_type);
	for (size_t i = 0; i < ARRAY_LEN(LAYERS); i++) {
		struct str rest = type;

		if (str_skip(&rest, str_of(LAYERS[i])) &&
		    (!rest.n || str_eqc(rest, "+gzip") || str_eqc(rest, "+zstd") || str_eqc(rest, ".gzip") ||
		     str_eqc(rest, ".zstd")))
			return 0;
	}
	return err_set(err, ERR_UNIMPLEMENTED, "no stream processor for media type \"%.200s\": not implemented",
	               layer->media_type);
}

static int diff_service_apply(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Diff__ApplyRequest *req = request;
	AUTO(tree_mounts) struct tree_mounts mounts = TREE_MOUNTS_INIT;
	Diff__ApplyResponse rsp = DIFF__APPLY_RESPONSE__INIT;
	Types__Descriptor applied = TYPES__DESCRIPTOR__INIT;
	char digest[DIGEST_TEXT_MAX];
	struct unpacked unpacked;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	if (!req->diff)
		return err_set(err, ERR_INVALID, "no descriptor of a layer given");
	TRY(cd_digest_check(req->diff->digest, err));
	TRY(check_layer(req->diff, err));
	if (!req->n_mounts)
		return err_set(err, ERR_INVALID, "no mounts to apply layer %s to", req->diff->digest);
	tree_mounts_of_api(req->mounts, req->n_mounts, &mounts);
	TRY_WRAP(diff_apply(svc, c, ns, req->diff, &mounts, req->sync_fs, &unpacked, err), err, "apply layer %s",
	         req->diff->digest);
	applied.media_type = MEDIA_TAR;
	applied.digest = digest_text(&unpacked.diff_id, digest);
	applied.size = (int64_t)unpacked.plain_bytes;
	rsp.applied = &applied;
	return rpc_reply(c, &rsp.base, err);
}

static int diff_service_diff(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Diff__DiffRequest *req = request;
	Diff__DiffResponse rsp = DIFF__DIFF_RESPONSE__INIT;
	Types__Descriptor made = TYPES__DESCRIPTOR__INIT;
	char digest[DIGEST_TEXT_MAX];
	struct created created;

	TRY(diff_create(svc, c, req, &created, err));
	made.media_type = created.media_type;
	made.digest = digest_text(&created.digest, digest);
	made.size = (int64_t)created.bytes;
	rsp.diff = &made;
	return rpc_reply(c, &rsp.base, err);
}

/* Minutes, for large layers. */
static const struct rpc_method methods[] = {
    {"Apply", RPC_LONG, diff_service_apply},
    {"Diff", RPC_LONG, diff_service_diff},
};

const struct rpc_service cd_diff_service = {&diff__diff__descriptor, methods, ARRAY_LEN(methods)};
