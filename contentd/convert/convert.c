#include "contentd/convert/convert.h"

#include "base/file.h"
#include "base/json.h"
#include "base/vec.h"
#include "estargz/annotations.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define MEMBERS_MAX 256

/* A layer as it will stand in the manifest. */
struct layer {
	struct digest blob, diff_id;
	uint64_t bytes;
	bool kept; /* as it was: media type and annotations of `from` */
	const struct reg_descriptor *from;
	struct esgz_convert_result made; /* what else conversion gave */
};

struct job {
	struct place *from, *to;
	const struct convert_opts *opts;
	struct reg_manifest *manifest;
	struct reg_config *config;
	VEC(struct layer) layers;
	struct convert_report *report;
};

/* ---- reading the source ---- */

static int check_bytes(const struct reg_descriptor *d, struct str bytes, const char *where, struct err *err)
{
	char want[DIGEST_TEXT_MAX], got[DIGEST_TEXT_MAX];
	struct digest digest;

	digest_of(bytes.p ?: "", bytes.n, &digest);
	if (!digest_eq(&digest, &d->digest) || bytes.n != d->size)
		return err_set(err, ERR_DATA_LOSS, "%s: %s has %zu bytes with digest %s", where,
		               digest_text(&d->digest, want), bytes.n, digest_text(&digest, got));
	return 0;
}

static int find_manifest(struct job *j, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO(buf) struct buf type = BUF_INIT;

	TRY(j->from->ops->get_root(j->from, &bytes, &type, err));
	TRY_WRAP(reg_manifest_parse(buf_str(&bytes), buf_str(&type), &j->manifest, err), err, "%s", j->from->name);
	for (int depth = 0; j->manifest->kind == REG_IMAGE_INDEX; depth++) {
		AUTO(reg_manifest) struct reg_manifest *index = STEAL(j->manifest);
		const struct reg_descriptor *d;

		if (depth == 2)
			return err_set(err, ERR_INVALID, "%s: indexes nest too deep", j->from->name);
		TRY_WRAP(reg_index_choose(index, &j->opts->platform, &d, err), err, "%s", j->from->name);
		buf_clear(&bytes);
		TRY(j->from->ops->get_document(j->from, d, true, &bytes, err));
		TRY(check_bytes(d, buf_str(&bytes), j->from->name, err));
		TRY_WRAP(reg_manifest_parse(buf_str(&bytes), d->media_type, &j->manifest, err), err, "%s",
		         j->from->name);
	}
	return 0;
}

static int read_config(struct job *j, struct err *err)
{
	const struct reg_descriptor *d = &j->manifest->config;
	AUTO(buf) struct buf bytes = BUF_INIT;

	TRY(j->from->ops->get_document(j->from, d, false, &bytes, err));
	TRY(check_bytes(d, buf_str(&bytes), j->from->name, err));
	TRY_WRAP(reg_config_parse(buf_str(&bytes), &j->config, err), err, "%s", j->from->name);
	if (j->config->n_diff_ids != j->manifest->n_layers)
		return err_set(err, ERR_INVALID, "%s: %zu layers, but %zu DiffIDs", j->from->name,
		               j->manifest->n_layers, j->config->n_diff_ids);
	return 0;
}

/* ---- layers ---- */

static int temporary(int *fd, struct err *err)
{
	const char *dir = getenv("TMPDIR") ?: "/var/tmp";

	*fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return *fd < 0 ? err_errno(err, errno, "temporary file in %s", dir) : 0;
}

struct streams {
	int in, out;
};

