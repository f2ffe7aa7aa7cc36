/* Accounts: shared, constant, counted. */
#include "registry/internal.h"

struct reg_account *reg_account_new(const struct reg_credentials *credentials)
{
	static atomic_uint_fast64_t serial;
	struct reg_account *a;

	if (reg_credentials_empty(credentials))
		return NULL;
	a = xcalloc(1, sizeof(*a));
	atomic_init(&a->refs, 1);
	a->id = atomic_fetch_add(&serial, 1) + 1;
	reg_credentials_copy(&a->credentials, credentials);
	return a;
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
