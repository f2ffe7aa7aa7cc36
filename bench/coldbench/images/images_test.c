#include "base/testing.h"
#include "bench/coldbench/images/images.h"

#include "base/digest.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define MANIFEST "\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\""
#define ZERO "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static char dir[] = "/tmp/coldbench-images.XXXXXX";

static void put_file(const char *name, const char *text)
{
	OK(file_write_atomic(AT_FDCWD, name, str_of(text), 0644, err));
}

/* Its descriptor's "digest" and "size", to be freed. */
static char *put_blob(const char *text)
{
	AUTO_FREE char *path = NULL;
	char hex[65], digest[DIGEST_TEXT_MAX];
	struct digest d;

	digest_of(text, strlen(text), &d);
	path = xasprintf("%s/blobs/sha256/%s", dir, digest_hex(&d, hex));
	put_file(path, text);
	return xasprintf("\"digest\": \"%s\", \"size\": %zu", digest_text(&d, digest), strlen(text));
}

static void put_index(const char *entries)
{
	AUTO_FREE char *path = xasprintf("%s/index.json", dir);
	AUTO_FREE char *text = xasprintf("{\"schemaVersion\": 2, \"manifests\": [%s]}", entries);

	put_file(path, text);
}

/* The entry of a manifest with two layers, of 60 and 7 bytes, and this configuration. */
static char *put_image(const char *config)
{
	AUTO_FREE char *config_blob = put_blob(config);
	AUTO_FREE char *manifest =
	    xasprintf("{\"schemaVersion\": 2, " MANIFEST ", "
	              "\"config\": {\"mediaType\": \"application/vnd.oci.image.config.v1+json\", %s},"
	              "\"layers\": [{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\","
	              "  \"digest\": \"" ZERO "\", \"size\": 60},"
	              " {\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\","
	              "  \"digest\": \"" ZERO "\", \"size\": 7}]}",
	              config_blob);
	AUTO_FREE char *blob = put_blob(manifest);

	return xasprintf("{" MANIFEST ", %s}", blob);
}

#define CONFIG(labels) "{\"architecture\": \"amd64\", \"os\": \"linux\", \"config\": {\"Cmd\": [\"/x\"]" labels "}}"

static void a_layout_says_what_it_is(void **state)
{
	AUTO_FREE char *entry =
	    put_image(CONFIG(", \"Labels\": {\"other\": \"exit\", \"io.contentd.bench.ready\": \"http:80/a\"}"));
	AUTO(image) struct image image = {0};

	put_index(entry);
	OK(image_read(dir, &image, err));
	assert_string_equal(image.layout, dir);
	assert_int_equal(image.n_layers, 2);
	assert_int_equal(image.layer_bytes, 67);
	assert_int_equal(image.ready.kind, READY_HTTP);
	assert_int_equal(image.ready.port, 80);
	assert_string_equal(image.ready.path, "/a");
	assert_true(str_starts(str_of(image.config_digest), STR("sha256:")));
}

static void fails(const char *config)
{
	AUTO_FREE char *entry = put_image(config);
	AUTO(image) struct image image = {0};

	put_index(entry);
	FAILS(image_read(dir, &image, err), ERR_INVALID);
}

static void it_has_to_say_when_it_is_ready(void **state)
{
	fails(CONFIG(", \"Labels\": {\"other\": \"exit\"}"));
	fails(CONFIG(""));
	fails(CONFIG(", \"Labels\": {\"io.contentd.bench.ready\": \"soon\"}"));
	fails("{}");
	fails("[]");
	fails("{\"config\": {\"Labels\": {\"io.contentd.bench.ready\"");
}

static void it_holds_one_image(void **state)
{
	AUTO_FREE char *entry = put_image(CONFIG(", \"Labels\": {\"io.contentd.bench.ready\": \"exit\"}"));
	AUTO_FREE char *two = xasprintf("%s, %s", entry, entry);
	AUTO(image) struct image image = {0};

	put_index(two);
	FAILS(image_read(dir, &image, err), ERR_INVALID);
	put_index("");
	FAILS(image_read(dir, &image, err), ERR_INVALID);
	put_index("{" MANIFEST ", \"digest\": \"" ZERO "\", \"size\": 5}");
	FAILS(image_read(dir, &image, err), ERR_NOT_FOUND);
	FAILS(image_read("/does/not/exist", &image, err), ERR_NOT_FOUND);
}

static void the_images_are_those_of_the_source_tree(void **state)
{
	AUTO(image) struct image image = {0};
	size_t n = 0;

	setenv("CONTENTD_SOURCE", dir, 1);
	for (const char *const *p = (const char *const[]){"bench", "bench/images", "bench/images/b", "bench/images/a",
	                                                  "bench/images/none", NULL};
	     *p; p++) {
		AUTO_FREE char *path = xasprintf("%s/%s", dir, *p);

		assert_int_equal(mkdir(path, 0755), 0);
	}
	for (const char *const *p = (const char *const[]){"b", "a", NULL}; *p; p++) {
		AUTO_FREE char *path = xasprintf("%s/bench/images/%s/recipe", dir, *p);

		put_file(path, "");
	}
	while (image_name_at(n))
		n++;
	assert_int_equal(n, 2);
	assert_string_equal(image_name_at(0), "a");
	assert_string_equal(image_name_at(1), "b");
	FAILS(image_build("none", "gzip", -1, &image, err), ERR_NOT_FOUND);
	FAILS(image_build("a", "none", -1, &image, err), ERR_NOT_FOUND);
}

static int setup(void **state)
{
	AUTO_FREE char *blobs = NULL;

	if (!mkdtemp(dir))
		return -1;
	blobs = xasprintf("%s/blobs/sha256", dir);
	return dir_make(blobs, 0755, NULL);
}

static int teardown(void **state)
{
	AUTO_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return dir_remove(root, dir + 1, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_layout_says_what_it_is),
	    cmocka_unit_test(it_has_to_say_when_it_is_ready),
	    cmocka_unit_test(it_holds_one_image),
	    cmocka_unit_test(the_images_are_those_of_the_source_tree),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
