#include "registry/manifest.h"

#include "base/json.h"
#include "base/vec.h"

/* What a parsed document owns: the reader that holds all strings, and the arrays. */
struct reg_manifest_memory {
	struct json_reader *reader;
	struct buf bytes;
	VEC(void *) arrays;
	size_t n_annotations; /* so far, against REG_ANNOTATIONS_MAX */
};

struct descriptors {
	struct reg_descriptor *p;
	size_t n, cap;
};

struct members {
	struct reg_member *p;
	size_t n, cap;
};
static inline void members_fini(struct members *m)
{
	vec_fini(m);
}
DEFINE_AUTO_FINI(members);

struct texts {
	struct str *p;
	size_t n, cap;
};

/* What the fields of a document were, before it is known which kind it is. */
struct fields {
	uint64_t schema;
	bool has_config, has_layers, has_entries, has_v1;
	struct descriptors layers, entries;
	struct texts unread;
	struct members others;
};

static void fields_fini(struct fields *f)
{
	vec_fini(&f->layers);
	vec_fini(&f->entries);
	vec_fini(&f->unread);
	vec_fini(&f->others);
}
DEFINE_AUTO_FINI(fields);

static struct reg_manifest_memory *memory_new(struct str bytes)
{
	struct reg_manifest_memory *m = xcalloc(1, sizeof(*m));

	buf_addstr(&m->bytes, bytes);
	m->reader = json_reader_new(bytes);
	return m;
}

static void memory_free(struct reg_manifest_memory *m)
{
	if (!m)
		return;
	vec_each(&m->arrays, array)
		free(*array);
	vec_fini(&m->arrays);
	json_reader_free(m->reader);
	buf_fini(&m->bytes);
	free(m);
}

/* Hands an array to the document; NULL stays NULL. */
static void *memory_keep(struct reg_manifest_memory *m, void *array)
{
	if (array)
		vec_push(&m->arrays, array);
	return array;
}

/* Go encodes absent maps and slices as null: consumes one and says so. */
static int skip_null(struct json_reader *r, struct err *err)
{
	enum json_type type;

	TRY(json_peek(r, &type, err));
	if (type != JSON_NULL)
		return 0;
	TRY(json_skip(r, err));
	return 1;
}

/* One more annotation or unknown member. */
static int count(struct reg_manifest_memory *m, struct err *err)
{
	if (++m->n_annotations > REG_ANNOTATIONS_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d annotations", REG_ANNOTATIONS_MAX);
	return 0;
}

/* A member that is not for us; the reader has just given its key. */
static int keep_member(struct reg_manifest_memory *m, struct str key, struct members *out, struct err *err)
{
	struct reg_member one = {.key = key};

	TRY(count(m, err));
	TRY(json_raw(m->reader, &one.json, err));
	vec_push(out, one);
	return 0;
}

static int parse_annotations(struct reg_manifest_memory *m, const struct reg_annotation **out, size_t *n_out,
                             struct err *err)
{
	struct json_reader *r = m->reader;
	VEC(struct reg_annotation) list = VEC_INIT;
	struct str key;
	int k;

	*out = NULL;
	*n_out = 0;
	k = skip_null(r, err);
	if (k)
		return k < 0 ? k : 0;
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0) {
		struct reg_annotation a = {.key = key};

		k = count(m, err);
		if (k >= 0)
			k = json_string(r, &a.value, err);
		if (k < 0)
			break;
		vec_push(&list, a);
	}
	*n_out = list.n;
	*out = memory_keep(m, list.p);
	return k;
}

static int parse_platform(struct reg_manifest_memory *m, struct reg_platform *out, struct err *err)
{
	AUTO(members) struct members others = VEC_INIT;
	struct json_reader *r = m->reader;
	struct str key;
	int k;

	memset(out, 0, sizeof(*out));
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "os"))
			TRY(json_string(r, &out->os, err));
		else if (json_key_is(key, "architecture"))
			TRY(json_string(r, &out->architecture, err));
		else if (json_key_is(key, "variant"))
			TRY(json_string(r, &out->variant, err));
		else if (json_key_is(key, "os.version"))
			TRY(json_string(r, &out->os_version, err));
		else
			TRY(keep_member(m, key, &others, err));
	TRY(k);
	out->n_others = others.n;
	out->others = memory_keep(m, STEAL(others.p));
	return 0;
}

