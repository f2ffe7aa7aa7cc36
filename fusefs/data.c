#include "fusefs/core.h"

#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_MEMORY (64u << 20)
#define DEFAULT_CACHE_NS (5 * NS_PER_S)
#define DEFAULT_OPEN_FILES 4096

/* ---- life ---- */

int ffs_data_new(struct ffs_store *store, const struct ffs_blobs *blobs, const struct ffs_data_opts *opts,
                 struct ffs_data **out, struct err *err)
{
	AUTO(ffs_data) struct ffs_data *d = NULL;

	d = xcalloc(1, sizeof(*d));
	d->store = store;
	d->blobs = *blobs;
	if (opts)
		d->opts = *opts;
	else
		d->opts.background = FFS_BACKGROUND_ON;
	if (!d->opts.quiet_ns)
		d->opts.quiet_ns = 500 * NS_PER_MS;
	if (!d->opts.read_timeout_ns)
		d->opts.read_timeout_ns = 60 * NS_PER_S;
	if (!d->opts.memory_bytes)
		d->opts.memory_bytes = DEFAULT_MEMORY;
	if (!d->opts.cache_ns)
		d->opts.cache_ns = DEFAULT_CACHE_NS;
	if (!d->opts.threads)
		d->opts.threads = cpu_count();
	if (!d->opts.open_files)
		d->opts.open_files = DEFAULT_OPEN_FILES;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->idle, NULL);
	pthread_cond_init(&d->probed, NULL);
	TRY(pool_new(d->opts.threads, "inflate", &d->pool, err));
	TRY(publisher_start(d, err));
	TRY(fills_start(d, err));
	TRY(prover_start(d, err));
	*out = STEAL(d);
	return 0;
}

void ffs_data_free(struct ffs_data *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stopping = true;
	fills_cancel_all(d); /* or they would ask for more while fetch_stop waits for the last request */
	pthread_mutex_unlock(&d->lock);
	if (d->pool) {
		prover_stop(d);
		fetch_stop(d);
		flights_retry(d, INT64_MAX);
		reads_cancel_all(d);
		fills_stop(d);
		publisher_stop(d);
		flights_retry(d, INT64_MAX);
		pool_free(d->pool);
	}
	while (d->oldest)
		cache_drop(d, d->oldest->file);
	for (size_t i = 0; i < d->n_buckets; i++)
		while (d->buckets[i])
			file_free(d, d->buckets[i]);
	free(d->buckets);
	vec_fini(&d->outbox);
	claims_fini(&d->claims);
	while (d->layers) {
		struct layer *l = d->layers;

		d->layers = l->next;
		if (l->gaps)
			gaps_flush(l->gaps);
		layer_unref(l);
	}
	while (d->inflaters) {
		struct inflater_slot *s = d->inflaters;

		d->inflaters = s->next;
		esgz_inflater_free(s->z);
		free(s);
	}
	pthread_cond_destroy(&d->idle);
	pthread_cond_destroy(&d->probed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

struct inflater_slot *inflater_take(struct ffs_data *d)
{
	struct inflater_slot *s;

	pthread_mutex_lock(&d->lock);
	s = d->inflaters;
	if (s)
		d->inflaters = s->next;
	pthread_mutex_unlock(&d->lock);
	if (s)
		return s;
	s = xcalloc(1, sizeof(*s));
	s->z = esgz_inflater_new();
	return s;
}

void inflater_give(struct ffs_data *d, struct inflater_slot *s)
{
	pthread_mutex_lock(&d->lock);
	s->next = d->inflaters;
	d->inflaters = s;
	pthread_mutex_unlock(&d->lock);
}

bool ffs_data_beat(struct ffs_data *d)
{
	bool some, none;

	pthread_mutex_lock(&d->lock);
	some = d->oldest != NULL;
	cache_age(d, clock_mono_ns() - d->opts.cache_ns);
	none = !d->oldest;
	pthread_mutex_unlock(&d->lock);
	return some && none;
}

/* ---- layers ---- */

/* Lock held. */
static void append_layer(struct ffs_data *d, TAKE(struct layer *) l)
{
	struct layer **at = &d->layers;

	l->refs = 1;
	while (*at)
		at = &(*at)->next;
	*at = l;
	claims_add(&d->claims, l);
}

int ffs_data_add_layer(struct ffs_data *d, const struct digest *index_key, struct err *err)
{
	AUTO(layer) struct layer *l = NULL;
	bool known;

	pthread_mutex_lock(&d->lock);
	known = layer_find(d, index_key);
	pthread_mutex_unlock(&d->lock);
	if (known)
		return 0;
	TRY(layer_load(d->store, index_key, &l, err));
	/* A sweep that has just looked whether anybody claims an object has deleted it before, or spares it. */
	ffs_store_rely_begin(d->store);
	pthread_mutex_lock(&d->lock);
	if (!layer_find(d, index_key))
		append_layer(d, STEAL(l));
	pthread_mutex_unlock(&d->lock);
	ffs_store_rely_end(d->store);
	return 0;
}

/* Files that nobody uses at the moment let go of the layer; the others hold it until a later removal. */
static void files_leave_layer(struct ffs_data *d, struct layer *l)
{
	for (size_t i = 0; i < d->n_buckets; i++)
		for (struct ffs_file *f = d->buckets[i], *next; f; f = next) {
			next = f->hash_next;
			if (f->home != l || f->busy || f->probing)
				continue;
			f->busy++;
			if (!file_find_home(d, f, l)) {
				cache_drop(d, f);
				if (f->state == FILE_FILLING)
					file_vanished(d, f);
				f->home = NULL;
				layer_unref(l);
			}
			file_unbusy(d, f);
		}
}

void ffs_data_set_origin(struct ffs_data *d, const struct digest *index_key, const char *reference, const char *owner)
{
	struct layer *l;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, index_key);
	if (l)
		layer_set_origin(l, reference, owner);
	pthread_mutex_unlock(&d->lock);
}

void ffs_data_promise(struct ffs_data *d, const struct digest *index_key, const struct digest *diff_id)
{
	bool changed = false;
	struct err why;
	struct layer *l;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, index_key);
	if (l && l->info->trust == ESGZ_TRUST_TOC && !digest_eq(&l->promised, diff_id)) {
		l->promised = *diff_id;
		changed = true;
		if (l->filled)
			prover_add(d, l);
	}
	pthread_mutex_unlock(&d->lock);
	if (changed && ffs_index_set_promised(d->store, index_key, diff_id, &why) < 0)
		log_warn("%s", why.msg);
}

