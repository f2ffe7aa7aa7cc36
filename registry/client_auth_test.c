/* Tokens, passwords and redirects: who gets to see which secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/testworld.h"

#include <cmocka.h>
#include <stdio.h>

static bool serve_with_token(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];

	if (!str_eqc(exchange_header(x, "Authorization"), "Bearer good-token")) {
		snprintf(challenge, sizeof(challenge),
		         "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token?x=y\",service=\"the, service\","
		         "scope=\"repository:some/image:pull\"\r\n",
		         testserver_port(w->other));
		return exchange_reply(x, 401, challenge, STR("{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}"));
	}
	if (is_path(x, "/manifests/"))
		return exchange_reply(x, 200, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
		                      str_of(MANIFEST));
	return serve_blob(x);
}

static bool serve_token(struct exchange *x)
{
	return exchange_reply(x, 200, "", STR("{\"token\":\"good-token\",\"expires_in\":300}"));
}

static void anonymous_token(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	struct reg_image *image = NULL;
	struct err err = ERR_INIT;
	AUTO(buf) struct buf b = BUF_INIT;

	if (reg_image_resolve(w->client, &w->ref, NULL, NULL, in_s(10), &image, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(image->n_documents, 1);
	assert_int_equal(reg_image_manifest(image)->n_layers, 0);
	reg_image_free(image);
	assert_int_equal(testserver_count(w->other, "GET /token?x=y&service=the%2C%20service"
	                                            "&scope=repository%3Asome%2Fimage%3Apull"),
	                 1);
	/* One 401, then the token serves everything of the repository. */
	struct reg_descriptor d = {.digest = w->digest, .size = BLOB_BYTES};
	assert_int_equal(reg_blob_fetch(w->client, &w->ref, &d, BLOB_BYTES, in_s(10), &b, &err), 0);
	assert_int_equal(testserver_count(w->server, "GET"), 3);
	assert_int_equal(testserver_count(w->other, "GET"), 1);
}

static void many_requests_one_token(void **state)
{
	enum { N = 20 };
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	static struct result r[N];
	struct err err = ERR_INIT;

	for (int i = 0; i < N; i++) {
		result_init(&r[i]);
		struct reg_blob_get q = question(w, &r[i], (uint64_t)i * 1000, 1000);
		assert_int_equal(reg_blob_get(w->client, &q, NULL, &err), 0);
	}
	for (int i = 0; i < N; i++) {
		await(&r[i]);
		assert_int_equal(r[i].result, 0);
		assert_body(w, &r[i].body, (uint64_t)i * 1000, 1000);
		result_fini(&r[i]);
	}
	assert_int_equal(testserver_count(w->other, "GET"), 1);
}

static bool serve_token_for_user(struct exchange *x)
{
	/* user:secret */
	if (!str_eqc(exchange_header(x, "Authorization"), "Basic dXNlcjpzZWNyZXQ="))
		return exchange_reply(x, 401, "", STR("{\"details\":\"incorrect username or password\"}"));
	return serve_token(x);
}

static void token_for_credentials(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token_for_user);
	struct reg_credentials right = {"user", "secret", NULL}, wrong = {"user", "other", NULL};
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	reg_client_set_credentials(w->client, w->ref.host, &wrong);
	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err), -ERR_UNAUTHENTICATED);
	assert_non_null(strstr(err.msg, "incorrect username or password"));
	assert_null(strstr(err.msg, "other"));
	reg_client_set_credentials(w->client, w->ref.host, &right);
	if (reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err) < 0)
		fail_msg("%s", err.msg);
	reg_manifest_free(m);
	/* The password went to the token server alone. */
	assert_int_equal(testserver_count(w->server, "Basic"), 0);
}

static bool serve_token_by_post(struct exchange *x)
{
	if (str_eqc(x->method, "POST") && memmem(x->body.p, x->body.n, "refresh_token=id%2Ftoken", 24) &&
	    memmem(x->body.p, x->body.n, "grant_type=refresh_token", 24))
		return exchange_reply(x, 200, "", STR("{\"access_token\":\"good-token\"}"));
	return exchange_reply(x, 400, "", STR_NONE);
}

static bool serve_token_no_post(struct exchange *x)
{
	if (str_eqc(x->method, "POST"))
		return exchange_reply(x, 405, "", STR_NONE);
	/* :id/token */
	return str_eqc(exchange_header(x, "Authorization"), "Basic OmlkL3Rva2Vu")
	           ? serve_token(x)
	           : exchange_reply(x, 401, "", STR_NONE);
}

