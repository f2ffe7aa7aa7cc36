/* Ordinary gzip layers, for which somebody has put indexes beside the image (gzseek/artifact.h): a referrer that whoever may
 * push there can put, and that nobody vouches for. So it is looked for only where the operator says so. The image's referrers
 * are asked for once, for all layers, on a thread of their own, as that blocks; then each layer's artifact. Whatever fails
 * there makes it the ordinary layer that it is. */
#include "fusefs/open.h"

#include "base/log.h"
#include "estargz/gzseek/artifact.h"
#include "registry/referrers.h"

#define LOOK_NS (10 * NS_PER_S) /* the longest that layers wait for referrers and their manifests */

/* So long it is not asked again about an image of which a registry has said that there is none. */
#define NONE_NS (60 * NS_PER_S)

/* ---- images without any ---- */

static struct digest no_index_key(const struct open *o)
{
	char repository[REG_REF_TEXT_MAX], manifest[DIGEST_TEXT_MAX];
	AUTO_FREE char *text = xasprintf("%s\n%s\n%s", repository_text(o->ref, repository),
	                                 digest_text(&reg_image_manifest(o->image)->digest, manifest), o->access.owner);
	struct digest key;

	digest_of(text, strlen(text), &key);
	return key;
}

static bool has_none(struct open *o)
{
	const struct digest key = no_index_key(o);
	struct ffs_service *s = o->s;
	int64_t now = clock_mono_ns();
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < NO_INDEX_MAX && !found; i++)
		found = s->no_index[i].until_ns > now && digest_eq(&s->no_index[i].key, &key);
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void note_none(struct open *o)
{
	const struct no_index none = {no_index_key(o), clock_mono_ns() + NONE_NS};
	struct ffs_service *s = o->s;

	pthread_mutex_lock(&s->lock);
	s->no_index[s->no_index_next++ % NO_INDEX_MAX] = none;
	pthread_mutex_unlock(&s->lock);
}

void forget_no_index(struct ffs_service *s)
{
	pthread_mutex_lock(&s->lock);
	memset(s->no_index, 0, sizeof(s->no_index));
	pthread_mutex_unlock(&s->lock);
}

/* ---- which layers ---- */

static bool is_trusted(const char *hosts, const char *host)
{
	struct str list = str_of(hosts ?: ""), one;

	while (str_split(&list, ',', &one))
		if (str_eqc(one, "*") || str_eqc(one, host))
			return true;
	return str_eqc(list, "*") || str_eqc(list, host);
}

bool open_gzip_wanted(const struct open_layer *l)
{
	const struct open *o = l->open;

	return reg_layer_format(l->d->media_type) == REG_LAYER_GZIP && !reg_media_is_encrypted(l->d->media_type) &&
	       l->d->size > 0 && is_trusted(o->s->w->opts->gzip_index_hosts, o->ref->host);
}

/* ---- an artifact ---- */

static void next_artifact(struct open_layer *l);

static void no_use(const struct open_layer *l, const struct err *why)
{
	char text[DIGEST_TEXT_MAX];

	log_warn("image %s, layer %s: a gzip index is not used: %s", l->open->reference,
	         digest_text(&l->d->digest, text), why->msg);
}

static int store(struct open_layer *l, struct err *err)
{
	const struct esgz_gzseek_of of = {.blob = l->d->digest, .blob_bytes = l->d->size};
	AUTO(esgz_points) struct esgz_points *opened = NULL;
	AUTO(buf) struct buf points = BUF_INIT;
	AUTO(buf) struct buf index = BUF_INIT;
	struct digest got, key;

	digest_of(l->tail.p, l->tail.n, &got);
	esgz_index_key(ESGZ_TRUST_TOC, &l->d->digest, &got, &key);
	if (!digest_eq(&key, &l->key))
		return err_set(err, ERR_DATA_LOSS, "its digest is wrong");
	TRY(esgz_gzseek_unpack(buf_str(&l->tail), &of, &points, &index, err));
	buf_fini(&l->tail);
	TRY(esgz_points_open(buf_str(&points), &opened, err));
	l->diff_id = esgz_points_get_info(opened)->diff_id;
	return open_layer_put(l, buf_str(&index), buf_str(&points), &(struct ffs_split){0}, err);
}