/* `digest_ok` NULL: a digest that is not sha256 is an error; else it is reported there. */
static int parse_descriptor(struct reg_manifest_memory *m, struct reg_descriptor *out, bool *digest_ok, struct err *err)
{
	AUTO(members) struct members others = VEC_INIT;
	struct json_reader *r = m->reader;
	struct str key, digest = STR_NONE;
	bool has_size = false;
	int k, r_digest;

	memset(out, 0, sizeof(*out));
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0) {
		if (json_key_is(key, "mediaType")) {
			TRY(json_string(r, &out->media_type, err));
		} else if (json_key_is(key, "digest")) {
			TRY(json_string(r, &digest, err));
		} else if (json_key_is(key, "size")) {
			TRY(json_u64(r, &out->size, err));
			has_size = true;
		} else if (json_key_is(key, "artifactType")) {
			TRY(json_string(r, &out->artifact_type, err));
		} else if (json_key_is(key, "annotations")) {
			TRY(parse_annotations(m, &out->annotations, &out->n_annotations, err));
		} else if (json_key_is(key, "platform")) {
			int null = skip_null(r, err);

			TRY(null);
			out->has_platform = !null;
			if (!null)
				TRY_WRAP(parse_platform(m, &out->platform, err), err, "platform");
		} else if (json_key_is(key, "urls")) {
			TRY(json_raw(r, &out->urls, err));
		} else if (json_key_is(key, "data")) {
			TRY(json_raw(r, &out->data, err));
		} else {
			TRY(keep_member(m, key, &others, err));
		}
	}
	TRY(k);
	out->n_others = others.n;
	out->others = memory_keep(m, STEAL(others.p));
	if (!has_size || out->size > INT64_MAX)
		return err_set(err, ERR_INVALID, "descriptor without a valid size");
	if (out->media_type.n > REG_MEDIA_TYPE_MAX)
		return err_set(err, ERR_INVALID, "media type longer than %d bytes", REG_MEDIA_TYPE_MAX);
	r_digest = digest_parse(digest, &out->digest, digest_ok ? NULL : err);
	if (digest_ok)
		*digest_ok = r_digest == 0;
	else
		TRY(r_digest);
	return 0;
}

/* `unread` NULL: a digest that is not sha256 is an error; else such a descriptor goes there, as it stands. */
static int parse_descriptors(struct reg_manifest_memory *m, size_t max, struct texts *unread, struct descriptors *out,
                             struct err *err)
{
	struct json_reader *r = m->reader;
	size_t seen = 0;
	int k;

	vec_clear(out); /* a repeated key: the last one wins */
	if (unread)
		vec_clear(unread);
	k = skip_null(r, err);
	if (k)
		return k < 0 ? k : 0;
	TRY(json_array_begin(r, err));
	while ((k = json_array_next(r, err)) > 0) {
		size_t from = json_offset(r);
		struct reg_descriptor d;
		bool ok = true;

		if (seen++ == max)
			return err_set(err, ERR_EXHAUSTED, "more than %zu descriptors", max);
		TRY_WRAP(parse_descriptor(m, &d, unread ? &ok : NULL, err), err, "entry %zu", seen - 1);
		if (ok)
			vec_push(out, d);
		else /* from the document's own copy: the reader unescapes in its */
			vec_push(unread, str_trim(str_sub(buf_str(&m->bytes), from, json_offset(r) - from)));
	}
	return k;
}

static int parse_field(struct reg_manifest *d, struct fields *f, struct str key, struct err *err)
{
	struct reg_manifest_memory *m = d->memory;
	struct json_reader *r = m->reader;

	if (json_key_is(key, "schemaVersion"))
		return json_u64(r, &f->schema, err);
	if (json_key_is(key, "mediaType"))
		return json_string(r, &d->media_type, err);
	if (json_key_is(key, "artifactType"))
		return json_string(r, &d->artifact_type, err);
	if (json_key_is(key, "config")) {
		f->has_config = true;
		TRY_WRAP(parse_descriptor(m, &d->config, NULL, err), err, "config");
		return 0;
	}
	if (json_key_is(key, "layers")) {
		f->has_layers = true;
		TRY_WRAP(parse_descriptors(m, REG_LAYERS_MAX, NULL, &f->layers, err), err, "layers");
		return 0;
	}
	if (json_key_is(key, "manifests")) {
		f->has_entries = true;
		TRY_WRAP(parse_descriptors(m, REG_INDEX_ENTRIES_MAX, &f->unread, &f->entries, err), err, "manifests");
		return 0;
	}
	if (json_key_is(key, "annotations"))
		return parse_annotations(m, &d->annotations, &d->n_annotations, err);
	if (json_key_is(key, "subject")) {
		int null = skip_null(r, err);

		TRY(null);
		d->has_subject = !null;
		if (!null)
			TRY_WRAP(parse_descriptor(m, &d->subject, NULL, err), err, "subject");
		return 0;
	}
	f->has_v1 |= json_key_is(key, "fsLayers") || json_key_is(key, "blobs");
	return keep_member(m, key, &f->others, err);
}

