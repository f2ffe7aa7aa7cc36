/* Manifests and indexes, the way from a reference to an image, and small blobs. */
#include "registry/internal.h"

struct manifest_request {
	struct reg_request base;
	bool has_digest;
	struct digest digest;
};

static void manifest_headers(struct reg_request *r, struct curl_slist **list)
{
	/* One line each: some registries read only the first of a comma-separated list. */
	static const char *const lines[] = {
	    "Accept: " REG_MT_OCI_INDEX,
	    "Accept: " REG_MT_OCI_MANIFEST,
	    "Accept: " REG_MT_DOCKER_LIST,
	    "Accept: " REG_MT_DOCKER_MANIFEST,
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		*list = curl_slist_append(*list, lines[i]);
}

static int manifest_complete(struct reg_request *r, struct err *err)
{
	struct manifest_request *m = (struct manifest_request *)r;
	char want[DIGEST_TEXT_MAX], have[DIGEST_TEXT_MAX];
	struct digest d;

	if (r->response.status != 200)
		return err_set(err, ERR_DATA_LOSS, "HTTP %d does not answer the question", r->response.status);
	digest_of(r->body.p, r->body.n, &d);
	if (m->has_digest && !digest_eq(&d, &m->digest))
		return err_set(err, ERR_DATA_LOSS, "digest mismatch: got %s, expected %s", digest_text(&d, have),
		               digest_text(&m->digest, want));
	m->digest = d;
	return 0;
}

static void manifest_finish(struct reg_request *r, struct reg_answer *a)
{
	a->digest = ((struct manifest_request *)r)->digest;
	a->length = a->blob_size = r->body.n;
	r->done(r->arg, a);
}

static const struct request_ops manifest_ops = {
    .headers = manifest_headers,
    .complete = manifest_complete,
    .finish = manifest_finish,
};

static int get_manifest(struct reg_client *c, const struct reg_manifest_get *q, unsigned need, struct reg_request **out,
                        struct err *err)
{
	char name[DIGEST_TEXT_MAX + REG_TAG_MAX] = "latest";
	struct manifest_request *m;
	struct host *h;
	int r;

	if (!q->ref || !q->ref->host[0] || !q->ref->repository[0] || !q->done || q->deadline_ns <= 0 ||
	    (unsigned)q->lane >= REG_LANES)
		return err_set(err, ERR_INVALID, "manifest request without reference, callback, lane or deadline");
	if (q->ref->has_digest)
		digest_text(&q->ref->digest, name);
	else if (q->ref->tag[0])
		strcpy(name, q->ref->tag);
	h = host_get(c, q->ref->host);
	m = request_new(c, sizeof(*m), &manifest_ops, h, q->account, q->lane, "GET", q->deadline_ns, q->max_attempts);
	m->has_digest = q->ref->has_digest;
	m->digest = q->ref->digest;
	m->base.body_max = REG_MANIFEST_BYTES_MAX;
	m->base.what = xasprintf("%s/%s: manifest %s", q->ref->host, q->ref->repository, name);
	m->base.scope = xasprintf("repository:%s:pull", q->ref->repository);
	m->base.done = q->done;
	m->base.arg = q->arg;
	m->base.asks_all = true; /* one of these begins a pull */
	r = request_route(&m->base, need, xasprintf("/%s/manifests/%s", q->ref->repository, name), err);
	if (r < 0) {
		reg_request_unref(&m->base);
		return r;
	}
	return request_submit(&m->base, out, err);
}

static unsigned usual_need(const struct reg_ref *ref)
{
	return ref->has_digest ? REG_CAN_PULL : REG_CAN_RESOLVE;
}

int reg_manifest_get(struct reg_client *c, const struct reg_manifest_get *q, struct reg_request **out, struct err *err)
{
	return get_manifest(c, q, q->ref ? usual_need(q->ref) : 0, out, err);
}

int manifest_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, unsigned need,
                   int64_t deadline_ns, struct reg_canceller *canceller, struct reg_manifest **out, struct err *err)
{
	char text[REG_REF_TEXT_MAX];
	AUTO(waiter) struct waiter w;
	struct reg_manifest_get q = {
	    .ref = ref,
	    .account = account,
	    .lane = REG_DEMAND,
	    .deadline_ns = deadline_ns,
	    .done = waiter_done,
	    .arg = &w,
	};
	struct reg_request *request = NULL;

	waiter_init(&w);
	TRY(get_manifest(c, &q, need, &request, err));
	TRY(waiter_wait_cancellable(&w, canceller, request, err));
	TRY_WRAP(reg_manifest_parse(buf_str(&w.body), str_of(w.media_type), out, err), err, "%s",
	         reg_ref_text(ref, text));
	return 0;
}

int reg_manifest_fetch(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                       int64_t deadline_ns, struct reg_canceller *canceller, struct reg_manifest **out, struct err *err)
{
	return manifest_fetch(c, ref, account, usual_need(ref), deadline_ns, canceller, out, err);
}

