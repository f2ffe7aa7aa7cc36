/*
 * Writer of what manifest.h reads: manifests, indexes, descriptors and artifacts as compact JSON, members in the order of
 * the image-spec. Who changes a document copies the struct that was read, exchanges what is different and writes that:
 * unknown members, entries that could not be read, "urls" and the rest go along as they stood. Pure functions, any thread.
 */
#ifndef REGISTRY_MANIFEST_WRITE_H
#define REGISTRY_MANIFEST_WRITE_H

#include "base/json.h"
#include "registry/manifest.h"

/* As the next value of `w`. */
void reg_descriptor_write(struct json_writer *w, const struct reg_descriptor *d);

/* A manifest or an index, by its kind; `bytes`, `digest` and `memory` do not matter. Appended. */
void reg_manifest_write(const struct reg_manifest *m, struct buf *out);

/* The descriptor of a document that was just written; nothing else is set. */
struct reg_descriptor reg_descriptor_of(struct str media_type, struct str bytes);

/* Another content in the place of what a descriptor names: what belonged to the former alone is dropped, platform,
 * annotations and unknown members stay. */
void reg_descriptor_replace(struct reg_descriptor *d, struct str media_type, const struct digest *digest,
                            uint64_t size);

/* The configuration of what has none (image-spec, "Guidance for an Empty Descriptor"): the two bytes "{}". */
#define REG_EMPTY_CONFIG STR("{}")
struct reg_descriptor reg_empty_config(void);

/* A manifest of another artifact that belongs to `subject` (image-spec 1.1, "Guidelines for Artifact Usage"), with an
 * empty configuration and `n` layers (at least one, else the empty one is to be given). Appended. */
void reg_artifact_write(struct str artifact_type, const struct reg_descriptor *subject,
                        const struct reg_descriptor *layers, size_t n, struct buf *out);

#endif
