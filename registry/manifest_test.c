#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/manifest.h"

#include <cmocka.h>

#define E "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DESCRIPTOR(type, more) "{\"mediaType\":\"" type "\",\"digest\":\"" E "\",\"size\":7" more "}"
#define CONFIG "\"config\":" DESCRIPTOR(REG_MT_OCI_CONFIG, "")

static int parse(const char *json, const char *type, struct reg_manifest **out)
{
	*out = NULL;
	return reg_manifest_parse(str_of(json), str_of(type), out, NULL);
}

static void image_manifest(void **state)
{
	static const char json[] =
	    "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST "\"," CONFIG ",\"layers\":[" DESCRIPTOR(
		REG_MT_OCI_LAYER_GZIP,
		",\"annotations\":{"
		"\"a\":\"1\",\"b\":"
		"\"t\\u00e9\",\"a\":"
		"\"2\"}") "," DESCRIPTOR(REG_MT_OCI_LAYER_ZSTD,
	                                 ",\"annotations\":null,\"urls\":[\"x\"],\"new\":{\"x\":["
	                                 "1]}") "],\"annotations\":{\"k\":\"v\"},"
						"\"subject\":" DESCRIPTOR(REG_MT_OCI_MANIFEST, "") "}";
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	struct digest d;

	assert_int_equal(parse(json, REG_MT_OCI_MANIFEST "; charset=utf-8", &m), 0);
	assert_int_equal(m->kind, REG_IMAGE_MANIFEST);
	assert_true(str_eqc(m->media_type, REG_MT_OCI_MANIFEST));
	assert_true(str_eqc(m->bytes, json));
	digest_of(json, strlen(json), &d);
	assert_true(digest_eq(&d, &m->digest));
	assert_int_equal(m->n_layers, 2);
	assert_int_equal(m->config.size, 7);
	assert_true(digest_eq(&m->layers[0].digest, &DIGEST_EMPTY));
	assert_int_equal(m->layers[0].n_annotations, 3);
	assert_true(str_eqc(reg_annotation_get(m->layers[0].annotations, 3, STR("a")), "2"));
	assert_true(str_eqc(reg_annotation_get(m->layers[0].annotations, 3, STR("b")), "t\xc3\xa9"));
	assert_true(str_empty(reg_annotation_get(m->layers[1].annotations, m->layers[1].n_annotations, STR("a"))));
	assert_true(m->has_subject);
	assert_true(str_eqc(reg_annotation_get(m->annotations, m->n_annotations, STR("k")), "v"));
}

static void implied_type(void **state)
{
	AUTO(reg_manifest) struct reg_manifest *docker = NULL;
	AUTO(reg_manifest) struct reg_manifest *guess = NULL;

	assert_int_equal(parse("{\"schemaVersion\":2," CONFIG ",\"layers\":null}", REG_MT_DOCKER_MANIFEST, &docker), 0);
	assert_true(str_eqc(docker->media_type, REG_MT_DOCKER_MANIFEST));
	assert_int_equal(parse("{\"schemaVersion\":2,\"manifests\":[]}", "application/json", &guess), 0);
	assert_true(str_eqc(guess->media_type, REG_MT_OCI_INDEX));
}

static void refused(void **state)
{
	static const struct {
		const char *json, *type;
		int result;
	} cases[] = {
	    {"", "", -ERR_INVALID},
	    {"[]", "", -ERR_INVALID},
	    {"{}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":1,\"fsLayers\":[]}", "", -ERR_UNIMPLEMENTED},
	    /* ambiguous: CVE-2021-41190 */
	    {"{\"schemaVersion\":2," CONFIG ",\"layers\":[],\"manifests\":[]}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_INDEX "\"," CONFIG ",\"layers\":[]}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST "\"," CONFIG "}", REG_MT_DOCKER_MANIFEST,
	     -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"manifests\":[]}", REG_MT_OCI_MANIFEST, -ERR_INVALID},
	    {"{\"schemaVersion\":2," CONFIG "} x", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"config\":{\"digest\":\"" E "\"}}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"config\":{\"digest\":\"" E "\",\"size\":-1}}", "", -ERR_INVALID},
	    {"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha512:00\",\"size\":1}}", "", -ERR_INVALID},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reg_manifest *m = NULL;

		if (parse(cases[i].json, cases[i].type, &m) != cases[i].result)
			fail_msg("case %zu", i);
		assert_null(m);
	}
}

static void counts_are_bounded(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct reg_manifest *m = NULL;

	buf_adds(&b, "{\"schemaVersion\":2," CONFIG ",\"layers\":[");
	for (int i = 0; i <= REG_LAYERS_MAX; i++)
		buf_addf(&b, "%s" DESCRIPTOR("x", ""), i ? "," : "");
	buf_adds(&b, "]}");
	assert_int_equal(parse(buf_cstr(&b), "", &m), -ERR_EXHAUSTED);
	buf_clear(&b);
	buf_addz(&b, REG_MANIFEST_BYTES_MAX + 1);
	assert_int_equal(reg_manifest_parse(buf_str(&b), STR_NONE, &m, NULL), -ERR_EXHAUSTED);
}

