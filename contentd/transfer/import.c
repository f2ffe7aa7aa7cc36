/*
 * From a stream to the image store: an image archive becomes blobs, an index of what is in it, and image records.
 *
 *	stream ──► reader: every file a blob ──► OCI layout: index.json is the index
 *	                                    └──► docker save: manifests and an index are written for manifest.json
 *	index ──► tree of the wanted platforms ──► complete? ──► records, snapshots, image records
 */
#include "contentd/content/blobs.h"
#include "contentd/transfer/archive.h"
#include "contentd/transfer/bytes.h"
#include "contentd/transfer/reader.h"
#include "contentd/transfer/recording.h"
#include "contentd/transfer/unpack.h"
#include "registry/reference.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#define ANNOTATION_NAME "io.containerd.image.name"
#define ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

struct import {
	struct cd_transfer *t;
	const Xfer__ImageStore *store;
	bool force_compress;
	struct cd_archive_reader reader;
	Types__Descriptor root; /* the index; texts in the call's arena */
	struct map packed;      /* plain layer's digest -> struct cd_archive_part, heap: its compressed copy */
};

static int read_archive(struct import *im, struct cd_stream *stream, struct err *err)
{
	AUTO(cd_bytes_in) struct cd_bytes_in in;
	struct str bytes;
	int r;

	cd_bytes_in_init(&in, stream, im->t->call);
	while ((r = cd_bytes_read(&in, &bytes, err)) > 0)
		TRY_WRAP(cd_archive_reader_feed(&im->reader, bytes, err), err, "image archive");
	TRY(r);
	TRY_WRAP(cd_archive_reader_finish(&im->reader, err), err, "image archive");
	return 0;
}

static void set_root(struct import *im, const char *media_type, const struct digest *digest, int64_t bytes)
{
	char text[DIGEST_TEXT_MAX];

	types__descriptor__init(&im->root);
	im->root.media_type = media_type;
	im->root.digest = arena_strdup(rpc_arena(im->t->call), digest_text(digest, text));
	im->root.size = bytes;
}

/* ---- OCI layouts ---- */

static int resolve_layout(struct import *im, struct err *err)
{
	const struct cd_archive_file *index = cd_archive_reader_find(&im->reader, STR("index.json"));

	TRY_WRAP(cd_archive_layout_check(buf_str(&im->reader.layout), err), err, "oci-layout");
	if (!index)
		return err_set(err, ERR_NOT_FOUND, "OCI layout without an index.json");
	set_root(im, REG_MT_OCI_INDEX, &index->digest, index->bytes);
	return 0;
}

/* ---- docker save ---- */

static int find(struct import *im, const char *what, struct str name, const struct cd_archive_file **out,
                struct err *err)
{
	*out = cd_archive_reader_find(&im->reader, name);
	return *out ? 0
	            : err_set(err, ERR_NOT_FOUND, "%s \"" STR_FMT "\" is not in the archive", what,
	                      STR_ARG(str_sub(name, 0, 200)));
}

static const char *media_type_of(const uint8_t *magic, size_t n)
{
	if (n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b)
		return REG_MT_DOCKER_LAYER_GZIP;
	if (n >= 4 && !memcmp(magic, "\x28\xb5\x2f\xfd", 4))
		return REG_MT_DOCKER_LAYER_ZSTD;
	return REG_MT_DOCKER_LAYER;
}

static int compress(struct import *im, int fd, struct cd_archive_part *part, struct err *err)
{
	struct str key = str_make(&part->digest, sizeof(part->digest));
	struct cd_archive_part *packed = map_get(&im->packed, key);

	if (!packed) {
		struct cd_archive_part made = {.media_type = REG_MT_DOCKER_LAYER_GZIP};

		TRY(cd_deposit_gzip(im->t, fd, &made.digest, &made.bytes, err));
		packed = xmalloc(sizeof(*packed));
		*packed = made;
		map_put(&im->packed, key, packed);
	}
	*part = *packed;
	return 0;
}