static void identity_tokens(void **state)
{
	testserver_fn *const servers[] = {serve_token_by_post, serve_token_no_post};

	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		AUTO(world) struct world *w = world_new(serve_with_token, servers[i]);
		struct reg_credentials c = {NULL, NULL, "id/token"};
		struct reg_manifest *m = NULL;
		struct err err = ERR_INIT;

		reg_client_set_credentials(w->client, w->ref.host, &c);
		if (reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
}

static bool serve_basic(struct exchange *x)
{
	if (!str_eqc(exchange_header(x, "Authorization"), "Basic dXNlcjpzZWNyZXQ="))
		return exchange_reply(x, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", STR("who are you?"));
	return serve_blob(x);
}

static void basic(void **state)
{
	AUTO(world) struct world *w = world_new(serve_basic, NULL);
	struct reg_credentials right = {"user", "secret", NULL}, wrong = {"user", "other", NULL};
	struct err err = ERR_INIT;
	uint64_t size;

	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), -ERR_UNAUTHENTICATED);
	reg_client_set_credentials(w->client, w->ref.host, &wrong);
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), -ERR_UNAUTHENTICATED);
	reg_client_set_credentials(w->client, w->ref.host, &right);
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), 0);
}

/* A token that the registry stops accepting is replaced once. */
static bool serve_tokens_in_turn(struct exchange *x)
{
	char token[64];

	snprintf(token, sizeof(token), "{\"token\":\"token-%u\",\"expires_in\":300}", x->n);
	return exchange_reply(x, 200, "", str_of(token));
}

static bool serve_with_second_token(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];
	bool later = is_path(x, "second");

	if (!str_eqc(exchange_header(x, "Authorization"), later ? "Bearer token-1" : "Bearer token-0")) {
		snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/t\"\r\n",
		         testserver_port(w->other));
		return exchange_reply(x, 401, challenge, STR_NONE);
	}
	return exchange_reply(x, 200, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n", str_of(MANIFEST));
}

static void refused_token_is_replaced(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_second_token, serve_tokens_in_turn);
	const char *tags[] = {"first", "second"};
	struct err err = ERR_INIT;

	for (int i = 0; i < 2; i++) {
		struct reg_manifest *m = NULL;

		strcpy(w->ref.tag, tags[i]);
		if (reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
	assert_int_equal(testserver_count(w->other, "GET"), 2);
}

static bool serve_never_authorized(struct exchange *x)
{
	struct world *w = x->arg;
	char challenge[256];

	snprintf(challenge, sizeof(challenge), "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/t\"\r\n",
	         testserver_port(w->other));
	return exchange_reply(x, 401, challenge, STR("{\"errors\":[{\"code\":\"DENIED\"}]}"));
}

static void endless_401_ends(void **state)
{
	AUTO(world) struct world *w = world_new(serve_never_authorized, serve_token);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err), -ERR_UNAUTHENTICATED);
	assert_non_null(strstr(err.msg, "DENIED"));
	assert_true(testserver_count(w->server, "GET") <= 3);
}

/* Redirects */

static bool redirect_blob(struct exchange *x)
{
	struct world *w = x->arg;
	char headers[256];

	if (!str_eqc(exchange_header(x, "Authorization"), "Bearer good-token"))
		return serve_with_token(x);
	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%u/storage?signature=s3cret&n=%u\r\n",
	         testserver_port(w->other), x->n);
	return exchange_reply(x, 307, headers, STR("<a href>"));
}

/* Token server and storage in one. Storage refuses credentials and HEAD. */
static bool serve_storage(struct exchange *x)
{
	struct world *w = x->arg;

	if (is_path(x, "/token"))
		return serve_token(x);
	if (exchange_header(x, "Authorization").n || str_eqc(x->method, "HEAD"))
		return exchange_reply(x, 403, "", STR("<Error>SignatureDoesNotMatch</Error>"));
	return exchange_blob(x, blob_of(w));
}

