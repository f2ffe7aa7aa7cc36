#include "base/clock.h"
#include "base/file.h"
#include "contentd/content/blobs.h"
#include "contentd/content/write.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"
#include "contentd/records/listing.h"
#include "contentd/services.h"
#include "rpc/proto/event.pb-c.h"

#define LIST_BATCH 100              /* entries in one message of a list */
#define READ_CHUNK_BYTES (1u << 20) /* data in one message of a read */

/* ---- records ---- */

static int content_info(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__InfoRequest *req = request;
	Content__InfoResponse rsp = CONTENT__INFO_RESPONSE__INIT;
	Records__Content *record;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_content_get(svc, ns, req->digest, rpc_arena(c), &record, err));
	rsp.info = record->info;
	return rpc_reply(c, &rsp.base, err);
}

/* Only labels can be changed, all of them or some. */
static int update(struct cd_daemon *d, struct arena *a, const char *ns, const Content__Info *from,
                  const Pb__FieldMask *mask, Content__Info **out, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTENT, ns, str_of(from->digest));
	Records__Content *record;

	TRY(cd_content_get(d, ns, from->digest, a, &record, err));
	for (size_t i = 0; mask && i < mask->n_paths; i++) {
		struct cd_mask_path path = cd_mask_path(mask->paths[i]);

		if (!str_eqc(path.field, "labels"))
			return err_set(err, ERR_INVALID, "field \"%s\" of content cannot be updated", mask->paths[i]);
		cd_kvs_apply(a, path.key, from->labels, from->n_labels, KVS(record->info, labels));
	}
	if (!mask || !mask->n_paths)
		cd_kvs_apply(a, NULL, from->labels, from->n_labels, KVS(record->info, labels));
	record->info->updated_at = pb_time_new(a, clock_wall());
	*out = record->info;
	cd_batch_put(&b, CD_CONTENT, ns, str_of(from->digest), &record->base);
	return cd_meta_commit(d->meta, &b, err);
}

static int content_update(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__UpdateRequest *req = request;
	Content__UpdateResponse rsp = CONTENT__UPDATE_RESPONSE__INIT;
	struct arena *a = rpc_arena(c);
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	if (!req->info)
		return err_set(err, ERR_INVALID, "info is missing");
	TRY(cd_digest_check(req->info->digest, err));
	TRY(cd_kvs_clean(a, KVS(req->info, labels), LABEL_BYTES_MAX, err));
	TRY(update(svc, a, ns, req->info, req->update_mask, &rsp.info, err));
	return rpc_reply(c, &rsp.base, err);
}

static bool field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const Content__Info *i = ((const Records__Content *)object)->info;

	if (i && n == 1 && str_eqc(path[0], "digest")) {
		*value = str_of(i->digest);
		return true;
	}
	return i && n > 1 && str_eqc(path[0], "labels") && cd_kvs_field(i->labels, i->n_labels, path + 1, n - 1, value);
}

static int content_list(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__ListContentRequest *req = request;
	Content__Info *infos[LIST_BATCH];
	AUTO(cd_listing) struct cd_listing l = {0};

	TRY(cd_list(c, svc, CD_CONTENT, (const char *const *)req->filters, req->n_filters, field, &l, err));
	for (size_t i = 0; i < l.found.n;) {
		Content__ListContentResponse rsp = CONTENT__LIST_CONTENT_RESPONSE__INIT;

		rsp.info = infos;
		for (; i < l.found.n && rsp.n_info < LIST_BATCH; i++) {
			infos[rsp.n_info] = ((Records__Content *)l.found.p[i])->info;
			rsp.n_info += infos[rsp.n_info] != NULL;
		}
		TRY(rpc_send(c, &rsp.base, err));
	}
	return 0;
}

static int drop(struct cd_daemon *d, struct arena *a, const char *ns, const char *lease, const char *digest,
                struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	AUTO(cd_hold) struct cd_hold h = cd_meta_hold(d->meta, CD_CONTENT, ns, str_of(digest));
	Records__Content *record;

	TRY(cd_content_get(d, ns, digest, a, &record, err));
	cd_batch_remove(&b, CD_CONTENT, ns, str_of(digest));
	if (lease)
		cd_lease_remove(&b, ns, lease, "content", digest);
	return cd_meta_commit(d->meta, &b, err);
}

/* The record goes; the bytes are for garbage collection. */
static int content_delete(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__DeleteContentRequest *req = request;
	Event__ContentDelete event = EVENT__CONTENT_DELETE__INIT;
	struct cd_daemon *d = svc;
	const char *ns, *lease;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_call_lease_if_any(d, c, ns, &lease, err));
	TRY(drop(d, rpc_arena(c), ns, lease, req->digest, err));
	event.digest = req->digest;
	cd_events_publish(d->events, ns, "/content/delete", &event.base);
	return 0;
}

/* ---- bytes ---- */

static void add_varint(struct buf *b, uint64_t v)
{
	while (v >= 0x80) {
		buf_addc(b, (char)(v | 0x80));
		v >>= 7;
	}
	buf_addc(b, (char)v);
}

