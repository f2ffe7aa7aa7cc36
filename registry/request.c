/*
 * One request, from submission to its callback:
 *
 *   NEW ──► WAIT_TOKEN ──► QUEUED ──► RUNNING ──► finish ──► DONE
 *    ▲          (401)                    │
 *    └──────── BACKOFF ◄── failed ◄──────┤
 *    └──────── redirect, 401, storage refused (no back-off)
 *
 * All of it on the I/O thread, except the public functions at the end.
 */
#include "registry/internal.h"

#define ATTEMPTS_MAX 6
#define SILENCES_MAX 2 /* who says nothing on a second connection either would not on more of them */
#define REDIRECTS_MAX 8
#define AUTH_TRIES_MAX 2 /* a challenge, and one for a cached token that was refused */
#define BACKOFF_DOUBLINGS 5
#define SAMPLE_BYTES_MIN (32u << 10) /* shorter transfers say nothing about bandwidth */
#define SAMPLE_NS_MIN (200 * NS_PER_US)

/* Messages */

/* Puts request, and where it was redirected, around what went wrong. */
static void describe(struct reg_request *r)
{
	const struct reg_endpoint *e = request_endpoint(r);
	AUTO(buf) struct buf at = BUF_INIT;

	if (r->foreign && r->target)
		http_printable_url(str_of(r->target), &at);
	else if (e && !e->is_registry && r->path)
		err_wrap(&r->last, "at %s", e->base);
	if (at.n)
		err_wrap(&r->last, "%s (redirected to " STR_FMT ")", r->what, STR_ARG(buf_str(&at)));
	else
		err_wrap(&r->last, "%s", r->what);
}

static enum err_code code_of_status(int status)
{
	switch (status) {
	case 401:
		return ERR_UNAUTHENTICATED;
	case 403:
		return ERR_PERMISSION;
	case 404:
	case 410:
		return ERR_NOT_FOUND;
	case 416:
		return ERR_OUT_OF_RANGE;
	case 429:
		return ERR_EXHAUSTED;
	case 501:
		return ERR_UNIMPLEMENTED;
	}
	return status == 408 || status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
}

/* The failure that an HTTP status is, with the server's own words. */
static void set_status_error(struct reg_request *r)
{
	AUTO(buf) struct buf text = BUF_INIT;

	http_error_text(buf_str(&r->error_body), &text);
	err_set(&r->last, code_of_status(r->response.status), "HTTP %d%s%s", r->response.status, text.n ? ": " : "",
	        buf_cstr(&text));
}

static void set_curl_error(struct reg_request *r, CURLcode code)
{
	AUTO(buf) struct buf text = BUF_INIT;

	http_clean_text(str_of(r->curl_error[0] ? r->curl_error : curl_easy_strerror(code)), 300, &text);
	err_set(&r->last, ERR_UNAVAILABLE, "%s", buf_cstr(&text));
}

/* Ending, waiting, trying again */

static void request_unref(struct reg_request *r)
{
	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (r->ops->free)
		r->ops->free(r);
	lane_drop_headers(r);
	response_fini(&r->response);
	buf_fini(&r->body);
	buf_fini(&r->error_body);
	secret_free(r->basic);
	secret_free(r->form);
	reg_account_unref(r->account);
	free(r->what);
	free(r->url);
	free(r->scope);
	free(r->url_key);
	free(r->url_name);
	free(r->path);
	free(r->target);
	free(r);
}

static void release_attempt(struct reg_request *r)
{
	if (r->state == REQUEST_RUNNING || r->state == REQUEST_QUEUED)
		lane_remove(r, false);
	link_remove(&r->token_link);
}

/* `result`: 0, or the code of r->last. */
void request_finish(struct reg_request *r, int result)
{
	static const struct err fine = ERR_INIT;
	struct reg_answer a = {0};

	if (r->state == REQUEST_DONE)
		return;
	release_attempt(r);
	r->state = REQUEST_DONE;
	if (r->timer)
		loop_timer_free(r->timer);
	r->timer = NULL;
	link_remove(&r->all_link);
	if (result < 0) {
		COUNT(r->client, errors, 1);
		describe(r);
	}
	a.result = result;
	a.err = result < 0 ? &r->last : &fine;
	a.status = r->response.status;
	a.media_type = str_of(r->response.content_type);
	a.rtt_ns = r->rtt_ns;
	a.body = r->ops->body ? NULL : &r->body;
	r->ops->finish(r, &a);
	request_unref(r);
}

