/*
 * Image indexes, image manifests and image configurations: JSON in, structs out. OCI image-spec 1.1 and Docker
 * schema 2, by content: unknown fields and media types are tolerated, counts and sizes are bounded.
 *
 * A parsed document owns a private copy of its bytes; every `struct str` and every pointer inside it lives as long as
 * the document. Pure functions without I/O: any thread; a document is immutable after parsing, so it can be shared.
 */
#ifndef REGISTRY_MANIFEST_H
#define REGISTRY_MANIFEST_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"

/* Registries must take 4 MiB (distribution-spec, "Pushing Manifests"); some take more. */
#define REG_MANIFEST_BYTES_MAX (8u << 20)
#define REG_CONFIG_BYTES_MAX (8u << 20)
#define REG_LAYERS_MAX 1024 /* overlayfs ends at 500; Docker at 127 */
#define REG_INDEX_ENTRIES_MAX 4096
#define REG_ANNOTATIONS_MAX 65536 /* in one document, all descriptors together; unknown members count, too */
#define REG_MEDIA_TYPE_MAX 255    /* RFC 6838, 4.2: two names of at most 127 */

#define REG_MT_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define REG_MT_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define REG_MT_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define REG_MT_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define REG_MT_OCI_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define REG_MT_OCI_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
#define REG_MT_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define REG_MT_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define REG_MT_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define REG_MT_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define REG_MT_DOCKER_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define REG_MT_DOCKER_LAYER_ZSTD "application/vnd.docker.image.rootfs.diff.tar.zstd"

#define REG_MT_OCI_EMPTY "application/vnd.oci.empty.v1+json"

struct reg_annotation {
	struct str key, value;
};

/* What an object has beyond the fields below, for whoever writes it again: its JSON as it stood. */
struct reg_member {
	struct str key, json;
};

struct reg_platform {
	struct str os, architecture, variant, os_version; /* empty when absent */
	const struct reg_member *others;                  /* "os.features" and what nobody knows */
	size_t n_others;
};

struct reg_descriptor {
	struct str media_type;
	struct digest digest;
	uint64_t size; /* bytes, at most INT64_MAX */
	struct str artifact_type;
	bool has_platform;
	struct reg_platform platform;
	const struct reg_annotation *annotations; /* in document order */
	size_t n_annotations;
	struct str urls, data; /* JSON of what belongs to this content alone; empty when absent */
	const struct reg_member *others;
	size_t n_others;
};

enum reg_document_kind { REG_IMAGE_MANIFEST, REG_IMAGE_INDEX };

struct reg_manifest {
	enum reg_document_kind kind;
	struct str media_type; /* the document's own, or what its kind implies: never empty */
	struct str bytes;      /* exactly what was parsed */
	struct digest digest;  /* sha256 of bytes */

	/* REG_IMAGE_MANIFEST */
	struct reg_descriptor config;
	const struct reg_descriptor *layers; /* base layer first */
	size_t n_layers;

	/* REG_IMAGE_INDEX; entries whose digest is not sha256 are in `unread` instead, as JSON */
	const struct reg_descriptor *entries;
	size_t n_entries;
	const struct str *unread;
	size_t n_unread;

	bool has_subject;
	struct reg_descriptor subject;
	struct str artifact_type;
	const struct reg_annotation *annotations; /* of the document */
	size_t n_annotations;
	const struct reg_member *others;
	size_t n_others;

	struct reg_manifest_memory *memory; /* the module's */
};

/*
 * Parses an index or a manifest. `content_type` is what HTTP said ("" when unknown; parameters are ignored); a document
 * that names another type, or whose shape is not that of its type, is ERR_INVALID, so that one set of bytes cannot be
 * read in two ways. Schema 1 is ERR_UNIMPLEMENTED. `bytes` is copied. Larger than REG_MANIFEST_BYTES_MAX, or more
 * entries than the bounds above: ERR_EXHAUSTED.
 */
int reg_manifest_parse(struct str bytes, struct str content_type, struct reg_manifest **out, struct err *err);
void reg_manifest_free(struct reg_manifest *m);
DEFINE_AUTO_FREE(reg_manifest);

/* The value of an annotation; STR_NONE when absent, the last one when it is there twice. */
struct str reg_annotation_get(const struct reg_annotation *annotations, size_t n, struct str key);

/* "os/architecture[/variant]" with the usual aliases (x86_64, aarch64); views into `text`. ERR_INVALID. */
int reg_platform_parse(struct str text, struct reg_platform *out, struct err *err);

/* The platform this program was built for (linux/amd64, linux/arm64). Static text. */
struct reg_platform reg_platform_host(void);

/*
 * The entry of an index to use on `want`: the highest variant that `want` can run (no variant counts as amd64 v1, arm
 * v7, arm64 v8), the first of equals; else an entry that is itself an index (its digest is to be fetched and asked
 * again, one level deep); else, if the index has a single image without a platform, that one. Attestation manifests
 * (unknown/unknown) are never chosen. ERR_NOT_FOUND lists the platforms that exist.
 */
int reg_index_choose(const struct reg_manifest *index, const struct reg_platform *want,
                     const struct reg_descriptor **out, struct err *err);

/* How well an image of platform `have` fits a machine of platform `want`: its variant's level, or -1 when that machine
 * cannot run it. */
int reg_platform_fit(const struct reg_platform *have, const struct reg_platform *want);

/* True for layers that are encrypted (OCIcrypt): "...+encrypted". */
bool reg_media_is_encrypted(struct str media_type);

/* True for layers that are not to be given to others: Docker's foreign ones, OCI's nondistributable ones. */
bool reg_media_is_foreign(struct str media_type);

/* True for the media types of an image index (OCI index, Docker list). */
bool reg_media_is_index(struct str media_type);

enum reg_layer_format {
	REG_LAYER_UNKNOWN,
	REG_LAYER_TAR,
	REG_LAYER_GZIP,
	REG_LAYER_ZSTD,
};

/* How a layer of this media type is packed, OCI and Docker spelling, foreign and non-distributable included. */
enum reg_layer_format reg_layer_format(struct str media_type);

/* What we need of an image configuration; the rest stays in `bytes`. */
struct reg_config {
	struct str bytes;     /* exactly what was parsed */
	struct digest digest; /* of bytes: the image ID */
	struct reg_platform platform;
	const struct digest *diff_ids; /* base layer first */
	size_t n_diff_ids;
	struct reg_manifest_memory *memory; /* the module's */
};

/* Parses; bounds and errors as reg_manifest_parse. A configuration without rootfs.diff_ids is ERR_INVALID. */
int reg_config_parse(struct str bytes, struct reg_config **out, struct err *err);
void reg_config_free(struct reg_config *c);
DEFINE_AUTO_FREE(reg_config);

#endif
