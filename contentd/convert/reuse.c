/* Layers that were converted before: what the destination's tag has now, and what the user names. */
#include "contentd/convert/internal.h"

const struct convert_reuse *convert_reuse_of(const struct convert *c, const struct digest *source)
{
	size_t number = (size_t)map_get(&c->by_source, convert_key(source));

	return number ? &c->reuse.p[number - 1] : NULL;
}

bool convert_is_unfounded(const struct convert *c, const struct reg_descriptor *d)
{
	struct str how = convert_annotation(d, CONVERT_ANN_HOW);
	struct str source_text = convert_annotation(d, CONVERT_ANN_SOURCE);
	const struct convert_reuse *known;
	struct digest source;

	if (!how.n && !source_text.n)
		return false;
	if (!str_eqc(how, c->how) || digest_parse(source_text, &source, NULL) < 0)
		return true;
	known = convert_reuse_of(c, &source);
	return !known || !digest_eq(&known->layer->digest, &d->digest);
}

/* False: it was not made as it would be now. */
static bool take_layer(struct convert *c, const struct reg_descriptor *d, const struct reg_manifest *toc_image,
                       struct convert_reuse *out)
{
	if (!str_eqc(convert_annotation(d, CONVERT_ANN_HOW), c->how) ||
	    digest_parse(convert_annotation(d, CONVERT_ANN_SOURCE), &out->source, NULL) < 0)
		return false;
	out->layer = d;
	out->toc = convert_find_toc(toc_image, &d->digest);
	return out->toc || !convert_is_external(c);
}

static int take_image(struct convert *c, struct place *p, const struct reg_manifest *m,
                      const struct reg_manifest *toc_image, struct err *err)
{
	AUTO(reg_config) struct reg_config *config = NULL;

	for (size_t i = 0; i < m->n_layers; i++) {
		struct convert_reuse r = {.place = p};

		if (!take_layer(c, &m->layers[i], toc_image, &r) || convert_reuse_of(c, &r.source))
			continue;
		if (!config)
			TRY(convert_read_config(p, m, &config, err));
		r.diff_id = config->diff_ids[i];
		vec_push(&c->reuse, r);
		map_put(&c->by_source, convert_key(&r.source), (void *)c->reuse.n);
	}
	return 0;
}

/* A place that is looked through. */
struct look {
	struct place *place;
	const struct reg_manifest *toc_image;
	struct map seen; /* struct reg_manifest * */
};

static int take_document(struct convert *c, struct look *at, const struct reg_manifest *m, unsigned depth,
                         struct err *err)
{
	if (map_put(&at->seen, str_make(&m, sizeof(m)), at))
		return 0;
	if (m->kind == REG_IMAGE_MANIFEST)
		return take_image(c, at->place, m, at->toc_image, err);
	for (size_t i = 0; i < m->n_entries && depth <= CONVERT_DEPTH_MAX; i++) {
		struct reg_manifest *child;

		TRY(convert_document(c, at->place, &m->entries[i], &child, err));
		TRY(take_document(c, at, child, depth + 1, err));
	}
	return 0;
}

static int take_place(struct convert *c, struct place *p, struct err *err)
{
	struct reg_manifest *root, *toc_image = NULL;
	struct look at = {.place = p};
	int r;

	TRY(convert_root(c, p, "", &root, err));
	if (convert_is_external(c))
		TRY(convert_toc_image(c, p, &toc_image, err));
	at.toc_image = toc_image;
	r = take_document(c, &at, root, 0, err);
	map_fini(&at.seen);
	return r;
}

int convert_find_reuse(struct convert *c, struct err *err)
{
	struct err why = ERR_INIT;

	/* What stands at the destination need not be ours, nor anything. */
	if (take_place(c, c->to, &why) < 0 && why.code == ERR_CANCELLED) {
		*err = why;
		return -ERR_CANCELLED;
	}
	for (size_t i = 0; i < c->opts.n_reuse; i++)
		if (take_place(c, c->opts.reuse[i], &why) < 0)
			return err_set(err, why.code, "--reuse %s: %s", c->opts.reuse[i]->name, why.msg);
	return 0;
}
