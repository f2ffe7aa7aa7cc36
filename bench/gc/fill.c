/*
 * gc_fill: fills the metadata of a contentd that does not run with images that nobody has pulled, for measuring the
 * collector. Each is an image record, a manifest, a configuration and eight layers, as blobs that can be fetched again
 * and have no file; of every second one the image record is missing, so that all of it is garbage.
 */
#include "base/digest.h"
#include "contentd/meta/kv_rocks.h"
#include "contentd/meta/meta.h"
#include "rpc/proto/contentd_records.pb-c.h"
#include "rpc/proto/images.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define NS "bench"
#define LAYERS 8
#define PER_IMAGE (LAYERS + 2)
#define AT_ONCE 500 /* images in a batch */

static const char *digest_for(struct arena *a, uint64_t image, unsigned part)
{
	const char *seed = arena_printf(a, "%llu/%u", (unsigned long long)image, part);
	char text[DIGEST_TEXT_MAX];
	struct digest d;

	digest_of(seed, strlen(seed), &d);
	return arena_strdup(a, digest_text(&d, text));
}

static void put_content(struct cd_batch *b, const char *digest, Kv__Entry **labels, size_t n_labels)
{
	Records__Content m = RECORDS__CONTENT__INIT;
	Content__Info info = CONTENT__INFO__INIT;

	info.digest = digest;
	info.size = 1000000;
	info.labels = labels;
	info.n_labels = n_labels;
	m.info = &info;
	m.source = "registry.invalid/bench:latest";
	cd_batch_put(b, CD_CONTENT, NS, str_of(digest), &m.base);
}

static void put_image(struct cd_batch *b, struct arena *a, uint64_t i)
{
	const char *manifest = digest_for(a, i, 0), *name;
	Kv__Entry *labels[LAYERS + 1];
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
	Images__Image m = IMAGES__IMAGE__INIT;

	for (unsigned k = 0; k <= LAYERS; k++) {
		const char *digest = digest_for(a, i, k + 1);

		labels[k] = pb_kv_new(a, arena_printf(a, "containerd.io/gc.ref.content.%u", k), digest);
		put_content(b, digest, NULL, 0);
	}
	put_content(b, manifest, labels, ARRAY_LEN(labels));
	if (i % 2)
		return;
	name = arena_printf(a, "registry.invalid/bench:%llu", (unsigned long long)i);
	target.media_type = "application/vnd.oci.image.manifest.v1+json";
	target.digest = manifest;
	target.size = 1000;
	m.name = name;
	m.target = &target;
	cd_batch_put(b, CD_IMAGE, NS, str_of(name), &m.base);
}

static int fill(const char *root, uint64_t records, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/db", root);
	AUTO(kv_rocks) struct kv_rocks *rocks = NULL;
	AUTO(cd_meta) struct cd_meta *meta = NULL;
	uint64_t n = records / PER_IMAGE;
	struct arena a;

	arena_init(&a, SIZE_MAX);
	TRY(kv_rocks_open(dir, &rocks, err));
	TRY(cd_meta_new(kv_rocks_kv(rocks), &meta, err));
	TRY(cd_meta_touch(meta, NS, err));
	for (uint64_t i = 0; i < n;) {
		AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

		for (unsigned k = 0; k < AT_ONCE && i < n; k++, i++)
			put_image(&b, &a, i);
		TRY(cd_meta_apply(meta, &b, NULL, 0, err));
		arena_clear(&a);
	}
	arena_fini(&a);
	return cd_meta_sync(meta, err);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	uint64_t records;

	if (argc != 3 || !str_u64(str_of(argv[2]), 10, &records) || records > 100000000) {
		fprintf(stderr, "usage: gc_fill ROOT RECORDS\n");
		return 2;
	}
	if (fill(argv[1], records, &err) < 0) {
		fprintf(stderr, "gc_fill: %s\n", err.msg);
		return 1;
	}
	return 0;
}
