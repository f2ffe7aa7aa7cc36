/* What is there, what becomes of it, and what is refused. */
#include "contentd/convert/internal.h"

#include "estargz/toc/footer.h"

#define ANN_REFERENCE_TYPE "vnd.docker.reference.type"
#define ANN_REFERENCE_DIGEST "vnd.docker.reference.digest"

/* ---- layers ---- */

/* True if the source has the TOC of this one in an image of its own, which is not taken over. */
static int has_external_toc(struct convert *c, const struct reg_descriptor *d, struct err *err)
{
	if (!c->asked_toc_image)
		TRY(convert_toc_image(c, c->from, &c->toc_image, err));
	c->asked_toc_image = true;
	return convert_find_toc(c->toc_image, &d->digest) != NULL;
}

/* 1 with the lazy format that a layer has, 0: it is an ordinary one. */
static int lazy_format(struct convert *c, const struct reg_descriptor *d, enum esgz_format *out, struct err *err)
{
	bool toc = convert_annotation(d, ESGZ_ANN_TOC).n;
	int external = 0;

	if (toc && reg_layer_format(d->media_type) == REG_LAYER_ZSTD) {
		*out = ESGZ_F_ZSTD_STARGZ;
	} else if (toc) {
		external = has_external_toc(c, d, err);
		*out = external ? ESGZ_F_ESTARGZ_EXTERNAL : ESGZ_F_ESTARGZ;
	} else if (convert_annotation(d, ESGZ_ANN_CHUNKED ESGZ_ANN_CHECKSUM).n ||
	           convert_annotation(d, ESGZ_ANN_CHUNKED_OLD ESGZ_ANN_CHECKSUM).n) {
		*out = ESGZ_F_ZSTD_CHUNKED;
	} else {
		return 0;
	}
	return external < 0 ? external : 1;
}

static int read_end(struct place *p, const struct reg_descriptor *d, char *dst, size_t n, struct err *err)
{
	AUTO(place_source) struct place_source *s = NULL;
	size_t got = 1;

	TRY(p->ops->open_blob(p, d, d->size - n, &s, err));
	for (size_t done = 0; done < n; done += got) {
		TRY(s->read(s, dst + done, n - done, &got, err));
		if (!got)
			return err_set(err, ERR_DATA_LOSS, "it is shorter than its manifest says");
	}
	return 0;
}

