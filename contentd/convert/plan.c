/* What is there, what becomes of it, and what is refused. */
#include "contentd/convert/internal.h"

#include <stdio.h>

#define ANN_REFERENCE_TYPE "vnd.docker.reference.type"
#define ANN_REFERENCE_DIGEST "vnd.docker.reference.digest"

int convert_check_cancelled(struct convert *c, struct err *err)
{
	return atomic_load(&c->cancelled) ? err_set(err, ERR_CANCELLED, "interrupted") : 0;
}

/* ---- documents ---- */

static int parse(struct convert *c, struct place *p, struct str bytes, struct str type, struct reg_manifest **out,
                 struct err *err)
{
	TRY_WRAP(reg_manifest_parse(bytes, type, out, err), err, "%s", p->name);
	vec_push(&c->documents, *out);
	return 0;
}

int convert_document(struct convert *c, struct place *p, const struct reg_descriptor *d, struct reg_manifest **out,
                     struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;

	TRY(convert_check_cancelled(c, err));
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

const struct reg_descriptor *convert_find_toc(const struct reg_manifest *image, const struct digest *blob)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(blob, text);
	for (size_t i = 0; image && i < image->n_layers; i++)
		if (str_eqc(convert_annotation(&image->layers[i], ESGZ_ANN_LAYER), text))
			return &image->layers[i];
	return NULL;
}

/* ---- layers ---- */

/* True if the source has the TOC of this one in an image of its own, which is not taken over. */
static bool has_external_toc(struct convert *c, const struct reg_descriptor *d)
{
	if (!c->asked_toc_image) {
		c->asked_toc_image = true;
		convert_root(c, c->from, ESGZ_TOC_TAG_SUFFIX, &c->toc_image, NULL);
	}
	return convert_find_toc(c->toc_image, &d->digest) != NULL;
}

/* The lazy format that a layer has; false: it is an ordinary one. */
static bool lazy_format(struct convert *c, const struct reg_descriptor *d, enum esgz_format *out)
{
	bool toc = convert_annotation(d, ESGZ_ANN_TOC).n;

	if (toc && reg_layer_format(d->media_type) == REG_LAYER_ZSTD)
		*out = ESGZ_F_ZSTD_STARGZ;
	else if (toc)
		*out = has_external_toc(c, d) ? ESGZ_F_ESTARGZ_EXTERNAL : ESGZ_F_ESTARGZ;
	else if (convert_annotation(d, ESGZ_ANN_CHUNKED ESGZ_ANN_CHECKSUM).n ||
	         convert_annotation(d, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_CHECKSUM).n)
		*out = ESGZ_F_ZSTD_CHUNKED;
	else
		return false;
	return true;
}

static const char *ordinary_format(const struct reg_descriptor *d)
{
	switch (reg_layer_format(d->media_type)) {
	case REG_LAYER_GZIP:
		return "gzip";
	case REG_LAYER_ZSTD:
		return "zstd";
	default:
		return "tar";
	}
}

static int check_layer(const struct convert *c, const struct reg_descriptor *d, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(&d->digest, text);
	if (reg_media_is_encrypted(d->media_type))
		return err_set(err, ERR_UNIMPLEMENTED, "%s: layer %s is encrypted: it cannot be read without the key",
		               c->from->name, text);
	if (reg_media_is_foreign(d->media_type))
		return err_set(err, ERR_UNIMPLEMENTED, "%s: layer %s is not to be distributed", c->from->name, text);
	if (reg_layer_format(d->media_type) == REG_LAYER_UNKNOWN)
		return err_set(err, ERR_UNIMPLEMENTED, "%s: layer %s is of type " STR_FMT, c->from->name, text,
		               STR_ARG(d->media_type));
	return 0;
}

/* An external TOC belongs to an image that is made anew, so nothing with or without one is kept. */
static bool is_wanted_already(enum esgz_format wanted, const char *has)
{
	return wanted != ESGZ_F_ESTARGZ_EXTERNAL && !strcmp(has, esgz_format_name(wanted));
}

static void decide(struct convert *c, struct convert_layer *l)
{
	enum esgz_format lazy;

	l->from_format = lazy_format(c, l->from, &lazy) ? esgz_format_name(lazy) : ordinary_format(l->from);
	if (c->leaves_layers || is_wanted_already(c->opts.layer.format, l->from_format)) {
		l->action = CONVERT_KEEP;
		l->mounts = place_can_mount(c->to, c->from);
		return;
	}
	l->reuse = convert_reuse_of(c, &l->from->digest);
	l->action = l->reuse ? CONVERT_REUSE : CONVERT_CONVERT;
	l->mounts = l->reuse && l->reuse->place != c->to && place_can_mount(c->to, l->reuse->place);
}

