/* One layer, from place to place. */
#include "contentd/convert/internal.h"

#include "registry/manifest_write.h"

struct run {
	struct convert *c;
	struct convert_layer *l;
	size_t number;
	struct place_source *in;
	struct place_sink *out;
};

static void report(struct run *r, uint64_t done)
{
	if (r->c->opts.progress)
		r->c->opts.progress(r->c->opts.arg, r->number, done);
}

static void add_annotation(struct convert_layer *l, struct str key, struct str value)
{
	struct reg_annotation a = {str_of(str_dup(key)), str_of(str_dup(value))};

	vec_push(&l->annotations, a);
}

static void drop_annotations(struct convert_layer *l)
{
	vec_each(&l->annotations, a) {
		free((char *)a->key.p);
		free((char *)a->value.p);
	}
	vec_clear(&l->annotations);
}

static bool is_ours(struct str key)
{
	return str_eqc(key, CONVERT_ANN_SOURCE) || str_eqc(key, CONVERT_ANN_HOW);
}

/* What the source says of the layer, but for what is ours to say, or not true any more when it was converted. */
static void take_over_annotations(struct convert_layer *l, bool converted)
{
	const struct reg_descriptor *d = l->from;

	drop_annotations(l);
	for (size_t i = 0; i < d->n_annotations; i++)
		if (!is_ours(d->annotations[i].key) && !(converted && esgz_is_layer_annotation(d->annotations[i].key)))
			add_annotation(l, d->annotations[i].key, d->annotations[i].value);
}

static void settle(struct convert_layer *l)
{
	l->to.annotations = l->annotations.p;
	l->to.n_annotations = l->annotations.n;
}

/* ---- converted ---- */

static int read_source(void *arg, void *dst, size_t dst_bytes, size_t *n, struct err *err)
{
	struct run *r = arg;

	TRY(convert_check_cancelled(r->c, err));
	return r->in->read(r->in, dst, dst_bytes, n, err);
}

/* It is there while it is read. */
static void stop_source(void *arg)
{
	struct run *r = arg;

	if (r->in->stop)
		r->in->stop(r->in);
}

static int go_on(void *arg, struct err *err)
{
	return convert_check_cancelled(((struct run *)arg)->c, err);
}

static int rewind_source(void *arg, struct err *err)
{
	struct run *r = arg;

	place_source_free(STEAL(r->in));
	return r->c->from->ops->open_blob(r->c->from, r->l->from, 0, &r->in, err);
}

static int write_result(void *arg, struct str bytes, struct err *err)
{
	struct run *r = arg;

	TRY(convert_check_cancelled(r->c, err));
	return r->out->write(r->out, bytes, err);
}

static void show(void *arg, uint64_t bytes_in, uint64_t bytes_out)
{
	report(arg, bytes_in);
}

static int check_source(const struct run *r, const struct esgz_convert_result *made, struct err *err)
{
	const struct convert_layer *l = r->l;
	char want[DIGEST_TEXT_MAX], got[DIGEST_TEXT_MAX], blob[DIGEST_TEXT_MAX];

	digest_text(&l->from->digest, blob);
	if (!digest_eq(&made->source_blob, &l->from->digest))
		return err_set(err, ERR_DATA_LOSS, "layer %s has digest %s", blob,
		               digest_text(&made->source_blob, got));
	if (!digest_eq(&made->source_diff_id, &l->diff_id))
		return err_set(err, ERR_DATA_LOSS, "layer %s unpacks to %s, the configuration says %s", blob,
		               digest_text(&made->source_diff_id, got), digest_text(&l->diff_id, want));
	return 0;
}

static int put_toc(struct run *r, const struct esgz_convert_result *made, struct err *err)
{
	struct convert_layer *l = r->l;
	struct digest digest;

	TRY(place_put(r->c->to, buf_str(&made->external_toc), &digest, err));
	l->toc = (struct reg_descriptor){
	    .media_type = STR(REG_MT_OCI_LAYER_GZIP), .digest = digest, .size = made->external_toc.n};
	l->has_toc = true;
	return 0;
}

static void put_annotation(void *arg, const char *key, const char *value)
{
	add_annotation(arg, str_of(key), str_of(value));
}

static void describe(struct run *r, const struct esgz_convert_result *made)
{
	enum esgz_format format = r->c->opts.layer.format;
	struct convert_layer *l = r->l;
	char text[DIGEST_TEXT_MAX];

	l->to = *l->from;
	reg_descriptor_replace(&l->to,
	                       esgz_format_compression(format) == ESGZ_ZSTD ? STR(REG_MT_OCI_LAYER_ZSTD)
	                                                                    : STR(REG_MT_OCI_LAYER_GZIP),
	                       &made->blob, made->blob_bytes);
	l->to_diff_id = made->diff_id;
	take_over_annotations(l, true);
	esgz_convert_annotations(format, made, put_annotation, l);
	put_annotation(l, CONVERT_ANN_SOURCE, digest_text(&l->from->digest, text));
	put_annotation(l, CONVERT_ANN_HOW, r->c->how);
	settle(l);
}