/* What the archive does not say of a layer its first bytes do. */
static int resolve_layer(struct import *im, struct str name, struct cd_archive_part *out, struct err *err)
{
	const struct cd_archive_file *file;
	AUTO_FD int fd = -1;
	uint8_t magic[4];
	int64_t bytes;
	ssize_t n;

	TRY(find(im, "layer", name, &file, err));
	TRY(cd_blob_open(im->t->d->content, &file->digest, &fd, &bytes, err));
	n = pread(fd, magic, sizeof(magic), 0);
	*out = (struct cd_archive_part){media_type_of(magic, n < 0 ? 0 : (size_t)n), file->digest, file->bytes};
	if (im->force_compress && !strcmp(out->media_type, REG_MT_DOCKER_LAYER))
		return compress(im, fd, out, err);
	return 0;
}

static int write_manifest(struct import *im, const struct cd_archive_image *image, struct cd_archive_part *out,
                          struct err *err)
{
	AUTO_FREE struct cd_archive_part *layers = xcalloc(image->layers.v.n + 1, sizeof(*layers));
	struct cd_archive_part config = {.media_type = REG_MT_DOCKER_CONFIG};
	const struct cd_archive_file *file;
	AUTO(buf) struct buf json = BUF_INIT;

	TRY(find(im, "configuration", image->config, &file, err));
	config.digest = file->digest;
	config.bytes = file->bytes;
	for (size_t i = 0; i < image->layers.v.n; i++)
		TRY(resolve_layer(im, image->layers.v.p[i], &layers[i], err));
	cd_archive_manifest_write(&config, layers, image->layers.v.n, &json);
	out->media_type = REG_MT_DOCKER_MANIFEST;
	out->bytes = (int64_t)json.n;
	return cd_deposit_all(im->t, buf_str(&json), &out->digest, err);
}

static int write_platform(struct import *im, struct json_writer *w, struct str config_name, struct err *err)
{
	const struct cd_archive_file *file = cd_archive_reader_find(&im->reader, config_name);
	AUTO(reg_config) struct reg_config *config = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;
	char text[DIGEST_TEXT_MAX];

	TRY(cd_tree_read(im->t->d, im->t->call, im->t->ns, digest_text(&file->digest, text), REG_CONFIG_BYTES_MAX,
	                 &bytes, err));
	TRY_WRAP(reg_config_parse(buf_str(&bytes), &config, err), err, "configuration " STR_FMT, STR_ARG(config_name));
	if (!config->platform.os.n || !config->platform.architecture.n)
		return 0;
	json_w_key(w, "platform");
	json_w_object_begin(w);
	json_w_kstr(w, "architecture", config->platform.architecture);
	json_w_kstr(w, "os", config->platform.os);
	if (config->platform.variant.n)
		json_w_kstr(w, "variant", config->platform.variant);
	json_w_object_end(w);
	return 0;
}

/* One entry: the manifest, under one of the image's names, or under none. */
static int write_entry(struct import *im, struct json_writer *w, const struct cd_archive_image *image,
                       const struct cd_archive_part *manifest, struct str name, struct err *err)
{
	char text[REG_REF_TEXT_MAX], digest[DIGEST_TEXT_MAX];
	struct reg_ref ref;

	json_w_object_begin(w);
	json_w_kcstr(w, "mediaType", manifest->media_type);
	json_w_kcstr(w, "digest", digest_text(&manifest->digest, digest));
	json_w_ki64(w, "size", manifest->bytes);
	if (name.n && reg_ref_parse(name, &ref, NULL) >= 0) {
		json_w_key(w, "annotations");
		json_w_object_begin(w);
		json_w_kcstr(w, ANNOTATION_NAME, reg_ref_text(&ref, text));
		json_w_kcstr(w, ANNOTATION_REF_NAME, ref.tag);
		json_w_object_end(w);
	}
	TRY(write_platform(im, w, image->config, err));
	json_w_object_end(w);
	return 0;
}

static int write_entries(struct import *im, struct json_writer *w, const struct cd_archive_image *image,
                         struct err *err)
{
	struct cd_archive_part manifest;

	TRY(write_manifest(im, image, &manifest, err));
	if (!image->tags.v.n)
		return write_entry(im, w, image, &manifest, STR_NONE, err);
	for (size_t i = 0; i < image->tags.v.n; i++)
		TRY(write_entry(im, w, image, &manifest, image->tags.v.p[i], err));
	return 0;
}