static void again_from_the_start(struct reg_request *r)
{
	free(STEAL(r->target));
	r->foreign = r->from_cache = r->re_resolved = r->progressed = false;
	r->redirects = r->auth_tries = r->attempts = r->silences = 0;
	request_attempt(r);
}

void request_fail(struct reg_request *r)
{
	if (!request_go_elsewhere(r)) {
		request_finish(r, -(int)r->last.code);
		return;
	}
	release_attempt(r);
	again_from_the_start(r);
}

/* When the current attempt has been silent for too long. */
static int64_t stalls_at(const struct reg_request *r)
{
	return r->progress_ns + (r->answer_ns ? r->stall_ns : r->patience_ns);
}

void request_arm(struct reg_request *r)
{
	int64_t at = r->deadline_ns;

	if (r->state == REQUEST_BACKOFF && r->retry_at_ns < at)
		at = r->retry_at_ns;
	if (r->state == REQUEST_RUNNING && !r->paused && stalls_at(r) < at)
		at = stalls_at(r);
	loop_timer_set(r->timer, at);
}

static int64_t backoff(struct reg_request *r)
{
	unsigned doublings = r->attempts - 1 < BACKOFF_DOUBLINGS ? r->attempts - 1 : BACKOFF_DOUBLINGS;
	int64_t full = r->client->backoff_ns << doublings;

	return full / 2 + (int64_t)(client_random(r->client) % (uint64_t)(full / 2 + 1));
}

static void out_of_time(struct reg_request *r)
{
	struct err last = r->last;

	if (last.code)
		err_set(&r->last, ERR_DEADLINE, "out of time; last: %s", last.msg);
	else
		err_set(&r->last, ERR_DEADLINE,
		        r->state == REQUEST_RUNNING && r->response.status ? "out of time while the body was arriving"
		                                                          : "out of time without an answer");
	request_fail(r);
}

/* The attempt failed with r->last: another one later, `delay_ns` at least, or the end. */
void request_retry(struct reg_request *r, int64_t delay_ns)
{
	int64_t wait;

	if (r->progressed)
		r->attempts = r->silences = 0;
	r->progressed = false;
	r->attempts++;
	if (request_has_other(r)) {
		request_fail(r);
		return;
	}
	if (r->attempts >= r->max_attempts || r->silences >= r->max_silences) {
		err_wrap(&r->last, "after %u attempts in %.1f s", r->attempts,
		         (double)(clock_mono_ns() - r->failing_ns) / NS_PER_S);
		request_fail(r);
		return;
	}
	wait = backoff(r);
	if (wait < delay_ns)
		wait = delay_ns;
	if (r->deadline_ns != REG_NO_DEADLINE && clock_mono_ns() + wait >= r->deadline_ns) {
		/* A server that answered has said what is wrong; behind silence and broken lines there is only time. */
		if (r->response.complete && !request_succeeds(r))
			request_fail(r);
		else
			out_of_time(r);
		return;
	}
	/* What storage URL failed may have died with its server: ask the registry. */
	if (r->foreign) {
		if (r->url_key)
			url_cache_drop(r->client, r->url_key);
		free(STEAL(r->target));
		r->foreign = r->from_cache = false;
		r->redirects = 0;
	}
	COUNT(r->client, retries, 1);
	r->state = REQUEST_BACKOFF;
	r->retry_at_ns = clock_mono_ns() + wait;
	request_arm(r);
}

static void stalled(struct reg_request *r)
{
	if (r->answer_ns)
		err_set(&r->last, ERR_UNAVAILABLE, "no data for %g s", (double)r->stall_ns / NS_PER_S);
	else
		err_set(&r->last, ERR_UNAVAILABLE, "no answer for %g s", (double)r->patience_ns / NS_PER_S);
	if (r->attempt_bytes < REQUEST_SLOW_BYTES)
		r->progressed = false;
	r->silences += !r->progressed;
	r->fresh = true;
	lane_remove(r, true);
	request_retry(r, 0);
}