/* Lock held. */
static enum ffs_verdict layer_verdict(const struct layer *l, const struct digest *diff_id, struct buf *reason)
{
	enum ffs_verdict v;

	if (l->info->trust == ESGZ_TRUST_DIFFID)
		return FFS_PROVEN;
	v = ffs_facts_verdict(&l->facts, diff_id, reason);
	if (v == FFS_UNPROVEN && reason && !reason->n)
		buf_adds(reason, l->unproven);
	return v;
}

enum ffs_verdict ffs_data_verdict(struct ffs_data *d, const struct digest *index_key, const struct digest *diff_id,
                                  struct buf *reason)
{
	enum ffs_verdict v = FFS_UNPROVEN;
	struct layer *l;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, index_key);
	if (l)
		v = layer_verdict(l, diff_id, reason);
	pthread_mutex_unlock(&d->lock);
	return v;
}

bool ffs_data_find_proven(struct ffs_data *d, const struct digest *diff_id, const char *reference, struct digest *key)
{
	bool found = false;

	pthread_mutex_lock(&d->lock);
	for (struct layer *l = d->layers; l && !found; l = l->next) {
		found = l->info->trust == ESGZ_TRUST_TOC && ffs_facts_verdict(&l->facts, diff_id, NULL) == FFS_PROVEN &&
		        (!reference || !strcmp(layer_reference(l), reference));
		*key = l->key;
	}
	pthread_mutex_unlock(&d->lock);
	return found;
}

void ffs_data_remove_layer(struct ffs_data *d, const struct digest *index_key)
{
	struct layer **at, *l;

	pthread_mutex_lock(&d->lock);
	for (at = &d->layers; *at && !digest_eq(&(*at)->key, index_key);)
		at = &(*at)->next;
	l = *at;
	if (l) {
		*at = l->next;
		l->removed = true;
		l->pinned = false;
		claims_remove(&d->claims, l);
		fills_drop_layer(d, l);
		files_leave_layer(d, l);
		layer_unref(l);
	}
	pthread_mutex_unlock(&d->lock);
	fetch_send(d);
}

bool ffs_data_has_layer(struct ffs_data *d, const struct digest *index_key)
{
	bool has;

	pthread_mutex_lock(&d->lock);
	has = layer_find(d, index_key);
	pthread_mutex_unlock(&d->lock);
	return has;
}

bool ffs_data_is_claimed(struct ffs_data *d, const struct digest *key)
{
	uint32_t at = 0, also = 0, entry;
	struct layer *l;
	struct esgz_entry e;
	bool claimed;

	pthread_mutex_lock(&d->lock);
	claimed = claims_next(&d->claims, key, true, &at, &l, &e, &entry) ||
	          claims_next(&d->claims, key, false, &also, &l, &e, &entry);
	pthread_mutex_unlock(&d->lock);
	return claimed;
}

