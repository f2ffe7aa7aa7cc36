/* The manifest by which the gzip indexes of an image lie beside it in a registry (estargz/gzseek/artifact.h). Pure. */
#ifndef CONVERT_GZIP_INDEX_H
#define CONVERT_GZIP_INDEX_H

#include "registry/manifest.h"

struct gzip_index {
	struct digest layer; /* as the manifest of the image names it */
	struct str artifact; /* of which its digest and size are written */
};

/* Appends the manifest of n indexes, at least one, in their order. */
void gzip_index_manifest(const struct reg_descriptor *subject, const struct gzip_index *indexes, size_t n,
                         struct buf *out);

#endif
