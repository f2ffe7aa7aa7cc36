/* From a reference to an image, through indexes; and small blobs. */
#include "base/testing.h"
#include "registry/manifest_write.h"
#include "registry/testregistry.h"
#include "registry/testworld.h"

#include <stdio.h>

static struct testregistry registry;

static bool serve(struct exchange *x)
{
	return testregistry_serve(&registry, x);
}

static int set_up(void **state)
{
	testregistry_init(&registry);
	return 0;
}

static int tear_down(void **state)
{
	testregistry_fini(&registry);
	return 0;
}

/* Stores it by its digest, and as a tag where there is one. */
static struct reg_descriptor put(const char *tag, const char *type, struct str bytes)
{
	struct reg_descriptor d = reg_descriptor_of(str_of(type), bytes);
	char text[DIGEST_TEXT_MAX];

	testregistry_put(&registry, digest_text(&d.digest, text), bytes);
	if (tag)
		testregistry_put(&registry, tag, bytes);
	return d;
}

static struct reg_descriptor put_index(const char *tag, struct reg_descriptor entry, const char *platform)
{
	struct reg_manifest index = {
	    .kind = REG_IMAGE_INDEX, .media_type = STR(REG_MT_OCI_INDEX), .entries = &entry, .n_entries = 1};
	AUTO(buf) struct buf text = BUF_INIT;

	if (platform) {
		entry.has_platform = true;
		OK(reg_platform_parse(str_of(platform), &entry.platform, err));
	}
	reg_manifest_write(&index, &text);
	return put(tag, REG_MT_OCI_INDEX, buf_str(&text));
}

static int resolve(struct world *w, const char *tag, const char *platform, struct reg_image **out, struct err *why)
{
	struct reg_platform p;

	*out = NULL;
	if (platform)
		OK(reg_platform_parse(str_of(platform), &p, err));
	strcpy(w->ref.tag, tag);
	return reg_image_resolve(w->client, &w->ref, NULL, platform ? &p : NULL, in_s(20), out, why);
}

static void through_indexes(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor d = put("plain", REG_MT_OCI_MANIFEST, str_of(MANIFEST));
	struct reg_platform here = reg_platform_host();
	AUTO_FREE char *platform = xasprintf(STR_FMT "/" STR_FMT, STR_ARG(here.os), STR_ARG(here.architecture));
	struct {
		const char *tag, *platform;
		unsigned documents;
	} cases[] = {{"plain", "plan9/386", 1}, {"index", NULL, 2}, {"index", platform, 2}, {"nested", NULL, 3}};

	put_index("nested", put_index("index", d, platform), NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(reg_image) struct reg_image *image = NULL;

		OK(resolve(w, cases[i].tag, cases[i].platform, &image, err));
		assert_int_equal(image->n_documents, cases[i].documents);
		assert_true(digest_eq(&image->documents[cases[i].documents - 1]->digest, &d.digest));
	}
}

static void no_way_to_an_image(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor d = put(NULL, REG_MT_OCI_MANIFEST, str_of(MANIFEST)),
			      index = put_index("one", d, "plan9/386");
	AUTO_FREE char *text = NULL;
	struct reg_image *image = NULL;
	struct err err = ERR_INIT;

	/* The third index is read, as nobody can know what it is, but nothing behind it. */
	index = put_index("two", index, NULL);
	put_index("three", index, NULL);
	assert_int_equal(resolve(w, "three", "plan9/386", &image, &err), -ERR_UNIMPLEMENTED);
	text = xasprintf("%s/some/image:three: indexes nested more than one deep", w->ref.host);
	assert_string_equal(err.msg, text);
	assert_null(image);

	assert_int_equal(resolve(w, "one", "plan9/amd64", &image, &err), -ERR_NOT_FOUND);
	free(text);
	text = xasprintf("%s/some/image:one: no image for plan9/amd64 (there is: plan9/386)", w->ref.host);
	assert_string_equal(err.msg, text);

	/* An entry that leads nowhere. */
	put_index("nowhere", (struct reg_descriptor){.media_type = STR(REG_MT_OCI_MANIFEST), .digest = DIGEST_EMPTY},
	          NULL);
	assert_int_equal(resolve(w, "nowhere", "plan9/386", &image, &err), -ERR_NOT_FOUND);
	assert_null(image);
}

static bool serve_part(struct exchange *x)
{
	return exchange_reply(x, 206, "Content-Type: " REG_MT_OCI_MANIFEST "\r\nContent-Range: bytes 0-9/10\r\n",
	                      str_of(MANIFEST));
}

static bool serve_html(struct exchange *x)
{
	return exchange_reply(x, 200, "Content-Type: text/html\r\n", STR("<html>sign in</html>"));
}

