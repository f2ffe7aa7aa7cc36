#include "base/testing.h"
#include "bench/coldbench/modes/layers.h"

#include "base/digest.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* A layout of two layers, the same 10 KiB of tar plain and as gzip. */
static char layout[] = "/tmp/coldbench-layers.XXXXXX";
static int dir_fd = -1;
static char packed[DIGEST_TEXT_MAX]; /* the second one's blob */

static void put_blob(struct str bytes, char text[static DIGEST_TEXT_MAX])
{
	AUTO_FREE char *path = NULL;
	struct digest d;

	digest_of(bytes.p, bytes.n, &d);
	digest_text(&d, text);
	path = xasprintf("blobs/sha256/%s", text + strlen("sha256:"));
	OK(file_write_atomic(dir_fd, path, bytes, 0600, err));
}

static int make_layout(void **state)
{
	/* of 10240 zero bytes */
	static const unsigned char gzip[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1,
	                                     0x01, 0x0d, 0x00, 0x00, 0x00, 0xc2, 0xa0, 0xf7, 0x4f, 0x6d, 0x0e, 0x37,
	                                     0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x37,
	                                     0x03, 0x9a, 0xde, 0x1d, 0x27, 0x00, 0x28, 0x00, 0x00};
	static const char zeros[10240];
	char config[DIGEST_TEXT_MAX], plain[DIGEST_TEXT_MAX], manifest[DIGEST_TEXT_MAX];
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *index = NULL;

	assert_non_null(mkdtemp(layout));
	dir_fd = open(layout, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(dir_fd, "blobs", 0700), 0);
	assert_int_equal(mkdirat(dir_fd, "blobs/sha256", 0700), 0);
	put_blob(STR("{}"), config);
	put_blob(str_make(zeros, sizeof(zeros)), plain);
	put_blob(str_make(gzip, sizeof(gzip)), packed);
	text = xasprintf(
	    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
	    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":2},"
	    "\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\",\"size\":10240},"
	    "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"%s\",\"size\":%zu}]}",
	    config, plain, packed, sizeof(gzip));
	put_blob(str_of(text), manifest);
	index = xasprintf(
	    "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
	    "\"digest\":\"%s\",\"size\":%zu}]}",
	    manifest, strlen(text));
	OK(file_write_atomic(dir_fd, "index.json", str_of(index), 0600, err));
	return 0;
}

static int remove_layout(void **state)
{
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir_remove(tmp, layout + strlen("/tmp/"), NULL);

	close(tmp);
	close(dir_fd);
	return r;
}

static void all_layers_count_as_plain_tar(void **state)
{
	uint64_t bytes = 0;

	OK(layers_tar_bytes(layout, &bytes, err));
	assert_int_equal(bytes, 2 * 10240);
}

static void the_answer_is_kept_for_one_layout(void **state)
{
	uint64_t bytes = 0;

	OK(layers_tar_bytes(layout, &bytes, err));
	FAILS(layers_tar_bytes("/nowhere", &bytes, err), ERR_NOT_FOUND);
	OK(layers_tar_bytes(layout, &bytes, err));
	assert_int_equal(bytes, 2 * 10240);
}

static void what_failed_half_way_is_not_kept(void **state)
{
	AUTO_FREE char *same = xasprintf("%s/.", layout);
	AUTO_FREE char *path = xasprintf("blobs/sha256/%s", packed + strlen("sha256:"));
	uint64_t bytes = 0;

	OK(layers_tar_bytes(layout, &bytes, err));
	assert_int_equal(renameat(dir_fd, path, dir_fd, "away"), 0);
	FAILS(layers_tar_bytes(same, &bytes, err), ERR_NOT_FOUND);
	assert_int_equal(renameat(dir_fd, "away", dir_fd, path), 0);
	OK(layers_tar_bytes(layout, &bytes, err));
	assert_int_equal(bytes, 2 * 10240);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_layers_count_as_plain_tar),
	    cmocka_unit_test(the_answer_is_kept_for_one_layout),
	    cmocka_unit_test(what_failed_half_way_is_not_kept),
	};

	return cmocka_run_group_tests(tests, make_layout, remove_layout);
}