#define PLATFORM(os, arch, more) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"" more "}"
#define IMAGE(n, platform)                                                                                             \
	"{\"mediaType\":\"" REG_MT_OCI_MANIFEST "\",\"size\":" #n ",\"digest\":\"" E "\"" platform "}"

/* The size of the chosen entry tells which it was; 0 = none. */
static uint64_t choose(const char *entries, const char *platform)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO_FREE char *json = xasprintf("{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
	const struct reg_descriptor *d = NULL;
	struct reg_platform want;
	struct err err = ERR_INIT;
	int r;

	assert_int_equal(parse(json, "", &m), 0);
	assert_int_equal(reg_platform_parse(str_of(platform), &want, NULL), 0);
	r = reg_index_choose(m, &want, &d, &err);
	if (r < 0)
		assert_int_equal(r, -ERR_NOT_FOUND);
	return r < 0 ? 0 : d->size;
}

static void choice(void **state)
{
	static const char multi[] =
	    IMAGE(1, PLATFORM("unknown", "unknown", "")) "," IMAGE(2, PLATFORM("linux", "arm", ",\"variant\":\"v6\"")) "," IMAGE(
		3,
		PLATFORM(
		    "linux", "arm",
		    ",\"variant\":\"v7\"")) "," IMAGE(4,
	                                              PLATFORM(
							  "linux", "arm64",
							  ",\"variant\":\"v8\"")) "," IMAGE(5,
	                                                                                    PLATFORM(
												"linux", "amd64",
												"")) "," IMAGE(6,
	                                                                                                       PLATFORM(
														   "lin"
														   "ux",
														   "amd"
														   "64",
														   ",\""
														   "var"
														   "ian"
														   "t\""
														   ":\""
														   "v3"
														   "\"")) "," IMAGE(7,
	                                                                                                                            PLATFORM(
																	"windows",
																	"amd64",
																	",\"os.version\":\"10\""));

	assert_int_equal(choose(multi, "linux/amd64"), 5);
	assert_int_equal(choose(multi, "linux/x86_64"), 5);
	assert_int_equal(choose(multi, "linux/amd64/v4"), 6);
	assert_int_equal(choose(multi, "linux/amd64/v2"), 5);
	assert_int_equal(choose(multi, "linux/arm64"), 4);
	assert_int_equal(choose(multi, "linux/aarch64"), 4);
	assert_int_equal(choose(multi, "linux/arm"), 3);
	assert_int_equal(choose(multi, "linux/arm/v6"), 2);
	assert_int_equal(choose(multi, "windows/amd64"), 7);
	assert_int_equal(choose(multi, "linux/s390x"), 0);
	assert_int_equal(choose(IMAGE(1, PLATFORM("unknown", "unknown", "")), "linux/amd64"), 0);
	/* One image without a platform is it; two are a riddle. */
	assert_int_equal(choose(IMAGE(1, ""), "linux/amd64"), 1);
	assert_int_equal(choose(IMAGE(1, "") "," IMAGE(2, ""), "linux/amd64"), 0);
	/* An image that fits goes before a nested index. */
	static const char nested[] = "{\"mediaType\":\"" REG_MT_OCI_INDEX "\",\"size\":9,\"digest\":\"" E "\"}";
	AUTO_FREE char *both = xasprintf("%s," IMAGE(5, PLATFORM("linux", "amd64", "")), nested);
	assert_int_equal(choose(both, "linux/amd64"), 5);
	assert_int_equal(choose(both, "linux/arm64"), 9);
	/* Digests we cannot check are left out. */
	assert_int_equal(
	    choose("{\"mediaType\":\"" REG_MT_OCI_MANIFEST "\",\"size\":1,\"digest\":\"sha512:00\"}", "linux/amd64"),
	    0);
}

static void platforms(void **state)
{
	static const char *const bad[] = {"", "linux", "linux/", "/amd64", "linux/arm/v7/x"};
	struct reg_platform p;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(reg_platform_parse(str_of(bad[i]), &p, NULL), -ERR_INVALID);
	p = reg_platform_host();
	assert_true(str_eqc(p.os, "linux"));
	assert_int_equal(reg_platform_parse(STR("linux/aarch64/v8"), &p, NULL), 0);
	assert_true(str_eqc(p.architecture, "arm64"));
}