void reg_image_free(struct reg_image *image)
{
	if (!image)
		return;
	for (unsigned i = 0; i < image->n_documents; i++)
		reg_manifest_free(image->documents[i]);
	free(image);
}

int reg_image_resolve(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                      const struct reg_platform *platform, int64_t deadline_ns, struct reg_image **out, struct err *err)
{
	AUTO(reg_image) struct reg_image *image = xcalloc(1, sizeof(*image));
	struct reg_platform here = reg_platform_host();
	struct reg_ref at = *ref;
	char text[REG_REF_TEXT_MAX];

	for (;;) {
		const struct reg_descriptor *next;
		struct reg_manifest *m = NULL;

		TRY(reg_manifest_fetch(c, &at, account, deadline_ns, NULL, &m, err));
		image->documents[image->n_documents++] = m;
		if (m->kind == REG_IMAGE_MANIFEST)
			break;
		if (image->n_documents == REG_DOCUMENTS_MAX)
			return err_set(err, ERR_UNIMPLEMENTED, "%s: indexes nested more than one deep",
			               reg_ref_text(ref, text));
		TRY_WRAP(reg_index_choose(m, platform ?: &here, &next, err), err, "%s", reg_ref_text(ref, text));
		reg_ref_set_digest(&at, &next->digest);
	}
	*out = STEAL(image);
	return 0;
}

int reg_blob_fetch(struct reg_client *c, const struct reg_ref *ref, const struct reg_descriptor *descriptor,
                   size_t max_bytes, int64_t deadline_ns, struct buf *out, struct err *err)
{
	char want[DIGEST_TEXT_MAX], have[DIGEST_TEXT_MAX];
	AUTO(waiter) struct waiter w;
	struct digest d;
	struct reg_blob_get q = {
	    .ref = ref,
	    .digest = descriptor->digest,
	    .blob_size = descriptor->size,
	    .length = REG_TO_END,
	    .max_bytes = descriptor->size,
	    .lane = REG_DEMAND,
	    .deadline_ns = deadline_ns,
	    .done = waiter_done,
	    .arg = &w,
	};

	waiter_init(&w);
	digest_text(&descriptor->digest, want);
	if (descriptor->size > max_bytes)
		return err_set(err, ERR_EXHAUSTED, "%s/%s: blob %s has %llu bytes, more than %zu", ref->host,
		               ref->repository, want, (unsigned long long)descriptor->size, max_bytes);
	if (descriptor->size) {
		TRY(reg_blob_get(c, &q, NULL, err));
		TRY(waiter_wait(&w, err));
	}
	digest_of(w.body.p, w.body.n, &d);
	if (!digest_eq(&d, &descriptor->digest))
		return err_set(err, ERR_DATA_LOSS, "%s/%s: blob %s: digest mismatch: got %s", ref->host,
		               ref->repository, want, digest_text(&d, have));
	buf_addstr(out, buf_str(&w.body));
	return 0;
}

int reg_blob_stat(struct reg_client *c, const struct reg_ref *ref, const struct digest *digest, int64_t deadline_ns,
                  uint64_t *size, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct reg_blob_head q = {
	    .ref = ref,
	    .digest = *digest,
	    .lane = REG_DEMAND,
	    .deadline_ns = deadline_ns,
	    .done = waiter_done,
	    .arg = &w,
	};

	waiter_init(&w);
	TRY(reg_blob_head(c, &q, NULL, err));
	TRY(waiter_wait(&w, err));
	*size = w.blob_size;
	return 0;
}

/* Warming: GET /v2/ opens the connection, and its 401 tells how to authorize. */

static int warm_status(struct reg_request *r)
{
	if (r->response.status == 401)
		request_take_challenge(r);
	request_finish(r, 0);
	return OP_HANDLED;
}

static void warm_finish(struct reg_request *r, struct reg_answer *a) {}

static const struct request_ops warm_ops = {
    .status = warm_status,
    .finish = warm_finish,
};

#define WARM_EVERY_NS (30 * NS_PER_S)
#define WARM_DEADLINE_NS (10 * NS_PER_S)

static void warm_posted(void *arg)
{
	struct reg_request *r = arg;
	int64_t last = r->host->last_use_ns;

	if (r->client->draining || (last && clock_mono_ns() - last < WARM_EVERY_NS))
		reg_request_unref(r);
	else
		request_start_here(r);
}

void reg_client_warm(struct reg_client *c, const char *host)
{
	struct host *h = host_get(c, host);
	AUTO_FREE char *base = host_base_url(c, h);
	struct reg_request *r =
	    request_new(c, sizeof(*r), &warm_ops, h, NULL, REG_DEMAND, "GET", clock_mono_ns() + WARM_DEADLINE_NS, 1);

	r->url = xasprintf("%s/v2/", base);
	r->what = xasprintf("%s: warm-up", host);
	request_post(r, warm_posted);
}
