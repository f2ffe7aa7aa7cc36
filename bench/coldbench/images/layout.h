/*
 * An OCI layout that holds one image (oci-layout, index.json, blobs/sha256/HEX: image-spec image-layout.md), a folder as
 * the scripts make them. Any thread.
 */
#ifndef BENCH_COLDBENCH_IMAGES_LAYOUT_H
#define BENCH_COLDBENCH_IMAGES_LAYOUT_H

#include "registry/manifest.h"

/* The manifest of its image. ERR_INVALID when it holds none, several, or an index of several. */
int layout_read_manifest(const char *layout, struct reg_manifest **out, struct err *err);

/* A blob of at most `max` bytes, appended; not verified. */
int layout_read_blob(const char *layout, const struct digest *digest, size_t max, struct buf *out, struct err *err);

/* The file of a blob; the caller's. */
char *layout_blob_path(const char *layout, const struct digest *digest);

#endif
