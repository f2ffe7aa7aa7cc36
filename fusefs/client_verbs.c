/* The verbs of contentfs, as its client asks for them. */
#include "fusefs/client_internal.h"

#include "base/clock.h"
#include "base/vec.h"
#include "rpc/pb.h"

#include <errno.h>
#include <unistd.h>

#define OPEN_SLACK_NS (5 * NS_PER_S) /* contentfs has an Open's deadline, too: it should say what was slow */

struct opening {
	ffs_open_progress_fn fn;
	void *arg;
};

static void take_opening(void *arg, struct str wire)
{
	AUTO(pb) Contentd__Contentfs__V1__OpenProgress *m = NULL;
	const struct opening *o = arg;

	if (o->fn && pb_unpack(&contentd__contentfs__v1__open_progress__descriptor, wire, &m, NULL) >= 0)
		o->fn(o->arg, m);
}

/* Asks until what is answered is there. */
static int ask_open(struct ffs_client *c, const struct ffs_call *k, Contentd__Contentfs__V1__OpenResponse **out,
                    struct ttrpc_fds *fds, struct err *err)
{
	bool again = true;
	int r = 0;

	while (again && r >= 0) {
		uint64_t asked = ffs_client_asked(c);
		VEC(const char *) keys = VEC_INIT;

		r = ffs_client_call(c, k, out, fds, err);
		for (size_t i = 0; r >= 0 && i < (*out)->n_layers; i++)
			if (*(*out)->layers[i]->index_key)
				vec_push(&keys, (const char *)(*out)->layers[i]->index_key);
		again = ffs_client_answered(c, asked, k, keys.p, keys.n) && r >= 0;
		vec_fini(&keys);
		if (again) {
			pb_free(STEAL(*out));
			ttrpc_fds_fini(fds);
		}
	}
	return r;
}

int ffs_client_open(struct ffs_client *c, struct rpc_call *on_behalf, const Contentd__Contentfs__V1__OpenRequest *req,
                    ffs_open_progress_fn progress, void *arg, Contentd__Contentfs__V1__OpenResponse **out, int *docs_fd,
                    struct err *err)
{
	AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;
	struct opening opening = {progress, arg};
	struct ffs_call k = {"Open", &req->base, -1, on_behalf, take_opening, &opening, .image = req->reference};

	if (req->deadline_ns)
		k.deadline_ns = req->deadline_ns + OPEN_SLACK_NS;
	TRY(ask_open(c, &k, out, &fds, err));
	if (fds.n != 1) {
		pb_free(*out);
		*out = NULL;
		return err_set(err, ERR_INTERNAL, "contentfs opened %s without its documents", req->reference);
	}
	*docs_fd = STEAL_FD(fds.fd[0]);
	return 0;
}

struct transfer {
	ffs_progress_fn fn;
	void *arg;
};

static void take_transfer(void *arg, struct str wire)
{
	AUTO(pb) Contentd__Contentfs__V1__TransferProgress *m = NULL;
	const struct transfer *t = arg;

	if (t->fn && pb_unpack(&contentd__contentfs__v1__transfer_progress__descriptor, wire, &m, NULL) >= 0)
		t->fn(t->arg, m->done, m->total);
}

static int unpack(struct ffs_client *c, struct rpc_call *on_behalf, const Contentd__Contentfs__V1__UnpackRequest *req,
                  int fd, ffs_progress_fn progress, void *arg, Contentd__Contentfs__V1__UnpackResponse **out,
                  struct ttrpc_fds *fds, struct err *err)
{
	struct transfer t = {progress, arg};
	struct ffs_call k = {"Unpack",       &req->base,        fd, on_behalf, take_transfer, &t, req->tee,
	                     req->reference, req->layer->digest};
	bool again = true;
	int r = 0;

	while (again && r >= 0) {
		uint64_t asked = ffs_client_asked(c);
		const char *key;

		r = ffs_client_call(c, &k, out, fds, err);
		key = r >= 0 ? (*out)->index_key : NULL;
		again = ffs_client_answered(c, asked, &k, &key, r >= 0) && r >= 0;
		if (!again)
			break;
		pb_free(STEAL(*out));
		if (fds)
			ttrpc_fds_fini(fds);
		if (k.tee && ftruncate(fd, 0) < 0)
			return err_errno(err, errno, "truncate the copy of a layer");
	}
	return r;
}

