#include "contentd/content/blobs.h"

#include "base/clock.h"
#include "contentd/ident.h"
#include "contentd/records/leases.h"
#include "rpc/proto/event.pb-c.h"
#include "rpc/proto/namespaces.pb-c.h"

#include <pthread.h>

#define LABEL_SHAREABLE "containerd.io/namespace.shareable"

int cd_content_get(struct cd_daemon *d, const char *ns, const char *digest, struct arena *a, Records__Content **out,
                   struct err *err)
{
	int r;

	TRY(cd_digest_check(digest, err));
	r = cd_meta_get(d->meta, CD_CONTENT, ns, str_of(digest), a, out, err);
	if (r >= 0 && !(*out)->info)
		return err_set(err, ERR_DATA_LOSS, "content record %s has no info", digest);
	return r;
}

/* ---- fetching ---- */

static int fetch(struct ffs_client *data, struct rpc_call *c, const char *ns, struct cd_writer *w,
                 const Records__Content *record, const struct digest *digest, struct err *err)
{
	Contentd__Contentfs__V1__FetchBlobRequest req = CONTENTD__CONTENTFS__V1__FETCH_BLOB_REQUEST__INIT;
	Contentd__Contentfs__V1__Descriptor blob = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	Contentd__Contentfs__V1__Access access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;

	blob.media_type = (char *)record->media_type;
	blob.digest = (char *)record->info->digest;
	blob.size = record->info->size;
	access.owner = (char *)ns;
	access.remembered = true;
	req.reference = (char *)record->source;
	req.blob = &blob;
	req.access = &access;
	TRY(ffs_client_fetch_blob(data, c, &req, cd_writer_fd(w), NULL, NULL, err));
	return cd_writer_commit(w, digest, err);
}

/* A transfer under way is an ingest with this ref, in no client's namespace. 1: it was taken, and the caller has waited:
 * the other one has made the file, or has failed and leaves the ref. */
static int fetch_once(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char *ref,
                      const Records__Content *record, const struct digest *digest, struct err *err)
{
	AUTO(cd_writer) struct cd_writer *w = NULL;
	struct ffs_client *data;
	int r;

	TRY(cd_data(d, c, &data, err));
	r = cd_writer_open(d->content, "", ref, record->info->size, record->info->digest, &w, err);
	if (r == -ERR_UNAVAILABLE) {
		TRY(cd_content_wait(d->content, "", ref, c, err));
		return 1;
	}
	TRY(r);
	return fetch(data, c, ns, w, record, digest, err);
}

/* ---- what others have brought ---- */

bool cd_is_isolated(const struct cd_daemon *d)
{
	return strcmp(d->config.content_sharing, "shared") != 0;
}

static bool holds(const Records__Content *record)
{
	return !*record->source || record->held;
}

struct sharers {
	struct arena arena;
	VEC(char *) names; /* namespaces that share */
};

static int note_sharer(void *arg, const char *ns, struct str name, void *record, struct err *err)
{
	const Namespaces__Namespace *n = record;
	const char *value = pb_kv_get(n->labels, n->n_labels, LABEL_SHAREABLE);
	struct sharers *s = arg;

	if (value && !strcmp(value, "true"))
		vec_push(&s->names, arena_strdup(&s->arena, ns));
	return 0;
}

int cd_content_is_shared(struct cd_daemon *d, const char *digest, struct err *err)
{
	struct sharers s = {.names = VEC_INIT};
	int r;

	if (!cd_is_isolated(d))
		return 1;
	arena_init(&s.arena, SIZE_MAX);
	r = cd_meta_scan(d->meta, CD_NAMESPACE, NULL, STR_NONE, &s.arena, note_sharer, &s, err);
	for (size_t i = 0; i < s.names.n && r == 0; i++)
		r = cd_meta_has(d->meta, CD_CONTENT, s.names.p[i], str_of(digest), err);
	vec_fini(&s.names);
	arena_fini(&s.arena);
	return r;
}

/* 1 when the namespace has had the bytes, or may use those of others. `text` is the digest. */
static int may_use(struct cd_daemon *d, const char *ns, const char *text, struct err *err)
{
	Records__Content *record;
	struct arena a;
	int r;

	if (!cd_is_isolated(d))
		return 1;
	arena_init(&a, SIZE_MAX);
	r = cd_content_get(d, ns, text, &a, &record, NULL);
	r = r >= 0 && holds(record);
	arena_fini(&a);
	return r ? 1 : cd_content_is_shared(d, text, err);
}

