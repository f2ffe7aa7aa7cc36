#include "fusefs/access.h"

#include "base/file.h"
#include "registry/referrers.h"
#include "rpc/pb.h"

#include <stdatomic.h>

#define MANIFEST_PATIENCE (120 * NS_PER_S)

static int64_t deadline_of(const struct rpc_call *c, int64_t patience)
{
	int64_t calls = rpc_deadline_ns(c), ours = clock_mono_ns() + patience;

	return calls < ours ? calls : ours;
}

/* The call's own end, or that of whoever gives up. */
static int ended(struct rpc_call *c, int r, struct err *why, struct err *err)
{
	TRY(rpc_cancelled(c, err));
	return r < 0 ? err_set(err, why->code, "%s", why->msg) : r;
}

/* ---- blobs ---- */

/* The push blocks on a thread of its own, so that the call's can tell how far it is. */
struct pushing {
	struct reg_client *client;
	struct reg_blob_push q;
	_Atomic uint64_t sent_bytes;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool is_over; /* lock */
	int result;
	struct err why;
};

static void on_sent(void *arg, uint64_t sent)
{
	struct pushing *p = arg;

	atomic_store(&p->sent_bytes, sent);
}

static void *work(void *arg)
{
	struct pushing *p = arg;

	p->result = reg_blob_push(p->client, &p->q, &p->why);
	pthread_mutex_lock(&p->lock);
	p->is_over = true;
	pthread_cond_signal(&p->ended);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* False when the push has ended. */
static bool wait_a_moment(struct pushing *p)
{
	int64_t at = clock_mono_ns() + PROGRESS_NS;
	struct timespec until = {at / NS_PER_S, at % NS_PER_S};
	bool over;

	pthread_mutex_lock(&p->lock);
	if (!p->is_over)
		pthread_cond_clockwait(&p->ended, &p->lock, CLOCK_MONOTONIC, &until);
	over = p->is_over;
	pthread_mutex_unlock(&p->lock);
	return !over;
}

static int push_and_tell(struct pushing *p, struct rpc_call *c, struct err *err)
{
	int64_t sent_ns = clock_mono_ns();
	pthread_t thread;

	if (pthread_create(&thread, NULL, work, p))
		return err_set(err, ERR_EXHAUSTED, "no thread for a push");
	rpc_on_cancel(c, reg_canceller_cancel, p->q.canceller);
	while (wait_a_moment(p))
		send_progress(c, &sent_ns, atomic_load(&p->sent_bytes), p->q.size, NULL);
	rpc_off_cancel(c, p->q.canceller);
	pthread_join(thread, NULL);
	return ended(c, p->result, &p->why, err);
}

static int push_blob(struct ffs_service *s, struct rpc_call *c, const PB(PushBlobRequest) * req, int fd,
                     struct err *err)
{
	struct pushing p = {.client = s->w->client,
	                    .lock = PTHREAD_MUTEX_INITIALIZER,
	                    .ended = PTHREAD_COND_INITIALIZER,
	                    .why = ERR_INIT};
	AUTO(access) struct access access = {0};
	struct reg_canceller k;
	struct reg_ref ref;
	int r;

	TRY(reg_ref_parse(str_of(req->reference), &ref, err));
	TRY(access_take(s, req->access, &ref, &access, err));
	p.q = (struct reg_blob_push){.ref = &ref,
	                             .account = access.account,
	                             .fd = fd,
	                             .mount_from = req->mount_from,
	                             .only_ask = fd < 0,
	                             .deadline_ns = rpc_deadline_ns(c),
	                             .canceller = &k,
	                             .progress = on_sent,
	                             .arg = &p};
	TRY(parse_descriptor(req->blob, "blob", &p.q.digest, &p.q.size, err));
	reg_canceller_init(&k);
	r = push_and_tell(&p, c, err);
	reg_canceller_fini(&k);
	return r;
}

int verb_push_blob(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(PushBlobResponse) rsp = CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__INIT;
	AUTO_FD int fd = ttrpc_call_fd(c, 0);
	int r = push_blob(svc, c, request, fd, err);

	TRY(r);
	/* The registry client's conditions are the outcomes' numbers. */
	rsp.outcome = (PB(PushBlobResponse__Outcome))r;
	return rpc_reply(c, &rsp.base, err);
}

_Static_assert(REG_PUSH_PRESENT == CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__OUTCOME__PRESENT &&
                   REG_PUSH_MOUNTED == CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__OUTCOME__MOUNTED &&
                   REG_PUSH_MISSING == CONTENTD__CONTENTFS__V1__PUSH_BLOB_RESPONSE__OUTCOME__MISSING,
               "conditions of reg_blob_push are outcomes of PushBlob");

/* ---- manifests ---- */

int verb_push_manifest(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const PB(PushManifestRequest) *req = request;
	struct ffs_service *s = svc;
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO_FD int fd = ttrpc_call_fd(c, 0);
	AUTO(access) struct access access = {0};
	struct err why = ERR_INIT;
	struct reg_canceller k;
	struct reg_ref ref;
	int64_t deadline;
	int r;

	if (fd < 0)
		return err_set(err, ERR_INVALID, "no descriptor came with the request");
	TRY(reg_ref_parse(str_of(req->reference), &ref, err));
	TRY(access_take(s, req->access, &ref, &access, err));
	TRY(fd_read_all(fd, REG_MANIFEST_BYTES_MAX, &bytes, err));
	deadline = deadline_of(c, MANIFEST_PATIENCE);
	reg_canceller_init(&k);
	rpc_on_cancel(c, reg_canceller_cancel, &k);
	if (req->referrer)
		r = reg_referrer_push(s->w->client, &ref, access.account, buf_str(&bytes), deadline, &k, &why);
	else
		r = reg_manifest_push(s->w->client, &ref, access.account, buf_str(&bytes), str_of(req->media_type),
		                      deadline, &k, &why);
	rpc_off_cancel(c, &k);
	reg_canceller_fini(&k);
	if (req->referrer)
		forget_no_index(s);
	return ended(c, r, &why, err);
}

/* ---- referrers ---- */

static PB(Descriptor) * entry(struct rpc_call *c, const struct reg_descriptor *from)
{
	PB(Descriptor) *d = pb_new(rpc_arena(c), &contentd__contentfs__v1__descriptor__descriptor);
	char text[DIGEST_TEXT_MAX];

	d->media_type = arena_str(rpc_arena(c), from->media_type);
	d->digest = arena_strdup(rpc_arena(c), digest_text(&from->digest, text));
	d->size = (int64_t)from->size;
	return d;
}

int verb_referrers(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	PB(ReferrersResponse) rsp = CONTENTD__CONTENTFS__V1__REFERRERS_RESPONSE__INIT;
	const PB(ReferrersRequest) *req = request;
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	struct ffs_service *s = svc;
	AUTO(access) struct access access = {0};
	struct err why = ERR_INIT;
	struct reg_canceller k;
	struct digest subject;
	struct reg_ref ref;
	int r;

	TRY(reg_ref_parse(str_of(req->reference), &ref, err));
	TRY_WRAP(digest_parse(str_of(req->subject), &subject, err), err, "subject");
	TRY(access_take(s, req->access, &ref, &access, err));
	reg_canceller_init(&k);
	rpc_on_cancel(c, reg_canceller_cancel, &k);
	r = reg_referrers_fetch(s->w->client, &ref, access.account, &subject,
	                        *req->artifact_type ? req->artifact_type : NULL, deadline_of(c, MANIFEST_PATIENCE), &k,
	                        &index, &why);
	rpc_off_cancel(c, &k);
	reg_canceller_fini(&k);
	TRY(ended(c, r, &why, err));
	rsp.referrers = arena_zalloc(rpc_arena(c), index->n_entries + 1, sizeof(*rsp.referrers));
	for (size_t i = 0; i < index->n_entries; i++)
		rsp.referrers[rsp.n_referrers++] = entry(c, &index->entries[i]);
	return rpc_reply(c, &rsp.base, err);
}