static int convert_stream(struct run *r, struct err *err)
{
	const struct esgz_convert_io io = {.read = read_source,
	                                   .write = write_result,
	                                   .stop = stop_source,
	                                   .go_on = go_on,
	                                   .rewind = rewind_source,
	                                   .progress = show,
	                                   .arg = r};
	AUTO(esgz_convert_result) struct esgz_convert_result made = {0};

	TRY(rewind_source(r, err));
	TRY(r->c->to->ops->begin_blob(r->c->to, &r->out, err));
	TRY(esgz_convert(&r->c->opts.layer, &io, &made, err));
	TRY(check_source(r, &made, err));
	TRY(r->out->finish(r->out, &made.blob, made.blob_bytes, err));
	place_sink_free(STEAL(r->out));
	if (convert_is_external(r->c))
		TRY(put_toc(r, &made, err));
	describe(r, &made);
	return 0;
}

static int convert_layer(struct run *r, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	for (unsigned i = 1;; i++) {
		struct err why = ERR_INIT;
		int result = convert_stream(r, &why);

		place_source_free(STEAL(r->in));
		place_sink_free(STEAL(r->out));
		if (result >= 0)
			return 0;
		TRY(convert_check_cancelled(r->c, err)); /* and not how the lines broke */
		if (why.code != ERR_ABORTED || i == PLACE_ATTEMPTS)
			return err_set(err, why.code, "%s: layer %s: %s", r->c->from->name,
			               digest_text(&r->l->from->digest, text), why.msg);
	}
}

/* ---- not converted ---- */

static void show_copied(void *arg, uint64_t bytes)
{
	report(arg, bytes);
}

/* OCI types throughout, as the manifest will be one. */
static struct str oci_type(struct str type)
{
	switch (reg_layer_format(type)) {
	case REG_LAYER_ZSTD:
		return STR(REG_MT_OCI_LAYER_ZSTD);
	case REG_LAYER_TAR:
		return STR(REG_MT_OCI_LAYER);
	default:
		return STR(REG_MT_OCI_LAYER_GZIP);
	}
}

static int keep_layer(struct run *r, struct err *err)
{
	struct convert_layer *l = r->l;

	l->to = *l->from;
	l->to.media_type = oci_type(l->from->media_type);
	l->to_diff_id = l->diff_id;
	if (l->drops_marks) {
		take_over_annotations(l, false);
		settle(l);
	}
	return place_copy(r->c->to, r->c->from, l->from, &l->how, show_copied, r, err);
}

/* What the source says of it now, and of the former conversion what that made. */
static void describe_reused(struct convert_layer *l, const struct reg_descriptor *made)
{
	l->to = *l->from;
	reg_descriptor_replace(&l->to, made->media_type, &made->digest, made->size);
	take_over_annotations(l, true);
	for (size_t i = 0; i < made->n_annotations; i++)
		if (is_ours(made->annotations[i].key) || esgz_is_layer_annotation(made->annotations[i].key))
			add_annotation(l, made->annotations[i].key, made->annotations[i].value);
	settle(l);
}

static int reuse_layer(struct run *r, struct err *err)
{
	const struct convert_reuse *u = r->l->reuse;
	struct convert_layer *l = r->l;
	enum place_copied how;

	TRY(place_copy(r->c->to, u->place, u->layer, &l->how, NULL, NULL, err));
	describe_reused(l, u->layer);
	l->to_diff_id = u->diff_id;
	l->has_toc = u->toc != NULL;
	if (!u->toc)
		return 0;
	l->toc = *u->toc;
	l->toc.n_annotations = 0;
	return place_copy(r->c->to, u->place, u->toc, &how, NULL, NULL, err);
}

int convert_layer_run(struct convert *c, size_t i, struct err *err)
{
	struct run r = {.c = c, .l = c->layers.p[i], .number = i};
	struct err why = ERR_INIT;

	TRY(convert_check_cancelled(c, err));
	report(&r, 0);
	if (r.l->action == CONVERT_KEEP)
		TRY(keep_layer(&r, err));
	/* What was converted before may be gone since. */
	if (r.l->action == CONVERT_REUSE && reuse_layer(&r, &why) < 0) {
		TRY(convert_check_cancelled(c, err));
		if (why.code != ERR_NOT_FOUND) {
			*err = why;
			return -(int)why.code;
		}
		r.l->action = CONVERT_CONVERT;
	}
	if (r.l->action == CONVERT_CONVERT)
		TRY(convert_layer(&r, err));
	report(&r, r.l->from->size);
	return 0;
}