static void redirect_keeps_range_and_drops_authorization(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_blob, serve_storage);

	for (int i = 0; i < 3; i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, 7000, 5000);

		run(w, &q, &r);
		assert_int_equal(r.result, 0);
		assert_body(w, &r.body, 7000, 5000);
	}
	assert_int_equal(testserver_count(w->other, "GET /storage"), 3);
	assert_int_equal(testserver_count(w->other, "Bearer"), 0);
	/* The final URL is kept: the registry saw the first request alone, without and with a token. */
	assert_int_equal(testserver_count(w->server, "GET"), 2);

	uint64_t size = 0;
	struct err err = ERR_INIT;
	assert_int_equal(reg_blob_stat(w->client, &w->ref, &w->digest, in_s(10), &size, &err), 0);
	assert_int_equal(size, BLOB_BYTES);
}

static bool redirect_plain(struct exchange *x)
{
	struct world *w = x->arg;
	char headers[256];

	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%u/storage?signature=s3cret&n=%u\r\n",
	         testserver_port(w->other), x->n);
	return exchange_reply(x, 302, headers, STR_NONE);
}

/* Every URL works once. */
static bool serve_expiring(struct exchange *x)
{
	struct world *w = x->arg;
	char path[256];

	str_copy(x->path, path, sizeof(path));
	if (testserver_count(x->server, path) > 1)
		return exchange_reply(x, 403, "", STR("<Error>Request has expired</Error>"));
	return exchange_blob(x, blob_of(w));
}

static void expired_url_is_asked_for_again(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_plain, serve_expiring);

	for (int i = 0; i < 2; i++) {
		AUTO(result) struct result r;
		result_init(&r);
		struct reg_blob_get q = question(w, &r, 0, 100);

		run(w, &q, &r);
		assert_int_equal(r.result, 0);
	}
	assert_int_equal(testserver_count(w->server, "GET"), 2);
	assert_int_equal(testserver_count(w->other, "GET"), 3);
}

static bool serve_denied(struct exchange *x)
{
	return exchange_reply(x, 403, "", STR("no"));
}

static void refusing_storage_is_named_without_its_signature(void **state)
{
	AUTO(world) struct world *w = world_new(redirect_plain, serve_denied);
	AUTO(result) struct result r;
	char storage[64];

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, 100);
	run(w, &q, &r);
	assert_int_equal(r.result, -ERR_PERMISSION);
	snprintf(storage, sizeof(storage), "127.0.0.1:%u/storage", testserver_port(w->other));
	assert_non_null(strstr(r.err.msg, storage));
	assert_null(strstr(r.err.msg, "s3cret"));
}

/* The registry sends those who may read on to storage, which asks nobody who he is. */
static bool serve_redirect_for_user(struct exchange *x)
{
	struct world *w = x->arg;
	char location[64];

	if (!str_eqc(exchange_header(x, "Authorization"), "Basic dXNlcjpzZWNyZXQ="))
		return exchange_reply(x, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", STR_NONE);
	snprintf(location, sizeof(location), "Location: http://127.0.0.1:%u/signed\r\n", testserver_port(w->other));
	return exchange_reply(x, 307, location, STR_NONE);
}

static bool serve_anybody(struct exchange *x)
{
	struct world *w = x->arg;

	return exchange_blob(x, blob_of(w));
}

static int get_as(struct world *w, struct reg_account *account)
{
	AUTO(result) struct result r;

	result_init(&r);
	struct reg_blob_get q = question(w, &r, 0, 100);
	q.account = account;
	run(w, &q, &r);
	return r.result;
}

/* Neither tokens nor the URLs of redirects serve anybody but the account that they were given to. */
static void accounts_are_kept_apart(void **state)
{
	const struct {
		testserver_fn *server, *other;
	} cases[] = {{serve_with_token, serve_token_for_user},
	             {serve_basic, serve_anybody},
	             {serve_redirect_for_user, serve_anybody}};
	const struct reg_credentials right = {"user", "secret", NULL}, wrong = {"user", "other", NULL};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(world) struct world *w = world_new(cases[i].server, cases[i].other);
		AUTO(reg_account) struct reg_account *may = reg_account_new(&right);
		AUTO(reg_account) struct reg_account *may_not = reg_account_new(&wrong);

		assert_int_equal(get_as(w, NULL), -ERR_UNAUTHENTICATED);
		assert_int_equal(get_as(w, may), 0);
		assert_int_equal(get_as(w, may), 0);
		assert_int_equal(get_as(w, NULL), -ERR_UNAUTHENTICATED);
		assert_int_equal(get_as(w, may_not), -ERR_UNAUTHENTICATED);
		reg_client_forget(w->client, may);
		assert_int_equal(get_as(w, may), 0);
	}
}