int ffs_client_unpack(struct ffs_client *c, struct rpc_call *on_behalf,
                      const Contentd__Contentfs__V1__UnpackRequest *req, int fd, ffs_progress_fn progress, void *arg,
                      Contentd__Contentfs__V1__UnpackResponse **out, struct err *err)
{
	return unpack(c, on_behalf, req, fd, progress, arg, out, NULL, err);
}

int ffs_client_unpack_index(struct ffs_client *c, struct rpc_call *on_behalf,
                            const Contentd__Contentfs__V1__UnpackRequest *req, int fd, ffs_progress_fn progress,
                            void *arg, Contentd__Contentfs__V1__UnpackResponse **out, int *index_fd, struct err *err)
{
	AUTO(ttrpc_fds) struct ttrpc_fds fds = TTRPC_FDS_INIT;

	*index_fd = -1;
	TRY(unpack(c, on_behalf, req, fd, progress, arg, out, &fds, err));
	if (fds.n)
		*index_fd = STEAL_FD(fds.fd[0]);
	return 0;
}

int ffs_client_fetch_blob(struct ffs_client *c, struct rpc_call *on_behalf,
                          const Contentd__Contentfs__V1__FetchBlobRequest *req, int fd, ffs_progress_fn progress,
                          void *arg, struct err *err)
{
	struct transfer t = {progress, arg};
	struct ffs_call k = {"FetchBlob",    &req->base,       fd, on_behalf, take_transfer, &t, false,
	                     req->reference, req->blob->digest};

	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_push_blob(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                         const Contentd__Contentfs__V1__PushBlobRequest *req, int fd, ffs_progress_fn progress,
                         void *arg, int *outcome, struct err *err)
{
	AUTO(pb) Contentd__Contentfs__V1__PushBlobResponse *rsp = NULL;
	struct transfer t = {progress, arg};
	struct ffs_call k = {"PushBlob",
	                     &req->base,
	                     fd,
	                     on_behalf,
	                     take_transfer,
	                     &t,
	                     .image = req->reference,
	                     .blob = req->blob->digest,
	                     .deadline_ns = deadline_ns};

	TRY(ffs_client_call(c, &k, &rsp, NULL, err));
	*outcome = (int)rsp->outcome;
	return 0;
}

int ffs_client_push_manifest(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                             const Contentd__Contentfs__V1__PushManifestRequest *req, int fd, struct err *err)
{
	struct ffs_call k = {
	    "PushManifest", &req->base, fd, on_behalf, .image = req->reference, .deadline_ns = deadline_ns};

	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_referrers(struct ffs_client *c, struct rpc_call *on_behalf, int64_t deadline_ns,
                         const Contentd__Contentfs__V1__ReferrersRequest *req,
                         Contentd__Contentfs__V1__ReferrersResponse **out, struct err *err)
{
	struct ffs_call k = {
	    "Referrers", &req->base, -1, on_behalf, .image = req->reference, .deadline_ns = deadline_ns};

	return ffs_client_call(c, &k, out, NULL, err);
}

int ffs_client_pin(struct ffs_client *c, const char *name, const char *const *index_keys, unsigned n, struct err *err)
{
	Contentd__Contentfs__V1__PinRequest req = CONTENTD__CONTENTFS__V1__PIN_REQUEST__INIT;
	struct ffs_call k = {"Pin", &req.base, -1, .local = true};

	req.name = (char *)name;
	req.index_keys = (char **)index_keys;
	req.n_index_keys = n;
	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_unpin(struct ffs_client *c, const char *name, struct err *err)
{
	Contentd__Contentfs__V1__UnpinRequest req = CONTENTD__CONTENTFS__V1__UNPIN_REQUEST__INIT;
	struct ffs_call k = {"Unpin", &req.base, -1, .local = true};

	req.name = (char *)name;
	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_fill(struct ffs_client *c, struct rpc_call *on_behalf, const char *const *index_keys, unsigned n,
                    ffs_progress_fn progress, void *arg, struct err *err)
{
	Contentd__Contentfs__V1__FillRequest req = CONTENTD__CONTENTFS__V1__FILL_REQUEST__INIT;
	struct transfer t = {progress, arg};
	struct ffs_call k = {"Fill", &req.base, -1, on_behalf, take_transfer, &t};

	req.index_keys = (char **)index_keys;
	req.n_index_keys = n;
	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_delete_layers(struct ffs_client *c, const char *const *index_keys, unsigned n, struct err *err)
{
	Contentd__Contentfs__V1__DeleteLayersRequest req = CONTENTD__CONTENTFS__V1__DELETE_LAYERS_REQUEST__INIT;
	struct ffs_call k = {"DeleteLayers", &req.base, -1, .local = true};

	req.index_keys = (char **)index_keys;
	req.n_index_keys = n;
	return ffs_client_call(c, &k, NULL, NULL, err);
}

int ffs_client_verify(struct ffs_client *c, struct rpc_call *on_behalf, bool remove, ffs_progress_fn progress,
                      void *arg, Contentd__Contentfs__V1__VerifyResponse **out, struct err *err)
{
	Contentd__Contentfs__V1__VerifyRequest req = CONTENTD__CONTENTFS__V1__VERIFY_REQUEST__INIT;
	struct transfer t = {progress, arg};
	struct ffs_call k = {"Verify", &req.base, -1, on_behalf, take_transfer, &t};

	req.remove = remove;
	return ffs_client_call(c, &k, out, NULL, err);
}

int ffs_client_sweep(struct ffs_client *c, struct rpc_call *on_behalf, Contentd__Contentfs__V1__SweepResponse **out,
                     struct err *err)
{
	Contentd__Contentfs__V1__Empty req = CONTENTD__CONTENTFS__V1__EMPTY__INIT;
	struct ffs_call k = {"Sweep", &req.base, -1, on_behalf, .local = true};

	return ffs_client_call(c, &k, out, NULL, err);
}

int ffs_client_pins(struct ffs_client *c, Contentd__Contentfs__V1__PinsResponse **out, struct err *err)
{
	Contentd__Contentfs__V1__Empty req = CONTENTD__CONTENTFS__V1__EMPTY__INIT;
	struct ffs_call k = {"Pins", &req.base, -1, .local = true};

	return ffs_client_call(c, &k, out, NULL, err);
}

static int status(struct ffs_client *c, const char *const *index_keys, unsigned n, bool sizes_only,
                  Contentd__Contentfs__V1__StatusResponse **out, struct err *err)
{
	Contentd__Contentfs__V1__StatusRequest req = CONTENTD__CONTENTFS__V1__STATUS_REQUEST__INIT;
	struct ffs_call k = {"Status", &req.base, -1, .local = true};

	req.index_keys = (char **)index_keys;
	req.n_index_keys = n;
	req.sizes_only = sizes_only;
	return ffs_client_call(c, &k, out, NULL, err);
}

int ffs_client_status(struct ffs_client *c, const char *const *index_keys, unsigned n,
                      Contentd__Contentfs__V1__StatusResponse **out, struct err *err)
{
	return status(c, index_keys, n, false, out, err);
}

int ffs_client_sizes(struct ffs_client *c, const char *const *index_keys, unsigned n,
                     Contentd__Contentfs__V1__StatusResponse **out, struct err *err)
{
	return status(c, index_keys, n, true, out, err);
}

int ffs_client_reload(struct ffs_client *c, const char *log_level, const char *log_format, struct err *err)
{
	Contentd__Contentfs__V1__ReloadRequest req = CONTENTD__CONTENTFS__V1__RELOAD_REQUEST__INIT;
	struct ffs_call k = {"Reload", &req.base, -1, .local = true};

	req.log_level = (char *)log_level;
	req.log_format = (char *)log_format;
	return ffs_client_call(c, &k, NULL, NULL, err);
}
