#include "contentd/convert/index.h"

#include "base/clock.h"
#include "contentd/convert/gzip_index.h"
#include "contentd/convert/internal.h"
#include "estargz/gzseek/artifact.h"
#include "estargz/gzseek/produce.h"
#include "registry/manifest_write.h"

#include <inttypes.h>

struct indexing *indexing_new(struct place *from, struct place *to, const struct convert_opts *opts)
{
	struct indexing *x = xcalloc(1, sizeof(*x));

	x->convert = convert_new(from, to, opts);
	return x;
}

void indexing_free(struct indexing *x)
{
	if (!x)
		return;
	vec_each(&x->layers, l) {
		free(l->why_none);
		buf_fini(&l->artifact);
	}
	vec_fini(&x->layers);
	vec_fini(&x->images);
	convert_free(x->convert);
	free(x);
}

/* ---- plan ---- */

static char *of_type(struct str media_type)
{
	char *s = xasprintf("of type " STR_FMT, STR_ARG(media_type));

	text_clean(s);
	return s;
}

static char *why_none(const struct convert_layer *l)
{
	if (reg_media_is_encrypted(l->from->media_type))
		return xstrdup("encrypted");
	if (reg_media_is_foreign(l->from->media_type))
		return xstrdup("not to be distributed");
	if (reg_layer_format(l->from->media_type) == REG_LAYER_UNKNOWN)
		return of_type(l->from->media_type);
	if (!strcmp(l->from_format, "gzip"))
		return NULL;
	if (!strcmp(l->from_format, "zstd") || !strcmp(l->from_format, "tar"))
		return xasprintf("%s, not gzip", l->from_format);
	return xasprintf("lazy already (%s)", l->from_format);
}

static bool has_image(const struct indexing *x, const struct digest *manifest)
{
	vec_each(&x->images, image)
		if (digest_eq(&image->subject.digest, manifest))
			return true;
	return false;
}

static void add_images(struct indexing *x, const struct convert_node *n)
{
	vec_each(&n->children, child)
		add_images(x, *child);
	if (n->as_is || n->doc->kind != REG_IMAGE_MANIFEST || has_image(x, &n->d.digest))
		return;
	vec_push(&x->images,
	         (struct index_image){
		     .subject = {.media_type = n->doc->media_type, .digest = n->d.digest, .size = n->doc->bytes.n},
		     .node = n});
}

int indexing_plan(struct indexing *x, struct err *err)
{
	struct convert *c = x->convert;

	if (!c->to->ops->put_referrer)
		return err_set(err, ERR_INVALID,
		               "%s: indexes lie beside an image in a registry: bring it there first, as it is",
		               c->to->name);
	c->leaves_layers = true;
	TRY(convert_read_tree(c, err));
	vec_each(&c->layers, l)
		vec_push(&x->layers, (struct index_layer){.of = *l, .why_none = why_none(*l)});
	add_images(x, c->root);
	return 0;
}

/* ---- layers ---- */

struct run {
	struct indexing *x;
	size_t number;
	struct place_source *in;
	uint64_t done;
	char head[2];  /* of the blob */
	bool is_other; /* it does not begin as gzip */
};

static void report(const struct run *r, uint64_t done)
{
	const struct convert_opts *o = &r->x->convert->opts;

	if (o->progress)
		o->progress(o->arg, r->number, done);
}

/* On the thread of the first half, which nobody else uses `progress` beside. */
static int read_layer(void *arg, void *dst, size_t n, size_t *got, struct err *err)
{
	struct run *r = arg;

	TRY(convert_check_cancelled(r->x->convert, err));
	TRY(r->in->read(r->in, dst, n, got, err));
	for (size_t i = 0; i < *got && r->done + i < sizeof(r->head); i++)
		r->head[r->done + i] = ((const char *)dst)[i];
	r->done += *got;
	r->is_other = r->done >= sizeof(r->head) && memcmp(r->head, "\x1f\x8b", sizeof(r->head)) != 0;
	if (r->is_other)
		return err_set(err, ERR_PRECONDITION, "no gzip");
	report(r, r->done);
	return 0;
}

static int check(const struct convert_layer *l, const struct esgz_layer_result *got, struct err *err)
{
	char a[DIGEST_TEXT_MAX], b[DIGEST_TEXT_MAX];

	if (got->blob_bytes != l->from->size)
		return err_set(err, ERR_DATA_LOSS, "%" PRIu64 " bytes, the manifest says %" PRIu64, got->blob_bytes,
		               l->from->size);
	if (!digest_eq(&got->blob, &l->from->digest))
		return err_set(err, ERR_DATA_LOSS, "its digest is %s", digest_text(&got->blob, a));
	if (!digest_eq(&got->diff_id, &l->diff_id))
		return err_set(err, ERR_DATA_LOSS, "it unpacks to %s, the configuration says %s",
		               digest_text(&got->diff_id, a), digest_text(&l->diff_id, b));
	return 0;
}

