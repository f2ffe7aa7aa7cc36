/* Which of an account's servers a request goes to, and to which one next. */
#include "registry/internal.h"

#include "base/log.h"

#include <strings.h>

#define AVOID_NS (30 * NS_PER_S) /* a server that did not answer, while there is another one */

const struct reg_endpoint *request_endpoint(const struct reg_request *r)
{
	return r->account && r->endpoint < r->account->n_endpoints ? &r->account->endpoints[r->endpoint] : NULL;
}

const struct reg_credentials *request_credentials(const struct reg_request *r)
{
	const struct reg_endpoint *e = request_endpoint(r);

	return reg_account_credentials(e && !e->is_registry ? NULL : r->account);
}

/* What keeps its state apart: a mirror has tokens and estimates of its own. */
static struct host *endpoint_host(struct reg_client *c, struct host *registry, const struct reg_endpoint *e)
{
	return e->is_registry ? registry : host_get(c, e->base);
}

static bool is_avoided(struct reg_client *c, struct host *h)
{
	bool avoided;

	pthread_mutex_lock(&c->lock);
	avoided = clock_mono_ns() < h->avoid_until_ns;
	pthread_mutex_unlock(&c->lock);
	return avoided;
}

/* The next one from `at` on that can do it; those that did not answer lately only when no other one is left. */
static size_t choose(const struct reg_request *r, size_t at)
{
	const struct reg_account *a = r->account;
	size_t last = a->n_endpoints;

	for (; at < a->n_endpoints; at++) {
		if ((a->endpoints[at].can & r->need) != r->need)
			continue;
		last = at;
		if (r->asks_all || !is_avoided(r->client, endpoint_host(r->client, r->registry, &a->endpoints[at])))
			break;
	}
	return last;
}

static void go_to(struct reg_request *r, size_t at)
{
	const struct reg_endpoint *e = &r->account->endpoints[at];

	r->endpoint = at;
	r->host = endpoint_host(r->client, r->registry, e);
	free(r->url);
	r->url = e->is_registry
	             ? xasprintf("%s%s", e->base, r->path)
	             : xasprintf("%s%s%cns=%s", e->base, r->path, strchr(r->path, '?') ? '&' : '?', r->registry->name);
	if (r->url_name) {
		free(r->url_key);
		r->url_key = xasprintf("%llu.%zu %s", (unsigned long long)r->account->id, at, r->url_name);
	}
}

int request_route(struct reg_request *r, unsigned need, TAKE(char *) path, struct err *err)
{
	AUTO_FREE char *base = NULL;
	size_t at;

	r->registry = r->host;
	r->path = path;
	r->need = need;
	if (r->account && r->account->n_endpoints) {
		at = choose(r, 0);
		if (at == r->account->n_endpoints)
			return err_set(err, ERR_PRECONDITION, "%s: no server of it is configured to %s", r->host->name,
			               need & REG_CAN_PUSH      ? "take pushes"
			               : need & REG_CAN_RESOLVE ? "resolve tags"
			                                        : "be pulled from");
		go_to(r, at);
		return 0;
	}
	base = host_base_url(r->client, r->host);
	r->url = xasprintf("%s/v2%s", base, path);
	if (r->url_name)
		r->url_key = xasprintf("%llu %s", (unsigned long long)account_id(r->account), r->url_name);
	return 0;
}

static size_t next(const struct reg_request *r)
{
	return r->path && request_endpoint(r) ? choose(r, r->endpoint + 1) : SIZE_MAX;
}

bool request_has_other(const struct reg_request *r)
{
	return next(r) < (r->account ? r->account->n_endpoints : 0);
}

bool request_go_elsewhere(struct reg_request *r)
{
	size_t at = next(r);

	if (!r->account || at >= r->account->n_endpoints || r->client->draining || r->last.code == ERR_CANCELLED ||
	    r->last.code == ERR_DEADLINE)
		return false;
	log_debug("%s: %s: %s; asking %s", r->what, r->account->endpoints[r->endpoint].base, r->last.msg,
	          r->account->endpoints[at].base);
	if (!r->response.complete) {
		pthread_mutex_lock(&r->client->lock);
		r->host->avoid_until_ns = clock_mono_ns() + AVOID_NS;
		pthread_mutex_unlock(&r->client->lock);
	}
	go_to(r, at);
	return true;
}

void request_answered(const struct reg_request *r)
{
	if (!request_endpoint(r) || r->foreign || r->elsewhere)
		return;
	pthread_mutex_lock(&r->client->lock);
	r->host->avoid_until_ns = 0;
	pthread_mutex_unlock(&r->client->lock);
}

void request_contact(const struct reg_request *r, bool foreign, const char *authority, struct contact *out)
{
	const struct reg_endpoint *e = request_endpoint(r);
	AUTO(url_origin) struct url_origin o = {0};

	if (!e || url_origin_of(e->base, &o, NULL) < 0 || strcmp(o.authority, authority) != 0) {
		contact_get(r->client, r->host, foreign || r->elsewhere, authority, out);
		return;
	}
	*out = (struct contact){.ca_file = e->ca_file ? xstrdup(e->ca_file) : NULL,
	                        .cert_file = e->cert_file ? xstrdup(e->cert_file) : NULL,
	                        .key_file = e->key_file ? xstrdup(e->key_file) : NULL,
	                        .skip_verify = e->skip_verify,
	                        .plain_http = !o.tls};
}

/* Adds the headers that are configured for the server. */
void request_endpoint_headers(const struct reg_request *r, struct curl_slist **list)
{
	const struct reg_endpoint *e = request_endpoint(r);

	if (!e || r->foreign || r->elsewhere)
		return;
	for (size_t i = 0; i < e->n_headers; i++)
		*list = curl_slist_append(*list, e->headers[i]);
}

bool request_brings_authorization(const struct reg_request *r)
{
	const struct reg_endpoint *e = request_endpoint(r);

	for (size_t i = 0; e && i < e->n_headers; i++)
		if (!strncasecmp(e->headers[i], "Authorization:", 14))
			return true;
	return false;
}