static int resolve_images(struct import *im, struct err *err)
{
	AUTO(cd_archive_images) struct cd_archive_images images = {0};
	AUTO(buf) struct buf json = BUF_INIT;
	struct json_writer w;
	struct digest digest;

	TRY_WRAP(cd_archive_images_parse(buf_str(&im->reader.images), &images, err), err, "manifest.json");
	json_writer_init(&w, &json, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "schemaVersion", 2);
	json_w_kcstr(&w, "mediaType", REG_MT_OCI_INDEX);
	json_w_key(&w, "manifests");
	json_w_array_begin(&w);
	for (size_t i = 0; i < images.v.n; i++)
		TRY(write_entries(im, &w, &images.v.p[i], err));
	json_w_array_end(&w);
	json_w_object_end(&w);
	TRY(cd_deposit_all(im->t, buf_str(&json), &digest, err));
	set_root(im, REG_MT_OCI_INDEX, &digest, (int64_t)json.n);
	return 0;
}

static int resolve(struct import *im, struct err *err)
{
	if (im->reader.has_layout)
		return resolve_layout(im, err);
	if (im->reader.has_images)
		return resolve_images(im, err);
	return err_set(err, ERR_INVALID, "unrecognized image format: neither oci-layout nor manifest.json");
}

/* ---- what is in it ---- */

/* Everything that the tree names is here, with the size it names, and is nothing that we cannot use. */
static int check_node(struct import *im, const struct cd_tree_node *n, struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	AUTO_FD int fd = -1;
	int64_t bytes;
	int r;

	digest_text(&n->d.digest, text);
	/* Before it is looked at: the collector leaves it alone from here on. */
	cd_use_blob_for_call(im->t->d, im->t->call, im->t->ns, text);
	if (reg_media_is_encrypted(n->d.media_type))
		return err_set(err, ERR_UNIMPLEMENTED,
		               "layer %s is encrypted (" STR_FMT "): encrypted images cannot be used", text,
		               STR_ARG(n->d.media_type));
	r = cd_content_open_here(im->t->d, im->t->ns, &n->d.digest, &fd, &bytes, err);
	TRY(r);
	if (!r) {
		/* Lazily read here already, or left out on purpose. */
		if (cd_meta_has(im->t->d->meta, CD_CONTENT, im->t->ns, str_of(text), NULL) > 0 ||
		    reg_media_is_foreign(n->d.media_type))
			return 0;
		return err_set(err, ERR_NOT_FOUND, "%s is neither in the archive nor in the content store", text);
	}
	if ((uint64_t)bytes != n->d.size)
		return err_set(err, ERR_DATA_LOSS, "%s has %lld bytes, should have %llu", text, (long long)bytes,
		               (unsigned long long)n->d.size);
	return 0;
}

static int check_tree(struct import *im, const struct cd_tree *tree, struct err *err)
{
	bool has_image = !tree->nodes.p[0].doc->n_entries;

	vec_each(&tree->nodes, n)
		has_image = has_image || n->kind > CD_TREE_INDEX;
	if (!has_image)
		return err_set(err, ERR_NOT_FOUND, "no image in the archive is for the wanted platforms");
	for (size_t i = 1; i < tree->nodes.n; i++)
		TRY(check_node(im, &tree->nodes.p[i], err));
	return 0;
}

/* ---- names ---- */

static int put_as(struct import *im, const struct cd_image_names *names, Types__Descriptor *target, struct err *err)
{
	vec_each(&names->v, name)
		TRY(cd_store_put(im->t, im->store, *name, target, err));
	return 0;
}

/* The index as a whole, where the store has a name for it. */
static int put_root(struct import *im, struct err *err)
{
	struct cd_image_names names = {0};
	int r;

	cd_store_names(im->t, im->store, im->root.digest, &names);
	r = put_as(im, &names, &im->root, err);
	vec_fini(&names.v);
	return r;
}

static int put_entry(struct import *im, const struct reg_descriptor *d, struct err *err)
{
	struct str full = reg_annotation_get(d->annotations, d->n_annotations, STR(ANNOTATION_NAME));
	struct str tag = reg_annotation_get(d->annotations, d->n_annotations, STR(ANNOTATION_REF_NAME));
	Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
	struct arena *a = rpc_arena(im->t->call);
	struct cd_image_names names = {0};
	char text[DIGEST_TEXT_MAX];
	int r;

	target.media_type = arena_str(a, d->media_type);
	target.digest = digest_text(&d->digest, text);
	target.size = (int64_t)d->size;
	cd_store_names_imported(im->t, im->store, full, tag, text, &names);
	r = put_as(im, &names, &target, err);
	if (!names.v.n && !*im->store->name)
		log_info("import: no name for %s", text);
	vec_fini(&names.v);
	return r;
}

