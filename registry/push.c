/* Upload of blobs and manifests. */
#include "registry/internal.h"

#include <inttypes.h>

#define PUSH_ATTEMPTS 5
/* A registry may verify and store gigabytes before it answers the last byte. */
#define PUSH_STALL_NS (60 * NS_PER_S)

struct push_request {
	struct reg_request base;
	char *content_type; /* of the body; NULL = none */
};

static void push_headers(struct reg_request *r, struct curl_slist **list)
{
	struct push_request *p = (struct push_request *)r;

	if (p->content_type) {
		AUTO_FREE char *line = xasprintf("Content-Type: %s", p->content_type);

		*list = curl_slist_append(*list, line);
	} else if (!strcmp(r->method, "POST")) {
		*list = curl_slist_append(*list, "Content-Type:"); /* not curl's form type: there is no body */
	}
}

static void push_finish(struct reg_request *r, struct reg_answer *a)
{
	struct waiter *w = r->arg;

	if (a->result == 0 && r->response.location)
		url_resolve(r->target, str_of(r->response.location), &w->location, NULL);
	waiter_done(w, a);
}

static void push_free(struct reg_request *r)
{
	free(((struct push_request *)r)->content_type);
}

static const struct request_ops push_ops = {
    .headers = push_headers,
    .finish = push_finish,
    .free = push_free,
};

/* What the steps of one push have in common. */
struct push {
	struct reg_client *client;
	const struct reg_ref *ref;
	struct host *host;
	char *base, *scope, *what;
	int64_t deadline_ns;
};

static void push_fini(struct push *p)
{
	free(p->base);
	free(p->scope);
	free(p->what);
}
DEFINE_AUTO_FINI(push);

static int push_init(struct push *p, struct reg_client *c, const struct reg_ref *ref, const char *from,
                     int64_t deadline_ns, struct err *err)
{
	*p = (struct push){.client = c, .ref = ref, .deadline_ns = deadline_ns};
	if (!ref || !ref->host[0] || !ref->repository[0] || deadline_ns <= 0)
		return err_set(err, ERR_INVALID, "push without reference or deadline");
	p->host = host_get(c, ref->host);
	p->base = host_base_url(c, p->host);
	p->scope = from ? xasprintf("repository:%s:pull repository:%s:pull,push", from, ref->repository)
	                : xasprintf("repository:%s:pull,push", ref->repository);
	return 0;
}

/* One exchange. `url` is taken. An upload Location on another origin gets no Authorization. */
static struct push_request *step_new(const struct push *p, const char *method, TAKE(char *) url, struct waiter *w)
{
	struct push_request *s =
	    request_new(p->client, sizeof(*s), &push_ops, p->host, REG_BULK, method, p->deadline_ns, 0);

	s->base.url = url;
	s->base.what = xstrdup(p->what);
	s->base.scope = url_same_origin(p->base, url) ? xstrdup(p->scope) : NULL;
	s->base.done = NULL;
	s->base.arg = w;
	if (s->base.stall_ns < PUSH_STALL_NS)
		s->base.stall_ns = PUSH_STALL_NS;
	return s;
}

static int step_run(struct push_request *s, struct waiter *w, struct err *err)
{
	TRY(request_submit(&s->base, NULL, err));
	return waiter_wait(w, err);
}

static int head_blob(const struct push *p, const char *digest, bool *present, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct err e = ERR_INIT;
	int r;

	waiter_init(&w);
	r = step_run(step_new(p, "HEAD", xasprintf("%s/v2/%s/blobs/%s", p->base, p->ref->repository, digest), &w), &w,
	             &e);
	*present = r == 0;
	if (r < 0 && e.code != ERR_NOT_FOUND) {
		if (err)
			*err = e;
		return r;
	}
	return 0;
}

/* Starts an upload, or mounts: *location is where the bytes go, NULL when mounted. */
static int open_upload(const struct push *p, const char *digest, const char *from, char **location, struct err *err)
{
	AUTO(waiter) struct waiter w;
	char *url =
	    from ? xasprintf("%s/v2/%s/blobs/uploads/?mount=%s&from=%s", p->base, p->ref->repository, digest, from)
		 : xasprintf("%s/v2/%s/blobs/uploads/", p->base, p->ref->repository);

	waiter_init(&w);
	*location = NULL;
	TRY(step_run(step_new(p, "POST", url, &w), &w, err));
	if (w.status == 201 && from)
		return 0;
	if (!w.location)
		return err_set(err, ERR_DATA_LOSS, "%s: HTTP %d without a place to upload to", p->what, w.status);
	*location = STEAL(w.location);
	return 0;
}

