/* Opening layers of every form that others have written (tests/golden): each is read lazily, to its last file. */
#include "fusefs/testverbs.h"

#include "estargz/testing/golden.h"

#include "rpc/pb.h"

#include <stdlib.h>

#define FILES 14 /* in each golden layer */

static void add_layer(struct world *w, const struct golden *g, struct buf *manifest)
{
	bool zstd = str_starts(buf_str(&g->blob), STR("\x28\xb5\x2f\xfd"));
	char text[DIGEST_TEXT_MAX];
	const char *comma = "";

	add_blob(w, buf_str(&g->blob));
	buf_addf(manifest, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":{",
	         zstd ? REG_MT_OCI_LAYER_ZSTD : REG_MT_OCI_LAYER_GZIP, digest_text(&g->digest, text), g->blob.n);
	vec_each(&g->annotations, a) {
		buf_addf(manifest, "%s\"%s\":\"%s\"", comma, a->name, a->value);
		comma = ",";
	}
	buf_adds(manifest, "}}");
}

static void begin_manifest(struct world *w, struct str config, struct buf *manifest)
{
	struct digest d = add_blob(w, config);
	char text[DIGEST_TEXT_MAX];

	buf_addf(manifest,
	         "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST
	         "\",\"config\":{\"mediaType\":\"" REG_MT_OCI_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
	         digest_text(&d, text), config.n);
}

static void add_golden_image(struct world *w, const struct golden *g, unsigned n)
{
	AUTO(buf) struct buf config = BUF_INIT;
	AUTO(buf) struct buf manifest = BUF_INIT;
	char text[DIGEST_TEXT_MAX];

	buf_adds(&config,
	         "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
	for (unsigned i = 0; i < n; i++)
		buf_addf(&config, "%s\"%s\"", i ? "," : "", digest_text(&g[i].diff_id, text));
	buf_adds(&config, "]}}");
	begin_manifest(w, buf_str(&config), &manifest);
	for (unsigned i = 0; i < n; i++) {
		buf_adds(&manifest, i ? "," : "");
		add_layer(w, &g[i], &manifest);
	}
	buf_adds(&manifest, "]}");
	add_resource(w, "manifests/latest", buf_str(&manifest));
}

/* The image with the TOCs of layers. */
static void add_toc_image(struct world *w, const struct golden *g, unsigned n)
{
	AUTO(buf) struct buf manifest = BUF_INIT;
	char text[DIGEST_TEXT_MAX], layer[DIGEST_TEXT_MAX];

	begin_manifest(w, STR("{}"), &manifest);
	for (unsigned i = 0; i < n; i++) {
		struct digest d = add_blob(w, buf_str(&g[i].toc));

		buf_addf(&manifest,
		         "%s{\"mediaType\":\"" REG_MT_OCI_LAYER_GZIP
		         "\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":{\"" ESGZ_ANN_LAYER "\":\"%s\"}}",
		         i ? "," : "", digest_text(&d, text), g[i].toc.n, digest_text(&g[i].digest, layer));
	}
	buf_adds(&manifest, "]}");
	add_resource(w, "manifests/latest-esgztoc", buf_str(&manifest));
}

static void each_form_is_lazy(void **state)
{
	static const char *const names[] = {
	    "estargz",
	    "estargz-min-chunk",
	    "estargz-prefetch",
	    "by-hand-legacy",
	    "zstd-stargz",
	    "zstd-chunked",
	    "zstd-chunked-podman",
	    "zstd-chunked-2022",
	    "by-hand-zstd-2022-11",
	    "by-hand-zstd-2023-06",
	    "by-hand-zstd-2023-08",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO(golden) struct golden g = {0};
		AUTO_FREE char *key = NULL;
		void *own = NULL;
		struct world *w;

		assert_int_equal(set_up(&own), 0);
		w = own;
		golden_read("good", names[i], &g);
		add_golden_image(w, &g, 1);
		key = open_and_fill(w);
		assert_objects(w, key, FILES);
		/* Footer and TOC in one request. */
		assert_int_equal(testserver_count(w->server, "GET /v2/some/image/manifests"), 1);
		assert_int_equal(tear_down(&own), 0);
	}
}

static void external_golden(struct golden g[static 2])
{
	golden_read("good", "estargz-external", &g[0]);
	golden_read("good", "estargz-keep-diff-id", &g[1]);
}

/* Both TOCs are in one image, which is asked for once. */
static void tocs_of_another_image(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	struct golden g[2];

	external_golden(g);
	add_golden_image(w, g, 2);
	add_toc_image(w, g, 2);
	OK(ask_open(w, true, &rsp, err));
	for (size_t i = 0; i < 2; i++) {
		if (!rsp->layers[i]->lazy)
			fail_msg("%s", rsp->layers[i]->reason);
		golden_fini(&g[i]);
	}
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/manifests"), 2);
	assert_int_equal(testserver_count(w->server, "GET /v2/some/image/blobs"), 5);
}

static void an_external_toc_is_read(void **state)
{
	struct world *w = *state;
	AUTO_FREE char *key = NULL;
	struct golden g[2];

	external_golden(g);
	add_golden_image(w, &g[1], 1);
	add_toc_image(w, g, 2);
	key = open_and_fill(w);
	assert_objects(w, key, FILES);
	golden_fini(&g[0]);
	golden_fini(&g[1]);
}

/* The layer is ordinary, and the others are what they are. */
static void an_external_toc_is_missing(void **state)
{
	struct world *w = *state;
	AUTO(pb) PB(OpenResponse) *none = NULL;
	AUTO(pb) PB(OpenResponse) *other = NULL;
	struct golden g[2];

	external_golden(g);
	add_golden_image(w, g, 2);
	OK(ask_open(w, true, &none, err));
	assert_false(none->layers[0]->lazy || none->layers[1]->lazy);
	assert_non_null(strstr(none->layers[0]->reason, "image of TOCs"));
	/* One of them alone; and its bytes are those of another TOC. */
	buf_clear(&g[1].toc);
	buf_addstr(&g[1].toc, buf_str(&g[0].toc));
	add_toc_image(w, &g[1], 1);
	OK(ask_open(w, true, &other, err));
	assert_false(other->layers[0]->lazy || other->layers[1]->lazy);
	assert_non_null(strstr(other->layers[0]->reason, "the image of TOCs has none of it"));
	assert_non_null(strstr(other->layers[1]->reason, "external TOC: digest is sha256:"));
	golden_fini(&g[0]);
	golden_fini(&g[1]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_form_is_lazy),
	    T(tocs_of_another_image),
	    T(an_external_toc_is_read),
	    T(an_external_toc_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
