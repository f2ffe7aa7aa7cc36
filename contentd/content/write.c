/*
 * The protocol: STAT asks, WRITE appends (offset 0 begins anew, any other offset must be the current one), COMMIT
 * appends, verifies and publishes; each message may set the expected digest and total, and has exactly one answer.
 * Bytes that another namespace has are shared, unless the configuration isolates namespaces: a stream that opens with
 * their digest stands at their end already, and has an ingest of its own only when it writes all the same.
 */
#include "contentd/content/write.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "contentd/content/blobs.h"
#include "contentd/ident.h"
#include "contentd/kvs.h"
#include "contentd/records/leases.h"

#define COPY_BYTES (1u << 20)
#define PATIENCE_NS (500 * NS_PER_MS) /* with a writer that still has the ref */
#define INGEST_LIFE_S (24 * 60 * 60)  /* of one that no lease keeps; containerd's */

struct session {
	struct cd_daemon *d;
	struct rpc_call *call;
	const char *ns, *lease;
	char *ref, *expected;     /* expected "": unknown */
	int64_t total;            /* as sent on this stream; 0: unknown */
	struct cd_writer *writer; /* NULL while the bytes are shared */
	int shared_fd;            /* without a writer: the blob, its digest and size */
	struct digest shared;
	int64_t shared_bytes;
	struct timespec opened;
	struct cd_use use; /* what the stream relies on: the collector keeps it */
};

static void session_fini(struct session *s)
{
	cd_use_end(&s->use);
	cd_writer_close(s->writer);
	if (s->shared_fd >= 0)
		close(s->shared_fd);
	free(s->ref);
	free(s->expected);
}
DEFINE_AUTO_FINI(session);

/* Before anybody looks whether a blob, or a record of it, is here. */
static void use_digest(struct session *s, const char *digest)
{
	cd_use_add(&s->use, &(struct gc_id){.kind = GC_BLOB, .key = str_of(digest)});
	cd_use_add(&s->use, &(struct gc_id){.kind = GC_CONTENT, .ns = str_of(s->ns), .key = str_of(digest)});
}

/* ---- leases ---- */

/* A lease keeps the ingest, or the ingest keeps itself for a while. */
static int keep_ingest(struct session *s, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;
	struct timespec until = clock_wall();

	until.tv_sec += INGEST_LIFE_S;
	TRY(cd_writer_set_expiry(s->writer, s->lease ? NULL : &until, err));
	if (!s->lease)
		return 0;
	cd_lease_add(&b, s->ns, s->lease, "ingests", s->ref);
	return cd_meta_commit(s->d->meta, &b, err);
}

/* The digest is known here: the client needs nothing but to hold it. */
static int known_already(struct session *s, const char *digest, struct err *err)
{
	AUTO(cd_batch) struct cd_batch b = CD_BATCH_INIT;

	if (s->writer)
		cd_writer_abort(s->writer, NULL); /* only good for closing now, whatever came of it */
	if (s->lease) {
		cd_lease_add(&b, s->ns, s->lease, "content", digest);
		cd_lease_remove(&b, s->ns, s->lease, "ingests", s->ref);
		TRY(cd_meta_commit(s->d->meta, &b, err));
	}
	return err_set(err, ERR_EXISTS, "content %s: already exists", digest);
}

/* ---- opening ---- */

/* Remembers what a message says about the whole; fails with ERR_EXISTS when the expected blob is there. */
static int take_expectations(struct session *s, const Content__WriteContentRequest *req, struct err *err)
{
	int r;

	if (req->total < 0)
		return err_set(err, ERR_INVALID, "total must not be negative");
	if (req->total)
		s->total = req->total;
	if (!*req->expected)
		return 0;
	TRY(cd_digest_check(req->expected, err));
	if (!str_starts(str_of(req->expected), STR("sha256:")))
		return err_set(err, ERR_UNIMPLEMENTED, "blobs are stored by sha256 only, not %s: not implemented",
		               req->expected);
	if (strcmp(s->expected, req->expected)) {
		free(s->expected);
		s->expected = xstrdup(req->expected);
		use_digest(s, s->expected);
	}
	r = cd_meta_has(s->d->meta, CD_CONTENT, s->ns, str_of(s->expected), err);
	TRY(r);
	return r ? known_already(s, s->expected, err) : 0;
}