static int put_blob(const struct push *p, const struct reg_blob_push *q, const char *digest, const char *location,
                    struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct push_request *s;

	waiter_init(&w);
	s = step_new(p, "PUT", xasprintf("%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', digest), &w);
	s->content_type = xstrdup("application/octet-stream");
	s->base.max_attempts = 1; /* an upload session does not survive a break: it is opened again */
	s->base.upload = true;
	s->base.upload_size = q->size;
	s->base.upload_fd = q->fd;
	s->base.upload_fd_offset = q->fd_offset;
	s->base.upload_bytes = q->bytes;
	s->base.upload_progress = q->progress;
	s->base.upload_arg = q->arg;
	return step_run(s, &w, err);
}

static int push_once(const struct push *p, const struct reg_blob_push *q, const char *digest, const char *from,
                     struct err *err)
{
	AUTO_FREE char *location = NULL;
	bool present;

	TRY(head_blob(p, digest, &present, err));
	if (present)
		return REG_PUSH_PRESENT;
	TRY(open_upload(p, digest, from, &location, err));
	if (!location)
		return REG_PUSH_MOUNTED;
	return put_blob(p, q, digest, location, err);
}

int reg_blob_push(struct reg_client *c, const struct reg_blob_push *q, struct err *err)
{
	const char *from = q->mount_from && *q->mount_from ? q->mount_from : NULL;
	AUTO(push) struct push p = {0};
	char digest[DIGEST_TEXT_MAX];
	struct err e = ERR_INIT;

	TRY(push_init(&p, c, q->ref, from, q->deadline_ns, err));
	if (q->size > INT64_MAX || (q->fd < 0 && q->bytes.n != q->size))
		return err_set(err, ERR_INVALID, "push of a blob whose bytes and size differ");
	digest_text(&q->digest, digest);
	p.what = xasprintf("%s/%s: push of blob %s", q->ref->host, q->ref->repository, digest);
	for (unsigned i = 1;; i++) {
		int r = push_once(&p, q, digest, from, &e);
		int64_t wait = c->backoff_ns << i;
		struct timespec pause = {wait / NS_PER_S, wait % NS_PER_S};

		if (r >= 0)
			return r;
		if (e.code != ERR_UNAVAILABLE || i == PUSH_ATTEMPTS || clock_mono_ns() + wait >= q->deadline_ns) {
			if (err)
				*err = e;
			return r;
		}
		nanosleep(&pause, NULL);
	}
}

int reg_manifest_push(struct reg_client *c, const struct reg_ref *ref, struct str bytes, struct str media_type,
                      int64_t deadline_ns, struct err *err)
{
	char name[DIGEST_TEXT_MAX + REG_TAG_MAX] = "";
	AUTO(push) struct push p = {0};
	AUTO(waiter) struct waiter w;
	struct push_request *s;
	struct digest d;

	waiter_init(&w);
	TRY(push_init(&p, c, ref, NULL, deadline_ns, err));
	if (!media_type.n || media_type.n > REG_MEDIA_TYPE_MAX || !bytes.n || bytes.n > REG_MANIFEST_BYTES_MAX)
		return err_set(err, ERR_INVALID, "push of a manifest without media type, or of an impossible size");
	for (size_t i = 0; i < media_type.n; i++)
		if ((unsigned char)media_type.p[i] <= ' ' || (unsigned char)media_type.p[i] > 0x7e)
			return err_set(err, ERR_INVALID, "media type with characters that no header may carry");
	digest_of(bytes.p, bytes.n, &d);
	if (ref->has_digest && !digest_eq(&d, &ref->digest))
		return err_set(err, ERR_INVALID, "push of a manifest under another one's digest");
	if (ref->tag[0])
		strcpy(name, ref->tag);
	else
		digest_text(&d, name);
	p.what = xasprintf("%s/%s: push of manifest %s", ref->host, ref->repository, name);
	s = step_new(&p, "PUT", xasprintf("%s/v2/%s/manifests/%s", p.base, ref->repository, name), &w);
	s->content_type = xstrndup(media_type.p, media_type.n);
	s->base.upload = true;
	s->base.upload_size = bytes.n;
	s->base.upload_bytes = bytes;
	return step_run(s, &w, err);
}