/* 1 if the bytes say that the TOC of an estargz layer is elsewhere: in an image that did not come with this one. */
static int has_lost_toc(struct convert *c, const struct reg_descriptor *d, struct err *err)
{
	char end[ESGZ_FOOTER_MAX], text[DIGEST_TEXT_MAX];
	size_t n = d->size < sizeof(end) ? (size_t)d->size : sizeof(end);
	struct esgz_footer footer;
	struct err why = ERR_INIT;

	digest_text(&d->digest, text);
	TRY(convert_check_cancelled(c, err));
	if (read_end(c->from, d, end, n, &why) < 0) {
		TRY(convert_check_cancelled(c, err));
		if (why.code == ERR_UNIMPLEMENTED) {
			convert_note(c, "layer %s: whether its TOC is in it cannot be seen: %s", text, why.msg);
			return 0;
		}
		return err_set(err, why.code, "%s: the end of layer %s: %s", c->from->name, text, why.msg);
	}
	return esgz_footer_parse(str_make(end, n), d->size, &footer, NULL) >= 0 &&
	       footer.kind == ESGZ_FOOTER_EXTERNAL_TOC;
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

static bool keeps_diff_ids(const struct convert *c)
{
	enum esgz_format f = c->opts.layer.format;

	return c->opts.layer.keep_diff_id || f == ESGZ_F_ZSTD_CHUNKED || !esgz_format_is_lazy(f);
}

/* What could not be of this layer is not believed, whoever says it. */
static const struct convert_reuse *find_reuse(const struct convert *c, const struct convert_layer *l)
{
	const struct convert_reuse *r = convert_reuse_of(c, &l->from->digest);

	return r && keeps_diff_ids(c) && !digest_eq(&r->diff_id, &l->diff_id) ? NULL : r;
}

static int decide(struct convert *c, struct convert_layer *l, struct err *err)
{
	enum esgz_format lazy;
	int is_lazy = lazy_format(c, l->from, &lazy, err);

	TRY(is_lazy);
	if (is_lazy && lazy == ESGZ_F_ESTARGZ && lazy == c->opts.layer.format && !c->leaves_layers) {
		int is_lost = has_lost_toc(c, l->from, err);

		TRY(is_lost);
		lazy = is_lost ? ESGZ_F_ESTARGZ_EXTERNAL : lazy;
	}
	l->from_format = is_lazy ? esgz_format_name(lazy) : ordinary_format(l->from);
	if (c->leaves_layers || is_wanted_already(c->opts.layer.format, l->from_format)) {
		l->action = CONVERT_KEEP;
		l->mounts = place_can_mount(c->to, c->from);
		l->drops_marks = !c->leaves_layers && convert_is_unfounded(c, l->from);
		return 0;
	}
	l->reuse = find_reuse(c, l);
	l->action = l->reuse ? CONVERT_REUSE : CONVERT_CONVERT;
	l->mounts = l->reuse && l->reuse->place != c->to && place_can_mount(c->to, l->reuse->place);
	return 0;
}

/* Fit to be printed. */
static char *platform_text(const struct reg_platform *p)
{
	char *text = xasprintf(STR_FMT "/" STR_FMT "%s" STR_FMT, STR_ARG(p->os), STR_ARG(p->architecture),
	                       p->variant.n ? "/" : "", STR_ARG(p->variant));

	text_clean(text);
	return text;
}

static void layer_key(const struct reg_descriptor *d, const struct digest *diff_id, struct buf *out)
{
	buf_addstr(out, convert_key(&d->digest));
	buf_addstr(out, convert_key(diff_id));
	buf_addstr(out, d->media_type);
}

static int plan_layer(struct convert *c, struct convert_node *n, size_t i, struct err *err)
{
	const struct reg_descriptor *d = &n->doc->layers[i];
	AUTO(buf) struct buf key = BUF_INIT;
	struct convert_layer *l;

	layer_key(d, &n->config->diff_ids[i], &key);
	l = map_get(&c->by_layer, buf_str(&key));
	if (!l) {
		if (!c->leaves_layers)
			TRY(check_layer(c, d, err));
		l = xcalloc(1, sizeof(*l));
		vec_push(&c->layers, l);
		map_put(&c->by_layer, buf_str(&key), l);
		l->from = d;
		l->diff_id = n->config->diff_ids[i];
		l->platform = platform_text(&n->config->platform);
		TRY(decide(c, l, err));
	}
	vec_push(&n->layers, l);
	n->changes |= l->action != CONVERT_KEEP || l->drops_marks;
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
	struct digest subject;

	if (digest_parse(convert_annotation(d, ANN_REFERENCE_DIGEST), &subject, NULL) < 0)
		return NULL;
	vec_each(&index->children, child)
		if (digest_eq(&(*child)->d.digest, &subject))
			return *child;
	return NULL;
}

/* Whether the index names it at all; then, if it is not among the children, nobody has asked for it. */
static bool names_subject(const struct reg_manifest *index, const struct reg_descriptor *d)
{
	struct digest subject;

	if (digest_parse(convert_annotation(d, ANN_REFERENCE_DIGEST), &subject, NULL) < 0)
		return false;
	for (size_t i = 0; i < index->n_entries; i++)
		if (digest_eq(&index->entries[i].digest, &subject))
			return true;
	return false;
}

/* An image, or an index of images; the image-spec lets others be passed over. */
static bool is_image(const struct reg_descriptor *d)
{
	return !d->media_type.n || reg_media_is_index(d->media_type) || str_eqc(d->media_type, REG_MT_OCI_MANIFEST) ||
	       str_eqc(d->media_type, REG_MT_DOCKER_MANIFEST);
}

/* Which entries of an index are wanted. What an index within has not, another one has. */
static int choose(const struct convert *c, const struct reg_manifest *index, bool is_root, bool *wanted,
                  struct err *err)
{
	for (size_t i = 0; i < index->n_entries; i++)
		wanted[i] = !c->opts.n_platforms;
	for (size_t i = 0; i < c->opts.n_platforms; i++) {
		const struct reg_descriptor *chosen = NULL;
		int r = reg_index_choose(index, &c->opts.platforms[i], &chosen, err);

		if (r < 0 && is_root)
			return err_wrap(err, "%s", c->from->name);
		if (r >= 0)
			wanted[chosen - index->entries] = true;
	}
	return 0;
}

/* What has been planned already is planned once. */
static int add_child(struct convert *c, struct convert_node *index, const struct reg_descriptor *d,
                     struct convert_node **out, struct err *err)
{
	struct convert_node *child = xcalloc(1, sizeof(*child)), *same;

	vec_push(&index->children, child);
	child->d = *d;
	TRY(convert_document(c, c->from, d, &child->doc, err));
	same = map_get(&c->nodes, str_make(&child->doc, sizeof(child->doc)));
	if (same) {
		child->same = same;
		child->as_is = same->as_is;
		child->changes = same->changes;
	} else {
		map_put(&c->nodes, str_make(&child->doc, sizeof(child->doc)), child);
	}
	*out = child;
	return 0;
}

static int plan_node(struct convert *c, struct convert_node *n, unsigned depth, struct err *err);

static int plan_entry(struct convert *c, struct convert_node *index, const struct reg_descriptor *d, unsigned depth,
                      struct err *err)
{
	struct convert_node *child;
	char text[DIGEST_TEXT_MAX];

	if (!is_image(d)) {
		index->drops_entries = true;
		convert_note(c, "index entry %s is of type " STR_FMT ", no image: left out",
		             digest_text(&d->digest, text), STR_ARG(d->media_type));
		return 0;
	}
	TRY(add_child(c, index, d, &child, err));
	return child->same ? 0 : plan_node(c, child, depth, err);
}

/* One that is left out, or copied as it is: it speaks of bytes that are not there any more. */
static int plan_attestation(struct convert *c, struct convert_node *index, const struct reg_descriptor *d,
                            struct err *err)
{
	const struct convert_node *of = attested(index, d);
	struct convert_node *child;
	char text[DIGEST_TEXT_MAX];

	if (of && (!of->changes || c->opts.keep_attestations)) {
		TRY(add_child(c, index, d, &child, err));
		child->as_is = true;
		return 0;
	}
	index->drops_entries = true;
	digest_text(&d->digest, text);
	if (of)
		convert_note(c,
		             "manifest %s is an attestation of " STR_FMT
		             ", which changes: left out (--keep-attestations copies it as it is)",
		             text, STR_ARG(convert_annotation(d, ANN_REFERENCE_DIGEST)));
	else if (!names_subject(index->doc, d))
		convert_note(c, "manifest %s is an attestation of something that its index does not have: left out",
		             text);
	return 0;
}

static int plan_index(struct convert *c, struct convert_node *n, unsigned depth, struct err *err)
{
	const struct reg_manifest *doc = n->doc;
	AUTO_FREE bool *wanted = xcalloc(doc->n_entries + 1, sizeof(*wanted));

	if (depth > CONVERT_DEPTH_MAX)
		return err_set(err, ERR_INVALID, "%s: indexes nest too deep", c->from->name);
	TRY(choose(c, doc, !depth, wanted, err));
	for (size_t i = 0; i < doc->n_entries; i++) {
		if (is_attestation(&doc->entries[i]))
			continue;
		n->drops_entries |= !wanted[i];
		if (wanted[i])
			TRY(plan_entry(c, n, &doc->entries[i], depth + 1, err));
	}
	for (size_t i = 0; i < doc->n_entries; i++)
		if (is_attestation(&doc->entries[i]))
			TRY(plan_attestation(c, n, &doc->entries[i], err));
	if (doc->n_unread)
		convert_note(c, "%zu entries of an index have digests that are not sha256: left out", doc->n_unread);
	n->changes = n->drops_entries || doc->n_unread || !str_eqc(doc->media_type, REG_MT_OCI_INDEX);
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

		for (size_t i = 1; i < c->root->children.n; i++) {
			char text[DIGEST_TEXT_MAX];

			convert_note(c, "manifest %s is an attestation, and one image has no index for it: left out",
			             digest_text(&c->root->children.p[i]->d.digest, text));
		}
		c->root->children.p[0] = NULL;
		convert_node_free(c->root);
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
	const char *why;

	why = convert_is_external(c) ? c->to->ops->why_unnamed(c->to, ESGZ_TOC_TAG_SUFFIX) : NULL;
	if (why)
		return err_set(err, ERR_INVALID, "external TOCs are tagged <tag>" ESGZ_TOC_TAG_SUFFIX ": %s: %s",
		               c->to->name, why);
	why = c->to->ops->why_unnamed(c->to, "");
	if (!why)
		return 0;
	return err_set(err, ERR_INVALID, "%s: what comes out has a digest of its own, and %s", c->to->name, why);
}

/* What is no index is of one platform, whatever is asked for. */
static int check_platform(const struct convert *c, struct err *err)
{
	const struct reg_config *config = c->root->config;
	AUTO_FREE char *text = NULL;

	if (!config || !config->platform.os.n || !c->opts.n_platforms)
		return 0;
	for (size_t i = 0; i < c->opts.n_platforms; i++)
		if (reg_platform_fit(&config->platform, &c->opts.platforms[i]) >= 0)
			return 0;
	text = platform_text(&config->platform);
	return err_set(err, ERR_NOT_FOUND, "%s is one image, of %s", c->from->name, text);
}

static void note_marks(struct convert *c)
{
	size_t n = 0;

	vec_each(&c->layers, l)
		n += (*l)->drops_marks;
	if (n)
		convert_note(c, "%zu layers are kept, but not what they say of their making (--reuse %s keeps it)", n,
		             c->from->name);
}

int convert_read_tree(struct convert *c, struct err *err)
{
	c->root = xcalloc(1, sizeof(*c->root));
	TRY(convert_root(c, c->from, "", &c->root->doc, err));
	c->root->d = (struct reg_descriptor){
	    .media_type = c->root->doc->media_type, .digest = c->root->doc->digest, .size = c->root->doc->bytes.n};
	TRY(plan_node(c, c->root, 0, err));
	if (c->root->doc->kind == REG_IMAGE_MANIFEST)
		TRY(check_platform(c, err));
	unwrap(c);
	note_marks(c);
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
