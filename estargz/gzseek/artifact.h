/*
 * A seekable index as one blob that a registry can hold beside the layer: one zstd frame of the points file and, behind it,
 * the index without what its receiver fills in (esgz_index_strip). Bytes in, bytes out; any thread.
 */
#ifndef ESTARGZ_GZSEEK_ARTIFACT_H
#define ESTARGZ_GZSEEK_ARTIFACT_H

#include "estargz/gzseek/points.h"
#include "estargz/index/index.h"

#define ESGZ_ARTIFACT_BYTES_MAX (256u << 20) /* inflated */

/* As it is sent, for a layer of so many bytes: readers take no more, so that none of more is made. As a rule an artifact
 * takes 1 to 2 in 100 of its layer, more where all files are small. */
#define ESGZ_ARTIFACT_PACKED_MAX(blob_bytes)                                                                           \
	((blob_bytes) / 8 < ESGZ_ARTIFACT_BYTES_MAX - (1u << 20) ? (blob_bytes) / 8 + (1u << 20)                       \
	                                                         : ESGZ_ARTIFACT_BYTES_MAX)

/*
 * In a registry. The indexes of one image are one manifest, whose subject is the manifest of the image: a referrer, of this
 * artifact type, with the empty configuration. Each of its layers is an artifact, of this media type and annotated with the
 * digest of the layer that it is of, as in the manifest of the image. Layers that have none are not listed.
 */
#define ESGZ_GZIP_INDEX_ARTIFACT "application/vnd.contentd.gzip-index.v1"
#define ESGZ_GZIP_INDEX_MEDIA_TYPE "application/vnd.contentd.gzip-index.layer.v1+zstd"
#define ESGZ_ANN_GZIP_INDEX_LAYER "io.contentd.gzip-index.layer"

/* Appends the blob. Both are files as esgz_gzseek_write makes them; more than ESGZ_ARTIFACT_BYTES_MAX: ERR_PRECONDITION. */
int esgz_gzseek_pack(struct str points, struct str index, struct buf *out, struct err *err);

/* What the receiver knows of the layer. */
struct esgz_gzseek_of {
	struct digest blob;
	uint64_t blob_bytes;
	struct digest diff_id; /* zero: not known */
};

/* Hostile bytes into the two files (appended to empty buffers), checked: each in itself, that both are of this layer, and
 * that each chunk lies behind a point or is a hole with the digest of its zeros. Nothing proves the contents: trust is ESGZ_TRUST_TOC, `trusted` the digest of the
 * artifact: what two artifacts say of one layer are two indexes, and one can be false without the other.
 * Damage and lies: ERR_DATA_LOSS. */
int esgz_gzseek_unpack(struct str packed, const struct esgz_gzseek_of *of, struct buf *points, struct buf *index,
                       struct err *err);

/* Whether the two fit: each chunk begins behind a point, and ends in its span. ERR_DATA_LOSS if not. */
int esgz_gzseek_match(const struct esgz_points *points, const struct esgz_index *index, struct err *err);

#endif