static int read_source(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct streams *s = arg;
	ssize_t got;

	do {
		got = read(s->in, dst, dst_bytes);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_errno(err, errno, "read the layer");
	*n = (size_t)got;
	return 0;
}

static int write_result(void *arg, struct str bytes, struct err *err)
{
	return fd_write_all(((struct streams *)arg)->out, bytes, err);
}

static int check_source(const struct job *j, const struct reg_descriptor *d, const struct digest *diff_id,
                        const struct esgz_convert_result *r, struct err *err)
{
	char want[DIGEST_TEXT_MAX], got[DIGEST_TEXT_MAX];

	if (!digest_eq(&r->source_blob, &d->digest))
		return err_set(err, ERR_DATA_LOSS, "%s: layer %s has digest %s", j->from->name,
		               digest_text(&d->digest, want), digest_text(&r->source_blob, got));
	if (!digest_eq(&r->source_diff_id, diff_id))
		return err_set(err, ERR_DATA_LOSS, "%s: layer %s unpacks to %s, the configuration says %s",
		               j->from->name, want, digest_text(&r->source_diff_id, got), digest_text(diff_id, want));
	return 0;
}

static int convert_layer(struct job *j, const struct reg_descriptor *d, const struct digest *diff_id, struct layer *out,
                         struct err *err)
{
	AUTO(esgz_convert_result) struct esgz_convert_result result = {0};
	AUTO_FD int in = -1;
	AUTO_FD int converted = -1;
	struct streams streams;
	struct esgz_convert_io io = {.read = read_source, .write = write_result, .arg = &streams};
	char text[DIGEST_TEXT_MAX];

	TRY(temporary(&in, err));
	TRY(temporary(&converted, err));
	TRY(j->from->ops->get_blob(j->from, d, in, err));
	if (lseek(in, 0, SEEK_SET) < 0)
		return err_errno(err, errno, "rewind");
	streams = (struct streams){in, converted};
	TRY_WRAP(esgz_convert(&j->opts->layer, &io, &result, err), err, "%s: layer %s", j->from->name,
	         digest_text(&d->digest, text));
	TRY(check_source(j, d, diff_id, &result, err));
	*out = (struct layer){
	    .blob = result.blob, .diff_id = result.diff_id, .bytes = result.blob_bytes, .from = d, .made = result};
	out->made.external_toc = BUF_INIT; /* stays here */
	return j->to->ops->put_blob(j->to, &result.blob, result.blob_bytes, converted, STR_NONE, err);
}

static int keep_layer(struct job *j, const struct reg_descriptor *d, const struct digest *diff_id, struct layer *out,
                      struct err *err)
{
	AUTO_FD int fd = -1;
	int has = j->to->ops->has_blob ? j->to->ops->has_blob(j->to, &d->digest, err) : 0;

	TRY(has);
	*out = (struct layer){.blob = d->digest, .diff_id = *diff_id, .bytes = d->size, .kept = true, .from = d};
	j->report->n_reused++;
	if (has)
		return 0;
	TRY(temporary(&fd, err));
	TRY(j->from->ops->get_blob(j->from, d, fd, err));
	return j->to->ops->put_blob(j->to, &d->digest, d->size, fd, STR_NONE, err);
}

static bool is_lazy(const struct reg_descriptor *d)
{
	return !str_empty(reg_annotation_get(d->annotations, d->n_annotations, STR(ESGZ_ANN_TOC)));
}

static int do_layers(struct job *j, struct err *err)
{
	unsigned n = (unsigned)j->manifest->n_layers;

	for (unsigned i = 0; i < n; i++) {
		const struct reg_descriptor *d = &j->manifest->layers[i];
		struct layer layer;
		char text[DIGEST_TEXT_MAX];

		if (reg_layer_format(d->media_type) == REG_LAYER_UNKNOWN)
			return err_set(err, ERR_UNIMPLEMENTED, "%s: layer %s is of type " STR_FMT, j->from->name,
			               digest_text(&d->digest, text), STR_ARG(d->media_type));
		if (j->opts->progress)
			j->opts->progress(j->opts->arg, i, n, 0, d->size);
		if (is_lazy(d))
			TRY(keep_layer(j, d, &j->config->diff_ids[i], &layer, err));
		else
			TRY(convert_layer(j, d, &j->config->diff_ids[i], &layer, err));
		if (j->opts->progress)
			j->opts->progress(j->opts->arg, i, n, d->size, d->size);
		vec_push(&j->layers, layer);
		j->report->bytes_in += d->size;
		j->report->bytes_out += layer.bytes;
	}
	j->report->n_layers = n;
	return 0;
}

/* ---- configuration and manifest ---- */

int convert_config(struct str config, const struct digest *diff_ids, unsigned n, struct buf *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(config);
	char text[DIGEST_TEXT_MAX];
	struct json_writer w;
	struct str key, raw;
	unsigned members = 0;
	int more;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		if (++members > MEMBERS_MAX)
			return err_set(err, ERR_EXHAUSTED, "configuration with more than %d members", MEMBERS_MAX);
		TRY(json_raw(r, &raw, err));
		if (json_key_is(key, "rootfs"))
			continue;
		json_w_key_str(&w, key);
		json_w_raw(&w, raw);
	}
	TRY(more);
	TRY(json_end(r, err));
	json_w_key(&w, "rootfs");
	json_w_object_begin(&w);
	json_w_kcstr(&w, "type", "layers");
	json_w_key(&w, "diff_ids");
	json_w_array_begin(&w);
	for (unsigned i = 0; i < n; i++)
		json_w_cstr(&w, digest_text(&diff_ids[i], text));
	json_w_array_end(&w);
	json_w_object_end(&w);
	json_w_object_end(&w);
	return 0;
}