static void artifact_job(struct pool_job *job)
{
	struct open_layer *l = CONTAINER_OF(job, struct open_layer, job);
	struct err why = l->why;

	l->why = ERR_INIT;
	if (why.code == ERR_OK && store(l, &why) >= 0) {
		open_leave(l->open, l);
		return;
	}
	no_use(l, &why);
	buf_fini(&l->tail);
	next_artifact(l);
}

static void on_artifact(void *arg, struct reg_answer *answer)
{
	struct open_layer *l = arg;

	if (open_layer_refused(answer, &l->why) >= 0) {
		l->tail = *answer->body;
		*answer->body = BUF_INIT;
	}
	l->job.fn = artifact_job;
	pool_submit(l->open->s->pool, POOL_DEMAND, &l->job);
}

static const struct reg_descriptor *find(const struct reg_manifest *m, const struct digest *layer)
{
	char want[DIGEST_TEXT_MAX];

	digest_text(layer, want);
	for (size_t i = 0; i < m->n_layers; i++) {
		const struct reg_descriptor *d = &m->layers[i];

		if (str_eqc(d->media_type, ESGZ_GZIP_INDEX_MEDIA_TYPE) &&
		    str_eqc(reg_annotation_get(d->annotations, d->n_annotations, STR(ESGZ_ANN_GZIP_INDEX_LAYER)), want))
			return d;
	}
	return NULL;
}

/* It is here. */
static int load(struct open_layer *l)
{
	AUTO(esgz_points) struct esgz_points *points = NULL;
	struct ffs_service *s = l->open->s;
	struct str bytes;
	int r;

	if (!open_comes_from_here(l->open, &l->key) || load_layer(s, &l->key, NULL) < 0)
		return -1;
	TRY(ffs_index_map_points(s->w->store, &l->key, &bytes, NULL));
	r = esgz_points_open(bytes, &points, NULL);
	if (r >= 0)
		l->diff_id = esgz_points_get_info(points)->diff_id;
	ffs_index_unmap(bytes);
	return r;
}

/* 1: asked for. 0: it is here. */
static int try_artifact(struct open_layer *l, const struct reg_descriptor *d, struct err *err)
{
	struct reg_blob_get q = {.digest = d->digest, .blob_size = d->size, .length = d->size, .done = on_artifact};

	if (d->size == 0 || d->size > ESGZ_ARTIFACT_PACKED_MAX(l->d->size))
		return err_set(err, ERR_EXHAUSTED, "it has %llu bytes", (unsigned long long)d->size);
	esgz_index_key(ESGZ_TRUST_TOC, &l->d->digest, &d->digest, &l->key);
	if (open_layer_refused_before(l)) {
		*err = l->why;
		l->refused = false; /* that index, not the layer, which the next one may be right about */
		l->why = ERR_INIT;
		return -ERR_DATA_LOSS;
	}
	if (load(l) >= 0) {
		l->found = true;
		open_layer_move(l);
		return 0;
	}
	TRY(open_layer_get(l, &q, err));
	return 1;
}

/* The newest one of those that are left; none: it is an ordinary layer. */
static void next_artifact(struct open_layer *l)
{
	const struct open_gzip *g = &l->open->gzip;

	while (l->n_tried < g->n) {
		const struct reg_descriptor *d = find(g->manifests[l->n_tried++], &l->d->digest);
		struct err why = ERR_INIT;
		int r = d ? try_artifact(l, d, &why) : -1;

		if (r > 0)
			return;
		if (r == 0) {
			open_leave(l->open, l);
			return;
		}
		if (d)
			no_use(l, &why);
	}
	if (g->why.code != ERR_OK)
		err_set(&l->why, ERR_UNIMPLEMENTED,
		        "not a lazy layer, and whether it has a gzip index is not known: %s", g->why.msg);
	else
		err_set(&l->why, ERR_UNIMPLEMENTED, "not a lazy layer, and no gzip index of it is of use");
	open_leave(l->open, l);
}

/* ---- the referrers ---- */

static int take_manifest(struct open *o, const struct digest *digest, int64_t deadline_ns, struct err *err)
{
	const struct reg_manifest *image = reg_image_manifest(o->image);
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	struct reg_ref ref = *o->ref;

	reg_ref_set_digest(&ref, digest);
	TRY(reg_manifest_fetch(o->s->w->client, &ref, o->access.account, deadline_ns, &o->gzip.canceller, &m, err));
	if (m->kind != REG_IMAGE_MANIFEST || !m->has_subject || !digest_eq(&m->subject.digest, &image->digest) ||
	    !str_eqc(m->artifact_type, ESGZ_GZIP_INDEX_ARTIFACT))
		return err_set(err, ERR_INVALID, "it is no gzip index of this image");
	o->gzip.manifests[o->gzip.n++] = STEAL(m);
	return 0;
}