static void answers_that_are_no_manifests(void **state)
{
	static const struct {
		testserver_fn *serve;
		enum err_code code;
		const char *text;
	} cases[] = {
	    {serve_part, ERR_DATA_LOSS, "HTTP 206 does not answer the question"},
	    {serve_html, ERR_INVALID, "JSON: '<' at byte 0"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(world) struct world *w = world_new(cases[i].serve, NULL);
		struct reg_manifest *m = NULL;
		struct err err = ERR_INIT;

		assert_int_equal(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(20), NULL, &m, &err),
		                 -(int)cases[i].code);
		if (!strstr(err.msg, cases[i].text) || !strstr(err.msg, "some/image"))
			fail_msg("%s", err.msg);
		assert_null(m);
	}
}

static void bad_questions(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_ref unnamed = {0};
	struct result r;
	struct reg_manifest_get cases[] = {
	    {.ref = NULL, .deadline_ns = in_s(1), .done = on_done},
	    {.ref = &unnamed, .deadline_ns = in_s(1), .done = on_done},
	    {.ref = &w->ref, .done = on_done},
	    {.ref = &w->ref, .deadline_ns = in_s(1)},
	    {.ref = &w->ref, .deadline_ns = in_s(1), .done = on_done, .lane = REG_LANES},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cases[i].arg = &r;
		FAILS(reg_manifest_get(w->client, &cases[i], NULL, err), ERR_INVALID);
	}
	assert_int_equal(testserver_count(w->server, "/"), 0);
}

/* Asynchronously, a manifest comes with the digest that it has. */
static void asked_without_waiting(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	AUTO(result) struct result r;
	struct reg_manifest_get q = {
	    .ref = &w->ref, .deadline_ns = in_s(20), .done = on_done, .arg = &r, .lane = REG_DEMAND};

	result_init(&r);
	put("latest", REG_MT_OCI_MANIFEST, str_of(MANIFEST));
	OK(reg_manifest_get(w->client, &q, NULL, err));
	await(&r);
	assert_int_equal(r.result, 0);
	assert_true(str_eqc(buf_str(&r.body), MANIFEST));
	assert_int_equal(r.blob_size, strlen(MANIFEST));
}

/* Tags are asked of servers that are trusted with them, digests of any. */
static void servers_for_tags_and_digests(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor d = put("latest", REG_MT_OCI_MANIFEST, str_of(MANIFEST));
	AUTO_FREE char *base = xasprintf("http://%s/v2", w->ref.host);
	struct reg_endpoint mirror = {.base = base, .can = REG_CAN_PULL};
	AUTO(reg_account) struct reg_account *account = reg_account_new_via(NULL, &mirror, 1);
	struct reg_manifest *m = NULL;
	struct err why = ERR_INIT;

	assert_int_equal(reg_manifest_fetch(w->client, &w->ref, account, in_s(20), NULL, &m, &why), -ERR_PRECONDITION);
	assert_non_null(strstr(why.msg, ": no server of it is configured to resolve tags"));
	assert_int_equal(testserver_count(w->server, "/"), 0);
	reg_ref_set_digest(&w->ref, &d.digest);
	OK(reg_manifest_fetch(w->client, &w->ref, account, in_s(20), NULL, &m, err));
	reg_manifest_free(m);
}

static void cancelled(void **state)
{
	AUTO(world) struct world *w = world_new(serve_nothing, NULL);
	struct reg_manifest *m = NULL;
	struct reg_canceller k;

	reg_canceller_init(&k);
	reg_canceller_cancel(&k);
	FAILS(reg_manifest_fetch(w->client, &w->ref, NULL, in_s(60), &k, &m, err), ERR_CANCELLED);
	reg_canceller_fini(&k);
	assert_null(m);
}

/* What a descriptor claims is refused before anything is asked. */
static void blob_is_bounded(void **state)
{
	AUTO(world) struct world *w = world_new(serve, NULL);
	struct reg_descriptor d = {.digest = DIGEST_EMPTY, .size = 1ull << 40};
	AUTO(buf) struct buf b = BUF_INIT;
	struct err why = ERR_INIT;

	assert_int_equal(reg_blob_fetch(w->client, &w->ref, &d, 1 << 20, in_s(20), &b, &why), -ERR_EXHAUSTED);
	assert_non_null(strstr(why.msg, "b7852b855 has 1099511627776 bytes, more than 1048576"));
	/* An empty one needs no server, but its digest. */
	d.size = 0;
	OK(reg_blob_fetch(w->client, &w->ref, &d, 1 << 20, in_s(20), &b, err));
	d.digest.b[0] ^= 1;
	FAILS(reg_blob_fetch(w->client, &w->ref, &d, 1 << 20, in_s(20), &b, err), ERR_DATA_LOSS);
	assert_int_equal(testserver_count(w->server, "/"), 0);
	assert_int_equal(b.n, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(through_indexes), CASE(no_way_to_an_image),    CASE(answers_that_are_no_manifests),
	    CASE(bad_questions),   CASE(asked_without_waiting), CASE(servers_for_tags_and_digests),
	    CASE(cancelled),       CASE(blob_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