/* An entry may be there several times, with a name each. */
static int put_entries(struct import *im, const struct cd_tree *tree, struct err *err)
{
	const struct reg_manifest *index = tree->nodes.p[0].doc;

	for (size_t i = 0; i < index->n_entries; i++)
		if (cd_tree_find(tree, &index->entries[i].digest))
			TRY(put_entry(im, &index->entries[i], err));
	return 0;
}

/* ---- the whole ---- */

static int store(struct import *im, struct err *err)
{
	const struct cd_tree_filter filter = {.platforms = im->store->platforms,
	                                      .n_platforms = im->store->n_platforms,
	                                      .all_metadata = im->store->all_metadata,
	                                      .limit = im->store->manifest_limit};
	AUTO(cd_unpacked) struct cd_unpacked unpacked = {0};
	AUTO(cd_recording) struct cd_recording records;
	AUTO(cd_tree) struct cd_tree tree = {0};
	const char *name = *im->store->name ? im->store->name : "image archive";

	cd_recording_init(&records, im->t->d, im->t->ns, im->t->lease, "");
	TRY_WRAP(cd_tree_load(im->t->d, im->t->call, im->t->ns, &im->root, &filter, &tree, err), err, "image archive");
	TRY_WRAP(check_tree(im, &tree, err), err, "image archive");
	TRY(cd_recording_put_tree(&records, &tree, err));
	TRY_WRAP(cd_unpack_tree(im->t, &tree, im->store, name, &unpacked, err), err, "image archive");
	TRY(rpc_cancelled(im->t->call, err));
	TRY(put_root(im, err));
	return put_entries(im, &tree, err);
}

static int import(struct import *im, struct cd_stream *stream, struct err *err)
{
	cd_progress_headline(im->t->progress, "Importing");
	TRY(read_archive(im, stream, err));
	TRY_WRAP(resolve(im, err), err, "image archive");
	TRY(store(im, err));
	cd_progress_headline(im->t->progress, "Completed import");
	return 0;
}

int cd_transfer_import(struct cd_transfer *t, const Xfer__ImageImportStream *from, Xfer__ImageStore *to,
                       struct err *err)
{
	struct import im = {.t = t, .store = to, .force_compress = from->force_compress};
	AUTO(cd_stream) struct cd_stream *stream = NULL;
	struct str key;
	void *value;
	size_t at = 0;
	int r;

	TRY(cd_store_check(t, to, err));
	TRY(cd_transfer_stream(t, from->stream, &stream, err));
	if (!stream)
		return err_set(err, ERR_INVALID, "no stream to import from");
	cd_archive_reader_init(&im.reader, t);
	r = import(&im, stream, err);
	cd_archive_reader_fini(&im.reader);
	while (map_next(&im.packed, &at, &key, &value))
		free(value);
	map_fini(&im.packed);
	return r;
}

/* ---- from stream to stream ---- */

int cd_transfer_echo(struct cd_transfer *t, const Xfer__ImageImportStream *from, const Xfer__ImageExportStream *to,
                     struct err *err)
{
	AUTO(cd_stream) struct cd_stream *source = NULL;
	AUTO(cd_stream) struct cd_stream *destination = NULL;
	AUTO(cd_bytes_in) struct cd_bytes_in in;
	struct cd_bytes_out out;
	struct str bytes;
	int r;

	cd_bytes_in_init(&in, NULL, t->call);
	TRY(cd_transfer_stream(t, from->stream, &source, err));
	TRY(cd_transfer_stream(t, to->stream, &destination, err));
	if (!source || !destination)
		return err_set(err, ERR_INVALID, "a stream is missing");
	in.stream = source;
	cd_bytes_out_init(&out, destination, t->call);
	while ((r = cd_bytes_read(&in, &bytes, err)) > 0)
		TRY(cd_bytes_write(&out, bytes, err));
	return r;
}
