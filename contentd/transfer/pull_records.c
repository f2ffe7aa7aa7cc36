/* Content records of an image, with the labels that containerd's own pull sets: collectors and clients follow them. */
#include "contentd/records/leases.h"
#include "contentd/transfer/pull_internal.h"
#include "contentd/transfer/recording.h"

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

static int get(struct cd_recording *r, const Contentd__Contentfs__V1__Descriptor *of, Records__Content **out,
               struct err *err)
{
	return cd_recording_get(r, of->media_type, of->digest, of->size, out, err);
}

/* The entry of an index that leads to the next document, by its place: other platforms have other places. */
static int put_index(struct pull *p, struct cd_recording *r, size_t i, struct err *err)
{
	const Contentd__Contentfs__V1__Descriptor *d = p->image->documents[i]->descriptor;
	const char *next = p->image->documents[i + 1]->descriptor->digest;
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	Records__Content *record;
	struct digest wanted;
	size_t place = 0;

	TRY(reg_manifest_parse(document_bytes(p, p->image->documents[i]), str_of(d->media_type), &index, err));
	TRY(digest_parse(str_of(next), &wanted, err));
	while (place < index->n_entries && !digest_eq(&index->entries[place].digest, &wanted))
		place++;
	TRY(get(r, d, &record, err));
	record->held = true;
	cd_recording_label(r, record, arena_printf(&r->arena, CD_LABEL_REF "m.%zu", place), next);
	cd_recording_put(r, record);
	return 0;
}

static int put_manifest(struct pull *p, struct cd_recording *r, struct err *err)
{
	const Contentd__Contentfs__V1__OpenResponse *image = p->image;
	Records__Content *record;

	TRY(get(r, image->manifest, &record, err));
	record->held = true;
	cd_recording_label(r, record, CD_LABEL_REF "config", image->config->digest);
	for (size_t i = 0; i < p->n_layers; i++)
		cd_recording_label(r, record, arena_printf(&r->arena, CD_LABEL_REF "l.%zu", i),
		                   p->layers[i].from->descriptor->digest);
	cd_recording_put(r, record);
	return 0;
}

static int put_config(struct pull *p, struct cd_recording *r, struct err *err)
{
	Records__Content *record;

	TRY(get(r, p->image->config, &record, err));
	record->held = true;
	if (p->top)
		cd_recording_label(r, record, arena_printf(&r->arena, CD_LABEL_REF_SNAPSHOT "%s", p->snapshotter),
		                   p->top);
	cd_recording_put(r, record);
	return 0;
}

/* A layer that was only opened has claimed its DiffID, not proven it: it gets no label that says so. */
static int put_layer(struct pull *p, struct cd_recording *r, const struct pull_layer *l, struct err *err)
{
	Records__Content *record;

	TRY(get(r, l->from->descriptor, &record, err));
	record->held = record->held || l->held;
	if (!l->lazy && p->snapshotter && strcmp(l->from->diff_id, l->from->descriptor->digest))
		cd_recording_label(r, record, CD_LABEL_UNCOMPRESSED, l->from->diff_id);
	cd_recording_put(r, record);
	return 0;
}

void pull_lease_snapshots(struct pull *p, struct cd_recording *r)
{
	if (!p->lease || !p->top)
		return;
	for (size_t i = 0; i < p->n_layers; i++)
		cd_lease_add(&r->batch, p->ns, p->lease, arena_printf(&r->arena, "snapshots/%s", p->snapshotter),
		             p->layers[i].chain);
}

static int put_all(struct pull *p, struct cd_recording *r, struct err *err)
{
	AUTO_FREE struct str *names = xcalloc(p->image->n_documents + p->n_layers + 1, sizeof(*names));
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	size_t n = 0;

	for (size_t i = 0; i < p->image->n_documents; i++)
		names[n++] = str_of(p->image->documents[i]->descriptor->digest);
	for (size_t i = 0; i < p->n_layers; i++)
		names[n++] = str_of(p->layers[i].from->descriptor->digest);
	h = cd_meta_hold_many(p->d->meta, CD_CONTENT, p->ns, names, n);
	/* Documents: indexes from the outside in, the manifest, the configuration. */
	for (size_t i = 0; i + 2 < p->image->n_documents; i++)
		TRY(put_index(p, r, i, err));
	TRY(put_manifest(p, r, err));
	TRY(put_config(p, r, err));
	for (size_t i = 0; i < p->n_layers; i++)
		TRY(put_layer(p, r, &p->layers[i], err));
	pull_lease_snapshots(p, r);
	return cd_recording_commit(r, err);
}

int pull_records_commit(struct pull *p, struct err *err)
{
	AUTO(cd_recording) struct cd_recording r;

	cd_recording_init(&r, p->d, p->ns, p->lease, p->source);
	return put_all(p, &r, err);
}