/* Registries that keep a list append to it: the last one is the newest. */
static int look(struct open *o, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	int64_t deadline = clock_mono_ns() + LOOK_NS;

	if (deadline > o->deadline_ns)
		deadline = o->deadline_ns;
	TRY(reg_referrers_fetch(o->s->w->client, o->ref, o->access.account, &reg_image_manifest(o->image)->digest,
	                        ESGZ_GZIP_INDEX_ARTIFACT, deadline, &o->gzip.canceller, &index, err));
	if (!index->n_entries)
		note_none(o);
	for (size_t i = index->n_entries, tried = 0; i-- > 0 && tried < OPEN_GZIP_REFERRERS_MAX; tried++) {
		const struct digest *digest = &index->entries[i].digest;
		char text[DIGEST_TEXT_MAX];
		struct err why = ERR_INIT;

		if (take_manifest(o, digest, deadline, &why) == -ERR_CANCELLED)
			return err_set(err, ERR_CANCELLED, "cancelled");
		if (why.code != ERR_OK)
			log_warn("image %s, referrer %s is not used: %s", o->reference, digest_text(digest, text),
			         why.msg);
	}
	return 0;
}

static void *look_main(void *arg)
{
	struct open *o = arg;
	struct open_gzip *g = &o->gzip;
	struct open_layer *l, *next;

	if (look(o, &g->why) < 0 && g->why.code != ERR_CANCELLED)
		log_warn("image %s: gzip indexes: %s", o->reference, g->why.msg);
	pthread_mutex_lock(&o->lock);
	g->known = true;
	l = STEAL(g->waiting);
	pthread_mutex_unlock(&o->lock);
	for (; l; l = next) {
		next = l->waiting;
		next_artifact(l);
	}
	open_leave(o, NULL);
	return NULL;
}

static int begin_look(struct open *o, struct err *err)
{
	struct open_gzip *g = &o->gzip;
	int r;

	open_enter(o);
	reg_canceller_init(&g->canceller);
	r = pthread_create(&g->thread, NULL, look_main, o);
	if (r) {
		reg_canceller_fini(&g->canceller);
		open_leave(o, NULL);
		return err_errno(err, r, "start a thread");
	}
	g->started = true;
	return 0;
}

bool open_gzip_is_of_another(const struct open_layer *l, const struct digest *diff_id)
{
	return l->found && !digest_is_zero(&l->diff_id) && !digest_eq(&l->diff_id, diff_id);
}

void open_gzip_again(struct open_layer *l)
{
	struct open *o = l->open;
	struct err why = ERR_INIT;

	err_set(&why, ERR_DATA_LOSS, "it is of another DiffID than the configuration names");
	no_use(l, &why);
	open_enter(o);
	pthread_mutex_lock(&o->lock);
	l->ended = false;
	pthread_mutex_unlock(&o->lock);
	l->found = false;
	l->diff_id = (struct digest){0};
	next_artifact(l);
}

int open_gzip_begin(struct open_layer *l, struct err *err)
{
	struct open *o = l->open;
	struct open_gzip *g = &o->gzip;
	bool known;

	if (!g->begun) {
		g->known = has_none(o); /* there is no other thread yet */
		if (!g->known)
			TRY(begin_look(o, err));
		g->begun = true;
	}
	pthread_mutex_lock(&o->lock);
	known = g->known;
	if (!known) {
		l->waiting = g->waiting;
		g->waiting = l;
	}
	pthread_mutex_unlock(&o->lock);
	if (known)
		next_artifact(l);
	return 0;
}

void open_gzip_cancel(struct open_gzip *g)
{
	if (g->started)
		reg_canceller_cancel(&g->canceller);
}

void open_gzip_fini(struct open_gzip *g)
{
	if (g->started) {
		pthread_join(g->thread, NULL);
		reg_canceller_fini(&g->canceller);
	}
	for (unsigned i = 0; i < g->n; i++)
		reg_manifest_free(g->manifests[i]);
}
