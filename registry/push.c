/*
 * Upload of blobs and manifests.
 *
 *	HEAD ──► POST, perhaps with a mount ──► small: PUT with the bytes
 *	                                   └──► large: PATCH with the bytes, PUT without any
 *
 * A PATCH that breaks is gone on with where the registry says that it stopped (GET of the upload, its Range).
 */
#include "registry/internal.h"

#define PUSH_ATTEMPTS 5                 /* in a row without a byte that the registry has kept */
#define PUSH_ONE_REQUEST_MAX (4u << 20) /* larger blobs are worth another round trip, to be resumed */
/* A registry may verify and store gigabytes before it answers the last byte. */
#define PUSH_PATIENCE_NS (60 * NS_PER_S)

struct push_request {
	struct reg_request base;
	char *content_type;  /* of the body; NULL = none */
	char *content_range; /* of a PATCH that goes on; NULL = none */
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
	if (p->content_range) {
		AUTO_FREE char *line = xasprintf("Content-Range: %s", p->content_range);

		*list = curl_slist_append(*list, line);
	}
}

static void push_finish(struct reg_request *r, struct reg_answer *a)
{
	struct waiter *w = r->arg;

	if (a->result == 0 && r->response.location)
		url_resolve(r->target, str_of(r->response.location), &w->location, NULL);
	a->length = r->response.kept_bytes;
	waiter_done(w, a);
}

static void push_free(struct reg_request *r)
{
	free(((struct push_request *)r)->content_type);
	free(((struct push_request *)r)->content_range);
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
	struct reg_account *account;
	struct host *host;
	size_t endpoint;
	char *base, *scope, *what;
	int64_t deadline_ns;
	struct reg_canceller *canceller;
};

static void push_fini(struct push *p)
{
	free(p->base);
	free(p->scope);
	free(p->what);
}
DEFINE_AUTO_FINI(push);

/* All steps go to one server: the first that takes pushes. */
static int choose_server(struct push *p, struct err *err)
{
	size_t n;
	const struct reg_endpoint *e = reg_account_endpoints(p->account, &n);

	if (!n) {
		AUTO_FREE char *base = host_base_url(p->client, p->host);

		p->base = xasprintf("%s/v2", base);
		return 0;
	}
	while (p->endpoint < n && !(e[p->endpoint].can & REG_CAN_PUSH))
		p->endpoint++;
	if (p->endpoint == n)
		return err_set(err, ERR_PRECONDITION, "%s: no server of it is configured to take pushes", p->ref->host);
	p->base = xstrdup(e[p->endpoint].base);
	if (!e[p->endpoint].is_registry)
		p->host = host_get(p->client, p->base);
	return 0;
}

static int push_init(struct push *p, struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
                     const char *from, int64_t deadline_ns, struct err *err)
{
	*p = (struct push){.client = c, .ref = ref, .account = account, .deadline_ns = deadline_ns};
	if (!ref || !ref->host[0] || !ref->repository[0] || deadline_ns <= 0)
		return err_set(err, ERR_INVALID, "push without reference or deadline");
	p->host = host_get(c, ref->host);
	TRY(choose_server(p, err));
	p->scope = from ? xasprintf("repository:%s:pull repository:%s:pull,push", from, ref->repository)
	                : xasprintf("repository:%s:pull,push", ref->repository);
	return 0;
}

/* One exchange. `url` is taken. An upload Location on another origin gets no Authorization. */
static struct push_request *step_new(const struct push *p, const char *method, TAKE(char *) url, struct waiter *w)
{
	struct push_request *s =
	    request_new(p->client, sizeof(*s), &push_ops, p->host, p->account, REG_BULK, method, p->deadline_ns, 0);

	s->base.url = url;
	s->base.endpoint = p->endpoint;
	s->base.what = xstrdup(p->what);
	s->base.scope = url_same_origin(p->base, url) ? xstrdup(p->scope) : NULL;
	s->base.done = NULL;
	s->base.arg = w;
	if (!strcmp(method, "PUT") || !strcmp(method, "PATCH")) {
		/* The answer may be "100 Continue", and what follows be what takes long. */
		s->base.patience_ns = s->base.patience_ns < PUSH_PATIENCE_NS ? PUSH_PATIENCE_NS : s->base.patience_ns;
		s->base.stall_ns = s->base.stall_ns < PUSH_PATIENCE_NS ? PUSH_PATIENCE_NS : s->base.stall_ns;
	}
	return s;
}

/* Whoever cancels finds the request of the moment. */
static int step_enter(struct reg_canceller *k, struct push_request *s, struct err *err)
{
	struct reg_request *handle = NULL;
	bool cancelled;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	cancelled = k->cancelled;
	if (!cancelled) {
		r = request_submit(&s->base, &handle, err);
		k->current = handle;
	}
	pthread_mutex_unlock(&k->lock);
	if (!cancelled)
		return r;
	reg_request_unref(&s->base);
	return err_set(err, ERR_CANCELLED, "cancelled");
}

