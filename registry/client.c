/* The client's life, its hosts and what is known of them. */
#include "registry/internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/random.h>

#define DEMAND_CONNECTIONS 6
#define BULK_CONNECTIONS 4
#define ANSWER_MS 15000
#define STALL_MS 10000
#define BACKOFF_MS 100
#define RTT_PERIOD_NS (10 * NS_PER_S) /* BBR's window of the least round trip */
#define URLS_MAX 4096                 /* final URLs kept */
/* Pre-signed URLs live for minutes to hours; one that expires earlier is noticed by its 403 and asked for again. */
#define URL_LIFE_NS (300 * NS_PER_S)

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_result;

static void curl_start(void)
{
	curl_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void *io_thread(void *arg)
{
	struct reg_client *c = arg;
	struct err err = ERR_INIT;

	if (loop_run(c->loop, &err) < 0)
		abort(); /* epoll itself failed: no request could ever be answered */
	return NULL;
}

/* SIGPIPE and the rest belong to other threads: OpenSSL writes to sockets without MSG_NOSIGNAL. */
static int start_thread(struct reg_client *c, struct err *err)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&c->thread, NULL, io_thread, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_errno(err, r, "start the registry thread");
	pthread_setname_np(c->thread, "registry");
	return 0;
}

static void client_destroy(struct reg_client *c)
{
	if (!c)
		return;
	lane_fini(&c->lanes[REG_DEMAND]);
	lane_fini(&c->lanes[REG_BULK]);
	while (c->n_idle)
		curl_easy_cleanup(c->idle[--c->n_idle]);
	if (c->share)
		curl_share_cleanup(c->share);
	tokens_fini(c);
	url_cache_fini(c);
	loop_free(c->loop);

	size_t at = 0;
	struct str key;
	void *value;
	while (map_next(&c->hosts, &at, &key, &value)) {
		struct host *h = value;

		free((char *)h->opts.api);
		free((char *)h->opts.ca_file);
		reg_account_unref(h->account);
		free(h->realm);
		free(h->service);
		free(h->name);
		free(h);
	}
	map_fini(&c->hosts);
	pthread_mutex_destroy(&c->lock);
	free(c->user_agent);
	free(c);
}
DEFINE_CLEANUP(client, struct reg_client *, client_destroy(*it));

int reg_client_new(const struct reg_client_opts *opts, struct reg_client **out, struct err *err)
{
	static const struct reg_client_opts defaults = {0};
	AUTO(client) struct reg_client *c = NULL;

	pthread_once(&curl_once, curl_start);
	if (curl_result != CURLE_OK)
		return err_set(err, ERR_INTERNAL, "libcurl: %s", curl_easy_strerror(curl_result));
	opts = opts ?: &defaults;
	c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	link_init(&c->requests);
	c->user_agent = xstrdup(opts->user_agent ?: "contentd/" CONTENTD_VERSION);
	c->answer_ns = (opts->answer_ms ?: ANSWER_MS) * NS_PER_MS;
	c->stall_ns = (opts->stall_ms ?: STALL_MS) * NS_PER_MS;
	c->backoff_ns = (opts->backoff_ms ?: BACKOFF_MS) * NS_PER_MS;
	if (getrandom(&c->random, sizeof(c->random), 0) != sizeof(c->random))
		return err_errno(err, errno, "getrandom");
	c->random |= 1;
	TRY(loop_new(&c->loop, err));
	/* Both lanes run on one thread: sharing needs no locks. */
	c->share = curl_share_init();
	if (!c->share)
		return err_set(err, ERR_EXHAUSTED, "out of memory");
	curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	TRY(lane_init(&c->lanes[REG_DEMAND], c, REG_DEMAND, opts->demand_connections ?: DEMAND_CONNECTIONS, err));
	TRY(lane_init(&c->lanes[REG_BULK], c, REG_BULK, opts->bulk_connections ?: BULK_CONNECTIONS, err));
	TRY(start_thread(c, err));
	*out = STEAL(c);
	return 0;
}

/* On the I/O thread. Every callback comes before this ends. */
static void drain(void *arg)
{
	struct reg_client *c = arg;

	c->draining = true;
	while (!link_alone(&c->requests)) {
		struct reg_request *r = CONTAINER_OF(c->requests.next, struct reg_request, all_link);

		err_set(&r->last, ERR_CANCELLED, "the client is stopping");
		request_finish(r, -(int)ERR_CANCELLED);
	}
}

