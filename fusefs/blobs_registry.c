#include "base/buf.h"
#include "fusefs/blobs.h"
#include "fusefs/secrets.h"
#include "registry/client.h"

#include <stdatomic.h>

/* One request on its way: translates callbacks. Freed by whichever of done and unref comes last. */
struct transfer {
	struct ffs_blob_query q; /* callbacks; the texts are not kept */
	struct reg_request *request;
	atomic_int refs;
};

static void transfer_unref(struct transfer *t)
{
	if (atomic_fetch_sub(&t->refs, 1) == 1)
		free(t);
}

static enum reg_flow on_data(void *arg, uint64_t offset, struct str bytes)
{
	struct transfer *t = arg;

	switch (t->q.data(t->q.arg, offset, bytes)) {
	case FFS_FLOW_MORE:
		return REG_FLOW_MORE;
	case FFS_FLOW_PAUSE:
		return REG_FLOW_PAUSE;
	case FFS_FLOW_STOP:
		break;
	}
	return REG_FLOW_STOP;
}

static void on_done(void *arg, struct reg_answer *answer)
{
	struct transfer *t = arg;

	t->q.done(t->q.arg, answer->result, answer->err);
	transfer_unref(t);
}

static int registry_get(void *self, const struct ffs_blob_query *q, void **handle, struct err *err)
{
	struct ffs_registries *registries = self;
	AUTO(reg_account) struct reg_account *account = NULL;
	struct transfer *t;
	struct reg_ref ref;
	int r;

	TRY(reg_ref_parse(str_of(q->reference), &ref, err));
	t = xcalloc(1, sizeof(*t));
	t->q = *q;
	t->q.reference = t->q.owner = NULL;
	atomic_init(&t->refs, 2);
	account = ffs_secrets_get(registries->secrets, q->owner, q->reference);
	r = reg_blob_get(registries->client,
	                 &(struct reg_blob_get){.ref = &ref,
	                                        .account = account,
	                                        .digest = q->blob,
	                                        .blob_size = q->blob_bytes,
	                                        .offset = q->offset,
	                                        .length = q->length,
	                                        .lane = q->demand ? REG_DEMAND : REG_BULK,
	                                        .deadline_ns = q->deadline_ns,
	                                        .data = on_data,
	                                        .done = on_done,
	                                        .arg = t},
	                 &t->request, err);
	if (r < 0) {
		free(t);
		return r;
	}
	*handle = t;
	return 0;
}

static void registry_cancel(void *self, void *handle)
{
	struct transfer *t = handle;

	reg_request_cancel(t->request);
}

static void registry_resume(void *self, void *handle)
{
	struct transfer *t = handle;

	reg_request_resume(t->request);
}

static void registry_unref(void *self, void *handle)
{
	struct transfer *t = handle;

	reg_request_unref(t->request);
	transfer_unref(t);
}

static void registry_estimate(void *self, const char *reference, int64_t *rtt_ns, uint64_t *bytes_per_s)
{
	struct reg_estimate estimate = {0};
	struct reg_ref ref;

	if (reg_ref_parse(str_of(reference), &ref, NULL) == 0)
		reg_host_estimate(((struct ffs_registries *)self)->client, ref.host, &estimate);
	*rtt_ns = estimate.rtt_ns;
	*bytes_per_s = estimate.bandwidth_bytes_s;
}

struct ffs_blobs ffs_blobs_registry(struct ffs_registries *registries)
{
	return (struct ffs_blobs){.get = registry_get,
	                          .cancel = registry_cancel,
	                          .resume = registry_resume,
	                          .unref = registry_unref,
	                          .estimate = registry_estimate,
	                          .self = registries};
}
