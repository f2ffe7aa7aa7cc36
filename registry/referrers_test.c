/* Referrers: the API, and the fallback tag where there is none. */
#include "base/testing.h"
#include "registry/manifest_write.h"
#include "registry/referrers.h"
#include "registry/testregistry.h"
#include "registry/testworld.h"

#include <stdio.h>

static struct testregistry registry;
static struct reg_descriptor subject;

static bool serve(struct exchange *x)
{
	return testregistry_serve(&registry, x);
}

static int set_up(void **state)
{
	testregistry_init(&registry);
	subject = reg_descriptor_of(STR(REG_MT_OCI_MANIFEST), str_of(MANIFEST));
	return 0;
}

static int tear_down(void **state)
{
	testregistry_fini(&registry);
	return 0;
}

static void push(struct world *w, const char *type, const char *content)
{
	struct reg_descriptor layer = reg_descriptor_of(STR("x/y"), str_of(content));
	AUTO(buf) struct buf text = BUF_INIT;

	reg_artifact_write(str_of(type), &subject, &layer, 1, &text);
	OK(reg_referrer_push(w->client, &w->ref, NULL, buf_str(&text), in_s(20), NULL, err));
}

static size_t count(struct world *w, const char *type)
{
	AUTO(reg_manifest) struct reg_manifest *index = NULL;

	OK(reg_referrers_fetch(w->client, &w->ref, NULL, &subject.digest, type, in_s(20), NULL, &index, err));
	for (size_t i = 0; type && i < index->n_entries; i++)
		assert_true(str_eqc(index->entries[i].artifact_type, type));
	return index->n_entries;
}

static const char *tag(void)
{
	static char text[80];
	char hex[65];

	snprintf(text, sizeof(text), "sha256-%s", digest_hex(&subject.digest, hex));
	return text;
}

static void by_the_api(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.has_referrers = true;
	assert_int_equal(count(w, NULL), 0);
	for (unsigned filters = 0; filters < 2; filters++) {
		registry.filters = filters;
		push(w, "application/vnd.a", "1");
		push(w, "application/vnd.b+json", "1");
		push(w, "application/vnd.b+json", "2");
		assert_int_equal(count(w, NULL), 3);
		assert_int_equal(count(w, "application/vnd.a"), 1);
		assert_int_equal(count(w, "application/vnd.c"), 0);
	}
	assert_int_equal(testserver_count(w->server, "sha256-"), 0);
	/* Its name is fit for a query. */
	registry.filters = false;
	assert_int_equal(count(w, "application/vnd.b+json"), 2);
	assert_int_equal(testserver_count(w->server, "artifactType=application%2Fvnd.b%2Bjson"), 1);
}

static void page_by_page(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.has_referrers = true;
	registry.page_entries = 2;
	for (char content[2] = "a"; content[0] < 'f'; content[0]++)
		push(w, "t/t", content);
	assert_int_equal(count(w, NULL), 5);
	assert_int_equal(testserver_count(w->server, "/referrers/"), 3);
}

static void by_the_tag(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	assert_int_equal(count(w, NULL), 0);
	push(w, "t/a", "1");
	push(w, "t/b", "1");
	push(w, "t/a", "1"); /* again: it stands there */
	assert_int_equal(count(w, NULL), 2);
	assert_int_equal(count(w, "t/b"), 1);
	assert_non_null(testregistry_get(&registry, tag()));
	assert_int_equal(testserver_count(w->server, "PUT /v2/some/image/manifests/sha256-"), 2);
}

#define FOREIGN                                                                                                        \
	"{\"mediaType\":\"m/n\",\"digest\":\"sha512:00\",\"size\":1,\"x\":[1.0]},{\"mediaType\":\"m/"                  \
	"n\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0,"       \
	"\"new\":{}}"

static void entries_of_others_stay(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	testregistry_put(&registry, tag(), STR("{\"schemaVersion\":2,\"manifests\":[" FOREIGN "],\"more\":true}"));
	push(w, "t/a", "1");
	assert_int_equal(count(w, NULL), 2);
	assert_non_null(
	    strstr(buf_cstr(testregistry_get(&registry, tag())), "\"digest\":\"sha512:00\",\"size\":1,\"x\":[1.0]}"));
	assert_non_null(strstr(buf_cstr(testregistry_get(&registry, tag())), "\"size\":0,\"new\":{}}"));
	assert_non_null(strstr(buf_cstr(testregistry_get(&registry, tag())), "\"more\":true"));
}

/* Somebody who had read the tag before us writes it after us, so many times. */
static unsigned rivals;

static void put_rival(struct testregistry *r)
{
	testregistry_put(
	    r, tag(),
	    STR("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"m/n\",\"artifactType\":\"t/rival\",\"digest\":"
	        "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0}]}"));
}

