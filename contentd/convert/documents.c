/* Manifests, indexes and configurations that were read: a manifest once, however often it is named. */
#include "contentd/convert/internal.h"

static int parse(struct convert *c, struct place *p, struct str bytes, struct str type, struct reg_manifest **out,
                 struct err *err)
{
	TRY_WRAP(reg_manifest_parse(bytes, type, out, err), err, "%s", p->name);
	vec_push(&c->documents, *out);
	map_put(&c->by_digest, convert_key(&(*out)->digest), *out);
	return 0;
}

int convert_document(struct convert *c, struct place *p, const struct reg_descriptor *d, struct reg_manifest **out,
                     struct err *err)
{
	struct reg_manifest *known = map_get(&c->by_digest, convert_key(&d->digest));
	AUTO(buf) struct buf bytes = BUF_INIT;

	TRY(convert_check_cancelled(c, err));
	if (known && known->bytes.n == d->size && str_eq(known->media_type, d->media_type)) {
		*out = known;
		return 0;
	}
	TRY(place_get(p, d, true, &bytes, err));
	return parse(c, p, buf_str(&bytes), d->media_type, out, err);
}

int convert_root(struct convert *c, struct place *p, const char *suffix, struct reg_manifest **out, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO(buf) struct buf type = BUF_INIT;

	TRY(convert_check_cancelled(c, err));
	TRY(p->ops->get_root(p, suffix, &bytes, &type, err));
	return parse(c, p, buf_str(&bytes), buf_str(&type), out, err);
}

int convert_read_config(struct place *p, const struct reg_manifest *m, struct reg_config **out, struct err *err)
{
	AUTO(reg_config) struct reg_config *config = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;

	TRY(place_get(p, &m->config, false, &bytes, err));
	TRY_WRAP(reg_config_parse(buf_str(&bytes), &config, err), err, "%s", p->name);
	if (config->n_diff_ids != m->n_layers)
		return err_set(err, ERR_INVALID, "%s: %zu layers, but %zu DiffIDs", p->name, m->n_layers,
		               config->n_diff_ids);
	*out = STEAL(config);
	return 0;
}

/* ---- images of external TOCs ---- */

int convert_toc_image(struct convert *c, struct place *p, struct reg_manifest **out, struct err *err)
{
	struct err why = ERR_INIT;

	*out = NULL;
	if (convert_root(c, p, ESGZ_TOC_TAG_SUFFIX, out, &why) >= 0 || why.code == ERR_NOT_FOUND)
		return 0;
	return err_set(err, why.code, "external TOCs (tag ..." ESGZ_TOC_TAG_SUFFIX "): %s", why.msg);
}

const struct reg_descriptor *convert_find_toc(const struct reg_manifest *image, const struct digest *blob)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(blob, text);
	for (size_t i = 0; image && i < image->n_layers; i++)
		if (str_eqc(convert_annotation(&image->layers[i], ESGZ_ANN_LAYER), text))
			return &image->layers[i];
	return NULL;
}
