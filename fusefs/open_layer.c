#include "fusefs/open.h"

#include "base/log.h"
#include "estargz/toc/toc.h"

/* A TOC is some hundredth of its layer: one request of this size brings nearly all of them. */
#define GUESS_FRACTION 64
#define GUESS_MIN (128u << 10)
#define GUESS_MAX (1u << 20)
#define EXACT_MAX (8u << 20) /* with the tar-split behind it */

#define HTTP_TOO_MANY 429

static int explain(const struct open_layer *l, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	return err_wrap(err, "image %s, layer %s", l->open->reference, digest_text(&l->d->digest, text));
}

/* What the network or the registry refuses ends the whole call, as a download of the layer would fail as well, unless the
 * caller goes on layer by layer; what is wrong with the layer itself only makes it an ordinary one. */
static void layer_failed(struct open_layer *l, const struct err *why)
{
	l->why = *why;
	explain(l, &l->why);
	switch (why->code) {
	case ERR_INVALID:
	case ERR_DATA_LOSS:
	case ERR_UNIMPLEMENTED:
	case ERR_EXHAUSTED:
	case ERR_OUT_OF_RANGE:
		log_warn("%s: not lazy", l->why.msg);
		return;
	default:
		l->failed = true;
		if (!l->open->each)
			open_fail(l->open, &l->why);
		else if (why->code != ERR_CANCELLED)
			log_warn("%s: not lazy for now", l->why.msg);
	}
}

void open_layer_end(struct open_layer *l, const struct err *why)
{
	if (why)
		layer_failed(l, why);
	open_leave(l->open, l);
}

/* ---- what is here already ---- */

bool open_comes_from_here(const struct open *o, const struct digest *key)
{
	AUTO(ffs_source) struct ffs_source from = {0};
	char repository[REG_REF_TEXT_MAX];

	return ffs_index_has(o->s->w->store, key) && ffs_index_source(o->s->w->store, key, &from, NULL) >= 0 &&
	       !strcmp(from.reference, repository_text(o->ref, repository));
}

/* The blob comes from where this caller reads it, and by his account, from now on: who brought the index here may have lost
 * his, or his registry may be gone. */
void open_layer_move(const struct open_layer *l)
{
	const struct open *o = l->open;
	struct ffs_worker *w = o->s->w;
	char repository[REG_REF_TEXT_MAX];
	struct err why = ERR_INIT;

	repository_text(o->ref, repository);
	if (ffs_index_set_origin(w->store, &l->key, repository, o->access.owner, &why) < 0) {
		explain(l, &why);
		log_warn("%s", why.msg);
	}
	ffs_data_set_origin(w->data, &l->key, repository, o->access.owner);
}

/* ---- on the pool ---- */

static int fetch(struct open_layer *l, uint64_t offset, uint64_t length, uint64_t suffix, struct err *err);

/* Where its tar-split lies, for the proof, if TOC or image vouch for one. The image knows best: older footers are wrong. */
static struct ffs_split split_of(const struct open_layer *l, const struct esgz_toc_found *found)
{
	const struct esgz_anchor *a = &l->anchor;
	const struct esgz_footer *f = &l->footer;
	struct ffs_split split = {.offset = f->split_offset,
	                          .packed_bytes = f->split_bytes,
	                          .plain_bytes = f->split_plain_bytes,
	                          .digest = found->has_tar_split ? found->tar_split : a->split_digest};

	if (a->split.packed_bytes > 0) {
		split.offset = a->split.offset;
		split.packed_bytes = a->split.packed_bytes;
		split.plain_bytes = a->split.plain_bytes;
	}
	return found->has_tar_split || a->has_split ? split : (struct ffs_split){0};
}

int open_layer_put(struct open_layer *l, struct str index, struct str points, const struct ffs_split *split,
                   struct err *err)
{
	AUTO_FREE char *media_type = str_dup(l->d->media_type);
	char repository[REG_REF_TEXT_MAX];
	const struct ffs_source source = {.reference = repository_text(l->open->ref, repository),
	                                  .owner = (char *)l->open->access.owner,
	                                  .blob = l->d->digest,
	                                  .blob_bytes = l->d->size,
	                                  .media_type = media_type,
	                                  .split = *split};

