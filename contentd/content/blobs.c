#include "contentd/content/blobs.h"

#include "base/clock.h"
#include "contentd/ident.h"
#include "contentd/records/leases.h"
#include "rpc/proto/event.pb-c.h"

#include <pthread.h>

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

static int fetch(struct ffs_client *data, struct rpc_call *c, struct cd_writer *w, const Records__Content *record,
                 const struct digest *digest, struct err *err)
{
	Contentd__Contentfs__V1__FetchBlobRequest req = CONTENTD__CONTENTFS__V1__FETCH_BLOB_REQUEST__INIT;
	Contentd__Contentfs__V1__Descriptor blob = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;

	blob.media_type = (char *)record->media_type;
	blob.digest = (char *)record->info->digest;
	blob.size = record->info->size;
	req.reference = (char *)record->source;
	req.blob = &blob;
	TRY(ffs_client_fetch_blob(data, c, &req, cd_writer_fd(w), NULL, NULL, err));
	return cd_writer_commit(w, digest, err);
}

/* A transfer under way is an ingest with this ref, in no client's namespace. Whoever finds it taken waits and looks
 * again: the other one has made the file, or has failed and leaves the ref. */
static int fetch_once(struct cd_daemon *d, struct rpc_call *c, const Records__Content *record,
                      const struct digest *digest, struct err *err)
{
	AUTO_FREE char *ref = xasprintf("fetch-%s", record->info->digest);
	AUTO(cd_writer) struct cd_writer *w = NULL;
	struct ffs_client *data;
	int r;

	TRY(cd_data(d, c, &data, err));
	r = cd_writer_open(d->content, "", ref, record->info->size, record->info->digest, &w, err);
	if (r == -ERR_UNAVAILABLE)
		return cd_content_wait(d->content, "", ref, c, err);
	TRY(r);
	return fetch(data, c, w, record, digest, err);
}

int cd_content_open_blob(struct cd_daemon *d, struct rpc_call *c, const Records__Content *record, int *fd,
                         int64_t *bytes, struct err *err)
{
	struct digest digest;
	int r;

	TRY(digest_parse(str_of(record->info->digest), &digest, err));
	while ((r = cd_blob_open(d->content, &digest, fd, bytes, err)) == -ERR_NOT_FOUND && *record->source)
		TRY(fetch_once(d, c, record, &digest, err));
	return r;
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