void reg_client_stop(struct reg_client *c)
{
	pthread_mutex_lock(&c->lock);
	if (!c->stopping) {
		c->stopping = true;
		loop_post(c->loop, drain, c);
	}
	pthread_mutex_unlock(&c->lock);
}

static void quit(void *arg)
{
	struct reg_client *c = arg;

	loop_quit(c->loop);
}

void reg_client_free(struct reg_client *c)
{
	if (!c)
		return;
	reg_client_stop(c);
	loop_post(c->loop, quit, c);
	pthread_join(c->thread, NULL);
	client_destroy(c);
}

uint64_t client_random(struct reg_client *c)
{
	/* xorshift64 (Marsaglia 2003): jitter needs no better. */
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random;
}

CURL *client_easy_take(struct reg_client *c)
{
	return c->n_idle ? c->idle[--c->n_idle] : curl_easy_init();
}

void client_easy_give(struct reg_client *c, CURL *easy)
{
	if (c->n_idle == ARRAY_LEN(c->idle)) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	c->idle[c->n_idle++] = easy;
}

/* Hosts */

static struct host *host_get_locked(struct reg_client *c, const char *name)
{
	struct host *h = map_get(&c->hosts, str_of(name));

	if (!h) {
		h = xcalloc(1, sizeof(*h));
		h->name = xstrdup(name);
		map_put(&c->hosts, str_of(name), h);
	}
	return h;
}

struct host *host_get(struct reg_client *c, const char *name)
{
	pthread_mutex_lock(&c->lock);
	struct host *h = host_get_locked(c, name);
	pthread_mutex_unlock(&c->lock);
	return h;
}

int reg_client_set_host(struct reg_client *c, const char *host, const struct reg_host_opts *opts, struct err *err)
{
	struct reg_host_opts copy = {0};

	if (!host || !*host || strlen(host) > REG_HOST_MAX || strpbrk(host, "/@?# \t\r\n"))
		return err_set(err, ERR_INVALID, "not a registry host");
	if (opts && opts->plain_http && (opts->force_https || opts->ca_file))
		return err_set(err, ERR_INVALID, "%s: plain_http contradicts force_https and ca_file", host);
	if (opts && opts->api && (!*opts->api || strlen(opts->api) > REG_HOST_MAX || strpbrk(opts->api, "/@?# \t\r\n")))
		return err_set(err, ERR_INVALID, "%s: api is not host[:port]", host);
	if (opts) {
		copy = *opts;
		copy.api = opts->api ? xstrdup(opts->api) : NULL;
		copy.ca_file = opts->ca_file ? xstrdup(opts->ca_file) : NULL;
	}
	pthread_mutex_lock(&c->lock);
	struct host *h = host_get_locked(c, host);
	struct reg_host_opts old = h->opts;
	h->has_opts = opts != NULL;
	h->opts = copy;
	pthread_mutex_unlock(&c->lock);
	free((char *)old.api);
	free((char *)old.ca_file);
	return 0;
}

void reg_client_set_credentials(struct reg_client *c, const char *host, const struct reg_credentials *credentials)
{
	static const struct reg_credentials none = REG_CREDENTIALS_INIT;
	struct reg_account *old = NULL;

	pthread_mutex_lock(&c->lock);
	struct host *h = host_get_locked(c, host);
	/* Unchanged credentials keep their tokens: callers may set them before every pull. */
	if (!reg_credentials_eq(reg_account_credentials(h->account), credentials ?: &none)) {
		old = h->account;
		h->account = reg_account_new(credentials);
		account_forget_locked(c, old);
	}
	pthread_mutex_unlock(&c->lock);
	reg_account_unref(old);
}

static bool plain_by_default(const char *authority, const struct reg_host_opts *o)
{
	if (o && (o->plain_http || o->force_https || o->ca_file || o->skip_verify))
		return o->plain_http;
	return reg_host_is_loopback(str_of(authority));
}

char *host_base_url(struct reg_client *c, struct host *h)
{
	char *url;

	pthread_mutex_lock(&c->lock);
	const char *authority = h->opts.api ?: reg_host_api(h->name);
	url = xasprintf("%s://%s", plain_by_default(authority, h->has_opts ? &h->opts : NULL) ? "http" : "https",
	                authority);
	pthread_mutex_unlock(&c->lock);
	return url;
}