static int put_config(struct job *j, struct digest *digest, uint64_t *size, struct err *err)
{
	AUTO_FREE struct digest *diff_ids = xcalloc(j->layers.n + 1, sizeof(*diff_ids));
	AUTO(buf) struct buf config = BUF_INIT;

	for (size_t i = 0; i < j->layers.n; i++)
		diff_ids[i] = j->layers.p[i].diff_id;
	TRY(convert_config(j->config->bytes, diff_ids, (unsigned)j->layers.n, &config, err));
	digest_of(config.p, config.n, digest);
	*size = config.n;
	return j->to->ops->put_blob(j->to, digest, config.n, -1, buf_str(&config), err);
}

static void write_descriptor(struct json_writer *w, struct str type, const struct digest *digest, uint64_t size)
{
	char text[DIGEST_TEXT_MAX];

	json_w_kstr(w, "mediaType", type);
	json_w_kcstr(w, "digest", digest_text(digest, text));
	json_w_ki64(w, "size", (int64_t)size);
}

static void write_annotation(void *arg, const char *key, const char *value)
{
	json_w_kcstr(arg, key, value);
}

static void write_annotations(struct json_writer *w, const struct layer *l, enum esgz_format format)
{
	const struct reg_descriptor *d = l->from;

	json_w_key(w, "annotations");
	json_w_object_begin(w);
	for (size_t i = 0; i < d->n_annotations; i++) {
		if (!l->kept && esgz_is_layer_annotation(d->annotations[i].key))
			continue;
		json_w_key_str(w, d->annotations[i].key);
		json_w_str(w, d->annotations[i].value);
	}
	if (!l->kept)
		esgz_convert_annotations(format, &l->made, write_annotation, w);
	json_w_object_end(w);
}

/* OCI types throughout: a Docker manifest cannot carry the annotations that laziness hangs on. */
static struct str layer_type(const struct layer *l, enum esgz_format format)
{
	if (!l->kept)
		return esgz_format_compression(format) == ESGZ_ZSTD ? STR(REG_MT_OCI_LAYER_ZSTD)
		                                                    : STR(REG_MT_OCI_LAYER_GZIP);
	switch (reg_layer_format(l->from->media_type)) {
	case REG_LAYER_ZSTD:
		return STR(REG_MT_OCI_LAYER_ZSTD);
	case REG_LAYER_TAR:
		return STR(REG_MT_OCI_LAYER);
	default:
		return STR(REG_MT_OCI_LAYER_GZIP);
	}
}

static int put_manifest(struct job *j, const struct digest *config, uint64_t config_size, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &text, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "schemaVersion", 2);
	json_w_kcstr(&w, "mediaType", REG_MT_OCI_MANIFEST);
	json_w_key(&w, "config");
	json_w_object_begin(&w);
	write_descriptor(&w, STR(REG_MT_OCI_CONFIG), config, config_size);
	json_w_object_end(&w);
	json_w_key(&w, "layers");
	json_w_array_begin(&w);
	vec_each(&j->layers, l) {
		json_w_object_begin(&w);
		write_descriptor(&w, layer_type(l, j->opts->layer.format), &l->blob, l->bytes);
		write_annotations(&w, l, j->opts->layer.format);
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	if (j->manifest->n_annotations) {
		json_w_key(&w, "annotations");
		json_w_object_begin(&w);
		for (size_t i = 0; i < j->manifest->n_annotations; i++) {
			json_w_key_str(&w, j->manifest->annotations[i].key);
			json_w_str(&w, j->manifest->annotations[i].value);
		}
		json_w_object_end(&w);
	}
	json_w_object_end(&w);
	digest_of(text.p, text.n, &j->report->manifest);
	return j->to->ops->put_manifest(j->to, buf_str(&text), STR(REG_MT_OCI_MANIFEST), err);
}

/* ---- the whole ---- */

static int run(struct job *j, struct err *err)
{
	struct digest config;
	uint64_t config_size;

	TRY(find_manifest(j, err));
	TRY(read_config(j, err));
	TRY(do_layers(j, err));
	TRY(put_config(j, &config, &config_size, err));
	return put_manifest(j, &config, config_size, err);
}

int convert_image(struct place *from, struct place *to, const struct convert_opts *opts, struct convert_report *out,
                  struct err *err)
{
	struct job j = {.from = from, .to = to, .opts = opts, .layers = VEC_INIT, .report = out};
	int r;

	*out = (struct convert_report){0};
	r = run(&j, err);
	reg_manifest_free(j.manifest);
	reg_config_free(j.config);
	vec_fini(&j.layers);
	return r;
}
