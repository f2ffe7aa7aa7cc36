#include "contentd/transfer/archive.h"

#include "base/json.h"
#include "registry/manifest.h"

#define LAYOUT_VERSION "1.0.0"

/* ---- oci-layout ---- */

int cd_archive_layout_check(struct str json, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(json);
	struct str key, version = STR_NONE;
	int k;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "imageLayoutVersion"))
			TRY(json_string(r, &version, err));
		else
			TRY(json_skip(r, err));
	TRY(k);
	TRY(json_end(r, err));
	if (!str_eqc(version, LAYOUT_VERSION))
		return err_set(err, ERR_UNIMPLEMENTED, "unsupported OCI layout version \"" STR_FMT "\"",
		               STR_ARG(str_sub(version, 0, 40)));
	return 0;
}

/* ---- manifest.json ---- */

void cd_archive_images_fini(struct cd_archive_images *a)
{
	vec_each(&a->v, i) {
		vec_fini(&i->tags.v);
		vec_fini(&i->layers.v);
	}
	vec_fini(&a->v);
	json_reader_free(a->reader);
}

static int parse_strings(struct json_reader *r, struct cd_archive_strings *out, struct err *err)
{
	int more;

	TRY(json_array_begin(r, err));
	while ((more = json_array_next(r, err)) > 0) {
		if (out->v.n >= CD_ARCHIVE_LAYERS_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d names", CD_ARCHIVE_LAYERS_MAX);
		TRY(json_string(r, vec_add(&out->v), err));
	}
	return more;
}

static int parse_image(struct json_reader *r, struct cd_archive_image *out, struct err *err)
{
	struct str key;
	int k;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "Config"))
			TRY(json_string(r, &out->config, err));
		else if (json_key_is(key, "RepoTags"))
			TRY(parse_strings(r, &out->tags, err));
		else if (json_key_is(key, "Layers"))
			TRY(parse_strings(r, &out->layers, err));
		else
			TRY(json_skip(r, err));
	return k;
}

int cd_archive_images_parse(struct str json, struct cd_archive_images *out, struct err *err)
{
	int more;

	out->reader = json_reader_new(json);
	TRY(json_array_begin(out->reader, err));
	while ((more = json_array_next(out->reader, err)) > 0) {
		if (out->v.n >= CD_ARCHIVE_IMAGES_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d images", CD_ARCHIVE_IMAGES_MAX);
		TRY(parse_image(out->reader, vec_add(&out->v), err));
	}
	TRY(more);
	return json_end(out->reader, err);
}

/* ---- names ---- */

bool cd_archive_blob_name(struct str name, struct digest *out)
{
	return str_skip(&name, STR("blobs/sha256/")) && digest_from_hex(name, out);
}

/* ---- what docker's archives leave out ---- */

static void write_descriptor(struct json_writer *w, const struct cd_archive_part *p)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kcstr(w, "mediaType", p->media_type);
	json_w_ki64(w, "size", p->bytes);
	json_w_kcstr(w, "digest", digest_text(&p->digest, text));
	json_w_object_end(w);
}

void cd_archive_manifest_write(const struct cd_archive_part *config, const struct cd_archive_part *layers, size_t n,
                               struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "schemaVersion", 2);
	json_w_kcstr(&w, "mediaType", REG_MT_DOCKER_MANIFEST);
	json_w_key(&w, "config");
	write_descriptor(&w, config);
	json_w_key(&w, "layers");
	json_w_array_begin(&w);
	for (size_t i = 0; i < n; i++)
		write_descriptor(&w, &layers[i]);
	json_w_array_end(&w);
	json_w_object_end(&w);
}