static char *platform_text(const struct reg_platform *p)
{
	return xasprintf(STR_FMT "/" STR_FMT "%s" STR_FMT, STR_ARG(p->os), STR_ARG(p->architecture),
	                 p->variant.n ? "/" : "", STR_ARG(p->variant));
}

static int plan_layer(struct convert *c, struct convert_node *n, size_t i, struct err *err)
{
	const struct reg_descriptor *d = &n->doc->layers[i];
	struct convert_layer *l = NULL;

	vec_each(&c->layers, it)
		if (digest_eq(&(*it)->from->digest, &d->digest) &&
		    digest_eq(&(*it)->diff_id, &n->config->diff_ids[i]) &&
		    str_eq((*it)->from->media_type, d->media_type))
			l = *it;
	if (!l) {
		if (!c->leaves_layers)
			TRY(check_layer(c, d, err));
		l = xcalloc(1, sizeof(*l));
		vec_push(&c->layers, l);
		l->from = d;
		l->diff_id = n->config->diff_ids[i];
		l->platform = platform_text(&n->config->platform);
		decide(c, l);
	}
	vec_push(&n->layers, l);
	n->changes |= l->action != CONVERT_KEEP;
	return 0;
}

/* ---- manifests ---- */

static bool is_config(struct str type)
{
	return str_eqc(type, REG_MT_OCI_CONFIG) || str_eqc(type, REG_MT_DOCKER_CONFIG);
}

static int plan_image(struct convert *c, struct convert_node *n, struct err *err)
{
	n->as_is = !is_config(n->doc->config.media_type);
	if (n->as_is)
		return 0;
	/* OCI types throughout: a Docker manifest cannot carry the annotations that laziness hangs on. */
	n->changes = !str_eqc(n->doc->media_type, REG_MT_OCI_MANIFEST);
	TRY(convert_read_config(c->from, n->doc, &n->config, err));
	for (size_t i = 0; i < n->doc->n_layers; i++)
		TRY(plan_layer(c, n, i, err));
	return 0;
}

/* ---- indexes ---- */

static bool is_attestation(const struct reg_descriptor *d)
{
	return str_eqc(convert_annotation(d, ANN_REFERENCE_TYPE), "attestation-manifest");
}

/* The child that an attestation is of. */
static const struct convert_node *attested(const struct convert_node *index, const struct reg_descriptor *d)
{
	char text[DIGEST_TEXT_MAX];

	vec_each(&index->children, child)
		if (str_eqc(convert_annotation(d, ANN_REFERENCE_DIGEST), digest_text(&(*child)->d.digest, text)))
			return *child;
	return NULL;
}

/* What an index within has not, another one has. */
static int is_chosen(struct convert *c, const struct reg_manifest *index, const struct reg_descriptor *d, bool is_root,
                     struct err *err)
{
	if (!c->opts.n_platforms)
		return 1;
	for (size_t i = 0; i < c->opts.n_platforms; i++) {
		const struct reg_descriptor *chosen = NULL;
		int r = reg_index_choose(index, &c->opts.platforms[i], &chosen, err);

		if (r < 0 && is_root)
			return err_wrap(err, "%s", c->from->name);
		if (r >= 0 && chosen == d)
			return 1;
	}
	return 0;
}

static int plan_node(struct convert *c, struct convert_node *n, unsigned depth, struct err *err);

static int plan_child(struct convert *c, struct convert_node *index, const struct reg_descriptor *d, unsigned depth,
                      struct err *err)
{
	struct convert_node *child = xcalloc(1, sizeof(*child));

	vec_push(&index->children, child);
	child->d = *d;
	TRY(convert_document(c, c->from, d, &child->doc, err));
	return plan_node(c, child, depth, err);
}

/* One that is left out, or copied as it is: it speaks of bytes that are not there any more. */
static int plan_attestation(struct convert *c, struct convert_node *index, const struct reg_descriptor *d,
                            struct err *err)
{
	const struct convert_node *of = attested(index, d);
	struct convert_node *child;
	char text[DIGEST_TEXT_MAX];

	if (!of || (of->changes && !c->opts.keep_attestations)) {
		index->drops_entries = true;
		if (of)
			vec_push(&c->notes,
			         xasprintf("manifest %s is an attestation of " STR_FMT
			                   ", which changes: left out (--keep-attestations copies it as it is)",
			                   digest_text(&d->digest, text),
			                   STR_ARG(convert_annotation(d, ANN_REFERENCE_DIGEST))));
		return 0;
	}
	child = xcalloc(1, sizeof(*child));
	vec_push(&index->children, child);
	child->d = *d;
	child->as_is = true;
	return convert_document(c, c->from, d, &child->doc, err);
}