static void on_timer(void *arg)
{
	struct reg_request *r = arg;
	int64_t now = clock_mono_ns();

	if (now >= r->deadline_ns)
		out_of_time(r);
	else if (r->state == REQUEST_BACKOFF && now >= r->retry_at_ns)
		request_attempt(r);
	else if (r->state == REQUEST_RUNNING && !r->paused && now >= stalls_at(r))
		stalled(r);
	else
		request_arm(r);
}

/* Attempts */

static void reset_attempt(struct reg_request *r)
{
	response_fini(&r->response);
	buf_clear(&r->error_body);
	r->paused = r->was_paused = r->stopped = r->refused = false;
	r->sent_token = r->sent_basic = false;
	r->uploaded = 0;
	r->attempt_bytes = r->unnoted_bytes = 0;
	r->state = REQUEST_NEW;
}

/* The Authorization line of the attempt. False: not yet, or the request has ended. */
static bool authorize(struct reg_request *r, char **line)
{
	if (r->foreign)
		return true;
	if (r->basic)
		*line = xstrdup(r->basic);
	if (!r->scope || request_brings_authorization(r))
		return true;
	if (r->host->auth == AUTH_BEARER_MODE) {
		switch (token_get(r, line, &r->last)) {
		case TOKEN_READY:
			r->sent_token = true;
			return true;
		case TOKEN_WAIT:
			r->state = REQUEST_WAIT_TOKEN;
			request_arm(r);
			return false;
		case TOKEN_FAILED:
			request_fail(r);
			return false;
		}
	}
	if (r->host->auth == AUTH_BASIC_MODE) {
		*line = basic_line(request_credentials(r));
		r->sent_basic = *line != NULL;
	}
	return true;
}

void request_attempt(struct reg_request *r)
{
	const char *cached;
	char *line = NULL;

	if (r->client->draining) {
		err_set(&r->last, ERR_CANCELLED, "the client is stopping");
		request_fail(r);
		return;
	}
	reset_attempt(r);
	if (!r->target) {
		cached = r->url_key && !r->re_resolved ? url_cache_get(r->client, r->url_key) : NULL;
		r->target = xstrdup(cached ?: r->url);
		r->foreign = r->from_cache = cached != NULL;
	}
	if (!authorize(r, &line))
		return;
	lane_drop_headers(r);
	if (line)
		r->header_list = curl_slist_append(NULL, line);
	secret_free(line);
	if (!r->elsewhere)
		r->host->last_use_ns = clock_mono_ns();
	if (lane_submit(r, &r->last) < 0) {
		request_fail(r);
		return;
	}
	request_arm(r);
}

/* The end of an attempt */

static void sample(struct reg_request *r)
{
	uint64_t bytes = r->host->bytes - r->body_start_bytes;
	int64_t ns = r->body_end_ns - r->body_start_ns;

	if (!r->elsewhere && !r->was_paused && r->response.complete && bytes >= SAMPLE_BYTES_MIN && ns >= SAMPLE_NS_MIN)
		host_sample_bandwidth(r->client, r->host, bytes, ns);
}

/* Certificates do not get better by asking again. */
static bool is_final(CURLcode code)
{
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_NOT_BUILT_IN:
	case CURLE_OUT_OF_MEMORY:
	case CURLE_BAD_FUNCTION_ARGUMENT:
		return true;
	default:
		return false;
	}
}