	TRY(store_layer(l->open->s, &l->key, index, points, &source, false, err));
	open_layer_move(l); /* of a layer that was loaded before, too */
	l->found = true;
	return 0;
}

int open_layer_store(struct open_layer *l, struct buf *json, struct err *err)
{
	AUTO(buf) struct buf index = BUF_INIT;
	const struct esgz_toc_source what = {
	    .footer = &l->footer, .key = *esgz_anchor_key(&l->anchor), .blob = l->d->digest, .blob_bytes = l->d->size};
	struct esgz_toc_found found = {0};
	struct ffs_split split;

	TRY(esgz_toc_to_index(&what, json, &index, &found, err));
	split = split_of(l, &found);
	return open_layer_put(l, buf_str(&index), STR_NONE, &split, err);
}

/* Positive: asked for what is missing. */
static int build(struct open_layer *l, struct err *err)
{
	const struct esgz_footer *f = &l->footer;
	AUTO(buf) struct buf json = BUF_INIT;
	struct str toc;

	TRY(esgz_anchor_locate(&l->anchor, buf_str(&l->tail), l->d->size, &l->footer, err));
	if (f->kind == ESGZ_FOOTER_EXTERNAL_TOC) {
		TRY(open_toc_begin(l, err));
		return 1;
	}
	if (f->toc_bytes > ESGZ_TOC_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "a TOC of %llu bytes", (unsigned long long)f->toc_bytes);
	if (f->toc_offset < l->tail_offset) {
		TRY(fetch(l, f->toc_offset, l->tail_offset - f->toc_offset, 0, err));
		return 1;
	}
	toc = str_sub(buf_str(&l->tail), f->toc_offset - l->tail_offset, f->toc_bytes);
	TRY(esgz_toc_extract(f, toc, &l->anchor, &json, err));
	buf_fini(&l->tail);
	return open_layer_store(l, &json, err);
}

static void build_job(struct pool_job *job)
{
	struct open_layer *l = CONTAINER_OF(job, struct open_layer, job);
	struct err why = ERR_INIT;
	int r = build(l, &why);

	if (r <= 0)
		open_layer_end(l, r < 0 ? &why : NULL);
}

/* ---- on the I/O thread ---- */

/* The bytes go before what is there already (a second request brings the beginning of a long TOC). */
static void take_bytes(struct open_layer *l, const struct reg_answer *answer)
{
	AUTO(buf) struct buf old = l->tail;

	l->tail = BUF_INIT;
	buf_reserve(&l->tail, answer->body->n + old.n);
	buf_addstr(&l->tail, buf_str(answer->body));
	buf_addstr(&l->tail, buf_str(&old));
	l->tail_offset = answer->offset;
}

int open_layer_refused(const struct reg_answer *answer, struct err *why)
{
	if (answer->result >= 0)
		return answer->length > 0 ? 0 : err_set(why, ERR_DATA_LOSS, "the registry gave no bytes");
	*why = *answer->err;
	if (answer->status == HTTP_TOO_MANY)
		why->code = ERR_UNAVAILABLE; /* nothing is wrong with the layer */
	return -(int)why->code;
}

static void on_bytes(void *arg, struct reg_answer *answer)
{
	struct open_layer *l = arg;
	struct err why = ERR_INIT;

	if (open_layer_refused(answer, &why) < 0) {
		open_layer_end(l, &why);
		return;
	}
	take_bytes(l, answer);
	l->job.fn = build_job;
	pool_submit(l->open->s->pool, POOL_DEMAND, &l->job);
}

int open_layer_get(struct open_layer *l, struct reg_blob_get *q, struct err *err)
{
	struct open *o = l->open;
	int r;

	q->ref = o->ref;
	q->account = o->access.account;
	q->lane = REG_DEMAND;
	q->deadline_ns = o->deadline_ns;
	q->arg = l;
	/* The answer may come before the call has returned: the lock keeps it from leaving meanwhile. */
	pthread_mutex_lock(&o->lock);
	reg_request_unref(STEAL(l->request));
	r = o->cancelled ? err_set(err, ERR_CANCELLED, "cancelled")
	                 : reg_blob_get(o->s->w->client, q, &l->request, err);
	pthread_mutex_unlock(&o->lock);
	return r;
}

