/* Layers whose TOC is in another image, `<tag>-esgztoc` (stargz-snapshotter docs/estargz.md, "External TOC"): its manifest is
 * fetched once, for all of them, then each TOC. Whoever may move that tag can keep a layer from being lazy, and no more: the
 * digest of the TOC is the one that the layer's own image names. */
#include "fusefs/open.h"

#include "estargz/toc/toc.h"

#include <stdio.h>

/* ---- a TOC ---- */

static int build(struct open_layer *l, struct err *err)
{
	AUTO(buf) struct buf json = BUF_INIT;

	TRY(esgz_toc_extract_external(buf_str(&l->tail), &l->anchor, &json, err));
	buf_fini(&l->tail);
	return open_layer_store(l, &json, err);
}

static void build_job(struct pool_job *job)
{
	struct open_layer *l = CONTAINER_OF(job, struct open_layer, job);
	struct err why = ERR_INIT;

	open_layer_end(l, build(l, &why) < 0 ? &why : NULL);
}

static void on_toc(void *arg, struct reg_answer *answer)
{
	struct open_layer *l = arg;
	struct err why = ERR_INIT;

	if (open_layer_refused(answer, &why) < 0) {
		open_layer_end(l, &why);
		return;
	}
	buf_fini(&l->tail); /* the layer's own end has been read */
	l->tail = *answer->body;
	*answer->body = BUF_INIT;
	l->job.fn = build_job;
	pool_submit(l->open->s->pool, POOL_DEMAND, &l->job);
}

static const struct reg_descriptor *find_toc(const struct reg_manifest *m, const struct digest *layer)
{
	char want[DIGEST_TEXT_MAX];

	digest_text(layer, want);
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct reg_descriptor *d = &m->layers[i];

		if (str_eqc(reg_annotation_get(d->annotations, d->n_annotations, STR(ESGZ_ANN_LAYER)), want))
			return d;
	}
	return NULL;
}

/* The image of TOCs is known. */
static int fetch_toc(struct open_layer *l, struct err *err)
{
	const struct open_tocs *t = &l->open->tocs;
	const struct reg_descriptor *d = t->manifest ? find_toc(t->manifest, &l->d->digest) : NULL;
	struct reg_blob_get q = {.done = on_toc};

	if (!t->manifest)
		return err_set(err, t->why.code, "%s", t->why.msg);
	if (!d)
		return err_set(err, ERR_UNIMPLEMENTED, "the image of TOCs has none of it");
	if (d->size == 0 || d->size > ESGZ_TOC_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "a TOC of %llu bytes", (unsigned long long)d->size);
	q.digest = d->digest;
	q.blob_size = q.length = d->size;
	return open_layer_get(l, &q, err);
}

/* ---- their image ---- */

static void tocs_known(struct open *o)
{
	struct open_layer *l, *next;

	pthread_mutex_lock(&o->lock);
	o->tocs.known = true;
	l = STEAL(o->tocs.waiting);
	pthread_mutex_unlock(&o->lock);
	for (; l; l = next) {
		struct err why = ERR_INIT;

		next = l->waiting;
		if (fetch_toc(l, &why) < 0)
			open_layer_end(l, &why);
	}
	open_leave(o, NULL);
}

static void parse_job(struct pool_job *job)
{
	struct open_tocs *t = CONTAINER_OF(job, struct open_tocs, job);

	if (reg_manifest_parse(buf_str(&t->bytes), STR_NONE, &t->manifest, &t->why) < 0)
		err_wrap(&t->why, "image of TOCs");
	tocs_known(CONTAINER_OF(t, struct open, tocs));
}

static void on_manifest(void *arg, struct reg_answer *answer)
{
	struct open *o = arg;
	struct open_tocs *t = &o->tocs;

	if (open_layer_refused(answer, &t->why) < 0) {
		/* Then it is an ordinary layer. */
		if (t->why.code == ERR_NOT_FOUND)
			t->why.code = ERR_UNIMPLEMENTED;
		err_wrap(&t->why, "image of TOCs");
		tocs_known(o);
		return;
	}
	t->bytes = *answer->body;
	*answer->body = BUF_INIT;
	t->job.fn = parse_job;
	pool_submit(o->s->pool, POOL_DEMAND, &t->job);
}

/* Lock held: the answer may come before the call has returned. */
static int ask(struct open *o, struct err *err)
{
	struct reg_ref ref = *o->ref;
	const struct reg_manifest_get q = {.ref = &ref,
	                                   .account = o->access.account,
	                                   .lane = REG_DEMAND,
	                                   .deadline_ns = o->deadline_ns,
	                                   .done = on_manifest,
	                                   .arg = o};
	char tag[sizeof(ref.tag) + sizeof(ESGZ_TOC_TAG_SUFFIX)];

	if (o->cancelled)
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (!ref.tag[0])
		return err_set(err, ERR_UNIMPLEMENTED, "its TOC is in an image that is found by a tag alone");
	snprintf(tag, sizeof(tag), "%s" ESGZ_TOC_TAG_SUFFIX, ref.tag);
	TRY(reg_ref_set_tag(&ref, str_of(tag), err));
	ref.has_digest = false;
	return reg_manifest_get(o->s->w->client, &q, &o->tocs.request, err);
}

int open_toc_begin(struct open_layer *l, struct err *err)
{
	struct open *o = l->open;
	struct open_tocs *t = &o->tocs;
	bool known;
	int r = 0;

	pthread_mutex_lock(&o->lock);
	known = t->known;
	if (!known && !t->asked) {
		r = ask(o, err);
		t->asked = r >= 0;
		o->busy += t->asked;
	}
	if (!known && r >= 0) {
		l->waiting = t->waiting;
		t->waiting = l;
	}
	pthread_mutex_unlock(&o->lock);
	return known ? fetch_toc(l, err) : r;
}

void open_tocs_fini(struct open_tocs *t)
{
	reg_request_unref(t->request);
	reg_manifest_free(t->manifest);
	buf_fini(&t->bytes);
}