static void step_leave(struct reg_canceller *k)
{
	struct reg_request *handle;

	pthread_mutex_lock(&k->lock);
	handle = STEAL(k->current);
	pthread_mutex_unlock(&k->lock);
	reg_request_unref(handle);
}

static int step_run(const struct push *p, struct push_request *s, struct waiter *w, struct err *err)
{
	int r;

	if (!p->canceller) {
		TRY(request_submit(&s->base, NULL, err));
		return waiter_wait(w, err);
	}
	TRY(step_enter(p->canceller, s, err));
	r = waiter_wait(w, err);
	step_leave(p->canceller);
	return r;
}

void reg_canceller_init(struct reg_canceller *k)
{
	*k = (struct reg_canceller){.current = NULL};
	pthread_mutex_init(&k->lock, NULL);
}

void reg_canceller_fini(struct reg_canceller *k)
{
	pthread_mutex_destroy(&k->lock);
}

void reg_canceller_cancel(void *canceller)
{
	struct reg_canceller *k = canceller;

	pthread_mutex_lock(&k->lock);
	k->cancelled = true;
	if (k->current)
		reg_request_cancel(k->current);
	pthread_mutex_unlock(&k->lock);
}

static int head_blob(const struct push *p, const char *digest, bool *present, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct err e = ERR_INIT;
	int r;

	waiter_init(&w);
	r = step_run(p, step_new(p, "HEAD", xasprintf("%s/%s/blobs/%s", p->base, p->ref->repository, digest), &w), &w,
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
	char *url = from ? xasprintf("%s/%s/blobs/uploads/?mount=%s&from=%s", p->base, p->ref->repository, digest, from)
	                 : xasprintf("%s/%s/blobs/uploads/", p->base, p->ref->repository);

	waiter_init(&w);
	*location = NULL;
	TRY(step_run(p, step_new(p, "POST", url, &w), &w, err));
	if (w.status == 201 && from)
		return 0;
	if (!w.location)
		return err_set(err, ERR_DATA_LOSS, "%s: HTTP %d without a place to upload to", p->what, w.status);
	*location = STEAL(w.location);
	return 0;
}

/* The bytes of a blob from `at` on, as the body of a request. */
static void set_body(struct push_request *s, const struct reg_blob_push *q, uint64_t at)
{
	s->content_type = xstrdup("application/octet-stream");
	s->base.max_attempts = 1; /* an upload does not survive a break as it is */
	s->base.upload = true;
	s->base.upload_size = q->size - at;
	s->base.upload_fd = q->fd;
	s->base.upload_fd_offset = q->fd_offset + (off_t)at;
	s->base.upload_bytes = q->fd < 0 ? str_sub(q->bytes, (size_t)at, q->bytes.n) : STR_NONE;
	s->base.upload_base = at;
	s->base.upload_progress = q->progress;
	s->base.upload_arg = q->arg;
}

static char *with_digest(const char *location, const char *digest)
{
	return xasprintf("%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', digest);
}

static int put_blob(const struct push *p, const struct reg_blob_push *q, const char *digest, const char *location,
                    struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct push_request *s;

	waiter_init(&w);
	s = step_new(p, "PUT", with_digest(location, digest), &w);
	set_body(s, q, 0);
	return step_run(p, s, &w, err);
}

/* ---- in pieces ---- */

/* An upload under way. */
struct session {
	char *location;
	uint64_t kept_bytes; /* that the registry has */
};

static void session_fini(struct session *u)
{
	free(u->location);
}

static void session_go_on(struct session *u, struct waiter *w)
{
	if (!w->location)
		return;
	free(u->location);
	u->location = STEAL(w->location);
}

static int patch(const struct push *p, const struct reg_blob_push *q, struct session *u, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct push_request *s;

	waiter_init(&w);
	s = step_new(p, "PATCH", xstrdup(u->location), &w);
	set_body(s, q, u->kept_bytes);
	if (u->kept_bytes)
		s->content_range =
		    xasprintf("%llu-%llu", (unsigned long long)u->kept_bytes, (unsigned long long)q->size - 1);
	TRY(step_run(p, s, &w, err));
	session_go_on(u, &w);
	u->kept_bytes = q->size;
	return 0;
}

/* Asks how far a broken upload has come. ERR_NOT_FOUND when the registry has dropped it. */
static int ask_session(const struct push *p, const struct reg_blob_push *q, struct session *u, struct err *err)
{
	AUTO(waiter) struct waiter w;

	waiter_init(&w);
	TRY(step_run(p, step_new(p, "GET", xstrdup(u->location), &w), &w, err));
	session_go_on(u, &w);
	u->kept_bytes = w.length <= q->size ? w.length : 0;
	return 0;
}

static int put_end(const struct push *p, const struct session *u, const char *digest, struct err *err)
{
	AUTO(waiter) struct waiter w;
	struct push_request *s;

	waiter_init(&w);
	s = step_new(p, "PUT", with_digest(u->location, digest), &w);
	s->content_type = xstrdup("application/octet-stream");
	s->base.max_attempts = 1;
	s->base.upload = true;
	return step_run(p, s, &w, err);
}

/* ---- trying ---- */

/* One push, over all its attempts. */
struct pushing {
	const struct push *p;
	const struct reg_blob_push *q;
	char digest[DIGEST_TEXT_MAX];
	const char *from;
	struct session session; /* without a location: not begun */
};

static int begin(struct pushing *t, struct err *err)
{
	bool present;

	TRY(head_blob(t->p, t->digest, &present, err));
	if (present)
		return REG_PUSH_PRESENT;
	if (t->q->only_ask && !t->from)
		return REG_PUSH_MISSING;
	TRY(open_upload(t->p, t->digest, t->from, &t->session.location, err));
	if (!t->session.location)
		return REG_PUSH_MOUNTED;
	return t->q->only_ask ? REG_PUSH_MISSING : 0;
}

/* An upload that cannot be gone on with is begun anew. */
static int resume(struct pushing *t, struct err *err)
{
	struct err why = ERR_INIT;

	if (ask_session(t->p, t->q, &t->session, &why) >= 0)
		return 0;
	if (why.code == ERR_UNAVAILABLE || why.code == ERR_DEADLINE || why.code == ERR_CANCELLED) {
		*err = why;
		return -(int)why.code;
	}
	free(STEAL(t->session.location));
	t->session.kept_bytes = 0;
	return begin(t, err);
}

static int push_once(struct pushing *t, struct err *err)
{
	int r = t->session.location ? resume(t, err) : begin(t, err);

	if (r)
		return r;
	if (t->q->size <= PUSH_ONE_REQUEST_MAX && !t->session.kept_bytes) {
		AUTO_FREE char *location = STEAL(t->session.location); /* good for one PUT */

		return put_blob(t->p, t->q, t->digest, location, err);
	}
	if (t->session.kept_bytes < t->q->size)
		TRY(patch(t->p, t->q, &t->session, err));
	return put_end(t->p, &t->session, t->digest, err);
}

static int push_all(struct pushing *t, struct err *err)
{
	struct reg_client *c = t->p->client;
	struct err e = ERR_INIT;
	uint64_t before = 0;

	for (unsigned i = 1;; i++) {
		int r = push_once(t, &e);
		int64_t wait = c->backoff_ns << i;
		struct timespec pause = {wait / NS_PER_S, wait % NS_PER_S};

		if (r >= 0)
			return r;
		if (t->session.kept_bytes > before)
			i = 1;
		before = t->session.kept_bytes;
		if (e.code != ERR_UNAVAILABLE || i == PUSH_ATTEMPTS || clock_mono_ns() + wait >= t->q->deadline_ns) {
			if (err)
				*err = e;
			return r;
		}
		nanosleep(&pause, NULL);
	}
}

int reg_blob_push(struct reg_client *c, const struct reg_blob_push *q, struct err *err)
{
	struct pushing t = {.q = q, .from = q->mount_from && *q->mount_from ? q->mount_from : NULL};
	AUTO(push) struct push p = {0};
	int r;

	TRY(push_init(&p, c, q->ref, q->account, t.from, q->deadline_ns, err));
	if (q->size > INT64_MAX || (!q->only_ask && q->fd < 0 && q->bytes.n != q->size))
		return err_set(err, ERR_INVALID, "push of a blob whose bytes and size differ");
	digest_text(&q->digest, t.digest);
	p.what = xasprintf("%s/%s: push of blob %s", q->ref->host, q->ref->repository, t.digest);
	p.canceller = q->canceller;
	t.p = &p;
	r = push_all(&t, err);
	session_fini(&t.session);
	return r;
}

int reg_manifest_push(struct reg_client *c, const struct reg_ref *ref, struct reg_account *account, struct str bytes,
                      struct str media_type, int64_t deadline_ns, struct reg_canceller *canceller, struct err *err)
{
	char name[DIGEST_TEXT_MAX + REG_TAG_MAX] = "";
	AUTO(push) struct push p = {0};
	AUTO(waiter) struct waiter w;
	struct push_request *s;
	struct digest d;

	waiter_init(&w);
	TRY(push_init(&p, c, ref, account, NULL, deadline_ns, err));
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
	p.canceller = canceller;
	s = step_new(&p, "PUT", xasprintf("%s/%s/manifests/%s", p.base, ref->repository, name), &w);
	s->content_type = xstrndup(media_type.p, media_type.n);
	s->base.upload = true;
	s->base.upload_size = bytes.n;
	s->base.upload_bytes = bytes;
	return step_run(&p, s, &w, err);
}
