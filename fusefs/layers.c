#include "estargz/gzseek/artifact.h"
#include "fusefs/core.h"

#include <stdlib.h>

/* ---- members ---- */

struct placed {
	uint64_t offset, inner;
	uint32_t chunk;
};

static int placed_cmp(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	if (x->inner != y->inner)
		return x->inner < y->inner ? -1 : 1;
	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

/* What a member of this many inflated bytes can take at most in the blob: stored blocks, headers, and room for the tar
 * headers of entries without content that follow in the same member. */
static uint64_t member_bound(uint64_t inflated)
{
	return inflated + inflated / 16 + (4u << 20);
}

/* Bytes to fetch for the member order[first..n): up to where the next one begins, as members do not overlap, if there is not
 * much between them. What lies there (headers) is wanted for the proof. */
static uint32_t member_bytes(const struct layer *l, uint32_t first, uint32_t n, uint64_t next_offset)
{
	uint64_t offset = 0, bytes = 0, inflated = 0;

	for (uint32_t i = first; i < first + n; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(l->ix, l->order[i], &c);
		offset = c.blob_offset;
		if (c.blob_bytes > bytes)
			bytes = c.blob_bytes;
		if (c.inner_offset > FFS_MEMBER_INFLATED_MAX || c.bytes > FFS_MEMBER_INFLATED_MAX)
			return 0;
		if (c.inner_offset + c.bytes > inflated)
			inflated = c.inner_offset + c.bytes;
	}
	if (inflated > FFS_MEMBER_INFLATED_MAX || offset >= l->source.blob_bytes)
		return 0;
	if (bytes > next_offset - offset || next_offset - offset - bytes <= FFS_BULK_GAP)
		bytes = next_offset - offset;
	if (bytes > l->source.blob_bytes - offset)
		bytes = l->source.blob_bytes - offset;
	if (bytes > member_bound(inflated))
		bytes = member_bound(inflated);
	return (uint32_t)bytes;
}

uint32_t layer_point(const struct layer *l, uint32_t m, struct esgz_point *out)
{
	uint32_t i = 0;

	esgz_points_find(l->points, l->members[m].offset, &i); /* it does, as the two fit */
	esgz_points_get(l->points, i, out);
	return i;
}

/* All of the span: what is no chunk is wanted for the proof. Both its sizes were looked at when the points were opened. */
static uint32_t span_bytes(const struct layer *l, uint32_t m)
{
	struct esgz_point from;

	return (uint32_t)(esgz_points_blob_end(l->points, layer_point(l, m, &from)) - l->members[m].offset);
}

static void layer_place_members(struct layer *l)
{
	uint32_t n_chunks = l->info->n_chunks, n = 0;
	AUTO_FREE struct placed *placed = xcalloc((size_t)n_chunks + 1, sizeof(*placed));

	for (uint32_t i = 0; i < n_chunks; i++) {
		struct esgz_chunk c;

		esgz_index_chunk(l->ix, i, &c);
		if (c.hole)
			l->n_holes++;
		else
			placed[n++] = (struct placed){c.blob_offset, c.inner_offset, i};
	}
	l->order = xcalloc((size_t)n + 1, sizeof(*l->order));
	l->members = xcalloc((size_t)n + 1, sizeof(*l->members));
	qsort(placed, n, sizeof(*placed), placed_cmp);
	for (uint32_t i = 0; i < n; i++) {
		l->order[i] = placed[i].chunk;
		if (i == 0 || placed[i].offset != placed[i - 1].offset)
			l->members[l->n_members++] = (struct member){.offset = placed[i].offset, .first = i};
	}
	l->members[l->n_members] = (struct member){.offset = UINT64_MAX, .first = n};
	for (uint32_t m = 0; m < l->n_members; m++) {
		l->members[m].bytes =
		    l->points ? span_bytes(l, m)
			      : member_bytes(l, l->members[m].first, member_chunks(l, m), l->members[m + 1].offset);
		l->member_bytes += l->members[m].bytes;
	}
}

uint32_t layer_member_of(const struct layer *l, const struct esgz_chunk *c)
{
	uint32_t lo = 0, hi = l->n_members;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (l->members[mid].offset <= c->blob_offset)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* ---- loading ---- */

static void layer_note_entries(struct layer *l)
{
	l->entry_of = xcalloc((size_t)l->info->n_chunks + 1, sizeof(*l->entry_of));
	for (uint32_t i = 0; i < l->info->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(l->ix, i, &e);
		if (e.type != ESGZ_REG || e.size == 0)
			continue;
		l->n_files++;
		for (uint32_t j = 0; j < e.n_chunks; j++)
			l->entry_of[e.first_chunk + j] = i;
	}
}

/* Without them it cannot be read; both are made again together. */
static int layer_open_points(struct ffs_store *store, struct layer *l, struct err *err)
{
	struct err why = ERR_INIT;

	if (l->info->compression != ESGZ_GZIP_SEEK || l->info->n_chunks == 0)
		return 0;
	if (ffs_index_map_points(store, &l->key, &l->points_bytes, &why) < 0)
		return err_set(err, why.code == ERR_NOT_FOUND ? ERR_DATA_LOSS : why.code, "%s", why.msg);
	TRY(esgz_points_open(l->points_bytes, &l->points, err));
	return esgz_gzseek_match(l->points, l->ix, err);
}

int layer_load(struct ffs_store *store, const struct digest *key, struct layer **out, struct err *err)
{
	AUTO(layer) struct layer *l = NULL;
	struct digest named;

	l = xcalloc(1, sizeof(*l));
	l->key = *key;
	TRY(ffs_index_map(store, key, &l->bytes, err));
	TRY(ffs_index_source(store, key, &l->source, err));
	TRY(esgz_index_open(l->bytes, &l->ix, err));
	l->info = esgz_index_get_info(l->ix);
	esgz_index_key(l->info->trust, &l->info->blob, &l->info->trusted, &named);
	if (!digest_eq(&named, key))
		return err_set(err, ERR_DATA_LOSS, "the index is that of another layer");
	if (!digest_eq(&l->source.blob, &l->info->blob) || l->source.blob_bytes != l->info->blob_bytes)
		return err_set(err, ERR_DATA_LOSS, "index and source name different blobs");
	TRY(layer_open_points(store, l, err));
	layer_set_origin(l, l->source.reference, l->source.owner);
	layer_note_entries(l);
	layer_place_members(l);
	l->state = xcalloc((size_t)l->n_members + 1, 1);
	l->published = xcalloc((size_t)l->info->n_entries + 1, 1);
	l->window = FFS_WINDOW_MIN;
	l->promised = l->source.promised;
	l->facts = l->source.facts;
	l->source.facts.difference = NULL;
	if (l->info->trust == ESGZ_TRUST_TOC)
		l->gaps = gaps_new(store, key, l->info->blob_bytes);
	*out = STEAL(l);
	return 0;
}

void layer_free(struct layer *l)
{
	if (!l)
		return;
	gaps_free(l->gaps);
	free(l->facts.difference);
	free(l->state);
	free(l->published);
	free(l->members);
	free(l->order);
	free(l->entry_of);
	esgz_index_free(l->ix);
	ffs_index_unmap(l->bytes);
	esgz_points_free(l->points);
	ffs_index_unmap(l->points_bytes);
	ffs_source_fini(&l->source);
	vec_each(&l->origins, o) {
		free((*o)->reference);
		free((*o)->owner);
		free(*o);
	}
	vec_fini(&l->origins);
	free(l);
}

/* Few: one that it had before is taken again. */
void layer_set_origin(struct layer *l, const char *reference, const char *owner)
{
	struct origin *new;

	vec_each(&l->origins, o)
		if (!strcmp((*o)->reference, reference) && !strcmp((*o)->owner, owner)) {
			atomic_store(&l->origin, *o);
			return;
		}
	new = xmalloc(sizeof(*new));
	*new = (struct origin){xstrdup(reference), xstrdup(owner)};
	vec_push(&l->origins, new);
	atomic_store(&l->origin, new);
}

void layer_ref(struct layer *l)
{
	l->refs++;
}

void layer_unref(struct layer *l)
{
	if (--l->refs == 0)
		layer_free(l);
}

struct layer *layer_find(struct ffs_data *d, const struct digest *key)
{
	for (struct layer *l = d->layers; l; l = l->next)
		if (digest_eq(&l->key, key))
			return l;
	return NULL;
}

/* ---- claims ---- */

static void claims_link(struct claims *c, uint32_t i)
{
	uint32_t *bucket = &c->buckets[c->list.p[i].hash & (c->n_buckets - 1)];

	c->list.p[i].next = *bucket;
	*bucket = i + 1;
}

static void claims_rehash(struct claims *c, size_t want)
{
	size_t n = c->n_buckets ? c->n_buckets : 1024;

	while (n < want)
		n *= 2;
	free(c->buckets);
	c->buckets = xcalloc(n, sizeof(*c->buckets));
	c->n_buckets = n;
	for (uint32_t i = 0; i < c->list.n; i++)
		claims_link(c, i);
}

static void claims_put(struct claims *c, struct layer *l, uint32_t entry, const struct digest *key, bool by_content)
{
	vec_push(&c->list, (struct claim){.layer = l, .entry = entry, .hash = key_hash(key), .by_content = by_content});
	claims_link(c, (uint32_t)c->list.n - 1);
}

void claims_add(struct claims *c, struct layer *l)
{
	size_t want = c->list.n + 2 * (size_t)l->n_files;

	if (want > c->n_buckets)
		claims_rehash(c, want);
	vec_reserve(&c->list, want);
	for (uint32_t i = 0; i < l->info->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(l->ix, i, &e);
		if (e.type != ESGZ_REG || e.size == 0)
			continue;
		if (e.n_chunks)
			claims_put(c, l, i, &e.claim, false);
		claims_put(c, l, i, &e.content, true);
	}
}

void claims_remove(struct claims *c, struct layer *l)
{
	size_t n = 0;

	for (size_t i = 0; i < c->list.n; i++)
		if (c->list.p[i].layer != l)
			c->list.p[n++] = c->list.p[i];
	c->list.n = n;
	if (c->n_buckets)
		claims_rehash(c, n);
}

void claims_fini(struct claims *c)
{
	vec_fini(&c->list);
	free(c->buckets);
	c->buckets = NULL;
	c->n_buckets = 0;
}

bool claims_next(const struct claims *c, const struct digest *key, bool by_content, uint32_t *at, struct layer **l,
                 struct esgz_entry *e, uint32_t *entry)
{
	uint64_t hash = key_hash(key);
	uint32_t i;

	if (!c->n_buckets)
		return false;
	i = *at ? c->list.p[*at - 1].next : c->buckets[hash & (c->n_buckets - 1)];
	for (; i; i = c->list.p[i - 1].next) {
		const struct claim *it = &c->list.p[i - 1];

		if (it->hash != hash || it->by_content != by_content)
			continue;
		esgz_index_entry(it->layer->ix, it->entry, e);
		if (!digest_eq(by_content ? &e->content : &e->claim, key))
			continue;
		*at = i;
		*l = it->layer;
		*entry = it->entry;
		return true;
	}
	return false;
}