static bool media_is_manifest(struct str type)
{
	return str_eqc(type, REG_MT_OCI_MANIFEST) || str_eqc(type, REG_MT_DOCKER_MANIFEST);
}

bool reg_media_is_index(struct str type)
{
	return str_eqc(type, REG_MT_OCI_INDEX) || str_eqc(type, REG_MT_DOCKER_LIST);
}

bool reg_media_is_encrypted(struct str type)
{
	return str_ends(type, STR("+encrypted"));
}

bool reg_media_is_foreign(struct str type)
{
	return str_starts(type, STR("application/vnd.docker.image.rootfs.foreign.")) ||
	       str_starts(type, STR("application/vnd.oci.image.layer.nondistributable."));
}

/* The type without parameters. */
static struct str bare_type(struct str content_type)
{
	struct str head = STR_NONE;

	str_split(&content_type, ';', &head);
	return str_trim(head);
}

/*
 * Settles the kind. The media type inside, the one HTTP gave and the shape must agree: a document that could be read
 * both as index and as manifest lets two readers see two images under one digest (CVE-2021-41190).
 */
static int decide_kind(struct reg_manifest *d, const struct fields *f, struct str content_type, struct err *err)
{
	struct str type = bare_type(content_type);
	bool named = reg_media_is_index(type) || media_is_manifest(type); /* application/json etc. says nothing */

	if (f->schema == 1 || (f->has_v1 && !f->has_entries && !f->has_layers))
		return err_set(err, ERR_UNIMPLEMENTED, "Docker image manifest schema 1 is not supported");
	if (f->schema != 2)
		return err_set(err, ERR_INVALID, "not an image manifest: schemaVersion is not 2");
	if (f->has_entries && (f->has_layers || f->has_config))
		return err_set(err, ERR_INVALID, "the document is both an index and a manifest");
	if (!f->has_entries && !f->has_config)
		return err_set(err, ERR_INVALID, "the document is neither an index nor a manifest");
	if (named && d->media_type.n && !str_eq(type, d->media_type))
		return err_set(err, ERR_INVALID, "media type \"" STR_FMT "\" was announced as \"" STR_FMT "\"",
		               STR_ARG(d->media_type), STR_ARG(type));
	if (!d->media_type.n && named)
		/* The view must live with the document: take the constant it equals. */
		d->media_type = str_eqc(type, REG_MT_OCI_INDEX)      ? STR(REG_MT_OCI_INDEX)
		                : str_eqc(type, REG_MT_DOCKER_LIST)  ? STR(REG_MT_DOCKER_LIST)
		                : str_eqc(type, REG_MT_OCI_MANIFEST) ? STR(REG_MT_OCI_MANIFEST)
		                                                     : STR(REG_MT_DOCKER_MANIFEST);
	d->kind = f->has_entries ? REG_IMAGE_INDEX : REG_IMAGE_MANIFEST;
	if (!d->media_type.n)
		d->media_type = f->has_entries ? STR(REG_MT_OCI_INDEX) : STR(REG_MT_OCI_MANIFEST);
	if (f->has_entries ? media_is_manifest(d->media_type) : reg_media_is_index(d->media_type))
		return err_set(err, ERR_INVALID, "the document does not have the shape of \"" STR_FMT "\"",
		               STR_ARG(d->media_type));
	if (d->media_type.n > REG_MEDIA_TYPE_MAX)
		return err_set(err, ERR_INVALID, "media type longer than %d bytes", REG_MEDIA_TYPE_MAX);
	return 0;
}

int reg_manifest_parse(struct str bytes, struct str content_type, struct reg_manifest **out, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *d = NULL;
	AUTO(fields) struct fields f = {0};
	struct str key;
	int k;

	if (bytes.n > REG_MANIFEST_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "manifest of %zu bytes, more than %u", bytes.n,
		               REG_MANIFEST_BYTES_MAX);
	d = xcalloc(1, sizeof(*d));
	d->memory = memory_new(bytes);
	d->bytes = buf_str(&d->memory->bytes);
	digest_of(bytes.p, bytes.n, &d->digest);

	k = json_object_begin(d->memory->reader, err);
	while (k >= 0 && (k = json_object_next(d->memory->reader, &key, err)) > 0)
		k = parse_field(d, &f, key, err);
	TRY(k);
	TRY(json_end(d->memory->reader, err));
	TRY(decide_kind(d, &f, content_type, err));
	d->n_layers = f.layers.n;
	d->layers = memory_keep(d->memory, STEAL(f.layers.p));
	d->n_entries = f.entries.n;
	d->entries = memory_keep(d->memory, STEAL(f.entries.p));
	d->n_unread = f.unread.n;
	d->unread = memory_keep(d->memory, STEAL(f.unread.p));
	d->n_others = f.others.n;
	d->others = memory_keep(d->memory, STEAL(f.others.p));
	*out = STEAL(d);
	return 0;
}