/* Names of other tools than OCI's, variants with a dot, and those that are no numbers. */
static void platforms_fit(void **state)
{
	static const struct {
		const char *have, *want;
		int fit;
	} cases[] = {
	    {"linux/armv7l", "linux/arm", 70},
	    {"linux/armhf/v6", "linux/arm/v7", 60},
	    {"linux/i386", "linux/386", 10},
	    {"linux/i686", "linux/i386", 10},
	    {"Linux/AMD64", "linux/x86-64", 10},
	    {"linux/arm64/v8.2", "linux/arm64/v8.5", 82},
	    {"linux/arm64/v8.5", "linux/arm64/v8.2", -1},
	    {"linux/arm64/8", "linux/arm64", 80},
	    {"linux/arm64/v8.10", "linux/arm64/v9", -1},
	    {"linux/arm64/v8.", "linux/arm64/v9", -1},
	    {"linux/arm64/v100", "linux/arm64/v9", -1},
	    {"linux/amd64/haswell", "linux/amd64", -1},
	    {"linux/amd64/haswell", "linux/amd64/Haswell", 0},
	    {"linux/amd64", "linux/amd64/haswell", -1},
	    {"freebsd/amd64", "linux/amd64", -1},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct reg_platform have, want;

		assert_int_equal(reg_platform_parse(str_of(cases[i].have), &have, NULL), 0);
		assert_int_equal(reg_platform_parse(str_of(cases[i].want), &want, NULL), 0);
		if (reg_platform_fit(&have, &want) != cases[i].fit)
			fail_msg("%s for %s: %d", cases[i].have, cases[i].want, reg_platform_fit(&have, &want));
	}
}

/* What an index has goes into the message, but not to the terminal as it is. */
static void no_choice(void **state)
{
	static const struct {
		const char *entries, *text;
	} cases[] = {
	    {"", "no image for linux/arm/v5 (there is: none with a platform)"},
	    {IMAGE(1, PLATFORM("linux", "s390x", "")) "," IMAGE(
		 2, PLATFORM("li\\u001b[2Jux", "\xc3\xa4", ",\"variant\":\"v7\"")),
	     "no image for linux/arm/v5 (there is: linux/s390x, li?[2Jux/\?\?/v7)"},
	    /* Artifacts, attestations and what is no image run nowhere. */
	    {IMAGE(1, PLATFORM("linux", "arm", ",\"variant\":\"v5\"") ",\"artifactType\":\"a/b\"") "," IMAGE(
		 2, ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}") "," DESCRIPTOR("text/"
	                                                                                                        "plain",
	                                                                                                        ""),
	     "no image for linux/arm/v5 (there is: none with a platform)"},
	};
	struct reg_platform want;

	assert_int_equal(reg_platform_parse(STR("linux/arm/v5"), &want, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_FREE char *json = xasprintf("{\"schemaVersion\":2,\"manifests\":[%s]}", cases[i].entries);
		AUTO(reg_manifest) struct reg_manifest *m = NULL;
		const struct reg_descriptor *d = NULL;
		struct err err = ERR_INIT;

		assert_int_equal(parse(json, "", &m), 0);
		assert_int_equal(reg_index_choose(m, &want, &d, &err), -ERR_NOT_FOUND);
		assert_string_equal(err.msg, cases[i].text);
		assert_null(d);
	}
}

static void config(void **state)
{
	AUTO(reg_config) struct reg_config *c = NULL;
	struct reg_config *none = NULL;

	assert_int_equal(reg_config_parse(STR("{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant\":\"v8\","
	                                      "\"config\":{\"Env\":[]},\"history\":[{}],"
	                                      "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" E "\",\"" E "\"]}}"),
	                                  &c, NULL),
	                 0);
	assert_int_equal(c->n_diff_ids, 2);
	assert_true(digest_eq(&c->diff_ids[1], &DIGEST_EMPTY));
	assert_true(str_eqc(c->platform.architecture, "arm64"));
	assert_int_equal(reg_config_parse(STR("{\"os\":\"linux\"}"), &none, NULL), -ERR_INVALID);
	assert_int_equal(reg_config_parse(STR("{\"rootfs\":{\"diff_ids\":[\"x\"]}}"), &none, NULL), -ERR_INVALID);
}

static void layer_formats(void **state)
{
	assert_int_equal(reg_layer_format(STR(REG_MT_OCI_LAYER)), REG_LAYER_TAR);
	assert_int_equal(reg_layer_format(STR(REG_MT_OCI_LAYER_ZSTD)), REG_LAYER_ZSTD);
	assert_int_equal(reg_layer_format(STR(REG_MT_DOCKER_LAYER_GZIP)), REG_LAYER_GZIP);
	assert_int_equal(reg_layer_format(STR("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")),
	                 REG_LAYER_GZIP);
	assert_int_equal(reg_layer_format(STR("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")),
	                 REG_LAYER_GZIP);
	assert_int_equal(reg_layer_format(STR("application/vnd.docker.image.rootfs.diff.tar.zstd")), REG_LAYER_ZSTD);
	assert_int_equal(reg_layer_format(STR("application/vnd.oci.image.layer.v1.tar+lz4")), REG_LAYER_UNKNOWN);
	assert_int_equal(reg_layer_format(STR("")), REG_LAYER_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(image_manifest),     cmocka_unit_test(implied_type), cmocka_unit_test(refused),
	    cmocka_unit_test(counts_are_bounded), cmocka_unit_test(choice),       cmocka_unit_test(platforms),
	    cmocka_unit_test(platforms_fit),      cmocka_unit_test(no_choice),    cmocka_unit_test(config),
	    cmocka_unit_test(layer_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
