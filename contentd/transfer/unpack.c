#include "contentd/transfer/unpack.h"

#include "contentd/transfer/pull_internal.h"
#include "contentd/transfer/recording.h"

void cd_unpacked_fini(struct cd_unpacked *u)
{
	vec_each(&u->v, p) {
		pull_fini(*p);
		free(*p);
	}
	vec_fini(&u->v);
}

/* ---- as if contentfs had opened it ---- */

static Contentd__Contentfs__V1__Descriptor *descriptor(struct arena *a, const struct reg_descriptor *from)
{
	Contentd__Contentfs__V1__Descriptor *d = pb_new(a, &contentd__contentfs__v1__descriptor__descriptor);
	char text[DIGEST_TEXT_MAX];

	d->media_type = arena_str(a, from->media_type);
	d->digest = arena_strdup(a, digest_text(&from->digest, text));
	d->size = (int64_t)from->size;
	return d;
}

/* Without an index, also where contentfs may know one from before: to unpack a layer that is here costs less than to make
 * sure that the collector leaves the old one alone. */
static void add_layer(struct pull *p, struct arena *a, const struct reg_descriptor *d, const struct digest *diff_id)
{
	Contentd__Contentfs__V1__Layer *l = pb_new(a, &contentd__contentfs__v1__layer__descriptor);
	char text[DIGEST_TEXT_MAX];

	l->descriptor = descriptor(a, d);
	l->diff_id = arena_strdup(a, digest_text(diff_id, text));
	p->image->layers[p->image->n_layers++] = l;
}

static int describe(struct pull *p, const struct cd_tree_node *manifest, const struct reg_config *config,
                    struct err *err)
{
	const struct reg_manifest *m = manifest->doc;
	struct arena *a = rpc_arena(p->call);

	if (config->n_diff_ids != m->n_layers)
		return err_set(err, ERR_INVALID, "%zu layers, but %zu DiffIDs in the configuration", m->n_layers,
		               config->n_diff_ids);
	p->image = pb_new(a, &contentd__contentfs__v1__open_response__descriptor);
	p->image_borrowed = true;
	p->image->manifest = descriptor(a, &manifest->d);
	p->image->config = descriptor(a, &m->config);
	p->image->layers = arena_zalloc(a, m->n_layers + 1, sizeof(*p->image->layers));
	for (size_t i = 0; i < m->n_layers; i++)
		add_layer(p, a, &m->layers[i], &config->diff_ids[i]);
	return pull_layers_init(p, err);
}

/* ---- one manifest ---- */

static int note_layers(struct pull *p, struct cd_recording *r, struct err *err)
{
	Records__Content *record;

	for (size_t i = 0; i < p->n_layers; i++) {
		const Contentd__Contentfs__V1__Layer *l = p->layers[i].from;

		if (!strcmp(l->diff_id, l->descriptor->digest))
			continue;
		TRY(cd_recording_get(r, l->descriptor->media_type, l->descriptor->digest, l->descriptor->size, &record,
		                     err));
		cd_recording_label(r, record, CD_LABEL_UNCOMPRESSED, l->diff_id);
		cd_recording_put(r, record);
	}
	return 0;
}

static int note(struct pull *p, struct err *err)
{
	const Contentd__Contentfs__V1__Descriptor *config = p->image->config;
	AUTO_FREE struct str *names = xcalloc(p->n_layers + 1, sizeof(*names));
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	AUTO(cd_recording) struct cd_recording r;
	Records__Content *record;

	cd_recording_init(&r, p->d, p->ns, p->lease, "");
	names[0] = str_of(config->digest);
	for (size_t i = 0; i < p->n_layers; i++)
		names[i + 1] = str_of(p->layers[i].from->descriptor->digest);
	h = cd_meta_hold_many(p->d->meta, CD_CONTENT, p->ns, names, p->n_layers + 1);
	TRY(note_layers(p, &r, err));
	TRY(cd_recording_get(&r, config->media_type, config->digest, config->size, &record, err));
	cd_recording_label(&r, record, arena_printf(&r.arena, CD_LABEL_REF_SNAPSHOT "%s", p->snapshotter), p->top);
	cd_recording_put(&r, record);
	pull_lease_snapshots(p, &r);
	return cd_recording_commit(&r, err);
}

static int unpack(struct pull *p, const struct cd_tree_node *manifest, const struct reg_config *config, struct err *err)
{
	TRY(describe(p, manifest, config, err));
	if (!p->top)
		return 0; /* no layers */
	pull_use_all(p);
	TRY(pull_layers_unpack(p, err));
	TRY(pull_layers_commit(p, err));
	pull_use_mount(p);
	TRY_WRAP(snap_warm(p->snaps, p->space, p->top, err), err, "mount the metadata image");
	return note(p, err);
}

static int read_config(struct cd_transfer *t, const struct reg_manifest *m, struct reg_config **out, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	char text[DIGEST_TEXT_MAX];

	TRY(cd_tree_read(t->d, t->call, t->ns, digest_text(&m->config.digest, text), REG_CONFIG_BYTES_MAX, &bytes,
	                 err));
	return reg_config_parse(buf_str(&bytes), out, err);
}

static int unpack_config(struct cd_transfer *t, const struct cd_tree_node *manifest, const struct reg_config *config,
                         const char *image, const char *snapshotter, struct cd_unpacked *out, struct err *err)
{
	struct pull *p = xcalloc(1, sizeof(*p));

	vec_push(&out->v, p);
	TRY(pull_init(p, t->d, t->call, t->ns, err));
	p->lease = t->lease;
	p->reference = p->name = image;
	p->snapshotter = snapshotter;
	p->space = (struct snap_space){t->ns, snapshotter};
	p->progress = t->progress;
	return unpack(p, manifest, config, err);
}

/* ---- all of a tree ---- */

/* What an index does not say of a manifest its configuration does. */
static bool suits(const struct cd_tree_node *manifest, const struct reg_config *config, const Types__Platform *want)
{
	struct reg_platform p = reg_platform_host();

	if (want)
		p = (struct reg_platform){.os = str_of(want->os),
		                          .architecture = str_of(want->architecture),
		                          .variant = str_of(want->variant)};
	return reg_platform_fit(manifest->d.has_platform ? &manifest->d.platform : &config->platform, &p) >= 0;
}

/* Manifests whose configuration is not an image's (signatures, attestations) are nothing to unpack. */
static int unpack_node(struct cd_transfer *t, const struct cd_tree_node *n, const Xfer__ImageStore *store,
                       const char *image, struct cd_unpacked *out, struct err *err)
{
	AUTO(reg_config) struct reg_config *config = NULL;
	const char *snapshotter;

	if (read_config(t, n->doc, &config, NULL) < 0)
		return 0;
	for (size_t i = 0; i < store->n_unpacks; i++) {
		if (!suits(n, config, store->unpacks[i]->platform))
			continue;
		TRY(cd_store_snapshotter(t, store->unpacks[i], &snapshotter, err));
		TRY(unpack_config(t, n, config, image, snapshotter, out, err));
	}
	return 0;
}

int cd_unpack_tree(struct cd_transfer *t, const struct cd_tree *tree, const Xfer__ImageStore *store, const char *image,
                   struct cd_unpacked *out, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	if (!store->n_unpacks)
		return 0;
	for (size_t i = 0; i < tree->nodes.n; i++)
		if (tree->nodes.p[i].kind == CD_TREE_MANIFEST)
			TRY_WRAP(unpack_node(t, &tree->nodes.p[i], store, image, out, err), err, "manifest %s",
			         digest_text(&tree->nodes.p[i].d.digest, text));
	return 0;
}