/* ---- status ---- */

void ffs_data_layers(struct ffs_data *d, struct digest **keys, size_t *n)
{
	VEC(struct digest) all = VEC_INIT;

	pthread_mutex_lock(&d->lock);
	for (struct layer *l = d->layers; l; l = l->next)
		vec_push(&all, l->key);
	pthread_mutex_unlock(&d->lock);
	*keys = all.p;
	*n = all.n;
}

/* Bytes of one entry that are here. No lock held. */
static uint64_t entry_present(struct ffs_data *d, struct layer *l, uint32_t i, const struct esgz_entry *e,
                              bool *published)
{
	uint64_t present = 0;
	struct esgz_chunk c;
	struct ffs_file *f;

	pthread_mutex_lock(&d->lock);
	*published = l->published[i];
	f = *published || !e->n_chunks ? NULL : file_lookup(d, &e->claim);
	*published = *published || (f && f->state == FILE_PUBLISHED);
	for (uint32_t k = 0; ((f && f->present) || l->n_holes > 0) && !*published && k < e->n_chunks; k++) {
		esgz_index_chunk(l->ix, e->first_chunk + k, &c);
		if (c.hole || (f && f->present && bit_get(f->present, k)))
			present += c.bytes;
	}
	pthread_mutex_unlock(&d->lock);
	if (!*published && !f && entry_published(d, e))
		*published = true;
	return *published ? e->size : present;
}

int ffs_data_layer_status(struct ffs_data *d, const struct digest *index_key, bool sizes_only,
                          struct ffs_layer_status *out, struct err *err)
{
	AUTO(buf) struct buf reason = BUF_INIT;
	struct layer *l;

	pthread_mutex_lock(&d->lock);
	l = layer_find(d, index_key);
	if (!l) {
		pthread_mutex_unlock(&d->lock);
		return err_set(err, ERR_NOT_FOUND, "the layer is not loaded");
	}
	layer_ref(l);
	*out = (struct ffs_layer_status){.index_key = l->key,
	                                 .blob = l->info->blob,
	                                 .lazy = l->info->trust == ESGZ_TRUST_TOC,
	                                 .gzip_index = l->points != NULL,
	                                 .pinned = l->pinned,
	                                 .content_bytes = l->info->content_bytes,
	                                 .files = l->n_files};
	memcpy(out->error, l->error, sizeof(out->error));
	out->verdict = layer_verdict(l, &l->promised, &reason);
	if (l->info->trust == ESGZ_TRUST_DIFFID)
		out->diff_id = l->info->trusted;
	else if (ffs_facts_decide(&l->facts, &l->promised))
		out->diff_id = ffs_facts_fit(&l->facts, &l->promised) ? l->promised : l->facts.diff_id;
	snprintf(out->reason, sizeof(out->reason), "%.*s", (int)sizeof(out->reason) - 1, buf_cstr(&reason));
	pthread_mutex_unlock(&d->lock);
	for (uint32_t i = 0; i < l->info->n_entries && !sizes_only; i++) {
		struct esgz_entry e;
		bool published;

		esgz_index_entry(l->ix, i, &e);
		if (e.type != ESGZ_REG || e.size == 0)
			continue;
		out->present_bytes += entry_present(d, l, i, &e, &published);
		out->files_published += published;
	}
	pthread_mutex_lock(&d->lock);
	layer_unref(l);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void add_users(struct ffs_data *d, const struct digest *key, bool by_content, struct ffs_object_users *out)
{
	uint32_t at = 0, entry;
	struct esgz_entry e;
	struct layer *l;

	while (claims_next(&d->claims, key, by_content, &at, &l, &e, &entry)) {
		bool known = false;

		out->content = e.content;
		out->lazy |= e.n_chunks > 0;
		for (unsigned i = 0; i < out->n; i++)
			known |= digest_eq(&out->layers[i].key, &l->key);
		if (known || out->n == FFS_OBJECT_USERS_MAX)
			continue;
		out->layers[out->n].key = l->key;
		out->layers[out->n++].blob = l->info->blob;
	}
}

void ffs_data_object_users(struct ffs_data *d, const struct digest *key, struct ffs_object_users *out)
{
	*out = (struct ffs_object_users){.content = *key};
	pthread_mutex_lock(&d->lock);
	add_users(d, key, true, out);
	add_users(d, key, false, out);
	pthread_mutex_unlock(&d->lock);
}

void ffs_data_counters(struct ffs_data *d, struct ffs_data_counters *out)
{
	pthread_mutex_lock(&d->lock);
	*out = d->counters;
	out->memory_bytes = d->memory;
	pthread_mutex_unlock(&d->lock);
}
