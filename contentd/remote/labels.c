#include "contentd/remote/labels.h"

#include "estargz/annotations.h"

/* The first of these that is there counts: what clients of the CRI plugin's conventions set, then stargz-snapshotter's. */
static const char *const IMAGE[] = {"containerd.io/snapshot/cri.image-ref",
                                    "containerd.io/snapshot/remote/stargz.reference"};
static const char *const BLOB[] = {"containerd.io/snapshot/cri.layer-digest",
                                   "containerd.io/snapshot/remote/stargz.digest"};
static const char *const MANIFEST[] = {"containerd.io/snapshot/cri.manifest-digest"};
/* An annotation of the layer's descriptor; containerd passes on those below containerd.io/snapshot/. */
static const char *const TOC[] = {ESGZ_ANN_TOC};

static const char *first(const struct labels *l, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = labels_get(l, names[i]);

		if (value && *value)
			return value;
	}
	return NULL;
}
#define FIRST(l, names) first((l), (names), ARRAY_LEN(names))

static int digest_label(const char *value, const char *name, struct digest *out, struct err *err)
{
	*out = (struct digest){0};
	if (!value)
		return 0;
	TRY_WRAP(digest_parse(str_of(value), out, err), err, "label %s", name);
	return 0;
}

bool cd_remote_layer_parse(const struct labels *l, struct cd_remote_layer *out, struct err *why)
{
	const char *blob = FIRST(l, BLOB);

	*why = (struct err)ERR_INIT;
	out->target = labels_get(l, CD_LABEL_SNAPSHOT_REF);
	out->image = FIRST(l, IMAGE);
	if (!out->target || !*out->target || !out->image || !blob)
		return false;
	return digest_label(blob, BLOB[0], &out->blob, why) >= 0 &&
	       digest_label(FIRST(l, MANIFEST), MANIFEST[0], &out->manifest, why) >= 0 &&
	       digest_label(FIRST(l, TOC), TOC[0], &out->toc, why) >= 0;
}
