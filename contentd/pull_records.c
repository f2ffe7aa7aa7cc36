/* Content records of an image, with the labels that containerd's own pull sets: collectors and clients follow them. */
#include "base/clock.h"
#include "contentd/blobs.h"
#include "contentd/kvs.h"
#include "contentd/leases.h"
#include "contentd/pull_internal.h"
#include "contentd/release.h"

#define LABEL_SOURCE "containerd.io/distribution.source."
#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"

/* ---- documents ---- */

static struct str document_bytes(const struct pull *p, const Contentd__Contentfs__V1__Document *doc)
{
	return str_sub(buf_str(&p->docs), doc->offset, (size_t)doc->descriptor->size);
}

int pull_documents_write(struct pull *p, struct err *err)
{
	AUTO_FREE struct cd_blob_new *blobs = xcalloc(p->image->n_documents + 1, sizeof(*blobs));

	for (size_t i = 0; i < p->image->n_documents; i++) {
		const Contentd__Contentfs__V1__Document *doc = p->image->documents[i];
		struct digest wanted;

		TRY(digest_parse(str_of(doc->descriptor->digest), &wanted, err));
		blobs[i].bytes = document_bytes(p, doc);
		digest_of(blobs[i].bytes.p, blobs[i].bytes.n, &blobs[i].digest);
		if (!digest_eq(&wanted, &blobs[i].digest))
			return err_set(err, ERR_DATA_LOSS, "document %s does not have that digest",
			               doc->descriptor->digest);
	}
	return cd_blobs_put(p->d->content, blobs, p->image->n_documents, err);
}

/* ---- records ---- */

/* One record in the making, over what the namespace knows of that blob already. */
struct making {
	struct pull *pull;
	struct arena *arena;
	struct cd_batch *batch;
	Pb__Timestamp *now;
};

/* Host and repository of a normalised reference: "docker.io/library/alpine:3" gives docker.io and library/alpine. */
static void source_of(struct arena *a, const char *reference, const char **host, const char **repository)
{
	struct str rest = str_of(reference), head;
	ptrdiff_t at;

	str_split(&rest, '/', &head);
	*host = arena_str(a, head);
	if ((at = str_find(rest, '@')) >= 0)
		rest = str_sub(rest, 0, (size_t)at);
	if ((at = str_rfind(rest, ':')) >= 0)
		rest = str_sub(rest, 0, (size_t)at);
	*repository = arena_str(a, rest);
}

/* distribution.source.<host> = repositories that have the blob, comma-separated: pushes mount from there. */
static void add_source(struct making *m, Content__Info *info)
{
	const char *host, *repository, *key, *old;
	struct str rest, one;

	source_of(m->arena, m->pull->image->reference, &host, &repository);
	key = arena_printf(m->arena, LABEL_SOURCE "%s", host);
	old = pb_kv_get(info->labels, info->n_labels, key);
	rest = str_of(old);
	while (old && str_split(&rest, ',', &one))
		if (str_eqc(one, repository))
			return;
	if (old && strlen(old) + strlen(repository) + strlen(key) + 1 > LABEL_BYTES_MAX)
		return; /* enough places to mount from */
	cd_kvs_set(m->arena, KVS(info, labels), key,
	           old ? arena_printf(m->arena, "%s,%s", old, repository) : repository);
}

/* The record as it is, or a new one. The caller adds labels and puts it. */
static int begin(struct making *m, const Contentd__Contentfs__V1__Descriptor *of, Records__Content **out,
                 struct err *err)
{
	int r = cd_content_get(m->pull->d, m->pull->req->ns, of->digest, m->arena, out, err);
	Records__Content *record;

	if (r < 0 && r != -ERR_NOT_FOUND)
		return r;
	if (r < 0) {
		record = *out = pb_new(m->arena, &records__content__descriptor);
		record->info = pb_new(m->arena, &content__info__descriptor);
		record->info->digest = of->digest;
		record->info->size = of->size;
		record->info->created_at = m->now;
	}
	record = *out;
	record->info->updated_at = m->now;
	record->media_type = of->media_type;
	record->source = m->pull->image->reference;
	add_source(m, record->info);
	return 0;
}