static void redirect(struct reg_request *r)
{
	AUTO(url_origin) struct url_origin from = {0};
	AUTO(url_origin) struct url_origin to = {0};
	AUTO_FREE char *next = NULL;
	struct contact k;
	bool foreign;

	if (!r->response.location) {
		err_set(&r->last, ERR_INVALID, "HTTP %d without a Location", r->response.status);
		request_fail(r);
		return;
	}
	if (++r->redirects > REDIRECTS_MAX) {
		err_set(&r->last, ERR_INVALID, "more than %d redirects", REDIRECTS_MAX);
		request_fail(r);
		return;
	}
	if (url_resolve(r->target, str_of(r->response.location), &next, &r->last) < 0 ||
	    url_origin_of(next, &to, &r->last) < 0 || url_origin_of(r->url, &from, &r->last) < 0) {
		err_wrap(&r->last, "redirect");
		request_fail(r);
		return;
	}
	foreign = strcmp(from.origin, to.origin) != 0;
	if (r->form && foreign) {
		err_set(&r->last, ERR_PERMISSION, "refused to send a secret on to %s", to.authority);
		request_fail(r);
		return;
	}
	request_contact(r, foreign, to.authority, &k);
	contact_fini(&k);
	if (from.tls && !to.tls && !k.plain_http) {
		err_set(&r->last, ERR_PERMISSION, "refused a redirect from HTTPS to plain HTTP at %s", to.authority);
		request_fail(r);
		return;
	}
	COUNT(r->client, redirects, 1);
	free(r->target);
	r->target = STEAL(next);
	r->foreign = foreign;
	r->from_cache = false;
	request_attempt(r);
}

/* False: in no way that we know. */
bool request_take_challenge(struct reg_request *r)
{
	const struct reg_challenge *c = reg_challenges_choose(&r->response.challenges);
	struct host *h = r->host;

	if (!c)
		return false;
	if (c->scheme == REG_AUTH_BASIC) {
		h->auth = AUTH_BASIC_MODE;
		return true;
	}
	h->auth = AUTH_BEARER_MODE;
	free(h->realm);
	free(h->service);
	h->realm = xstrndup(c->realm.p, c->realm.n);
	h->service = c->service.n ? xstrndup(c->service.p, c->service.n) : xstrdup("");
	/* The registry knows best what its token must allow; ours is the usual spelling of the same. */
	if (c->scope.n && r->scope && str_eqc(c->error, "insufficient_scope")) {
		free(r->scope);
		r->scope = xstrndup(c->scope.p, c->scope.n);
	}
	return true;
}

static void unauthorized(struct reg_request *r)
{
	bool again = r->auth_tries++ < AUTH_TRIES_MAX && r->scope && request_take_challenge(r);

	if (r->sent_token)
		token_refused(r);
	if (again && r->host->auth == AUTH_BASIC_MODE)
		again = !r->sent_basic && !reg_credentials_empty(request_credentials(r));
	if (again)
		request_attempt(r);
	else
		request_fail(r);
}

/* Storage said no: its URL has expired, or belongs to a server that forgot. True: the registry is asked once more. */
static bool ask_registry_again(struct reg_request *r)
{
	int s = r->response.status;

	if (!r->foreign || r->re_resolved)
		return false;
	if (s != 401 && s != 403 && !(r->from_cache && (s == 400 || s == 404 || s == 410)))
		return false;
	r->re_resolved = true;
	if (r->url_key)
		url_cache_drop(r->client, r->url_key);
	free(STEAL(r->target));
	r->foreign = r->from_cache = false;
	r->redirects = 0;
	request_attempt(r);
	return true;
}

static void succeeded(struct reg_request *r)
{
	int done = r->ops->complete ? r->ops->complete(r, &r->last) : 0;

	if (done == OP_AGAIN) {
		err_set(&r->last, ERR_UNAVAILABLE, "the body ended early");
		request_retry(r, 0);
		return;
	}
	request_finish(r, done);
}

static void refused_by_status(struct reg_request *r)
{
	int s = r->response.status;

	set_status_error(r);
	if (r->ops->status && r->ops->status(r) == OP_HANDLED)
		return;
	if (s == 307 || s == 308 || ((s == 301 || s == 302 || s == 303) && !r->upload && strcmp(r->method, "POST")))
		redirect(r);
	else if (ask_registry_again(r))
		return;
	else if (s == 401 && !r->foreign)
		unauthorized(r);
	else if (s == 408 || s == 429 || (s >= 500 && s != 501))
		request_retry(r, r->response.retry_after_s * NS_PER_S);
	else
		request_fail(r);
}