static int plan_index(struct convert *c, struct convert_node *n, unsigned depth, struct err *err)
{
	if (depth > CONVERT_DEPTH_MAX)
		return err_set(err, ERR_INVALID, "%s: indexes nest too deep", c->from->name);
	for (size_t i = 0; i < n->doc->n_entries; i++) {
		const struct reg_descriptor *d = &n->doc->entries[i];
		int chosen = is_attestation(d) ? 0 : is_chosen(c, n->doc, d, !depth, err);

		TRY(chosen);
		if (chosen)
			TRY(plan_child(c, n, d, depth + 1, err));
		else if (!is_attestation(d))
			n->drops_entries = true;
	}
	for (size_t i = 0; i < n->doc->n_entries; i++)
		if (is_attestation(&n->doc->entries[i]))
			TRY(plan_attestation(c, n, &n->doc->entries[i], err));
	n->changes = n->drops_entries || n->doc->n_unread || !str_eqc(n->doc->media_type, REG_MT_OCI_INDEX);
	vec_each(&n->children, child)
		n->changes |= (*child)->changes;
	return 0;
}

static int plan_node(struct convert *c, struct convert_node *n, unsigned depth, struct err *err)
{
	return n->doc->kind == REG_IMAGE_INDEX ? plan_index(c, n, depth, err) : plan_image(c, n, err);
}

/* For one platform the image is wanted, not an index of it. */
static void unwrap(struct convert *c)
{
	while (c->opts.n_platforms == 1 && c->root->doc->kind == REG_IMAGE_INDEX && c->root->children.n) {
		struct convert_node *child = c->root->children.p[0];

		for (size_t i = 1; i < c->root->children.n; i++) /* attestations of it */
			free(c->root->children.p[i]);
		vec_fini(&c->root->children);
		free(c->root);
		c->root = child;
	}
}

/* ---- the whole ---- */

static char *describe_how(const struct convert_opts *o)
{
	char list[DIGEST_TEXT_MAX] = "-";

	if (o->layer.n_priority)
		digest_text(&o->priority, list);
	return xasprintf("%s;chunk=%u;min=%u;level=%d;keep=%d;list=%s;v=1", esgz_format_name(o->layer.format),
	                 o->layer.chunk_bytes, o->layer.min_chunk_bytes, o->layer.level, o->layer.keep_diff_id, list);
}

static int check_laziness(const struct convert *c, struct err *err)
{
	size_t n = 0;

	vec_each(&c->layers, l)
		n += (*l)->action != CONVERT_KEEP && strcmp((*l)->from_format, ordinary_format((*l)->from)) != 0;
	if (!n || esgz_format_is_lazy(c->opts.layer.format) || c->opts.drop_lazy)
		return 0;
	return err_set(err, ERR_PRECONDITION,
	               "%zu of %zu layers are lazy already, --format %s would make them ordinary: say --drop-lazy", n,
	               c->layers.n, esgz_format_name(c->opts.layer.format));
}

static int check_name(const struct convert *c, struct err *err)
{
	const char *why = c->to->ops->why_untagged ? c->to->ops->why_untagged(c->to) : NULL;

	if (!why)
		return 0;
	if (convert_is_external(c))
		return err_set(err, ERR_INVALID, "external TOCs are tagged <tag>" ESGZ_TOC_TAG_SUFFIX ": %s: %s",
		               c->to->name, why);
	return err_set(err, ERR_INVALID, "%s: what comes out has a digest of its own, and %s", c->to->name, why);
}

int convert_read_tree(struct convert *c, struct err *err)
{
	c->root = xcalloc(1, sizeof(*c->root));
	TRY(convert_root(c, c->from, "", &c->root->doc, err));
	c->root->d = (struct reg_descriptor){
	    .media_type = c->root->doc->media_type, .digest = c->root->doc->digest, .size = c->root->doc->bytes.n};
	TRY(plan_node(c, c->root, 0, err));
	unwrap(c);
	if (c->root->as_is || !c->layers.n)
		return err_set(err, ERR_INVALID, "%s is no image with layers", c->from->name);
	return 0;
}

int convert_plan(struct convert *c, struct err *err)
{
	c->how = describe_how(&c->opts);
	TRY(esgz_convert_check(&c->opts.layer, err));
	TRY(check_name(c, err));
	TRY(convert_find_reuse(c, err));
	TRY(convert_read_tree(c, err));
	return check_laziness(c, err);
}