static int fetch(struct open_layer *l, uint64_t offset, uint64_t length, uint64_t suffix, struct err *err)
{
	struct reg_blob_get q = {.digest = l->d->digest,
	                         .blob_size = l->d->size,
	                         .offset = offset,
	                         .length = length,
	                         .suffix = suffix,
	                         .done = on_bytes};

	return open_layer_get(l, &q, err);
}

/* ---- begin ---- */

static struct str annotation(void *arg, const char *name)
{
	const struct reg_descriptor *d = arg;

	return reg_annotation_get(d->annotations, d->n_annotations, str_of(name));
}

/* Bytes at the end of the blob that hold footer and TOC: as the annotation places it, or most likely. */
static uint64_t tail_bytes(const struct open_layer *l)
{
	uint64_t blob_bytes = l->d->size, n = blob_bytes / GUESS_FRACTION;

	n = n < GUESS_MIN ? GUESS_MIN : n > GUESS_MAX ? GUESS_MAX : n;
	if (l->anchor.toc.packed_bytes > 0 && blob_bytes - l->anchor.toc.offset <= EXACT_MAX)
		n = blob_bytes - l->anchor.toc.offset;
	if (n < ESGZ_FOOTER_MAX)
		n = ESGZ_FOOTER_MAX;
	return n < blob_bytes ? n : blob_bytes;
}

void open_layer_refuse(struct open_layer *l, const char *why)
{
	err_set(&l->why, ERR_DATA_LOSS, "the layer is not what the configuration says: %s", why);
	explain(l, &l->why);
	l->found = false;
	l->refused = true;
	log_warn("%s: not lazy", l->why.msg);
}

/* What was found of it when it was here, even if it is not any more. Only what holds under every configuration: what another
 * image has promised of the layer says nothing about this one. */
bool open_layer_refused_before(struct open_layer *l)
{
	AUTO(ffs_source) struct ffs_source src = {0};

	if (ffs_index_source(l->open->s->w->store, &l->key, &src, NULL) < 0 || !ffs_facts_always_false(&src.facts))
		return false;
	open_layer_refuse(l, src.facts.difference ?: "its TOC is not what its tar says");
	return true;
}

/* 1: its bytes are asked for. 0: nothing is to be asked. */
static int begin(struct open *o, struct open_layer *l, struct err *err)
{
	int r = esgz_anchor_read(annotation, (void *)l->d, l->d->size, &l->anchor, err);

	if (r == -ERR_NOT_FOUND && open_gzip_wanted(l)) {
		struct err why = ERR_INIT;

		if (open_gzip_begin(l, &why) >= 0)
			return 1;
		log_warn("image %s: gzip indexes: %s", o->reference, why.msg);
	}
	if (r == -ERR_NOT_FOUND) {
		err_set(&l->why, ERR_UNIMPLEMENTED, "not a lazy layer: the manifest names no TOC for it");
		return 0;
	}
	TRY(r);
	l->claimed = true;
	esgz_index_key(ESGZ_TRUST_TOC, &l->d->digest, esgz_anchor_key(&l->anchor), &l->key);
	if (open_layer_refused_before(l))
		return 0;
	/* From another repository it is only used when that delivers the same table of contents: who names the digests of what
	 * he may not read gets nothing by it, and takes no layer away from where it can be read. */
	l->found = open_comes_from_here(o, &l->key) && load_layer(o->s, &l->key, NULL) >= 0;
	if (l->found) {
		open_layer_move(l);
		return 0;
	}
	TRY(fetch(l, 0, 0, tail_bytes(l), err));
	return 1;
}

void open_layer_begin(struct open *o, struct open_layer *l)
{
	struct err why = ERR_INIT;
	int r;

	open_enter(o);
	r = begin(o, l, &why);
	if (r <= 0)
		open_layer_end(l, r < 0 ? &why : NULL);
}
