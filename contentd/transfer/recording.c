#include "contentd/transfer/recording.h"

#include "base/clock.h"
#include "contentd/content/blobs.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"

#define LABEL_SOURCE "containerd.io/distribution.source."

void cd_recording_init(struct cd_recording *r, struct cd_daemon *d, const char *ns, const char *lease,
                       const char *source)
{
	*r = (struct cd_recording){.d = d, .ns = ns, .lease = lease, .source = source, .batch = CD_BATCH_INIT};
	arena_init(&r->arena, SIZE_MAX);
	r->now = pb_time_new(&r->arena, clock_wall());
}

void cd_recording_fini(struct cd_recording *r)
{
	cd_batch_fini(&r->batch);
	vec_fini(&r->created);
	arena_fini(&r->arena);
}

void cd_reference_split(struct arena *a, const char *reference, const char **host, const char **repository)
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

const char *cd_source_label(struct arena *a, const char *host)
{
	struct str name = str_of(host), rest = name;

	if (str_skip(&rest, STR("[")))
		str_split(&rest, ']', &name);
	else
		str_split(&rest, ':', &name);
	return arena_printf(a, LABEL_SOURCE STR_FMT, STR_ARG(name));
}

void cd_recording_add_source(struct cd_recording *r, Records__Content *record, const char *reference)
{
	const char *host, *repository, *key, *old;
	struct str rest, one;

	cd_reference_split(&r->arena, reference, &host, &repository);
	key = cd_source_label(&r->arena, host);
	old = pb_kv_get(record->info->labels, record->info->n_labels, key);
	rest = str_of(old);
	while (old && str_split(&rest, ',', &one))
		if (str_eqc(one, repository))
			return;
	if (old && strlen(old) + strlen(repository) + strlen(key) + 1 > LABEL_BYTES_MAX)
		return; /* enough places to mount from */
	cd_kvs_set(&r->arena, KVS(record->info, labels), key,
	           old ? arena_printf(&r->arena, "%s,%s", old, repository) : repository);
}

int cd_recording_get(struct cd_recording *r, const char *media_type, const char *digest, int64_t size,
                     Records__Content **out, struct err *err)
{
	int result = cd_content_get(r->d, r->ns, digest, &r->arena, out, err);
	Records__Content *record;

	if (result < 0 && result != -ERR_NOT_FOUND)
		return result;
	if (result < 0) {
		record = *out = pb_new(&r->arena, &records__content__descriptor);
		record->info = pb_new(&r->arena, &content__info__descriptor);
		record->info->digest = arena_strdup(&r->arena, digest);
		record->info->size = size;
		record->info->created_at = r->now;
		vec_push(&r->created, record);
	}
	record = *out;
	record->info->updated_at = r->now;
	record->media_type = arena_strdup(&r->arena, media_type);
	if (*r->source) {
		record->held = record->held || (result >= 0 && !*record->source);
		record->source = r->source;
		cd_recording_add_source(r, record, r->source);
	}
	return 0;
}

void cd_recording_label(struct cd_recording *r, Records__Content *record, const char *key, const char *value)
{
	cd_kvs_set(&r->arena, KVS(record->info, labels), key, value);
}

void cd_recording_put(struct cd_recording *r, Records__Content *record)
{
	cd_batch_put(&r->batch, CD_CONTENT, r->ns, str_of(record->info->digest), &record->base);
	if (r->lease)
		cd_lease_add(&r->batch, r->ns, r->lease, "content", record->info->digest);
}

int cd_recording_commit(struct cd_recording *r, struct err *err)
{
	TRY(cd_meta_commit(r->d->meta, &r->batch, err));
	vec_each(&r->created, record)
		cd_content_created(r->d, r->ns, *record);
	vec_clear(&r->created);
	return 0;
}

/* ---- trees ---- */

/* Of an entry in its index: stays the same, whichever other entries come later. */
static size_t place_of(const struct reg_manifest *index, const struct digest *d)
{
	size_t i = 0;

	while (i < index->n_entries && !digest_eq(&index->entries[i].digest, d))
		i++;
	return i;
}

static void label_children(struct cd_recording *r, Records__Content *record, const struct cd_tree *t,
                           const struct cd_tree_node *n)
{
	char text[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < n->n_children; i++) {
		const struct cd_tree_node *child = &t->nodes.p[t->children.p[n->first_child + i]];
		const char *key;

		if (n->doc->kind == REG_IMAGE_INDEX)
			key = arena_printf(&r->arena, CD_LABEL_REF "m.%zu", place_of(n->doc, &child->d.digest));
		else if (!i)
			key = CD_LABEL_REF "config";
		else
			key = arena_printf(&r->arena, CD_LABEL_REF "l.%zu", i - 1);
		cd_recording_label(r, record, key, arena_strdup(&r->arena, digest_text(&child->d.digest, text)));
	}
}

static int put_node(struct cd_recording *r, const struct cd_tree *t, const struct cd_tree_node *n, struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	Records__Content *record;

	TRY(cd_recording_get(r, arena_str(&r->arena, n->d.media_type), digest_text(&n->d.digest, text),
	                     (int64_t)n->d.size, &record, err));
	if (n->doc)
		label_children(r, record, t, n);
	cd_recording_put(r, record);
	return 0;
}

int cd_recording_put_tree(struct cd_recording *r, const struct cd_tree *t, struct err *err)
{
	AUTO_FREE struct str *names = xcalloc(t->nodes.n + 1, sizeof(*names));
	AUTO(cd_hold) struct cd_hold h = CD_HOLD_NONE;
	char text[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < t->nodes.n; i++)
		names[i] = str_of(arena_strdup(&r->arena, digest_text(&t->nodes.p[i].d.digest, text)));
	h = cd_meta_hold_many(r->d->meta, CD_CONTENT, r->ns, names, t->nodes.n);
	for (size_t i = 0; i < t->nodes.n; i++)
		TRY(put_node(r, t, &t->nodes.p[i], err));
	return cd_recording_commit(r, err);
}