static int build(struct run *r, struct index_layer *l, struct err *err)
{
	AUTO(esgz_gzseek) struct esgz_gzseek *s = esgz_gzseek_new(NULL);
	struct esgz_layer_result result;
	struct err why = ERR_INIT;
	int made;

	made = esgz_gzseek_run(s, read_layer, r, &why);
	if (r->is_other) {
		l->why_none = xstrdup("no gzip, whatever its media type says");
		return 0;
	}
	if (made < 0)
		return err_set(err, why.code, "%s", why.msg);
	TRY(esgz_gzseek_finish(s, &result, err));
	TRY(check(l->of, &result, err));
	l->plain_bytes = result.plain_bytes;
	made = esgz_gzseek_produce(s, &result, &l->artifact, &why);
	if (made < 0 && why.code == ERR_PRECONDITION) {
		l->why_none = xstrdup(why.msg);
		return 0;
	}
	return made < 0 ? err_set(err, why.code, "%s", why.msg) : 0;
}

static int build_layer(struct indexing *x, size_t i, struct err *err)
{
	struct index_layer *l = &x->layers.p[i];
	struct place *from = x->convert->from;
	struct run r = {.x = x, .number = i};
	int64_t begin_ns = clock_mono_ns();
	char text[DIGEST_TEXT_MAX];
	struct err why = ERR_INIT;
	int result;

	if (l->why_none)
		return 0;
	TRY(convert_check_cancelled(x->convert, err));
	report(&r, 0);
	TRY(from->ops->open_blob(from, l->of->from, 0, &r.in, err));
	result = build(&r, l, &why);
	place_source_free(r.in);
	if (result < 0)
		return err_set(err, why.code, "%s: layer %s: %s", from->name, digest_text(&l->of->from->digest, text),
		               why.msg);
	l->took_ns = clock_mono_ns() - begin_ns;
	report(&r, l->of->from->size);
	return 0;
}

/* ---- referrers ---- */

static const struct index_layer *index_of(const struct indexing *x, const struct convert_layer *layer)
{
	vec_each(&x->layers, l)
		if (l->of == layer)
			return l;
	return NULL;
}

/* Those of an image that have an index, each once, in its order. */
static size_t list_indexes(const struct indexing *x, const struct convert_node *n, const struct index_layer **out)
{
	size_t count = 0;

	vec_each(&n->layers, layer) {
		const struct index_layer *l = index_of(x, *layer);
		bool listed = false;

		for (size_t i = 0; i < count; i++)
			listed |= out[i] == l;
		if (!l->why_none && !listed)
			out[count++] = l;
	}
	return count;
}

static int push_parts(struct convert *c, const struct index_layer **indexes, size_t n, struct err *err)
{
	struct digest digest;

	TRY(place_put(c->to, REG_EMPTY_CONFIG, &digest, err));
	for (size_t i = 0; i < n; i++) {
		TRY(convert_check_cancelled(c, err));
		TRY(place_put(c->to, buf_str(&indexes[i]->artifact), &digest, err));
	}
	return 0;
}

static int push_image(struct indexing *x, struct index_image *image, struct err *err)
{
	AUTO_FREE const struct index_layer **indexes = xcalloc(image->node->layers.n + 1, sizeof(*indexes));
	size_t n = list_indexes(x, image->node, indexes);
	AUTO_FREE struct gzip_index *entries = xcalloc(n + 1, sizeof(*entries));
	AUTO(buf) struct buf text = BUF_INIT;
	struct convert *c = x->convert;
	int there;

	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++)
		entries[i] = (struct gzip_index){indexes[i]->of->from->digest, buf_str(&indexes[i]->artifact)};
	gzip_index_manifest(&image->subject, entries, n, &text);
	digest_of(text.p, text.n, &image->referrer);
	image->has_referrer = true;
	TRY(convert_check_cancelled(c, err));
	there = c->from->ops->has_referrer(c->from, &image->subject.digest, STR(ESGZ_GZIP_INDEX_ARTIFACT),
	                                   &image->referrer, err);
	TRY(there);
	image->was_there = there > 0;
	if (there)
		return 0;
	TRY(push_parts(c, indexes, n, err));
	TRY(convert_check_cancelled(c, err));
	return c->to->ops->put_referrer(c->to, buf_str(&text), err);
}

static int run_all(struct indexing *x, struct err *err)
{
	for (size_t i = 0; i < x->layers.n; i++)
		TRY(build_layer(x, i, err));
	vec_each(&x->images, image)
		TRY(push_image(x, image, err));
	return 0;
}

int indexing_run(struct indexing *x, struct err *err)
{
	struct err why = ERR_INIT;
	int r = run_all(x, &why);

	if (r < 0)
		TRY(convert_check_cancelled(x->convert, err)); /* that, and not what broke by it */
	return r < 0 ? err_set(err, why.code, "%s", why.msg) : r;
}
