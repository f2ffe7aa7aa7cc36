/*
 * From the image store to a stream: an OCI layout in a tar, with docker's manifest.json beside it, so that docker load
 * takes it too. Blobs by digest first, then the documents that name them; layers without a file are fetched as they are
 * written.
 */
#include "contentd/content/blobs.h"
#include "contentd/transfer/bytes.h"
#include "contentd/transfer/transfer.h"
#include "contentd/transfer/tree.h"
#include "estargz/tar/tar_write.h"
#include "registry/manifest_write.h"

#include "base/file.h"
#include "base/json.h"
#include "base/map.h"

#include <stdio.h>

#define READ_BYTES (256u << 10)
#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define ANNOTATION_NAME "io.containerd.image.name"
#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

struct export
{
	struct cd_transfer *t;
	const Xfer__ImageExportStream *to;
	struct cd_bytes_out out;
	struct cd_images images;
	struct cd_tree *trees; /* one an image */
	struct map blobs;      /* digest bytes -> struct cd_tree_node, borrowed from the trees */
};

/* ---- tar ---- */

static int put_header(struct export *x, enum esgz_type type, const char *path, uint64_t size, struct err *err)
{
	struct esgz_entry e = {
	    .type = type, .mode = type == ESGZ_DIR ? 0755 : 0444, .size = size, .path = str_of(path)};
	AUTO(buf) struct buf header = BUF_INIT;

	TRY(tar_write_header(&e, NULL, 0, &header, err));
	return cd_bytes_write(&x->out, buf_str(&header), err);
}

static int put_padding(struct export *x, uint64_t size, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;

	tar_write_padding(size, &zeros);
	return cd_bytes_write(&x->out, buf_str(&zeros), err);
}

static int put_document(struct export *x, const char *path, struct str bytes, struct err *err)
{
	TRY(put_header(x, ESGZ_REG, path, bytes.n, err));
	TRY(cd_bytes_write(&x->out, bytes, err));
	return put_padding(x, bytes.n, err);
}

/* Behind the two blocks of its end a tar may have any number of zeros. */
static int put_end(struct export *x, struct err *err)
{
	AUTO(buf) struct buf zeros = BUF_INIT;
	size_t more;

	buf_addz(&zeros, 2 * TAR_BLOCK);
	TRY(cd_bytes_write(&x->out, buf_str(&zeros), err));
	more = cd_bytes_until_grant(&x->out);
	buf_clear(&zeros);
	buf_addz(&zeros, more);
	tar_write_padding(more, &zeros);
	TRY(cd_bytes_write(&x->out, buf_str(&zeros), err));
	return cd_bytes_await_grant(&x->out, err);
}

/* ---- blobs ---- */

static int copy(struct export *x, int fd, uint64_t bytes, struct err *err)
{
	AUTO_FREE char *block = xmalloc(READ_BYTES);

	for (uint64_t at = 0; at < bytes;) {
		size_t n = bytes - at < READ_BYTES ? (size_t)(bytes - at) : READ_BYTES;

		TRY(fd_pread_all(fd, block, n, (off_t)at, err));
		TRY(cd_bytes_write(&x->out, str_make(block, n), err));
		at += n;
	}
	return 0;
}

static int open_blob(struct export *x, const char *digest, int *fd, int64_t *bytes, struct err *err)
{
	Records__Content *record;
	struct arena a;
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_content_get(x->t->d, x->t->ns, digest, &a, &record, err);
	if (r >= 0)
		r = cd_content_open_blob(x->t->d, x->t->call, x->t->ns, record, fd, bytes, err);
	arena_fini(&a);
	return r;
}

static int put_blob(struct export *x, const struct digest *d, struct err *err)
{
	char text[DIGEST_TEXT_MAX], hex[65];
	AUTO_FREE char *path = xasprintf("blobs/sha256/%s", digest_hex(d, hex));
	AUTO_FD int fd = -1;
	int64_t bytes;

	TRY_WRAP(open_blob(x, digest_text(d, text), &fd, &bytes, err), err, "export of %s", text);
	TRY(put_header(x, ESGZ_REG, path, (uint64_t)bytes, err));
	TRY(copy(x, fd, (uint64_t)bytes, err));
	return put_padding(x, (uint64_t)bytes, err);
}