int cd_content_open_here(struct cd_daemon *d, const char *ns, const struct digest *digest, int *fd, int64_t *bytes,
                         struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	int r = may_use(d, ns, digest_text(digest, text), err);

	return r <= 0 ? r : cd_blob_open(d->content, digest, fd, bytes, NULL) >= 0;
}

static int note_held(struct cd_daemon *d, const char *ns, const char *digest, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTENT, ns, str_of(digest));
	Records__Content *record;
	struct arena a;
	int r;

	arena_init(&a, SIZE_MAX);
	r = cd_content_get(d, ns, digest, &a, &record, err);
	if (r >= 0) {
		record->held = true;
		cd_batch_put(&b, CD_CONTENT, ns, str_of(digest), &record->base);
		r = cd_meta_commit(d->meta, &b, err);
	}
	arena_fini(&a);
	return r;
}

/* Brings the bytes although they are here: by the namespace's own account, from where it says that they are. */
static int bring(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Records__Content *record,
                 const struct digest *digest, struct err *err)
{
	AUTO_FREE char *ref = xasprintf("fetch-%s-%s", ns, record->info->digest);
	int r;

	do {
		r = may_use(d, ns, record->info->digest, err);
		if (r)
			return r;
		r = fetch_once(d, c, ns, ref, record, digest, err);
	} while (r > 0);
	TRY(r);
	return note_held(d, ns, record->info->digest, err);
}

/* ---- opening ---- */

int cd_content_open_blob(struct cd_daemon *d, struct rpc_call *c, const char *ns, const Records__Content *record,
                         int *fd, int64_t *bytes, struct err *err)
{
	AUTO_FREE char *ref = xasprintf("fetch-%s", record->info->digest);
	struct digest digest;
	int r;

	TRY(digest_parse(str_of(record->info->digest), &digest, err));
	if (!holds(record) && cd_is_isolated(d))
		TRY(bring(d, c, ns, record, &digest, err));
	while ((r = cd_blob_open(d->content, &digest, fd, bytes, err)) == -ERR_NOT_FOUND && *record->source)
		TRY(fetch_once(d, c, ns, ref, record, &digest, err));
	if (r < 0 || *bytes == record->info->size)
		return r;
	close(STEAL_FD(*fd));
	return err_set(err, ERR_DATA_LOSS, "content %s has %lld bytes, not the %lld on record", record->info->digest,
	               (long long)*bytes, (long long)record->info->size);
}

void cd_content_created(struct cd_daemon *d, const char *ns, const Records__Content *record)
{
	Event__ContentCreate event = EVENT__CONTENT_CREATE__INIT;

	event.digest = record->info->digest;
	event.size = record->info->size;
	event.mediatype = record->media_type;
	cd_events_publish(d->events, ns, "/content/create", &event.base);
}

int cd_content_put(struct cd_daemon *d, struct arena *a, const struct cd_content_new *content, struct err *err)
{
	struct str name = str_of(content->digest);
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTENT, content->ns, name);
	Records__Content record = RECORDS__CONTENT__INIT;
	Content__Info info = CONTENT__INFO__INIT;
	int r = cd_meta_has(d->meta, CD_CONTENT, content->ns, name, err);

	TRY(r);
	if (r)
		return err_set(err, ERR_EXISTS, "content %s: already exists", content->digest);
	if (content->file && !cd_blob_has(d->content, content->file))
		return 1;
	info.digest = content->digest;
	info.size = content->bytes;
	info.created_at = info.updated_at = pb_time_new(a, clock_wall());
	info.labels = content->labels;
	info.n_labels = content->n_labels;
	record.info = &info;
	cd_batch_put(&b, CD_CONTENT, content->ns, name, &record.base);
	if (content->lease) {
		cd_lease_add(&b, content->ns, content->lease, "content", content->digest);
		cd_lease_remove(&b, content->ns, content->lease, "ingests", content->ref);
	}
	TRY(cd_meta_commit(d->meta, &b, err));
	cd_content_created(d, content->ns, &record);
	return 0;
}