void contact_get(struct reg_client *c, struct host *asked, bool foreign, const char *authority, struct contact *out)
{
	*out = (struct contact){0};
	pthread_mutex_lock(&c->lock);
	const struct host *h = foreign ? map_get(&c->hosts, str_of(authority)) : asked;
	if (h && h->has_opts) {
		out->ca_file = h->opts.ca_file ? xstrdup(h->opts.ca_file) : NULL;
		out->skip_verify = h->opts.skip_verify;
		out->http1 = h->opts.http1;
	}
	out->plain_http = plain_by_default(authority, h && h->has_opts ? &h->opts : NULL);
	pthread_mutex_unlock(&c->lock);
}

void contact_fini(struct contact *k)
{
	free(k->ca_file);
	free(k->cert_file);
	free(k->key_file);
	*k = (struct contact){0};
}

/* Estimates */

void host_sample_rtt(struct reg_client *c, struct host *h, int64_t rtt_ns)
{
	int64_t now = clock_mono_ns();

	if (rtt_ns <= 0)
		return;
	pthread_mutex_lock(&c->lock);
	if (now - h->rtt_period_ns > RTT_PERIOD_NS) {
		h->rtt_before_ns = h->rtt_ns;
		h->rtt_ns = 0;
		h->rtt_period_ns = now;
	}
	if (!h->rtt_ns || rtt_ns < h->rtt_ns)
		h->rtt_ns = rtt_ns;
	pthread_mutex_unlock(&c->lock);
}

void host_sample_bandwidth(struct reg_client *c, struct host *h, uint64_t bytes, int64_t ns)
{
	pthread_mutex_lock(&c->lock);
	h->bandwidth[h->n_bandwidth++ % ESTIMATE_SAMPLES] = (uint64_t)((double)bytes * NS_PER_S / (double)ns);
	pthread_mutex_unlock(&c->lock);
}

/* The windowed minimum of round trips and maximum of delivery rates, as in BBR (Cardwell et al., 2016): queueing only
 * adds to the first, competing transfers only take from the second. */
void reg_host_estimate(struct reg_client *c, const char *host, struct reg_estimate *out)
{
	*out = (struct reg_estimate){0};
	pthread_mutex_lock(&c->lock);
	const struct host *h = map_get(&c->hosts, str_of(host));
	if (h)
		out->rtt_ns = h->rtt_before_ns && h->rtt_before_ns < h->rtt_ns ? h->rtt_before_ns : h->rtt_ns;
	for (unsigned i = 0; h && i < h->n_bandwidth && i < ESTIMATE_SAMPLES; i++)
		if (h->bandwidth[i] > out->bandwidth_bytes_s)
			out->bandwidth_bytes_s = h->bandwidth[i];
	pthread_mutex_unlock(&c->lock);
}

void reg_client_counters(struct reg_client *c, struct reg_counters *out)
{
#define LOAD(name) .name = atomic_load_explicit(&c->counters.name, memory_order_relaxed)
	*out = (struct reg_counters){
	    LOAD(requests), LOAD(retries),  LOAD(redirects), LOAD(tokens),
	    LOAD(errors),   LOAD(bytes_in), LOAD(bytes_out), LOAD(connections),
	};
#undef LOAD
}

/* Final URLs */

struct cached_url {
	int64_t expires_ns;
	char url[];
};

const char *url_cache_get(struct reg_client *c, const char *key)
{
	const struct cached_url *u = map_get(&c->urls, str_of(key));

	return u && clock_mono_ns() < u->expires_ns ? u->url : NULL;
}

void url_cache_put(struct reg_client *c, const char *key, const char *url)
{
	size_t n = strlen(url) + 1;
	struct cached_url *u = xmalloc(sizeof(*u) + n);

	u->expires_ns = clock_mono_ns() + URL_LIFE_NS;
	memcpy(u->url, url, n);
	if (c->urls.n >= URLS_MAX) /* rare, and all can be asked for again */
		url_cache_fini(c);
	free(map_put(&c->urls, str_of(key), u));
}

void url_cache_drop(struct reg_client *c, const char *key)
{
	free(map_del(&c->urls, str_of(key)));
}

void url_cache_fini(struct reg_client *c)
{
	size_t at = 0;
	struct str key;
	void *value;

	while (map_next(&c->urls, &at, &key, &value))
		free(value);
	map_fini(&c->urls);
}
