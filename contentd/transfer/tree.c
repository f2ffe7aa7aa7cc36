#include "contentd/transfer/tree.h"

#include "base/file.h"
#include "base/map.h"
#include "contentd/content/blobs.h"

#define DEPTH_MAX 8 /* indexes within indexes */

void cd_tree_fini(struct cd_tree *t)
{
	vec_each(&t->docs, d)
		reg_manifest_free(*d);
	vec_fini(&t->docs);
	vec_fini(&t->children);
	vec_fini(&t->nodes);
}

const struct cd_tree_node *cd_tree_find(const struct cd_tree *t, const struct digest *d)
{
	vec_each(&t->nodes, n)
		if (digest_eq(&n->d.digest, d))
			return n;
	return NULL;
}

int cd_tree_read(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char *digest, size_t max,
                 struct buf *out, struct err *err)
{
	Records__Content *record;
	AUTO_FD int fd = -1;
	struct arena a;
	int64_t bytes;
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_content_get(d, ns, digest, &a, &record, err);
	if (r >= 0)
		r = cd_content_open_blob(d, c, ns, record, &fd, &bytes, err);
	arena_fini(&a);
	TRY(r);
	return fd_read_all(fd, max, out, err);
}

/* ---- platforms ---- */

static int fit(const struct reg_descriptor *have, const Types__Platform *want)
{
	struct reg_platform p = {
	    .os = str_of(want->os), .architecture = str_of(want->architecture), .variant = str_of(want->variant)};

	return reg_platform_fit(&have->platform, &p);
}

bool cd_platform_wanted(const struct reg_descriptor *have, Types__Platform *const *wanted, size_t n)
{
	if (!n || !have->has_platform)
		return true;
	for (size_t i = 0; i < n; i++)
		if (fit(have, wanted[i]) >= 0)
			return true;
	return false;
}

/* Lower is better: by the place of the platform among those wanted, then by how well it fits. */
static long rank(const struct reg_descriptor *have, const struct cd_tree_filter *f)
{
	for (size_t i = 0; have->has_platform && i < f->n_platforms; i++) {
		int level = fit(have, f->platforms[i]);

		if (level >= 0)
			return (long)i * 1000 + (999 - level);
	}
	return (long)f->n_platforms * 1000;
}

/* ---- loading ---- */

struct load {
	struct cd_daemon *d;
	struct rpc_call *call;
	const char *ns;
	const struct cd_tree_filter *filter;
	struct cd_tree *tree;
	struct map seen; /* digest bytes -> position + 1 */
};

/* The position of the node for `d`, made when the digest is new. */
static int add(struct load *l, size_t parent, size_t place, enum cd_tree_kind kind, const struct reg_descriptor *d,
               struct err *err)
{
	struct str key = str_make(&d->digest, sizeof(d->digest));
	size_t at = (size_t)(uintptr_t)map_get(&l->seen, key);
	struct cd_tree_node *n;

	if (!at) {
		if (l->tree->nodes.n >= CD_TREE_NODES_MAX)
			return err_set(err, ERR_INVALID, "more than %d parts", CD_TREE_NODES_MAX);
		n = vec_add(&l->tree->nodes);
		*n = (struct cd_tree_node){.kind = kind, .d = *d, .parent = parent, .place = place};
		at = l->tree->nodes.n;
		map_put(&l->seen, key, (void *)(uintptr_t)at);
	}
	vec_push(&l->tree->children, at - 1);
	return 0;
}

static bool is_manifest(struct str type)
{
	return str_eqc(type, REG_MT_OCI_MANIFEST) || str_eqc(type, REG_MT_DOCKER_MANIFEST);
}

/* What the entry of an index is; things that are none of these have no children that we know. */
static enum cd_tree_kind kind_of(const struct reg_descriptor *d)
{
	return reg_media_is_index(d->media_type) ? CD_TREE_INDEX
	       : is_manifest(d->media_type)      ? CD_TREE_MANIFEST
	                                         : CD_TREE_LAYER;
}

static bool is_here(struct load *l, const struct digest *digest)
{
	char text[DIGEST_TEXT_MAX];

	return cd_meta_has(l->d->meta, CD_CONTENT, l->ns, str_of(digest_text(digest, text)), NULL) > 0;
}

static bool is_wanted(struct load *l, const struct reg_descriptor *d)
{
	const struct cd_tree_filter *f = l->filter;

	if (cd_platform_wanted(d, f->platforms, f->n_platforms))
		return !f->skip_missing || is_here(l, &d->digest);
	return f->all_metadata && is_here(l, &d->digest);
}

struct choice {
	size_t place;
	long rank;
};

static int by_rank(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	return x->rank != y->rank ? (x->rank > y->rank) - (x->rank < y->rank)
	                          : (x->place > y->place) - (x->place < y->place);
}

static int by_place(const void *a, const void *b)
{
	const struct choice *x = a, *y = b;

	return (x->place > y->place) - (x->place < y->place);
}

