/* Steps of a push: see session.h. */
#include "registry/session.h"

/* A registry may verify and store gigabytes before it answers the last byte. */
#define PUSH_PATIENCE_NS (60 * NS_PER_S)

static void step_headers(struct reg_request *r, struct curl_slist **list)
{
	struct step *p = (struct step *)r;

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

static void step_finish(struct reg_request *r, struct reg_answer *a)
{
	struct waiter *w = r->arg;

	if (a->result == 0 && r->response.location)
		url_resolve(r->target, str_of(r->response.location), &w->location, NULL);
	w->piece_min = r->response.piece_min;
	w->has_subject = r->response.has_subject;
	w->retry_after_ns = r->response.retry_after_s * NS_PER_S;
	a->length = r->response.kept_bytes;
	waiter_done(w, a);
}

static void step_free(struct reg_request *r)
{
	free(((struct step *)r)->content_type);
	free(((struct step *)r)->content_range);
}

static const struct request_ops step_ops = {
    .headers = step_headers,
    .finish = step_finish,
    .free = step_free,
};

void push_fini(struct push *p)
{
	free(p->base);
	free(p->scope);
	free(p->what);
}
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

int push_init(struct push *p, struct reg_client *c, const struct reg_ref *ref, struct reg_account *account,
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

struct step *step_new(const struct push *p, const char *method, TAKE(char *) url, struct waiter *w)
{
	struct step *s =
	    request_new(p->client, sizeof(*s), &step_ops, p->host, p->account, REG_BULK, method, p->deadline_ns, 0);

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
static int step_enter(struct reg_canceller *k, struct step *s, struct err *err)
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

int step_submit(const struct push *p, TAKE(struct step *) s, struct err *err)
{
	return p->canceller ? step_enter(p->canceller, s, err) : request_submit(&s->base, NULL, err);
}

int step_wait(struct push *p, struct waiter *w, struct err *err)
{
	int r = waiter_wait(w, err);

	if (p->canceller)
		step_leave(p->canceller);
	p->retry_after_ns = r < 0 ? w->retry_after_ns : 0;
	return r;
}

int step_run(struct push *p, TAKE(struct step *) s, struct waiter *w, struct err *err)
{
	TRY(step_submit(p, s, err));
	return step_wait(p, w, err);
}

void step_set_body(struct step *s, struct str bytes)
{
	free(s->content_type);
	s->content_type = xstrdup("application/octet-stream");
	s->base.max_attempts = 1;
	s->base.upload = true;
	s->base.upload_size = bytes.n;
	s->base.upload_bytes = bytes;
}

void reg_canceller_init(struct reg_canceller *k)
{
	pthread_condattr_t monotonic;

	*k = (struct reg_canceller){.current = NULL};
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void reg_canceller_fini(struct reg_canceller *k)
{
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
}

void reg_canceller_cancel(void *canceller)
{
	struct reg_canceller *k = canceller;

	pthread_mutex_lock(&k->lock);
	k->cancelled = true;
	if (k->current)
		reg_request_cancel(k->current);
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

void reg_canceller_enter(struct reg_canceller *k, struct reg_request *r)
{
	pthread_mutex_lock(&k->lock);
	k->current = r;
	if (k->cancelled)
		reg_request_cancel(r);
	pthread_mutex_unlock(&k->lock);
}

void reg_canceller_leave(struct reg_canceller *k)
{
	pthread_mutex_lock(&k->lock);
	k->current = NULL;
	pthread_mutex_unlock(&k->lock);
}

/* False: cancelled before. */
static bool canceller_sleep(struct reg_canceller *k, int64_t until_ns)
{
	struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
	bool cancelled;

	pthread_mutex_lock(&k->lock);
	while (!k->cancelled && clock_mono_ns() < until_ns)
		pthread_cond_timedwait(&k->changed, &k->lock, &until);
	cancelled = k->cancelled;
	pthread_mutex_unlock(&k->lock);
	return !cancelled;
}

int push_pause(struct push *p, unsigned attempt, const struct err *why, struct err *err)
{
	int64_t wait = p->client->backoff_ns << attempt;

	if (wait < p->retry_after_ns)
		wait = p->retry_after_ns;
	if (p->retry_after_ns > PUSH_PAUSE_MAX_NS)
		return err_set(err, why->code, "%s (it asks for %lld s of peace)", why->msg,
		               (long long)(p->retry_after_ns / NS_PER_S));
	if (clock_mono_ns() + wait >= p->deadline_ns) {
		if (err)
			*err = *why;
		return -(int)why->code;
	}
	if (p->canceller && !canceller_sleep(p->canceller, clock_mono_ns() + wait))
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (!p->canceller)
		nanosleep(&(struct timespec){wait / NS_PER_S, wait % NS_PER_S}, NULL);
	return 0;
}

int push_head(struct push *p, const char *digest, bool *present, struct err *err)
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

/* ---- an upload under way ---- */

void session_fini(struct session *u)
{
	free(STEAL(u->location));
}

static void go_on(struct session *u, struct waiter *w)
{
	if (!w->location)
		return;
	free(u->location);
	u->location = STEAL(w->location);
}

int session_open(struct push *p, const char *digest, const char *from, struct session *u, struct err *err)
{
	AUTO(waiter) struct waiter w;
	char *url = from ? xasprintf("%s/%s/blobs/uploads/?mount=%s&from=%s", p->base, p->ref->repository, digest, from)
	                 : xasprintf("%s/%s/blobs/uploads/", p->base, p->ref->repository);

	waiter_init(&w);
	session_fini(u);
	*u = (struct session){0};
	TRY(step_run(p, step_new(p, "POST", url, &w), &w, err));
	if (w.status == 201 && from)
		return 0;
	if (!w.location)
		return err_set(err, ERR_DATA_LOSS, "%s: HTTP %d without a place to upload to", p->what, w.status);
	go_on(u, &w);
	u->piece_min = w.piece_min;
	return 0;
}

struct step *session_patch(const struct push *p, const struct session *u, uint64_t bytes, struct waiter *w)
{
	struct step *s = step_new(p, "PATCH", xstrdup(u->location), w);

	s->content_range =
	    xasprintf("%llu-%llu", (unsigned long long)u->kept_bytes, (unsigned long long)(u->kept_bytes + bytes) - 1);
	return s;
}

void session_patched(struct session *u, struct waiter *w, uint64_t bytes)
{
	go_on(u, w);
	u->kept_bytes += bytes;
}

int session_ask(struct push *p, uint64_t most, struct session *u, struct err *err)
{
	AUTO(waiter) struct waiter w;

	waiter_init(&w);
	TRY(step_run(p, step_new(p, "GET", xstrdup(u->location), &w), &w, err));
	go_on(u, &w);
	u->kept_bytes = w.length <= most ? w.length : 0;
	return 0;
}

struct step *session_put(const struct push *p, const struct session *u, const char *digest, struct waiter *w)
{
	struct step *s = step_new(
	    p, "PUT", xasprintf("%s%cdigest=%s", u->location, strchr(u->location, '?') ? '&' : '?', digest), w);

	step_set_body(s, STR_NONE);
	return s;
}

int session_drop(struct push *p, struct session *u, struct err *err)
{
	AUTO(waiter) struct waiter w;

	waiter_init(&w);
	return step_run(p, step_new(p, "DELETE", STEAL(u->location), &w), &w, err);
}
