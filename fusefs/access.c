#include "fusefs/access.h"

#define ENDPOINTS_MAX 64

void access_fini(struct access *a)
{
	reg_account_unref(a->account);
	a->account = NULL;
}

static int credentials_of(const PB(Access) * from, struct reg_credentials *out, struct err *err)
{
	if (!*from->username && !*from->secret)
		return 0;
	return reg_credentials_set(out, from->identity_token ? STR_NONE : str_of(from->username), str_of(from->secret),
	                           err);
}

static const char *path_or_null(const char *path)
{
	return *path ? path : NULL;
}

static int account_of(const PB(Access) * from, struct reg_account **out, struct err *err)
{
	AUTO(reg_credentials) struct reg_credentials given = REG_CREDENTIALS_INIT;
	AUTO_FREE struct reg_endpoint *endpoints = NULL;

	if (from->n_endpoints > ENDPOINTS_MAX)
		return err_set(err, ERR_INVALID, "more than %d servers of one host", ENDPOINTS_MAX);
	TRY(credentials_of(from, &given, err));
	endpoints = xcalloc(from->n_endpoints + 1, sizeof(*endpoints));
	for (size_t i = 0; i < from->n_endpoints; i++) {
		const PB(Endpoint) *e = from->endpoints[i];

		endpoints[i] =
		    (struct reg_endpoint){.base = e->url,
		                          .is_registry = e->is_registry,
		                          .can = (e->pull ? REG_CAN_PULL : 0) | (e->resolve ? REG_CAN_RESOLVE : 0) |
		                                 (e->push ? REG_CAN_PUSH : 0),
		                          .ca_file = path_or_null(e->ca_file),
		                          .cert_file = path_or_null(e->cert_file),
		                          .key_file = path_or_null(e->key_file),
		                          .skip_verify = e->skip_verify,
		                          .headers = (const char *const *)e->headers,
		                          .n_headers = e->n_headers};
	}
	*out = reg_account_new_via(&given, endpoints, from->n_endpoints);
	return 0;
}

static void pack_endpoint(const struct reg_endpoint *e, PB(Endpoint) * to)
{
	contentd__contentfs__v1__endpoint__init(to);
	to->url = (char *)e->base;
	to->is_registry = e->is_registry;
	to->pull = e->can & REG_CAN_PULL;
	to->resolve = e->can & REG_CAN_RESOLVE;
	to->push = e->can & REG_CAN_PUSH;
	to->ca_file = (char *)(e->ca_file ?: "");
	to->cert_file = (char *)(e->cert_file ?: "");
	to->key_file = (char *)(e->key_file ?: "");
	to->skip_verify = e->skip_verify;
	to->headers = (char **)e->headers;
	to->n_headers = e->n_headers;
}

void account_pack(const struct reg_account *a, struct buf *out)
{
	const struct reg_credentials *c = reg_account_credentials(a);
	PB(Access) m = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	size_t n, bytes;
	const struct reg_endpoint *from = reg_account_endpoints(a, &n);
	AUTO_FREE PB(Endpoint) *endpoints = xcalloc(n + 1, sizeof(*endpoints));
	AUTO_FREE PB(Endpoint) **list = xcalloc(n + 1, sizeof(*list));

	m.username = c->username ?: (char *)"";
	m.secret = c->identity_token ?: c->password ?: (char *)"";
	m.identity_token = c->identity_token != NULL;
	for (size_t i = 0; i < n; i++) {
		pack_endpoint(&from[i], &endpoints[i]);
		list[i] = &endpoints[i];
	}
	m.endpoints = list;
	m.n_endpoints = n;
	bytes = protobuf_c_message_get_packed_size(&m.base);
	protobuf_c_message_pack(&m.base, (uint8_t *)buf_reserve(out, bytes));
	out->n += bytes;
}

int account_unpack(struct str packed, struct reg_account **out, struct err *err)
{
	PB(Access) *m = contentd__contentfs__v1__access__unpack(NULL, packed.n, (const uint8_t *)packed.p);
	int r;

	if (!m)
		return err_set(err, ERR_DATA_LOSS, "no account");
	r = account_of(m, out, err);
	if (*m->secret)
		explicit_bzero(m->secret, strlen(m->secret));
	contentd__contentfs__v1__access__free_unpacked(m, NULL);
	return r;
}

static bool same(const struct reg_account *a, const struct reg_account *b)
{
	AUTO(wiped) struct wiped x = {BUF_INIT};
	AUTO(wiped) struct wiped y = {BUF_INIT};

	account_pack(a, &x.b);
	account_pack(b, &y.b);
	return str_eq(buf_str(&x.b), buf_str(&y.b));
}

int access_take(struct ffs_service *s, const PB(Access) * from, const struct reg_ref *ref, struct access *out,
                struct err *err)
{
	AUTO(reg_account) struct reg_account *before = NULL;
	AUTO(reg_account) struct reg_account *given = NULL;
	char repository[REG_REF_TEXT_MAX];

	*out = (struct access){.owner = ""};
	if (!from)
		return 0;
	if (strlen(from->owner) > FFS_OWNER_MAX)
		return err_set(err, ERR_INVALID, "the name of the owner is too long");
	TRY_WRAP(account_of(from, &given, err), err, "credentials for %s", ref->host);
	out->owner = from->owner;
	before = ffs_secrets_get(s->w->secrets, from->owner, repository_text(ref, repository));
	/* Nothing to remember: a beginning, of nobody. */
	out->remembered = from->remembered && before;
	out->account = out->remembered || (before && same(before, given)) ? STEAL(before) : STEAL(given);
	return 0;
}

int access_remember(struct ffs_service *s, const struct access *a, const struct reg_ref *ref, struct err *err)
{
	char repository[REG_REF_TEXT_MAX];

	if (a->remembered)
		return 0;
	return ffs_secrets_set(s->w->secrets, a->owner, repository_text(ref, repository), a->account, err);
}
