/*
 * Bearer tokens (distribution's token specification): kept per realm, service, scope and credentials; fetched once for
 * all requests that wait; renewed in the background when most of their life is over. I/O thread only.
 */
#include "registry/internal.h"

#define TOKENS_MAX 1024
#define TOKEN_ATTEMPTS 4

struct token {
	struct reg_client *client;
	struct host *host;           /* the registry */
	struct reg_account *account; /* a reference, or NULL */
	char *realm, *service, *scope;
	char *value; /* NULL = none; wiped */
	uint64_t serial;
	int64_t expires_ns, renew_ns;
	struct reg_request *fetch; /* in flight; owned by the client */
	struct link waiters;       /* of reg_request.token_link */
};

struct token_fetch {
	struct reg_request base;
	struct token *token;
	struct http_token answer;
};

void secret_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

char *basic_line(const struct reg_credentials *c)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf line = BUF_INIT;
	/* An identity token goes as the password of nobody, which is what token servers without POST expect. */
	const char *user = c->identity_token ? "" : c->username ?: "";
	const char *password = c->identity_token ?: c->password ?: "";
	size_t n = strlen(user) + 1 + strlen(password);

	if (reg_credentials_empty(c))
		return NULL;
	buf_reserve(&plain, n); /* no growth, so no copy is left behind */
	buf_adds(&plain, user);
	buf_addc(&plain, ':');
	buf_adds(&plain, password);
	buf_reserve(&line, 32 + 2 * n);
	buf_adds(&line, "Authorization: Basic ");
	base64_encode(buf_str(&plain), &line);
	explicit_bzero(plain.p, plain.n);
	return buf_steal(&line);
}

static void token_free(struct token *t)
{
	secret_free(t->value);
	reg_account_unref(t->account);
	free(t->realm);
	free(t->service);
	free(t->scope);
	free(t);
}

static char *token_key(const struct host *h, const struct reg_account *a, const char *scope)
{
	return xasprintf("%s\n%llu\n%s\n%s\n%s", h->name, (unsigned long long)account_id(a), h->realm, h->service,
	                 scope);
}

/* Removes tokens that nobody waits for: all, or (not 0) those of one account. */
static void tokens_drop(struct reg_client *c, uint64_t account)
{
	size_t at = 0;
	struct str key;
	void *value;

	while (map_next(&c->tokens, &at, &key, &value)) {
		struct token *t = value;

		if (t->fetch || !link_alone(&t->waiters) || (account && account_id(t->account) != account))
			continue;
		map_del(&c->tokens, key);
		token_free(t);
	}
}

void tokens_forget(struct reg_client *c, uint64_t account)
{
	tokens_drop(c, account);
}

void tokens_fini(struct reg_client *c)
{
	tokens_drop(c, 0);
	map_fini(&c->tokens);
}

/* "service=…&scope=…[&scope=…]" for a query, where each scope is a parameter, or for a form, where they are one. */
static void add_question(const struct token *t, bool form, struct buf *out)
{
	struct str rest = str_of(t->scope), scope;

	buf_adds(out, "service=");
	http_escape(str_of(t->service), out);
	if (form) {
		buf_adds(out, "&scope=");
		http_escape(rest, out);
		return;
	}
	while (str_split(&rest, ' ', &scope))
		if (scope.n) {
			buf_adds(out, "&scope=");
			http_escape(scope, out);
		}
}

static void ask_by_get(struct token_fetch *f, const char *realm)
{
	const struct reg_credentials *c = request_credentials(&f->base);
	AUTO(buf) struct buf url = BUF_INIT;

	buf_adds(&url, realm);
	buf_addc(&url, strchr(realm, '?') ? '&' : '?');
	add_question(f->token, false, &url);
	if (c->username) {
		buf_adds(&url, "&account=");
		http_escape(str_of(c->username), &url);
	}
	f->base.method = "GET";
	f->base.url = buf_steal(&url);
	f->base.basic = basic_line(c);
}

static void ask_by_post(struct token_fetch *f, const char *realm)
{
	AUTO(buf) struct buf form = BUF_INIT;

	buf_reserve(&form, 4 * REG_SECRET_MAX); /* no growth, so no copy is left behind */
	buf_adds(&form, "grant_type=refresh_token&client_id=contentd&");
	add_question(f->token, true, &form);
	buf_adds(&form, "&refresh_token=");
	http_escape(str_of(request_credentials(&f->base)->identity_token), &form);
	f->base.method = "POST";
	f->base.url = xstrdup(realm);
	f->base.form = buf_steal(&form);
}

/* Token servers that know only GET answer a POST with one of these. */
static int fetch_status(struct reg_request *r)
{
	struct token_fetch *f = (struct token_fetch *)r;
	int s = r->response.status;

	if (!r->form || (s != 400 && s != 401 && s != 404 && s != 405))
		return 0;
	AUTO_FREE char *realm = STEAL(r->url);
	secret_free(STEAL(r->form));
	free(STEAL(r->target));
	r->foreign = false;
	ask_by_get(f, realm);
	request_attempt(r);
	return OP_HANDLED;
}