void request_on_end(struct reg_request *r, CURLcode code)
{
	sample(r);
	if (r->response.complete)
		request_answered(r);
	if (request_succeeds(r) && r->foreign && r->url_key && !r->from_cache && !r->refused)
		url_cache_put(r->client, r->url_key, r->target);
	if (r->refused) {
		request_fail(r);
	} else if (r->stopped) {
		request_finish(r, 0);
	} else if (r->response.complete && !request_succeeds(r)) {
		refused_by_status(r); /* whatever became of its body */
	} else if (code == CURLE_OK) {
		succeeded(r);
	} else {
		set_curl_error(r, code);
		r->silences += code == CURLE_OPERATION_TIMEDOUT;
		if (is_final(code))
			request_fail(r);
		else
			request_retry(r, 0);
	}
}

/* Submission, and the caller's handle */

void *request_new(struct reg_client *c, size_t size, const struct request_ops *ops, struct host *host,
                  struct reg_account *account, enum reg_lane lane, const char *method, int64_t deadline_ns,
                  unsigned max_attempts)
{
	struct reg_request *r = xcalloc(1, size);

	r->client = c;
	atomic_init(&r->refs, 1);
	r->ops = ops;
	r->host = host;
	pthread_mutex_lock(&c->lock);
	r->account = reg_account_ref(account ?: host->account);
	pthread_mutex_unlock(&c->lock);
	r->lane = lane;
	r->method = method;
	r->deadline_ns = deadline_ns;
	r->max_attempts = max_attempts ?: ATTEMPTS_MAX;
	r->max_silences = max_attempts ?: SILENCES_MAX;
	r->stall_ns = c->stall_ns;
	r->patience_ns = c->answer_ns;
	r->body_max = HTTP_ERROR_BODY_MAX;
	r->upload_fd = -1;
	link_init(&r->all_link);
	link_init(&r->queue_link);
	link_init(&r->token_link);
	return r;
}

void request_start_here(struct reg_request *r)
{
	link_append(&r->client->requests, &r->all_link);
	if (loop_timer_new(r->client->loop, on_timer, r, &r->timer, &r->last) < 0) {
		request_fail(r);
		return;
	}
	request_attempt(r);
}

static void start_posted(void *arg)
{
	request_start_here(arg);
}

int request_submit(TAKE(struct reg_request *) r, struct reg_request **out, struct err *err)
{
	struct reg_client *c = r->client;
	bool stopping;

	/* Before it is posted: a callback may already use the handle. */
	if (out) {
		atomic_fetch_add(&r->refs, 1);
		*out = r;
	}
	pthread_mutex_lock(&c->lock);
	stopping = c->stopping;
	if (!stopping)
		loop_post(c->loop, start_posted, r);
	pthread_mutex_unlock(&c->lock);
	if (!stopping)
		return 0;
	if (out) {
		*out = NULL;
		request_unref(r);
	}
	request_unref(r);
	return err_set(err, ERR_CANCELLED, "the client is stopping");
}

void request_post(TAKE(struct reg_request *) r, void (*fn)(void *arg))
{
	struct reg_client *c = r->client;
	bool stopping;

	pthread_mutex_lock(&c->lock);
	stopping = c->stopping;
	if (!stopping)
		loop_post(c->loop, fn, r);
	pthread_mutex_unlock(&c->lock);
	if (stopping)
		request_unref(r);
}

/* Calls fn(r) on the I/O thread with a reference, unless the client is stopping. */
static void post(struct reg_request *r, void (*fn)(void *arg))
{
	struct reg_client *c = r->client;

	pthread_mutex_lock(&c->lock);
	if (!c->stopping) {
		atomic_fetch_add(&r->refs, 1);
		loop_post(c->loop, fn, r);
	}
	pthread_mutex_unlock(&c->lock);
}

static void cancel_posted(void *arg)
{
	struct reg_request *r = arg;

	if (r->state != REQUEST_DONE) {
		err_set(&r->last, ERR_CANCELLED, "cancelled");
		request_fail(r);
	}
	request_unref(r);
}

void reg_request_cancel(struct reg_request *r)
{
	post(r, cancel_posted);
}

static void resume_posted(void *arg)
{
	struct reg_request *r = arg;

	if (r->state == REQUEST_RUNNING && r->paused) {
		lane_resume(r);
		if (r->state == REQUEST_RUNNING)
			request_arm(r);
	}
	request_unref(r);
}

void reg_request_resume(struct reg_request *r)
{
	post(r, resume_posted);
}

void reg_request_unref(struct reg_request *r)
{
	if (r)
		request_unref(r);
}