static void rival(struct testregistry *r)
{
	struct buf *b = testregistry_get(r, tag());

	if (!b || !rivals || strstr(buf_cstr(b), "t/rival"))
		return;
	rivals--;
	put_rival(r);
}

static void two_writers(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);

	registry.before_tag = rival;
	rivals = 1;
	push(w, "t/a", "1");
	assert_int_equal(rivals, 0);
	assert_int_equal(count(w, NULL), 2);
	assert_int_equal(count(w, "t/rival"), 1);
}

/* ---- servers that lie ---- */

static bool serve_manifest_as_referrers(struct exchange *x)
{
	return exchange_reply(x, 200, "Content-Type: " REG_MT_OCI_MANIFEST "\r\n", str_of(MANIFEST));
}

#define PAGE "{\"schemaVersion\":2,\"manifests\":[]}"

static bool serve_endless(struct exchange *x)
{
	return exchange_reply(x, 200, "Link: <?more>; rel=next\r\n", STR(PAGE));
}

static bool serve_part(struct exchange *x)
{
	return exchange_reply(x, 206, "Content-Range: bytes 0-9/10\r\n", STR(PAGE));
}

/* There is no API, and the tag is nobody's to see. */
static bool serve_denied_tag(struct exchange *x)
{
	return is_path(x, "/referrers/") ? exchange_reply(x, 404, "", STR("what?"))
	                                 : exchange_reply(x, 403, "", STR("NOT YOURS"));
}

static bool serve_next_elsewhere(struct exchange *x)
{
	return exchange_reply(x, 200, "Link: <http://127.0.0.2:1/v2/x>; rel=next\r\n", STR(PAGE));
}

/* More than one index may have. */
static bool serve_many(struct exchange *x)
{
	AUTO(buf) struct buf text = BUF_INIT;

	buf_adds(&text, "{\"schemaVersion\":2,\"manifests\":[");
	for (unsigned i = 0; i < 3000; i++)
		buf_addf(&text, "%s{\"mediaType\":\"m/n\",\"size\":0,\"digest\":\"sha256:%064x\"}", i ? "," : "", i);
	buf_adds(&text, "]}");
	return exchange_reply(x, 200, x->n ? "" : "Link: </v2/some/image/referrers/x?n=1>; rel=\"next\"\r\n",
	                      buf_str(&text));
}

static bool serve_denied(struct exchange *x)
{
	return exchange_reply(x, 403, "", STR("DENIED"));
}

