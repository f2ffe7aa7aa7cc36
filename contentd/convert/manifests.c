/* Configurations, manifests and indexes, from the leaves to the root, and the image of external TOCs. */
#include "contentd/convert/internal.h"

#include "registry/manifest_write.h"

/* ---- configuration ---- */

/* Unchanged where the DiffIDs are, so that it keeps its digest: the image ID. */
static int put_config(struct convert *c, const struct convert_node *n, struct reg_descriptor *d, struct err *err)
{
	AUTO_FREE struct digest *diff_ids = xcalloc(n->layers.n + 1, sizeof(*diff_ids));
	AUTO(buf) struct buf text = BUF_INIT;
	struct digest digest;
	bool changes = false;

	for (size_t i = 0; i < n->layers.n; i++) {
		diff_ids[i] = n->layers.p[i]->to_diff_id;
		changes |= !digest_eq(&diff_ids[i], &n->config->diff_ids[i]);
	}
	if (changes)
		TRY(convert_config(n->config->bytes, diff_ids, (unsigned)n->layers.n, &text, err));
	else
		buf_addstr(&text, n->config->bytes);
	TRY(place_put(c->to, buf_str(&text), &digest, err));
	if (changes)
		reg_descriptor_replace(d, STR(REG_MT_OCI_CONFIG), &digest, text.n);
	d->media_type = STR(REG_MT_OCI_CONFIG);
	return 0;
}

/* ---- manifests ---- */

static int write_image(struct convert *c, const struct convert_node *n, struct buf *out, struct err *err)
{
	AUTO_FREE struct reg_descriptor *layers = xcalloc(n->layers.n + 1, sizeof(*layers));
	struct reg_manifest m = *n->doc;

	for (size_t i = 0; i < n->layers.n; i++)
		layers[i] = n->layers.p[i]->to;
	TRY(put_config(c, n, &m.config, err));
	m.layers = layers;
	m.media_type = STR(REG_MT_OCI_MANIFEST);
	reg_manifest_write(&m, out);
	return 0;
}

/* Whatever it is, with all that it names. */
static int copy_parts(struct convert *c, const struct convert_node *n, struct err *err)
{
	enum place_copied how;

	TRY(place_copy(c->to, c->from, &n->doc->config, &how, NULL, NULL, err));
	for (size_t i = 0; i < n->doc->n_layers; i++)
		TRY(place_copy(c->to, c->from, &n->doc->layers[i], &how, NULL, NULL, err));
	return 0;
}

static int put_node(struct convert *c, struct convert_node *n, struct err *err);

static int write_index(struct convert *c, const struct convert_node *n, struct buf *out, struct err *err)
{
	AUTO_FREE struct reg_descriptor *entries = xcalloc(n->children.n + 1, sizeof(*entries));
	struct reg_manifest m = *n->doc;

	for (size_t i = 0; i < n->children.n; i++) {
		TRY(put_node(c, n->children.p[i], err));
		entries[i] = n->children.p[i]->d;
	}
	m.entries = entries;
	m.n_entries = n->children.n;
	m.n_unread = 0; /* they were not brought along */
	m.media_type = STR(REG_MT_OCI_INDEX);
	reg_manifest_write(&m, out);
	return 0;
}

/* Its text, when all that it names is there. What does not change stays as it is spelled. */
static int make_node(struct convert *c, struct convert_node *n, struct buf *text, struct err *err)
{
	bool is_index = n->doc->kind == REG_IMAGE_INDEX;
	struct reg_descriptor made;

	TRY(convert_check_cancelled(c, err));
	if (n->as_is)
		TRY(copy_parts(c, n, err));
	else
		TRY(is_index ? write_index(c, n, text, err) : write_image(c, n, text, err));
	if (!n->changes) {
		buf_clear(text);
		buf_addstr(text, n->doc->bytes);
		return 0;
	}
	made = reg_descriptor_of(is_index ? STR(REG_MT_OCI_INDEX) : STR(REG_MT_OCI_MANIFEST), buf_str(text));
	reg_descriptor_replace(&n->d, made.media_type, &made.digest, made.size);
	return 0;
}