void reg_manifest_free(struct reg_manifest *m)
{
	if (!m)
		return;
	memory_free(m->memory);
	free(m);
}

struct str reg_annotation_get(const struct reg_annotation *annotations, size_t n, struct str key)
{
	for (size_t i = n; i-- > 0;)
		if (str_eq(annotations[i].key, key))
			return annotations[i].value;
	return STR_NONE;
}

enum reg_layer_format reg_layer_format(struct str type)
{
	if (!str_skip(&type, STR("application/vnd.oci.image.layer.v1.tar")) &&
	    !str_skip(&type, STR("application/vnd.oci.image.layer.nondistributable.v1.tar")) &&
	    !str_skip(&type, STR("application/vnd.docker.image.rootfs.diff.tar")) &&
	    !str_skip(&type, STR("application/vnd.docker.image.rootfs.foreign.diff.tar")))
		return REG_LAYER_UNKNOWN;
	if (type.n == 0)
		return REG_LAYER_TAR;
	if (str_eqc(type, "+gzip") || str_eqc(type, ".gzip"))
		return REG_LAYER_GZIP;
	if (str_eqc(type, "+zstd") || str_eqc(type, ".zstd"))
		return REG_LAYER_ZSTD;
	return REG_LAYER_UNKNOWN;
}

struct digests {
	struct digest *p;
	size_t n, cap;
};
static inline void digests_fini(struct digests *d)
{
	vec_fini(d);
}
DEFINE_AUTO_FINI(digests);

static int parse_diff_ids(struct json_reader *r, struct digests *out, struct err *err)
{
	struct str text;
	int k;

	vec_clear(out);
	k = skip_null(r, err);
	if (k)
		return k < 0 ? k : 0;
	TRY(json_array_begin(r, err));
	while ((k = json_array_next(r, err)) > 0) {
		struct digest d;

		if (out->n == REG_LAYERS_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d diff_ids", REG_LAYERS_MAX);
		TRY(json_string(r, &text, err));
		TRY(digest_parse(text, &d, err));
		vec_push(out, d);
	}
	return k;
}

static int parse_rootfs(struct json_reader *r, struct digests *out, bool *has_diff_ids, struct err *err)
{
	struct str key;
	int k;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "diff_ids")) {
			TRY_WRAP(parse_diff_ids(r, out, err), err, "rootfs.diff_ids");
			*has_diff_ids = true;
		} else {
			TRY(json_skip(r, err));
		}
	return k;
}

int reg_config_parse(struct str bytes, struct reg_config **out, struct err *err)
{
	AUTO(reg_config) struct reg_config *c = NULL;
	AUTO(digests) struct digests diff_ids = VEC_INIT;
	bool has_diff_ids = false;
	struct json_reader *r;
	struct str key;
	int k;

	if (bytes.n > REG_CONFIG_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "image configuration of %zu bytes, more than %u", bytes.n,
		               REG_CONFIG_BYTES_MAX);
	c = xcalloc(1, sizeof(*c));
	c->memory = memory_new(bytes);
	c->bytes = buf_str(&c->memory->bytes);
	digest_of(bytes.p, bytes.n, &c->digest);
	r = c->memory->reader;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "os"))
			TRY(json_string(r, &c->platform.os, err));
		else if (json_key_is(key, "architecture"))
			TRY(json_string(r, &c->platform.architecture, err));
		else if (json_key_is(key, "variant"))
			TRY(json_string(r, &c->platform.variant, err));
		else if (json_key_is(key, "os.version"))
			TRY(json_string(r, &c->platform.os_version, err));
		else if (json_key_is(key, "rootfs"))
			TRY(parse_rootfs(r, &diff_ids, &has_diff_ids, err));
		else
			TRY(json_skip(r, err));
	TRY(k);
	TRY(json_end(r, err));
	if (!has_diff_ids)
		return err_set(err, ERR_INVALID, "image configuration without rootfs.diff_ids");
	c->n_diff_ids = diff_ids.n;
	c->diff_ids = memory_keep(c->memory, STEAL(diff_ids.p));
	*out = STEAL(c);
	return 0;
}

void reg_config_free(struct reg_config *c)
{
	if (!c)
		return;
	memory_free(c->memory);
	free(c);
}