/* 1 when the bytes are here, this namespace may have them, and they are as many as the client says. The open file keeps
 * them when their last record goes meanwhile. */
static int can_share(struct session *s, struct err *err)
{
	AUTO_FD int fd = -1;
	int r;

	if (!*s->expected || digest_parse(str_of(s->expected), &s->shared, NULL) < 0 ||
	    cd_blob_open(s->d->content, &s->shared, &fd, &s->shared_bytes, NULL) < 0 ||
	    (s->total && s->total != s->shared_bytes))
		return 0;
	r = cd_content_is_shared(s->d, s->expected, err);
	if (r > 0)
		s->shared_fd = STEAL_FD(fd);
	return r;
}

/* Clients end one stream without waiting for the end to arrive, and open the ref in the next; containerd allows for that. */
static int open_writer(struct session *s, struct err *err)
{
	TRY(cd_writer_open_within(s->d->content, s->ns, s->ref, s->total, s->expected, PATIENCE_NS, &s->writer, err));
	return keep_ingest(s, err);
}

static int open_session(struct session *s, const Content__WriteContentRequest *req, struct err *err)
{
	int r;

	TRY(cd_name_check("ref", req->ref, err));
	s->ref = xstrdup(req->ref);
	s->opened = clock_wall();
	cd_use_add(&s->use, &(struct gc_id){.kind = GC_INGEST, .ns = str_of(s->ns), .key = str_of(s->ref)});
	TRY(take_expectations(s, req, err));
	r = can_share(s, err);
	return r ? r : open_writer(s, err);
}

/* A client that writes where bytes are shared gets a copy of them. */
static int make_own(struct session *s, struct err *err)
{
	AUTO_FREE char *chunk = xmalloc(COPY_BYTES);
	int64_t bytes = s->shared_bytes;

	if (s->writer)
		return 0;
	TRY(open_writer(s, err));
	TRY(cd_writer_truncate(s->writer, err));
	for (int64_t at = 0; at < bytes;) {
		size_t n = bytes - at > COPY_BYTES ? COPY_BYTES : (size_t)(bytes - at);

		TRY(rpc_cancelled(s->call, err));
		TRY(fd_pread_all(s->shared_fd, chunk, n, at, err));
		TRY(cd_writer_write(s->writer, str_make(chunk, n), err));
		at += (int64_t)n;
	}
	return 0;
}

/* ---- actions ---- */

static int64_t offset_of(const struct session *s)
{
	return s->writer ? cd_writer_offset(s->writer) : s->shared_bytes;
}

static void digest_so_far(const struct session *s, struct digest *out)
{
	if (s->writer)
		cd_writer_digest(s->writer, out);
	else
		*out = s->shared;
}

static int append(struct session *s, const Content__WriteContentRequest *req, struct err *err)
{
	int64_t at = offset_of(s);

	if (req->offset < 0 || (req->offset > 0 && req->offset != at))
		return err_set(err, ERR_OUT_OF_RANGE, "write at %lld, but the ingest \"%.200s\" stands at %lld",
		               (long long)req->offset, s->ref, (long long)at);
	if (req->data.len || (req->offset == 0 && at > 0))
		TRY(make_own(s, err));
	if (req->offset == 0 && at > 0)
		TRY(cd_writer_truncate(s->writer, err));
	return req->data.len ? cd_writer_write(s->writer, str_make(req->data.data, req->data.len), err) : 0;
}

/* The record, unless somebody else has just made it. 1: shared bytes that have just been removed. */
static int put_record(struct session *s, const char *digest, Kv__Entry **labels, size_t n_labels, struct err *err)
{
	return cd_content_put(s->d, rpc_arena(s->call),
	                      &(struct cd_content_new){.ns = s->ns,
	                                               .lease = s->lease,
	                                               .ref = s->ref,
	                                               .digest = digest,
	                                               .bytes = offset_of(s),
	                                               .labels = labels,
	                                               .n_labels = n_labels,
	                                               .file = s->writer ? NULL : &s->shared},
	                      err);
}

