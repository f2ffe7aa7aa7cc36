#include "contentd/convert/gzip_index.h"

#include "estargz/gzseek/artifact.h"
#include "registry/manifest_write.h"

struct entry {
	struct reg_annotation annotation;
	char layer[DIGEST_TEXT_MAX];
};

void gzip_index_manifest(const struct reg_descriptor *subject, const struct gzip_index *indexes, size_t n,
                         struct buf *out)
{
	AUTO_FREE struct reg_descriptor *layers = xcalloc(n, sizeof(*layers));
	AUTO_FREE struct entry *entries = xcalloc(n, sizeof(*entries));

	for (size_t i = 0; i < n; i++) {
		digest_text(&indexes[i].layer, entries[i].layer);
		entries[i].annotation =
		    (struct reg_annotation){STR(ESGZ_ANN_GZIP_INDEX_LAYER), str_of(entries[i].layer)};
		layers[i] = reg_descriptor_of(STR(ESGZ_GZIP_INDEX_MEDIA_TYPE), indexes[i].artifact);
		layers[i].annotations = &entries[i].annotation;
		layers[i].n_annotations = 1;
	}
	reg_artifact_write(STR(ESGZ_GZIP_INDEX_ARTIFACT), subject, layers, n, out);
}