/* A ReadContentResponse in wire form, its data read in place: {1: offset, 2: data}. */
static int send_chunk(struct rpc_call *c, int fd, int64_t at, size_t n, int64_t offset, struct err *err)
{
	AUTO(buf) struct buf wire = BUF_INIT;

	rpc_raw_begin(&wire);
	if (offset) {
		buf_addc(&wire, 1 << 3 | 0);
		add_varint(&wire, (uint64_t)offset);
	}
	buf_addc(&wire, 2 << 3 | 2);
	add_varint(&wire, n);
	TRY(fd_pread_all(fd, buf_reserve(&wire, n), n, at, err));
	wire.n += n;
	return rpc_send_raw(c, &wire, err);
}

static int content_read(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__ReadContentRequest *req = request;
	int64_t at = req->offset < 0 ? 0 : req->offset, from = at, end, bytes;
	Records__Content *record;
	AUTO_FD int fd = -1;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_content_get(svc, ns, req->digest, rpc_arena(c), &record, err));
	if (at > record->info->size)
		return err_set(err, ERR_OUT_OF_RANGE, "offset %lld is beyond the end of %s, which has %lld bytes",
		               (long long)at, req->digest, (long long)record->info->size);
	TRY(cd_content_open_blob(svc, c, ns, record, &fd, &bytes, err));
	end = req->size > 0 && req->size < bytes - at ? at + req->size : bytes;
	while (at < end) {
		size_t n = end - at > READ_CHUNK_BYTES ? READ_CHUNK_BYTES : (size_t)(end - at);

		TRY(send_chunk(c, fd, at, n, at - from, err));
		at += (int64_t)n;
	}
	return 0;
}

/* ---- ingests ---- */

static Content__Status *status_new(struct arena *a, const struct cd_ingest_status *s)
{
	Content__Status *m = pb_new(a, &content__status__descriptor);

	m->started_at = pb_time_new(a, s->started);
	m->updated_at = pb_time_new(a, s->updated);
	m->ref = arena_strdup(a, s->ref);
	m->offset = s->offset;
	m->total = s->total;
	m->expected = arena_strdup(a, s->expected);
	return m;
}

static int content_status(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__StatusRequest *req = request;
	Content__StatusResponse rsp = CONTENT__STATUS_RESPONSE__INIT;
	AUTO(cd_ingest_status) struct cd_ingest_status s = {0};
	struct cd_daemon *d = svc;
	const char *ns;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_ingest_stat(d->content, ns, req->ref, &s, err));
	rsp.status = status_new(rpc_arena(c), &s);
	return rpc_reply(c, &rsp.base, err);
}

static bool status_field(const void *object, const struct str *path, size_t n, struct str *value)
{
	const struct cd_ingest_status *s = object;

	if (n != 1 || !str_eqc(path[0], "ref"))
		return false;
	*value = str_of(s->ref);
	return true;
}

struct statuses {
	struct cd_filter *filter;
	struct arena *arena;
	VEC(Content__Status *) found;
};

static int status_one(void *arg, const struct cd_ingest_status *s, struct err *err)
{
	struct statuses *l = arg;

	if (cd_filter_match(l->filter, status_field, s))
		vec_push(&l->found, status_new(l->arena, s));
	return 0;
}

static int content_list_statuses(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__ListStatusesRequest *req = request;
	Content__ListStatusesResponse rsp = CONTENT__LIST_STATUSES_RESPONSE__INIT;
	AUTO(cd_filter) struct cd_filter *filter = NULL;
	struct statuses l = {.arena = rpc_arena(c)};
	struct cd_daemon *d = svc;
	const char *ns;
	int r;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_filter_new((const char *const *)req->filters, req->n_filters, &filter, err));
	l.filter = filter;
	r = cd_ingest_each(d->content, ns, status_one, &l, err);
	rsp.statuses = l.found.p;
	rsp.n_statuses = l.found.n;
	if (r >= 0)
		r = rpc_reply(c, &rsp.base, err);
	vec_fini(&l.found);
	return r;
}

static int content_abort(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Content__AbortRequest *req = request;
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	struct cd_daemon *d = svc;
	const char *ns, *lease;

	TRY(cd_call_ns(c, &ns, err));
	TRY(cd_call_lease_if_any(d, c, ns, &lease, err));
	TRY(cd_ingest_abort(d->content, ns, req->ref, err));
	if (!lease)
		return 0;
	cd_lease_remove(&b, ns, lease, "ingests", req->ref);
	return cd_meta_commit(d->meta, &b, err);
}

static const struct rpc_method methods[] = {
    {"Info", 0, content_info},
    {"Update", 0, content_update},
    {"List", RPC_SERVER_STREAM, content_list},
    {"Delete", 0, content_delete},
    {"Read", RPC_SERVER_STREAM, content_read},
    {"Status", 0, content_status},
    {"ListStatuses", 0, content_list_statuses},
    {"Write", RPC_CLIENT_STREAM | RPC_SERVER_STREAM, cd_content_write},
    {"Abort", 0, content_abort},
};

const struct rpc_service cd_content_service = {&content__content__descriptor, methods, ARRAY_LEN(methods)};
