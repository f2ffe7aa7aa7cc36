#include "registry/manifest_write.h"

static void write_members(struct json_writer *w, const struct reg_member *members, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		json_w_key_str(w, members[i].key);
		json_w_raw(w, members[i].json);
	}
}

static void write_annotations(struct json_writer *w, const struct reg_annotation *annotations, size_t n)
{
	if (!n)
		return;
	json_w_key(w, "annotations");
	json_w_object_begin(w);
	for (size_t i = 0; i < n; i++) {
		json_w_key_str(w, annotations[i].key);
		json_w_str(w, annotations[i].value);
	}
	json_w_object_end(w);
}

static void write_text(struct json_writer *w, const char *key, struct str value)
{
	if (value.n)
		json_w_kstr(w, key, value);
}

static void write_raw(struct json_writer *w, const char *key, struct str json)
{
	if (!json.n)
		return;
	json_w_key(w, key);
	json_w_raw(w, json);
}

static void write_platform(struct json_writer *w, const struct reg_platform *p)
{
	json_w_key(w, "platform");
	json_w_object_begin(w);
	json_w_kstr(w, "architecture", p->architecture);
	json_w_kstr(w, "os", p->os);
	write_text(w, "os.version", p->os_version);
	write_text(w, "variant", p->variant);
	write_members(w, p->others, p->n_others);
	json_w_object_end(w);
}

void reg_descriptor_write(struct json_writer *w, const struct reg_descriptor *d)
{
	char text[DIGEST_TEXT_MAX];

	json_w_object_begin(w);
	json_w_kstr(w, "mediaType", d->media_type);
	json_w_kcstr(w, "digest", digest_text(&d->digest, text));
	json_w_ki64(w, "size", (int64_t)d->size);
	write_raw(w, "urls", d->urls);
	write_annotations(w, d->annotations, d->n_annotations);
	write_raw(w, "data", d->data);
	write_text(w, "artifactType", d->artifact_type);
	if (d->has_platform)
		write_platform(w, &d->platform);
	write_members(w, d->others, d->n_others);
	json_w_object_end(w);
}

static void write_descriptors(struct json_writer *w, const char *key, const struct reg_descriptor *d, size_t n,
                              const struct str *unread, size_t n_unread)
{
	json_w_key(w, key);
	json_w_array_begin(w);
	for (size_t i = 0; i < n; i++)
		reg_descriptor_write(w, &d[i]);
	for (size_t i = 0; i < n_unread; i++)
		json_w_raw(w, unread[i]);
	json_w_array_end(w);
}

void reg_manifest_write(const struct reg_manifest *m, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "schemaVersion", 2);
	json_w_kstr(&w, "mediaType", m->media_type);
	write_text(&w, "artifactType", m->artifact_type);
	if (m->kind == REG_IMAGE_INDEX) {
		write_descriptors(&w, "manifests", m->entries, m->n_entries, m->unread, m->n_unread);
	} else {
		json_w_key(&w, "config");
		reg_descriptor_write(&w, &m->config);
		write_descriptors(&w, "layers", m->layers, m->n_layers, NULL, 0);
	}
	if (m->has_subject) {
		json_w_key(&w, "subject");
		reg_descriptor_write(&w, &m->subject);
	}
	write_annotations(&w, m->annotations, m->n_annotations);
	write_members(&w, m->others, m->n_others);
	json_w_object_end(&w);
}

struct reg_descriptor reg_descriptor_of(struct str media_type, struct str bytes)
{
	struct reg_descriptor d = {.media_type = media_type, .size = bytes.n};

	digest_of(bytes.p ?: "", bytes.n, &d.digest);
	return d;
}

void reg_descriptor_replace(struct reg_descriptor *d, struct str media_type, const struct digest *digest, uint64_t size)
{
	d->media_type = media_type;
	d->digest = *digest;
	d->size = size;
	d->urls = d->data = STR_NONE;
}

struct reg_descriptor reg_empty_config(void)
{
	return reg_descriptor_of(STR(REG_MT_OCI_EMPTY), REG_EMPTY_CONFIG);
}

void reg_artifact_write(struct str artifact_type, const struct reg_descriptor *subject,
                        const struct reg_descriptor *layers, size_t n, struct buf *out)
{
	struct reg_manifest m = {
	    .kind = REG_IMAGE_MANIFEST,
	    .media_type = STR(REG_MT_OCI_MANIFEST),
	    .artifact_type = artifact_type,
	    .config = reg_empty_config(),
	    .layers = layers,
	    .n_layers = n,
	    .has_subject = true,
	    .subject = *subject,
	};

	reg_manifest_write(&m, out);
}
