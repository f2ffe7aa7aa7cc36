/* The documents of image archives. What parses as docker's manifest.json is written as a manifest, and read again. */
#include "contentd/transfer/archive.h"
#include "registry/manifest.h"

static void write_one(const struct cd_archive_image *i)
{
	struct cd_archive_part part = {.media_type = REG_MT_DOCKER_CONFIG, .bytes = (int64_t)i->config.n};
	AUTO_FREE struct cd_archive_part *layers = xcalloc(i->layers.v.n + 1, sizeof(*layers));
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO(buf) struct buf json = BUF_INIT;
	struct digest d;

	digest_of(i->config.p, i->config.n, &part.digest);
	for (size_t k = 0; k < i->layers.v.n; k++) {
		cd_archive_blob_name(i->layers.v.p[k], &d);
		layers[k] = part;
		layers[k].media_type = REG_MT_DOCKER_LAYER_GZIP;
	}
	cd_archive_manifest_write(&part, layers, i->layers.v.n, &json);
	if (reg_manifest_parse(buf_str(&json), STR(REG_MT_DOCKER_MANIFEST), &m, NULL) < 0 ||
	    m->n_layers != i->layers.v.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(cd_archive_images) struct cd_archive_images images = {0};
	struct str json = str_make(data, size);
	struct err err = ERR_INIT;

	cd_archive_layout_check(json, &err);
	if (cd_archive_images_parse(json, &images, &err) < 0)
		return 0;
	vec_each(&images.v, i)
		write_one(i);
	return 0;
}