static int by_digest(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

static int put_blobs(struct export *x, struct err *err)
{
	AUTO_FREE struct digest *all = xcalloc(x->blobs.n + 1, sizeof(*all));
	size_t at = 0, n = 0;
	struct str key;
	void *value;

	while (map_next(&x->blobs, &at, &key, &value))
		memcpy(&all[n++], key.p, sizeof(*all));
	qsort(all, n, sizeof(*all), by_digest);
	TRY(put_header(x, ESGZ_DIR, "blobs", 0, err));
	TRY(put_header(x, ESGZ_DIR, "blobs/sha256", 0, err));
	for (size_t i = 0; i < n; i++)
		TRY(put_blob(x, &all[i], err));
	return 0;
}

/* ---- index.json ---- */

/* The tag of a name, or its digest: what comes behind the repository. */
static const char *ref_name(const char *name)
{
	const char *slash = strrchr(name, '/'), *colon;
	const char *at = strchr(name, '@');

	if (at)
		return at + 1;
	colon = strchr(slash ?: name, ':');
	return colon ? colon + 1 : "";
}

/* An image as index.json names it; `names` are its annotations. */
static int describe(const Images__Image *image, struct reg_annotation names[static 2], struct reg_descriptor *out,
                    struct err *err)
{
	*out = (struct reg_descriptor){.media_type = str_of(image->target->media_type),
	                               .size = (uint64_t)image->target->size,
	                               .annotations = names,
	                               .n_annotations = *ref_name(image->name) ? 2 : 1};
	names[0] = (struct reg_annotation){STR(ANNOTATION_NAME), str_of(image->name)};
	names[1] = (struct reg_annotation){STR(ANNOTATION_REF_NAME), str_of(ref_name(image->name))};
	return digest_parse(str_of(image->target->digest), &out->digest, err);
}

static int put_index(struct export *x, struct err *err)
{
	size_t n = x->images.v.n;
	AUTO_FREE struct reg_annotation *names = xcalloc(2 * n + 1, sizeof(*names));
	AUTO_FREE struct reg_descriptor *entries = xcalloc(n + 1, sizeof(*entries));
	AUTO(buf) struct buf json = BUF_INIT;
	struct reg_manifest index = {
	    .kind = REG_IMAGE_INDEX, .media_type = STR(REG_MT_OCI_INDEX), .entries = entries, .n_entries = n};

	for (size_t i = 0; i < n; i++)
		TRY(describe(x->images.v.p[i], &names[2 * i], &entries[i], err));
	reg_manifest_write(&index, &json);
	return put_document(x, "index.json", buf_str(&json), err);
}

/* ---- manifest.json ---- */

/* Of several platforms docker gets this machine's, or the first. */
static const struct cd_tree_node *choose_manifest(const struct cd_tree *tree)
{
	const struct cd_tree_node *first = NULL;
	const struct reg_platform host = reg_platform_host();

	vec_each(&tree->nodes, n) {
		if (n->kind != CD_TREE_MANIFEST || !n->doc->n_layers)
			continue;
		if (!n->d.has_platform || reg_platform_fit(&n->d.platform, &host) >= 0)
			return n;
		first = first ?: n;
	}
	return first;
}

/* "docker.io/library/alpine:3" is "alpine:3" to docker. */
static struct str familiar(const char *name)
{
	struct str s = str_of(name);

	if (str_skip(&s, STR("docker.io/")))
		str_skip(&s, STR("library/"));
	return s;
}

static void write_path(struct json_writer *w, const struct digest *d)
{
	char hex[65], path[80];

	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(d, hex));
	json_w_cstr(w, path);
}

static void write_tags(struct export *x, struct json_writer *w, const struct cd_tree_node *manifest)
{
	for (size_t i = 0; i < x->images.v.n; i++) {
		const char *name = x->images.v.p[i]->name;
		const struct cd_tree_node *m = choose_manifest(&x->trees[i]);

		if (m && digest_eq(&m->d.digest, &manifest->d.digest) && !strchr(name, '@'))
			json_w_str(w, familiar(name));
	}
}

