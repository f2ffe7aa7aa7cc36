/*
 * What an image archive says of itself: the documents oci-layout and manifest.json (docker save), and the names of its
 * entries. Bytes in, structs out. index.json is an ordinary index (registry/manifest.h). Any thread.
 */
#ifndef CONTENTD_TRANSFER_ARCHIVE_H
#define CONTENTD_TRANSFER_ARCHIVE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/vec.h"

#define CD_ARCHIVE_DOCUMENT_MAX (8u << 20)
#define CD_ARCHIVE_IMAGES_MAX 4096
#define CD_ARCHIVE_LAYERS_MAX 1024 /* of one image */

/* Checks the version; other versions are ERR_UNIMPLEMENTED (OCI image-spec, image-layout.md). */
int cd_archive_layout_check(struct str json, struct err *err);

struct cd_archive_strings {
	VEC(struct str) v;
};

/* One image of manifest.json. Views into its reader. */
struct cd_archive_image {
	struct str config; /* name of an entry */
	struct cd_archive_strings tags, layers;
};

struct cd_archive_images {
	VEC(struct cd_archive_image) v;
	struct json_reader *reader;
};
void cd_archive_images_fini(struct cd_archive_images *a);
DEFINE_AUTO_FINI(cd_archive_images);

int cd_archive_images_parse(struct str json, struct cd_archive_images *out, struct err *err);

/* True for "blobs/sha256/<hex>", with the digest that its content must have. `name` is clean. */
bool cd_archive_blob_name(struct str name, struct digest *out);

/* The manifest and the index that an image of manifest.json stands for. */
struct cd_archive_part {
	const char *media_type; /* borrowed */
	struct digest digest;
	int64_t bytes;
};
void cd_archive_manifest_write(const struct cd_archive_part *config, const struct cd_archive_part *layers, size_t n,
                               struct buf *out);

#endif