static struct str type_of(const struct convert_node *n)
{
	return n->changes ? n->d.media_type : n->doc->media_type;
}

static int put_node(struct convert *c, struct convert_node *n, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	if (!n->same) {
		TRY(make_node(c, n, &text, err));
		return c->to->ops->put_manifest(c->to, buf_str(&text), type_of(n), err);
	}
	if (n->changes) /* it has been put before: it comes first in the order of the plan */
		reg_descriptor_replace(&n->d, n->same->d.media_type, &n->same->d.digest, n->same->d.size);
	return 0;
}

/* ---- external TOCs ---- */

/* As stargz-snapshotter makes it (docs/external-toc.md): an image of no platform and without DiffIDs. */
#define TOC_CONFIG "{\"architecture\":\"unknown\",\"os\":\"unknown\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"

static int by_digest(const void *a, const void *b)
{
	const struct reg_descriptor *x = a, *y = b;

	return memcmp(&x->digest, &y->digest, sizeof(x->digest));
}

/* One layer each, of all platforms, in the order of their digests. `names` have n members of their own. */
static size_t list_tocs(const struct convert *c, struct reg_descriptor *out, struct reg_annotation *annotations,
                        char (*names)[DIGEST_TEXT_MAX])
{
	size_t n = 0;

	vec_each(&c->layers, l) {
		if (!(*l)->has_toc)
			continue;
		annotations[n] =
		    (struct reg_annotation){STR(ESGZ_ANN_LAYER), str_of(digest_text(&(*l)->to.digest, names[n]))};
		out[n] = (*l)->toc;
		out[n].annotations = &annotations[n];
		out[n].n_annotations = 1;
		n++;
	}
	qsort(out, n, sizeof(*out), by_digest);
	return n;
}

/* Its text; the layers are there. */
static int make_toc_image(struct convert *c, struct buf *text, struct err *err)
{
	AUTO_FREE struct reg_descriptor *layers = xcalloc(c->layers.n, sizeof(*layers));
	AUTO_FREE struct reg_annotation *annotations = xcalloc(c->layers.n, sizeof(*annotations));
	AUTO_FREE char(*names)[DIGEST_TEXT_MAX] = xcalloc(c->layers.n, sizeof(*names));
	struct reg_manifest m = {.kind = REG_IMAGE_MANIFEST,
	                         .media_type = STR(REG_MT_OCI_MANIFEST),
	                         .config = reg_descriptor_of(STR(REG_MT_OCI_CONFIG), STR(TOC_CONFIG)),
	                         .layers = layers,
	                         .n_layers = list_tocs(c, layers, annotations, names)};
	struct digest digest;

	TRY(place_put(c->to, STR(TOC_CONFIG), &digest, err));
	reg_manifest_write(&m, text);
	return 0;
}

/* External TOCs are named just before the image: whoever finds the image finds them, and whoever still finds the former
 * image is without them for as short as can be. */
int convert_put_documents(struct convert *c, struct err *err)
{
	AUTO(buf) struct buf root = BUF_INIT;
	AUTO(buf) struct buf tocs = BUF_INIT;
	struct place_document docs[2];
	size_t n = 0;

	TRY(make_node(c, c->root, &root, err));
	if (convert_is_external(c)) {
		TRY(make_toc_image(c, &tocs, err));
		docs[n++] = (struct place_document){ESGZ_TOC_TAG_SUFFIX, buf_str(&tocs), STR(REG_MT_OCI_MANIFEST)};
	}
	docs[n++] = (struct place_document){"", buf_str(&root), type_of(c->root)};
	TRY(convert_check_cancelled(c, err));
	TRY(c->to->ops->put_named(c->to, docs, n, err));
	c->manifest = c->root->d.digest;
	return 0;
}