/* What fails before publishing leaves the ingest as it is, for another try. */
static int commit(struct session *s, const Content__WriteContentRequest *req, struct err *err)
{
	Kv__Entry **labels = req->labels;
	size_t n_labels = req->n_labels;
	char text[DIGEST_TEXT_MAX];
	struct digest digest;
	int r;

	TRY(cd_kvs_clean(rpc_arena(s->call), &labels, &n_labels, LABEL_BYTES_MAX, err));
	digest_so_far(s, &digest);
	digest_text(&digest, text);
	if (s->total && s->total != offset_of(s))
		return err_set(err, ERR_PRECONDITION, "unexpected commit size %lld, expected %lld",
		               (long long)offset_of(s), (long long)s->total);
	if (*s->expected && strcmp(s->expected, text))
		return err_set(err, ERR_PRECONDITION, "unexpected commit digest %s, expected %s", text, s->expected);
	use_digest(s, text);
	r = cd_meta_has(s->d->meta, CD_CONTENT, s->ns, str_of(text), err);
	TRY(r);
	if (r)
		return known_already(s, text, err);
	if (s->writer)
		TRY(cd_writer_commit(s->writer, &digest, err));
	FAILPOINT("content-published");
	r = put_record(s, text, labels, n_labels, err);
	FAILPOINT("content-recorded");
	if (r > 0) {
		TRY(make_own(s, err));
		TRY(cd_writer_commit(s->writer, &digest, err));
		r = put_record(s, text, labels, n_labels, err);
	}
	return r == -ERR_EXISTS ? known_already(s, text, err) : r;
}

/* ---- the stream ---- */

static int answer(struct session *s, Content__WriteAction action, struct err *err)
{
	Content__WriteContentResponse rsp = CONTENT__WRITE_CONTENT_RESPONSE__INIT;
	struct arena *a = rpc_arena(s->call);
	char text[DIGEST_TEXT_MAX];
	struct digest digest;

	digest_so_far(s, &digest);
	rsp.action = action;
	rsp.offset = offset_of(s);
	rsp.digest = digest_text(&digest, text);
	if (action == CONTENT__WRITE_ACTION__STAT) {
		rsp.total = s->writer ? s->total : s->shared_bytes;
		rsp.started_at = pb_time_new(a, s->writer ? cd_writer_started(s->writer) : s->opened);
		rsp.updated_at = pb_time_new(a, s->writer ? cd_writer_updated(s->writer) : s->opened);
	}
	return rpc_send(s->call, &rsp.base, err);
}

/* 1 when the stream goes on. */
static int act(struct session *s, const Content__WriteContentRequest *req, struct err *err)
{
	switch (req->action) {
	case CONTENT__WRITE_ACTION__STAT:
		break;
	case CONTENT__WRITE_ACTION__WRITE:
		TRY(append(s, req, err));
		break;
	case CONTENT__WRITE_ACTION__COMMIT:
		TRY(append(s, req, err));
		TRY(commit(s, req, err));
		/* Before the client knows: what it lets go of then, nothing keeps. */
		cd_use_end(&s->use);
		break;
	default:
		return err_set(err, ERR_INVALID, "unknown action %d", (int)req->action);
	}
	TRY(answer(s, req->action, err));
	return req->action != CONTENT__WRITE_ACTION__COMMIT;
}

int cd_content_write(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	AUTO(session) struct session s = {.d = svc, .call = c, .expected = xstrdup(""), .shared_fd = -1};
	const Content__WriteContentRequest *req;
	int r;

	TRY(cd_call_ns(c, &s.ns, err));
	cd_use_begin(&s.use, cd_meta_uses(s.d->meta));
	TRY(cd_call_lease(s.d, c, s.ns, &s.lease, err));
	while ((r = rpc_recv(c, &req, err)) > 0) {
		if (!s.ref)
			TRY(open_session(&s, req, err));
		else
			TRY(take_expectations(&s, req, err));
		r = act(&s, req, err);
		if (r <= 0)
			return r;
	}
	return r;
}