static void answers_are_bounded_and_checked(void **state)
{
	static const struct {
		testserver_fn *serve;
		enum err_code code;
		const char *text;
	} cases[] = {
	    {serve_manifest_as_referrers, ERR_INVALID, "not an index"},
	    {serve_endless, ERR_EXHAUSTED, "more than 64 pages"},
	    {serve_next_elsewhere, ERR_DATA_LOSS, "the next page is on another server"},
	    {serve_many, ERR_EXHAUSTED, "more than 4096"},
	    {serve_denied, ERR_PERMISSION, "DENIED"},
	    {serve_denied_tag, ERR_PERMISSION, "NOT YOURS"},
	    {serve_part, ERR_DATA_LOSS, "HTTP 206 does not answer the question"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(world) struct world *w = world_new(cases[i].serve, NULL);
		AUTO(reg_manifest) struct reg_manifest *index = NULL;
		struct err err = ERR_INIT;

		assert_int_equal(
		    reg_referrers_fetch(w->client, &w->ref, NULL, &subject.digest, NULL, in_s(20), NULL, &index, &err),
		    -(int)cases[i].code);
		assert_non_null(strstr(err.msg, cases[i].text));
	}
}

static void bad_questions(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_manifest *index = NULL;

	FAILS(reg_referrer_push(w->client, &w->ref, NULL, str_of(MANIFEST), in_s(20), NULL, err), ERR_INVALID);
	FAILS(reg_referrers_fetch(w->client, &w->ref, NULL, &subject.digest, NULL, 0, NULL, &index, err), ERR_INVALID);
	assert_int_equal(testserver_count(w->server, "/"), 0);
	testregistry_put(&registry, tag(), str_of(MANIFEST));
	FAILS(reg_referrers_fetch(w->client, &w->ref, NULL, &subject.digest, NULL, in_s(20), NULL, &index, err),
	      ERR_INVALID);
}

static void stubborn_rival(struct testregistry *r)
{
	if (testregistry_get(r, tag()))
		put_rival(r);
}

static void others_never_stop(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor layer = reg_descriptor_of(STR("x/y"), STR("1"));
	AUTO(buf) struct buf text = BUF_INIT;
	struct err why = ERR_INIT;

	registry.before_tag = stubborn_rival;
	reg_artifact_write(STR("t/a"), &subject, &layer, 1, &text);
	assert_int_equal(reg_referrer_push(w->client, &w->ref, NULL, buf_str(&text), in_s(20), NULL, &why),
	                 -ERR_ABORTED);
	assert_non_null(strstr(why.msg, "/some/image: others keep changing the index of referrers"));
	assert_int_equal(testserver_count(w->server, "PUT /v2/some/image/manifests/sha256-"), 5);
}

/* An index that is as long as one may be takes no more, and stays as it is. */
static void full_index(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor layer = reg_descriptor_of(STR("x/y"), STR("1"));
	AUTO(buf) struct buf index = BUF_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	struct err why = ERR_INIT;

	buf_adds(&index, "{\"schemaVersion\":2,\"manifests\":[");
	for (unsigned i = 0; i < REG_INDEX_ENTRIES_MAX; i++)
		buf_addf(&index, "%s{\"mediaType\":\"m/n\",\"size\":0,\"digest\":\"%s:%064x\"}", i ? "," : "",
		         i % 2 ? "sha256" : "sha512", i);
	buf_adds(&index, "]}");
	testregistry_put(&registry, tag(), buf_str(&index));
	reg_artifact_write(STR("t/a"), &subject, &layer, 1, &text);
	assert_int_equal(reg_referrer_push(w->client, &w->ref, NULL, buf_str(&text), in_s(20), NULL, &why),
	                 -ERR_EXHAUSTED);
	assert_non_null(strstr(why.msg, "/some/image: the index of referrers is full"));
	assert_int_equal(testserver_count(w->server, "PUT /v2/some/image/manifests/sha256-"), 0);
}

/* Servers of which none may be asked, or pushed to. */
static void no_server(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	AUTO_FREE char *base = xasprintf("http://%s/v2", w->ref.host);
	struct reg_endpoint only_push = {.base = base, .can = REG_CAN_PUSH},
			    only_pull = {.base = base, .can = REG_CAN_PULL};
	AUTO(reg_account) struct reg_account *pushes = reg_account_new_via(NULL, &only_push, 1);
	AUTO(reg_account) struct reg_account *pulls = reg_account_new_via(NULL, &only_pull, 1);
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	struct err why = ERR_INIT;

	assert_int_equal(
	    reg_referrers_fetch(w->client, &w->ref, pushes, &subject.digest, NULL, in_s(20), NULL, &index, &why),
	    -ERR_PRECONDITION);
	assert_non_null(strstr(why.msg, ": no server of it is configured to be pulled from"));
	assert_int_equal(testserver_count(w->server, "/"), 0);
	/* A mirror without the API is not asked for a tag, either. */
	assert_int_equal(
	    reg_referrers_fetch(w->client, &w->ref, pulls, &subject.digest, NULL, in_s(20), NULL, &index, &why),
	    -ERR_PRECONDITION);
	assert_non_null(strstr(why.msg, ": no server of it is configured to resolve tags"));
	assert_int_equal(testserver_count(w->server, "/manifests/"), 0);
}

static struct reg_canceller canceller;
static const char *cancelled_at; /* a part of "METHOD path" */

static bool serve_until_cancelled(struct exchange *x)
{
	AUTO_FREE char *asked = xasprintf(STR_FMT " " STR_FMT, STR_ARG(x->method), STR_ARG(x->path));

	if (!strstr(asked, cancelled_at))
		return serve(x);
	reg_canceller_cancel(&canceller);
	return serve_nothing(x);
}

/* Whoever waits for a silent registry can be called off at each step. */
static void cancelled(void **state)
{
	static const char *const steps[] = {
	    "/referrers/", "GET /v2/some/image/manifests/sha256-",
	    "PUT /v2/some/image/manifests/sha256:", "PUT /v2/some/image/manifests/sha256-"};
	struct reg_descriptor layer = reg_descriptor_of(STR("x/y"), STR("1"));
	AUTO(buf) struct buf text = BUF_INIT;

	reg_artifact_write(STR("t/a"), &subject, &layer, 1, &text);
	for (unsigned i = 0; i < 5; i++) {
		AUTO(world) struct world *w = world_new(serve_until_cancelled, NULL);
		AUTO(reg_manifest) struct reg_manifest *index = NULL;
		bool reads = i < 2;

		cancelled_at = steps[reads ? i : i - 1];
		reg_canceller_init(&canceller);
		if (reads)
			FAILS(reg_referrers_fetch(w->client, &w->ref, NULL, &subject.digest, NULL, in_s(600),
			                          &canceller, &index, err),
			      ERR_CANCELLED);
		else
			FAILS(reg_referrer_push(w->client, &w->ref, NULL, buf_str(&text), in_s(600), &canceller, err),
			      ERR_CANCELLED);
		reg_canceller_fini(&canceller);
	}
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(by_the_api),    CASE(page_by_page),
	    CASE(by_the_tag),    CASE(entries_of_others_stay),
	    CASE(two_writers),   CASE(answers_are_bounded_and_checked),
	    CASE(bad_questions), CASE(others_never_stop),
	    CASE(full_index),    CASE(no_server),
	    CASE(cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