static void write_image(struct export *x, struct json_writer *w, const struct cd_tree_node *manifest)
{
	json_w_object_begin(w);
	json_w_key(w, "Config");
	write_path(w, &manifest->doc->config.digest);
	json_w_key(w, "RepoTags");
	json_w_array_begin(w);
	write_tags(x, w, manifest);
	json_w_array_end(w);
	json_w_key(w, "Layers");
	json_w_array_begin(w);
	for (size_t i = 0; i < manifest->doc->n_layers; i++)
		write_path(w, &manifest->doc->layers[i].digest);
	json_w_array_end(w);
	json_w_object_end(w);
}

/* True when an earlier image has the same manifest, and so its tags stand there. */
static bool is_written(struct export *x, size_t i, const struct cd_tree_node *manifest)
{
	for (size_t k = 0; k < i; k++) {
		const struct cd_tree_node *m = choose_manifest(&x->trees[k]);

		if (m && digest_eq(&m->d.digest, &manifest->d.digest))
			return true;
	}
	return false;
}

static int put_images(struct export *x, struct err *err)
{
	AUTO(buf) struct buf json = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &json, NULL);
	json_w_array_begin(&w);
	for (size_t i = 0; i < x->images.v.n; i++) {
		const struct cd_tree_node *m = choose_manifest(&x->trees[i]);

		if (m && !is_written(x, i, m))
			write_image(x, &w, m);
	}
	json_w_array_end(&w);
	return put_document(x, "manifest.json", buf_str(&json), err);
}

/* ---- the whole ---- */

static int load_trees(struct export *x, struct err *err)
{
	const struct reg_platform host = reg_platform_host();
	Types__Platform own = TYPES__PLATFORM__INIT, *only_own[] = {&own};
	struct cd_tree_filter filter = {.platforms = x->to->platforms,
	                                .n_platforms = x->to->n_platforms,
	                                .skip_foreign = x->to->skip_non_distributable};

	own.os = host.os.p;
	own.architecture = host.architecture.p;
	if (x->to->all_platforms)
		filter.n_platforms = 0;
	else if (!filter.n_platforms) {
		filter.platforms = only_own;
		filter.n_platforms = 1;
	}
	x->trees = xcalloc(x->images.v.n + 1, sizeof(*x->trees));
	for (size_t i = 0; i < x->images.v.n; i++) {
		TRY_WRAP(
		    cd_tree_load(x->t->d, x->t->call, x->t->ns, x->images.v.p[i]->target, &filter, &x->trees[i], err),
		    err, "image %s", x->images.v.p[i]->name);
		if (!choose_manifest(&x->trees[i]) && x->trees[i].nodes.p[0].kind == CD_TREE_INDEX)
			return err_set(err, ERR_NOT_FOUND, "image %s: nothing is for the wanted platforms",
			               x->images.v.p[i]->name);
		vec_each(&x->trees[i].nodes, n)
			map_put(&x->blobs, str_make(&n->d.digest, sizeof(n->d.digest)), n);
	}
	return 0;
}

static int export(struct export *x, struct err *err)
{
	cd_progress_headline(x->t->progress, "Exporting");
	TRY(load_trees(x, err));
	TRY(put_blobs(x, err));
	TRY(put_index(x, err));
	if (!x->to->skip_compatibility_manifest)
		TRY(put_images(x, err));
	TRY(put_document(x, "oci-layout", STR(LAYOUT), err));
	TRY(put_end(x, err));
	cd_progress_headline(x->t->progress, "Completed export");
	return 0;
}

int cd_transfer_export(struct cd_transfer *t, const Xfer__ImageStore *from, const Xfer__ImageExportStream *to,
                       struct err *err)
{
	AUTO(cd_stream) struct cd_stream *stream = NULL;
	struct export x = {.t = t, .to = to};
	int r;

	TRY(cd_transfer_stream(t, to->stream, &stream, err));
	if (!stream)
		return err_set(err, ERR_INVALID, "no stream to export to");
	cd_bytes_out_init(&x.out, stream, t->call);
	r = cd_store_lookup(t, from, &x.images, err);
	if (r >= 0)
		r = export(&x, err);
	for (size_t i = 0; x.trees && i < x.images.v.n; i++)
		cd_tree_fini(&x.trees[i]);
	free(x.trees);
	map_fini(&x.blobs);
	vec_fini(&x.images.v);
	return r;
}
