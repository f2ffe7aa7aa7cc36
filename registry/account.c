/* Accounts: shared, constant, counted. */
#include "registry/internal.h"

static const char *copy(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void endpoint_copy(struct reg_endpoint *to, const struct reg_endpoint *from)
{
	const char **headers = xcalloc(from->n_headers + 1, sizeof(*headers));

	for (size_t i = 0; i < from->n_headers; i++)
		headers[i] = xstrdup(from->headers[i]);
	*to = *from;
	to->base = xstrdup(from->base);
	to->ca_file = copy(from->ca_file);
	to->cert_file = copy(from->cert_file);
	to->key_file = copy(from->key_file);
	to->headers = headers;
}

static void endpoint_fini(struct reg_endpoint *e)
{
	for (size_t i = 0; i < e->n_headers; i++)
		secret_free((char *)e->headers[i]);
	free((void *)e->headers);
	free((char *)e->base);
	free((char *)e->ca_file);
	free((char *)e->cert_file);
	free((char *)e->key_file);
}

struct reg_account *reg_account_new_via(const struct reg_credentials *credentials, const struct reg_endpoint *endpoints,
                                        size_t n)
{
	static atomic_uint_fast64_t serial;
	struct reg_account *a;

	if (reg_credentials_empty(credentials) && !n)
		return NULL;
	a = xcalloc(1, sizeof(*a));
	atomic_init(&a->refs, 1);
	a->id = atomic_fetch_add(&serial, 1) + 1;
	if (!reg_credentials_empty(credentials))
		reg_credentials_copy(&a->credentials, credentials);
	a->endpoints = xcalloc(n + 1, sizeof(*a->endpoints));
	a->n_endpoints = n;
	for (size_t i = 0; i < n; i++)
		endpoint_copy(&a->endpoints[i], &endpoints[i]);
	return a;
}

struct reg_account *reg_account_new(const struct reg_credentials *credentials)
{
	return reg_account_new_via(credentials, NULL, 0);
}

const struct reg_endpoint *reg_account_endpoints(const struct reg_account *a, size_t *n)
{
	*n = a ? a->n_endpoints : 0;
	return a ? a->endpoints : NULL;
}

struct reg_account *reg_account_ref(struct reg_account *a)
{
	if (a)
		atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
	return a;
}

void reg_account_unref(struct reg_account *a)
{
	if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
		return;
	reg_credentials_fini(&a->credentials);
	for (size_t i = 0; i < a->n_endpoints; i++)
		endpoint_fini(&a->endpoints[i]);
	free(a->endpoints);
	free(a);
}

const struct reg_credentials *reg_account_credentials(const struct reg_account *a)
{
	static const struct reg_credentials none = REG_CREDENTIALS_INIT;

	return a ? &a->credentials : &none;
}

struct forget {
	struct reg_client *client;
	uint64_t id;
};

static void forget_posted(void *arg)
{
	struct forget *f = arg;

	tokens_forget(f->client, f->id);
	free(f);
}

void account_forget_locked(struct reg_client *c, const struct reg_account *a)
{
	struct forget *f;

	if (!a || c->stopping)
		return;
	f = xcalloc(1, sizeof(*f));
	*f = (struct forget){c, a->id};
	loop_post(c->loop, forget_posted, f);
}

void reg_client_forget(struct reg_client *c, const struct reg_account *account)
{
	pthread_mutex_lock(&c->lock);
	account_forget_locked(c, account);
	pthread_mutex_unlock(&c->lock);
}