static void put(struct making *m, const Records__Content *record)
{
	cd_batch_put(m->batch, CD_CONTENT, m->pull->req->ns, str_of(record->info->digest), &record->base);
	if (m->pull->req->lease)
		cd_lease_add(m->batch, m->pull->req->ns, m->pull->req->lease, "content", record->info->digest);
}

static void label(struct making *m, Records__Content *record, const char *key, const char *value)
{
	cd_kvs_set(m->arena, KVS(record->info, labels), key, value);
}

static int put_index(struct making *m, struct err *err)
{
	const Contentd__Contentfs__V1__OpenResponse *image = m->pull->image;
	Records__Content *record;

	if (!strcmp(image->target->digest, image->manifest->digest))
		return 0; /* the reference names the manifest itself */
	TRY(begin(m, image->target, &record, err));
	label(m, record, "containerd.io/gc.ref.content.m.0", image->manifest->digest);
	put(m, record);
	return 0;
}

static int put_manifest(struct making *m, struct err *err)
{
	const Contentd__Contentfs__V1__OpenResponse *image = m->pull->image;
	Records__Content *record;

	TRY(begin(m, image->manifest, &record, err));
	label(m, record, "containerd.io/gc.ref.content.config", image->config->digest);
	for (size_t i = 0; i < m->pull->n_layers; i++)
		label(m, record, arena_printf(m->arena, "containerd.io/gc.ref.content.l.%zu", i),
		      m->pull->layers[i].from->descriptor->digest);
	put(m, record);
	return 0;
}

static int put_config(struct making *m, struct err *err)
{
	const struct pull *p = m->pull;
	Records__Content *record;

	TRY(begin(m, p->image->config, &record, err));
	if (p->top)
		label(m, record, arena_printf(m->arena, "containerd.io/gc.ref.snapshot.%s", p->req->snapshotter),
		      p->top);
	put(m, record);
	return 0;
}

/* A layer that was only opened has claimed its DiffID, not proven it: it gets no label that says so. */
static int put_layer(struct making *m, const struct pull_layer *l, struct err *err)
{
	Records__Content *record;

	TRY(begin(m, l->from->descriptor, &record, err));
	if (!l->lazy && m->pull->req->snapshotter && strcmp(l->from->diff_id, l->from->descriptor->digest))
		label(m, record, LABEL_UNCOMPRESSED, l->from->diff_id);
	put(m, record);
	return 0;
}

static int put_all(struct making *m, struct err *err)
{
	AUTO_FREE struct str *names = xcalloc(m->pull->n_layers + 3, sizeof(*names));
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	size_t n = 0;

	names[n++] = str_of(m->pull->image->target->digest);
	names[n++] = str_of(m->pull->image->manifest->digest);
	names[n++] = str_of(m->pull->image->config->digest);
	for (size_t i = 0; i < m->pull->n_layers; i++)
		names[n++] = str_of(m->pull->layers[i].from->descriptor->digest);
	h = cd_meta_hold_many(m->pull->d->meta, CD_CONTENT, m->pull->req->ns, names, n);
	TRY(put_index(m, err));
	TRY(put_manifest(m, err));
	TRY(put_config(m, err));
	for (size_t i = 0; i < m->pull->n_layers; i++)
		TRY(put_layer(m, &m->pull->layers[i], err));
	return cd_meta_commit(m->pull->d->meta, m->batch, err);
}

int pull_records_commit(struct pull *p, struct err *err)
{
	AUTO(cd_batch) struct cd_batch batch = CD_BATCH_INIT;
	struct arena a;
	struct making m = {.pull = p, .arena = &a, .batch = &batch};
	int r;

	arena_init(&a, SIZE_MAX);
	m.now = pb_time_new(&a, clock_wall());
	r = put_all(&m, err);
	arena_fini(&a);
	cd_release_changed(p->d);
	return r;
}
