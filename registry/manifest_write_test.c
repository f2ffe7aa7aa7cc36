#include "base/testing.h"
#include "registry/manifest_write.h"

#define E "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DESCRIPTOR(type, more) "{\"mediaType\":\"" type "\",\"digest\":\"" E "\",\"size\":7" more "}"

/* In the writer's own order, so that it must come back byte for byte. */
static const char *const DOCUMENTS[] = {
    "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST
    "\",\"artifactType\":\"a/b\",\"config\":" DESCRIPTOR(REG_MT_OCI_CONFIG, "") ",\"layers\":[" DESCRIPTOR(
	REG_MT_OCI_LAYER_GZIP,
	",\"urls\":[\"http://x/\\u00e9\"],\"annotations\":{\"k\":"
	"\"t\\\"\\u0001\"},\"data\":\"e30=\",\"new\":{\"x\":[1.50,\"\\n\"]}") "],"
									      "\"subject\":" DESCRIPTOR(
										  REG_MT_OCI_MANIFEST,
										  ",\"artifactType\":\"c/"
										  "d\"") ",\"annotations\":"
											 "{\"a\":\"b\"},"
											 "\"x-y\": "
											 "\"\\u00e9\"}",
    "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_INDEX "\",\"manifests\":[" DESCRIPTOR(
	REG_MT_OCI_MANIFEST,
	",\"platform\":{\"architecture\":\"amd64\",\"os\":\"linux\",\"os.version\":\"1\","
	"\"variant\":\"v2\",\"os.features\":[\"f\"]}") ","
						       "{\"size\": 1, \"digest\":\"sha999:12\\u0041\" "
						       ",\"mediaType\":\"m/n\"}]}",
};

static void comes_back_as_it_was(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(DOCUMENTS); i++) {
		AUTO(reg_manifest) struct reg_manifest *m = NULL;
		AUTO(buf) struct buf out = BUF_INIT;
		AUTO_FREE char *want = xstrdup(DOCUMENTS[i]);
		char *blank = strstr(want, "x-y\": ");

		if (blank) /* outside of values white space goes */
			memmove(blank + 5, blank + 6, strlen(blank + 5));
		OK(reg_manifest_parse(str_of(DOCUMENTS[i]), STR_NONE, &m, err));
		reg_manifest_write(m, &out);
		assert_string_equal(buf_cstr(&out), want);
	}
}

static void another_content_drops_what_was_of_the_former(void **state)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO(buf) struct buf out = BUF_INIT;
	struct reg_descriptor d;
	struct json_writer w;

	OK(reg_manifest_parse(str_of(DOCUMENTS[0]), STR_NONE, &m, err));
	d = m->layers[0];
	reg_descriptor_replace(&d, STR(REG_MT_OCI_LAYER), &DIGEST_EMPTY, 0);
	json_writer_init(&w, &out, NULL);
	reg_descriptor_write(&w, &d);
	assert_string_equal(buf_cstr(&out),
	                    "{\"mediaType\":\"" REG_MT_OCI_LAYER "\",\"digest\":\"" E
	                    "\",\"size\":0,\"annotations\":{\"k\":\"t\\\"\\u0001\"},\"new\":{\"x\":[1.50,"
	                    "\"\\n\"]}}");
}

static void artifact(void **state)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO(buf) struct buf out = BUF_INIT;
	struct reg_descriptor subject = reg_descriptor_of(STR(REG_MT_OCI_MANIFEST), STR("{}"));
	struct reg_descriptor layer = reg_descriptor_of(STR("application/x"), STR_NONE);

	reg_artifact_write(STR("application/vnd.x"), &subject, &layer, 1, &out);
	assert_string_equal(
	    buf_cstr(&out),
	    "{\"schemaVersion\":2,\"mediaType\":\"" REG_MT_OCI_MANIFEST "\",\"artifactType\":\"application/vnd.x\","
	    "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\","
	    "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},"
	    "\"layers\":[{\"mediaType\":\"application/x\",\"digest\":\"" E "\",\"size\":0}],"
	    "\"subject\":{\"mediaType\":\"" REG_MT_OCI_MANIFEST "\","
	    "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2}}");
	OK(reg_manifest_parse(buf_str(&out), STR_NONE, &m, err));
	assert_true(m->has_subject && str_eqc(m->artifact_type, "application/vnd.x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(comes_back_as_it_was),
	    cmocka_unit_test(another_content_drops_what_was_of_the_former),
	    cmocka_unit_test(artifact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