static bool serve_no_blob(struct exchange *x)
{
	return exchange_reply(x, 404, "", STR_NONE);
}

/* Servers in their order; a mirror learns no password, and one that is gone, or has nothing, does not matter. */
static void mirrors_come_first(void **state)
{
	const struct {
		testserver_fn *mirror;
		bool is_gone;
		unsigned asked_mirror, asked_registry; /* by two requests */
	} cases[] = {{serve_blob, false, 2, 0}, {serve_no_blob, false, 2, 2}, {serve_no_blob, true, 0, 2}};
	const struct reg_credentials right = {"user", "secret", NULL};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(world) struct world *w = world_new(serve_basic, cases[i].mirror);
		AUTO(reg_account) struct reg_account *account = NULL;
		const char *const headers[] = {"X-Tenant: a"};
		char bases[2][64];

		snprintf(bases[0], sizeof(bases[0]), "http://127.0.0.1:%u/v2",
		         cases[i].is_gone ? 1 : testserver_port(w->other));
		snprintf(bases[1], sizeof(bases[1]), "http://127.0.0.1:%u/v2", testserver_port(w->server));
		account = reg_account_new_via(
		    &right,
		    (struct reg_endpoint[]){{.base = bases[0], .can = REG_CAN_PULL, .headers = headers, .n_headers = 1},
		                            {.base = bases[1], .can = REG_CAN_PULL, .is_registry = true}},
		    2);
		assert_int_equal(get_as(w, account), 0);
		assert_int_equal(get_as(w, account), 0);
		assert_int_equal(testserver_count(w->other, "GET"), cases[i].asked_mirror);
		assert_int_equal(testserver_count(w->other, "?ns=127.0.0.1"), cases[i].asked_mirror);
		assert_int_equal(testserver_count(w->other, "Basic"), 0);
		assert_int_equal(testserver_count(w->server, "Basic"), cases[i].asked_registry);
	}
}

static bool redirect_to_self(struct exchange *x)
{
	return exchange_reply(x, 301, "Location: /again\r\n", STR_NONE);
}

static bool redirect_to_file(struct exchange *x)
{
	return exchange_reply(x, 301, "Location: file:///etc/passwd\r\n", STR_NONE);
}

static void bad_redirects(void **state)
{
	testserver_fn *const servers[] = {redirect_to_self, redirect_to_file};

	for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
		AUTO(world) struct world *w = world_new(servers[i], NULL);
		AUTO(result) struct result r;

		result_init(&r);
		struct reg_blob_get q = question(w, &r, 0, 100);
		run(w, &q, &r);
		assert_int_equal(r.result, -ERR_INVALID);
	}
}

static void warm_learns_the_challenge(void **state)
{
	AUTO(world) struct world *w = world_new(serve_with_token, serve_token);
	struct reg_manifest *m = NULL;
	struct err err = ERR_INIT;

	reg_client_warm(w->client, w->ref.host);
	while (testserver_count(w->server, "GET /v2/ ") == 0)
		nanosleep(&(struct timespec){0, NS_PER_MS}, NULL);
	/* The answer to /v2/ may still be on its way; the manifest queues behind it only in the client's head, so ask a
	 * few: at most the first can be without a token. */
	for (int i = 0; i < 3; i++) {
		if (reg_manifest_fetch(w->client, &w->ref, NULL, in_s(10), NULL, &m, &err) < 0)
			fail_msg("%s", err.msg);
		reg_manifest_free(m);
	}
	reg_client_warm(w->client, w->ref.host); /* just used: nothing */
	assert_int_equal(testserver_count(w->server, "GET /v2/ "), 1);
	assert_int_equal(testserver_count(w->other, "GET"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(anonymous_token),
	    cmocka_unit_test(many_requests_one_token),
	    cmocka_unit_test(token_for_credentials),
	    cmocka_unit_test(identity_tokens),
	    cmocka_unit_test(basic),
	    cmocka_unit_test(refused_token_is_replaced),
	    cmocka_unit_test(endless_401_ends),
	    cmocka_unit_test(redirect_keeps_range_and_drops_authorization),
	    cmocka_unit_test(expired_url_is_asked_for_again),
	    cmocka_unit_test(refusing_storage_is_named_without_its_signature),
	    cmocka_unit_test(accounts_are_kept_apart),
	    cmocka_unit_test(mirrors_come_first),
	    cmocka_unit_test(bad_redirects),
	    cmocka_unit_test(warm_learns_the_challenge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