static int add_entries(struct load *l, size_t at, const struct reg_manifest *doc, struct err *err)
{
	AUTO_FREE struct choice *chosen = xcalloc(doc->n_entries + 1, sizeof(*chosen));
	size_t n = 0;

	for (size_t i = 0; i < doc->n_entries; i++)
		if (is_wanted(l, &doc->entries[i]))
			chosen[n++] = (struct choice){i, rank(&doc->entries[i], l->filter)};
	if (l->filter->limit && n > l->filter->limit) {
		qsort(chosen, n, sizeof(*chosen), by_rank);
		n = l->filter->limit;
		qsort(chosen, n, sizeof(*chosen), by_place);
	}
	for (size_t i = 0; i < n; i++)
		TRY(add(l, at, chosen[i].place, kind_of(&doc->entries[chosen[i].place]), &doc->entries[chosen[i].place],
		        err));
	return 0;
}

static int add_parts(struct load *l, size_t at, const struct reg_manifest *doc, struct err *err)
{
	const struct cd_tree_node *n = &l->tree->nodes.p[at];
	bool layers = cd_platform_wanted(&n->d, l->filter->platforms, l->filter->n_platforms);

	TRY(add(l, at, 0, CD_TREE_CONFIG, &doc->config, err));
	for (size_t i = 0; layers && i < doc->n_layers; i++)
		if (!l->filter->skip_foreign || !reg_media_is_foreign(doc->layers[i].media_type))
			TRY(add(l, at, i, CD_TREE_LAYER, &doc->layers[i], err));
	return 0;
}

static int read_document(struct load *l, const struct reg_descriptor *d, struct reg_manifest **out, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	char text[DIGEST_TEXT_MAX];
	struct digest got;

	TRY(cd_tree_read(l->d, l->call, l->ns, digest_text(&d->digest, text), REG_MANIFEST_BYTES_MAX, &bytes, err));
	digest_of(bytes.p, bytes.n, &got);
	if (!digest_eq(&got, &d->digest))
		return err_set(err, ERR_DATA_LOSS, "its bytes have another digest");
	TRY(reg_manifest_parse(buf_str(&bytes), d->media_type, out, err));
	vec_push(&l->tree->docs, *out);
	return 0;
}

static int explain(const struct reg_descriptor *d, struct err *err)
{
	const struct reg_platform *p = &d->platform;
	char text[DIGEST_TEXT_MAX];

	digest_text(&d->digest, text);
	if (!d->has_platform)
		return err_wrap(err, "manifest %s", text);
	return err_wrap(err, "manifest %s (" STR_FMT "/" STR_FMT ")", text, STR_ARG(p->os), STR_ARG(p->architecture));
}

static unsigned depth_of(const struct cd_tree *t, size_t at)
{
	unsigned depth = 0;

	for (; at && depth <= DEPTH_MAX; at = t->nodes.p[at].parent)
		depth++;
	return depth;
}

static int expand(struct load *l, size_t at, struct err *err)
{
	struct reg_descriptor d = l->tree->nodes.p[at].d;
	struct reg_manifest *doc;
	int r;

	l->tree->nodes.p[at].first_child = l->tree->children.n;
	if (l->tree->nodes.p[at].kind > CD_TREE_MANIFEST)
		return 0;
	if (depth_of(l->tree, at) > DEPTH_MAX)
		return err_set(err, ERR_INVALID, "indexes more than %d deep", DEPTH_MAX);
	if (read_document(l, &d, &doc, err) < 0)
		return explain(&d, err);
	l->tree->nodes.p[at].doc = doc;
	l->tree->nodes.p[at].kind = doc->kind == REG_IMAGE_INDEX ? CD_TREE_INDEX : CD_TREE_MANIFEST;
	r = doc->kind == REG_IMAGE_INDEX ? add_entries(l, at, doc, err) : add_parts(l, at, doc, err);
	l->tree->nodes.p[at].n_children = l->tree->children.n - l->tree->nodes.p[at].first_child;
	return r;
}

static int load_all(struct load *l, const Types__Descriptor *root, struct err *err)
{
	struct reg_descriptor d = {.media_type = str_of(root->media_type), .size = (uint64_t)root->size};

	TRY(digest_parse(str_of(root->digest), &d.digest, err));
	TRY(add(l, 0, 0, kind_of(&d), &d, err));
	l->tree->children.n = 0;
	for (size_t at = 0; at < l->tree->nodes.n; at++) {
		TRY(rpc_cancelled(l->call, err));
		TRY(expand(l, at, err));
	}
	return 0;
}

int cd_tree_load(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Types__Descriptor *root,
                 const struct cd_tree_filter *filter, struct cd_tree *out, struct err *err)
{
	struct load l = {.d = d, .call = c, .ns = ns, .filter = filter, .tree = out};
	int r = load_all(&l, root, err);

	map_fini(&l.seen);
	return r;
}