static int fetch_complete(struct reg_request *r, struct err *err)
{
	struct token_fetch *f = (struct token_fetch *)r;
	int result = http_token_parse(buf_str(&r->body), &f->answer, err);

	if (r->body.p)
		explicit_bzero(r->body.p, r->body.n);
	return result;
}

static void install(struct token *t, struct token_fetch *f)
{
	int64_t life = f->answer.expires_in_s * NS_PER_S, now = clock_mono_ns();

	secret_free(t->value);
	t->value = STEAL(f->answer.value);
	t->serial = ++t->client->token_serial;
	t->expires_ns = now + life - life / 20;
	t->renew_ns = now + life * 3 / 4;
}

static void fetch_finish(struct reg_request *r, struct reg_answer *answer)
{
	struct token_fetch *f = (struct token_fetch *)r;
	struct token *t = f->token;
	struct link woken;

	t->fetch = NULL;
	if (answer->result == 0)
		install(t, f);
	/* Those that are woken may wait again, for another token or this one: only the present ones count. */
	link_init(&woken);
	while (!link_alone(&t->waiters)) {
		struct link *l = t->waiters.next;

		link_remove(l);
		link_append(&woken, l);
	}
	while (!link_alone(&woken)) {
		struct reg_request *w = CONTAINER_OF(woken.next, struct reg_request, token_link);

		link_remove(&w->token_link);
		if (answer->result == 0) {
			request_attempt(w);
			continue;
		}
		w->last = *answer->err;
		request_fail(w);
	}
}

static void fetch_free(struct reg_request *r)
{
	struct token_fetch *f = (struct token_fetch *)r;

	secret_free(f->answer.value);
}

static const struct request_ops fetch_ops = {
    .status = fetch_status,
    .complete = fetch_complete,
    .finish = fetch_finish,
    .free = fetch_free,
};

/* On behalf of a request at the registry. */
static int start_fetch(struct token *t, const struct reg_request *r, struct err *err)
{
	AUTO(url_origin) struct url_origin server = {0};
	AUTO_FREE char *realm = NULL;
	AUTO(buf) struct buf shown = BUF_INIT;
	struct token_fetch *f;
	struct contact k;

	TRY_WRAP(url_resolve(NULL, str_of(t->realm), &realm, err), err, "%s: realm of its challenge", t->host->name);
	TRY(url_origin_of(realm, &server, err));
	contact_get(t->client, NULL, true, server.authority, &k);
	contact_fini(&k);
	if (!server.tls && !k.plain_http && str_starts(str_of(r->url), STR("https:")))
		return err_set(err, ERR_PERMISSION, "%s: refused a token server without TLS at %s", t->host->name,
		               server.authority);
	f = request_new(t->client, sizeof(*f), &fetch_ops, t->host, t->account, r->lane, "GET", REG_NO_DEADLINE,
	                TOKEN_ATTEMPTS);
	f->token = t;
	f->base.elsewhere = true;
	f->base.endpoint = r->endpoint;
	f->base.body_max = 2 * HTTP_TOKEN_MAX;
	http_printable_url(str_of(realm), &shown);
	f->base.what = xasprintf("token of " STR_FMT, STR_ARG(buf_str(&shown)));
	if (request_credentials(&f->base)->identity_token)
		ask_by_post(f, realm);
	else
		ask_by_get(f, realm);
	COUNT(t->client, tokens, 1);
	t->fetch = &f->base;
	request_start_here(&f->base);
	return 0;
}

static struct token *token_find(struct reg_request *r)
{
	struct reg_client *c = r->client;
	struct host *h = r->host;
	AUTO_FREE char *key = token_key(h, r->account, r->scope);
	struct token *t = map_get(&c->tokens, str_of(key));

	if (t)
		return t;
	if (c->tokens.n >= TOKENS_MAX)
		tokens_drop(c, 0);
	t = xcalloc(1, sizeof(*t));
	t->client = c;
	t->host = h;
	t->account = reg_account_ref(r->account);
	t->realm = xstrdup(h->realm);
	t->service = xstrdup(h->service);
	t->scope = xstrdup(r->scope);
	link_init(&t->waiters);
	map_put(&c->tokens, str_of(key), t);
	return t;
}

enum token_state token_get(struct reg_request *r, char **line, struct err *err)
{
	struct token *t = token_find(r);
	int64_t now = clock_mono_ns();

	if (t->value && now < t->expires_ns) {
		if (now >= t->renew_ns && !t->fetch)
			start_fetch(t, r, NULL); /* if that fails, this one serves until it expires */
		if (t->value) {
			*line = xasprintf("Authorization: Bearer %s", t->value);
			r->token_serial = t->serial;
			return TOKEN_READY;
		}
	}
	link_append(&t->waiters, &r->token_link);
	if (!t->fetch && start_fetch(t, r, err) < 0) {
		link_remove(&r->token_link);
		return TOKEN_FAILED;
	}
	return TOKEN_WAIT;
}

void token_refused(struct reg_request *r)
{
	size_t at = 0;
	struct str key;
	void *value;

	while (map_next(&r->client->tokens, &at, &key, &value)) {
		struct token *t = value;

		if (t->value && t->serial == r->token_serial)
			secret_free(STEAL(t->value));
	}
}
