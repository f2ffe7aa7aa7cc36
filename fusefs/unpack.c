/*
 * Unpack: an ordinary layer becomes objects and an index.
 *
 *   registry or fd ──► intake thread: copy to the ingest, hash the blob, inflate ──► queue of plain bytes
 *     ──► the call's thread: hash the stream, tar, hash the files ──► batch
 *
 * When its seekable index is wanted, too, the two halves of estargz/gzseek/build.h stand in the place of stream and layer.
 *
 * Nothing is published before the blob's digest and the DiffID are what they should be. One layer is unpacked once at
 * a time; who comes meanwhile gets the same result, unless it wants what that does not have (a copy of the bytes, an index
 * that is not made): then it waits for its turn.
 */
#include "fusefs/access.h"
#include "fusefs/download.h"

#include "base/file.h"
#include "base/log.h"
#include "estargz/gzseek/produce.h"
#include "estargz/inflate/layer.h"
#include "rpc/pb.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/stat.h>

struct unpack {
	struct ffs_service *s;
	struct rpc_call *call;
	const char *reference; /* as given, for messages */
	struct reg_ref ref;
	struct access access;
	const char *media_type;
	struct digest blob, diff_id;
	uint64_t blob_bytes;
	bool has_diff_id, from_fd, tee, isolated, wants_index;
	int fd;    /* ingest or blob, or -1 */
	bool gone; /* nobody waits for the call any more; guarded by the service's lock */

	struct queue q;               /* plain bytes */
	_Atomic uint64_t taken_bytes; /* of the blob; the intake writes it */

	/* The intake's, until it has closed the queue. */
	struct download *download;
	struct esgz_stream *stream;
	struct hasher *hasher;
	struct block *filling;
	struct digest got_blob;
	bool seekable; /* it is gzip, and its index is wanted; known before the first block is queued */

	struct esgz_gzseek *gzseek; /* if an index is wanted: its first half is the intake's, the rest the call's */

	/* The call's thread's. */
	struct buf index;            /* the artifact, until it is the unpacking's; empty: none */
	struct unpacking *unpacking; /* a reference: its own, or whose result it has; NULL: none */
	struct ffs_batch *batch;
	uint64_t content_bytes;
};

/* ---- intake ---- */

static void begin_block(struct unpack *u)
{
	u->filling = xmalloc(sizeof(*u->filling));
	u->filling->n = 0;
	u->filling->cut = false;
}

/* Collects inflated bytes into blocks. */
static int on_plain(void *arg, struct str plain, struct err *err)
{
	struct unpack *u = arg;

	while (plain.n) {
		size_t n;

		if (!u->filling)
			begin_block(u);
		n = BLOCK_BYTES - u->filling->n;
		n = n < plain.n ? n : plain.n;
		memcpy(u->filling->bytes + u->filling->n, plain.p, n);
		u->filling->n += n;
		plain = str_sub(plain, n, plain.n);
		if (u->filling->n == BLOCK_BYTES)
			TRY(queue_push(&u->q, STEAL(u->filling), err));
	}
	return 0;
}

static int on_cut(void *arg, struct err *err)
{
	struct unpack *u = arg;

	if (!u->filling)
		begin_block(u);
	u->filling->cut = true;
	return queue_push(&u->q, STEAL(u->filling), err);
}

static int inflate(struct unpack *u, struct str bytes, struct err *err)
{
	const struct esgz_gzseek_flow flow = {on_plain, on_cut, u};

	if (atomic_load(&u->taken_bytes) == 0)
		u->seekable = u->wants_index && str_starts(bytes, STR("\x1f\x8b"));
	if (u->seekable)
		return esgz_gzseek_blob(u->gzseek, bytes, &flow, err); /* hashes it, too */
	hasher_add(u->hasher, bytes.p, bytes.n);
	return esgz_stream_feed(u->stream, bytes, on_plain, u, err);
}

static int take_bytes(struct unpack *u, struct str bytes, struct err *err)
{
	uint64_t at = atomic_load(&u->taken_bytes);

	if (bytes.n > u->blob_bytes - at)
		return err_set(err, ERR_DATA_LOSS, "more than the %llu bytes that it should have",
		               (unsigned long long)u->blob_bytes);
	if (u->tee)
		TRY_WRAP(fd_pwrite_all(u->fd, bytes, (off_t)at, err), err, "write the ingest");
	TRY(inflate(u, bytes, err));
	atomic_store(&u->taken_bytes, at + bytes.n);
	return 0;
}

static int intake_fd(struct unpack *u, struct err *err)
{
	AUTO_FREE struct block *b = xmalloc(sizeof(*b));

	for (;;) {
		ssize_t n = pread(u->fd, b->bytes, sizeof(b->bytes), (off_t)atomic_load(&u->taken_bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "read the blob");
		if (n == 0)
			return 0;
		TRY(take_bytes(u, str_make(b->bytes, (size_t)n), err));
	}
}

static int intake_download(struct unpack *u, struct err *err)
{
	struct block *b = NULL;
	int more;

	while ((more = download_next(u->download, &b, err)) > 0) {
		int r = take_bytes(u, str_make(b->bytes, b->n), err);

		free(b);
		TRY(r);
	}
	return more;
}

static int intake_all(struct unpack *u, struct err *err)
{
	TRY(u->from_fd ? intake_fd(u, err) : intake_download(u, err));
	TRY(u->seekable ? esgz_gzseek_blob_end(u->gzseek, err) : esgz_stream_finish(u->stream, err));
	hasher_done(u->hasher, &u->got_blob);
	return u->filling ? queue_push(&u->q, STEAL(u->filling), err) : 0;
}

static void *intake(void *arg)
{
	struct unpack *u = arg;
	struct err why = ERR_INIT;

	intake_all(u, &why);
	queue_close(&u->q, &why);
	return NULL;
}

static void stop_intake(void *arg)
{
	struct unpack *u = arg;

	queue_abort(&u->q);
	if (u->download)
		download_abort(u->download);
}

/* ---- files ---- */

static int on_begin(void *arg, uint64_t size, struct err *err)
{
	struct unpack *u = arg;

	u->content_bytes += size;
	return ffs_batch_begin(u->batch, size, err);
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	struct unpack *u = arg;

	return ffs_batch_write(u->batch, bytes, err);
}

static int on_hole(void *arg, uint64_t bytes, struct err *err)
{
	struct unpack *u = arg;

	TRY(rpc_cancelled(u->call, err)); /* holes are many bytes of few blocks, between which it is asked */
	return ffs_batch_hole(u->batch, bytes, err);
}

static int on_end(void *arg, const struct digest *content, struct err *err)
{
	struct unpack *u = arg;

	return ffs_batch_end(u->batch, content, err);
}

static struct esgz_layer_sink sink_of(struct unpack *u)
{
	return (struct esgz_layer_sink){on_begin, on_data, on_end, on_hole, u};
}

static int feed(struct unpack *u, struct esgz_layer *l, const struct block *b, struct err *err)
{
	if (!u->seekable)
		return esgz_layer_feed_plain(l, str_make(b->bytes, b->n), err);
	TRY(esgz_gzseek_plain(u->gzseek, str_make(b->bytes, b->n), err));
	if (b->cut)
		esgz_gzseek_cut(u->gzseek);
	return 0;
}

static int feed_all(struct unpack *u, struct esgz_layer *l, struct err *err)
{
	struct block *b = NULL;
	int64_t sent_ns = clock_mono_ns();
	int more;

	while ((more = queue_pop(&u->q, &b, err)) > 0) {
		int r = feed(u, l, b, err);

		free(b);
		TRY(r);
		TRY(send_progress(u->call, &sent_ns, atomic_load(&u->taken_bytes), u->blob_bytes, err));
	}
	return more;
}

/* ---- proof and publication ---- */

static int mismatch(const char *what, const struct digest *got, const struct digest *want, struct err *err)
{
	char a[DIGEST_TEXT_MAX], b[DIGEST_TEXT_MAX];

	return err_set(err, ERR_DATA_LOSS, "%s is %s, should be %s", what, digest_text(got, a), digest_text(want, b));
}

static int check(const struct unpack *u, const struct esgz_layer_result *r, struct err *err)
{
	if (r->blob_bytes != u->blob_bytes)
		return err_set(err, ERR_DATA_LOSS, "%llu bytes came, should be %llu", (unsigned long long)r->blob_bytes,
		               (unsigned long long)u->blob_bytes);
	if (!digest_eq(&r->blob, &u->blob))
		return mismatch("digest of the blob", &r->blob, &u->blob, err);
	if (u->has_diff_id && !digest_eq(&r->diff_id, &u->diff_id))
		return mismatch("DiffID", &r->diff_id, &u->diff_id, err);
	return 0;
}

/* The one that the layer gets here; and the artifact of the other one, which nobody has to have. */
static int make_indexes(struct unpack *u, struct esgz_layer *l, const struct esgz_layer_result *r, struct buf *index,
                        struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	struct err why = ERR_INIT;

	if (!u->seekable)
		return esgz_layer_index(l, index, err);
	if (esgz_gzseek_produce(u->gzseek, r, &u->index, &why) < 0)
		log_debug("layer %s has no gzip index: %s", digest_text(&r->blob, text), why.msg);
	return esgz_gzseek_unpacked(u->gzseek, index, err);
}

static int publish(struct unpack *u, struct esgz_layer *l, const struct esgz_layer_result *r, struct err *err)
{
	AUTO(buf) struct buf index = BUF_INIT;
	char repository[REG_REF_TEXT_MAX];
	struct ffs_source source = {.reference = *u->reference ? repository_text(&u->ref, repository) : "",
	                            .owner = (char *)u->access.owner,
	                            .blob = r->blob,
	                            .blob_bytes = r->blob_bytes,
	                            .media_type = (char *)u->media_type};
	struct digest key;

	TRY(make_indexes(u, l, r, &index, err));
	TRY(ffs_batch_publish(u->batch, err));
	esgz_index_key(ESGZ_TRUST_DIFFID, &r->blob, &r->diff_id, &key);
	return store_layer(u->s, &key, buf_str(&index), STR_NONE, &source, true, err);
}

static int unpack_layer(struct unpack *u, struct esgz_layer_result *r, struct err *err)
{
	const struct esgz_layer_sink sink = sink_of(u);
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);

	TRY(feed_all(u, l, err));
	if (u->seekable)
		TRY(esgz_gzseek_finish(u->gzseek, r, err));
	else
		TRY(esgz_layer_finish_plain(l, &u->got_blob, atomic_load(&u->taken_bytes), esgz_stream_kind(u->stream),
		                            r, err));
	TRY(check(u, r, err));
	return publish(u, l, r, err);
}

static int with_intake(struct unpack *u, struct esgz_layer_result *r, struct err *err)
{
	pthread_t thread;
	int result;

	if (pthread_create(&thread, NULL, intake, u))
		return err_set(err, ERR_EXHAUSTED, "no thread for unpacking");
	rpc_on_cancel(u->call, stop_intake, u);
	result = unpack_layer(u, r, err);
	rpc_off_cancel(u->call, u);
	stop_intake(u);
	pthread_join(thread, NULL);
	return result;
}

static int run(struct unpack *u, struct esgz_layer_result *r, struct err *err)
{
	AUTO(download) struct download *d = NULL;
	AUTO(ffs_batch) struct ffs_batch *batch = NULL;
	AUTO(esgz_stream) struct esgz_stream *stream = esgz_stream_new();
	AUTO(hasher) struct hasher *hasher = hasher_new();
	AUTO(esgz_gzseek) struct esgz_gzseek *gzseek = NULL;
	const struct esgz_layer_sink sink = sink_of(u);
	int64_t deadline = rpc_deadline_ns(u->call);
	int result;

	if (u->tee && ftruncate(u->fd, 0) < 0)
		return err_errno(err, errno, "empty the ingest");
	TRY(ffs_batch_new(u->s->w->store, &batch, err));
	if (!u->from_fd)
		TRY(download_start(u->s->w->client, &u->ref, u->access.account, &u->blob, u->blob_bytes, 0, deadline,
		                   &d, err));
	u->download = d;
	u->stream = stream;
	u->hasher = hasher;
	if (u->wants_index)
		u->gzseek = gzseek = esgz_gzseek_new(&sink);
	u->batch = batch;
	queue_init(&u->q);
	result = with_intake(u, r, err);
	queue_fini(&u->q);
	free(STEAL(u->filling));
	if (result < 0 && u->tee && ftruncate(u->fd, 0) < 0)
		log_warn("%s: the ingest of a failed layer cannot be emptied: %s", u->reference, strerror(errno));
	return result;
}

static int explain(const struct unpack *u, struct err *err)
{
	char text[DIGEST_TEXT_MAX];

	digest_text(&u->blob, text);
	if (!*u->reference)
		return err_wrap(err, "layer %s", text);
	return err_wrap(err, "image %s, layer %s", u->reference, text);
}

/* ---- one at a time ---- */

static void unpacking_unref(struct unpacking *k)
{
	if (--k->refs > 0)
		return;
	buf_fini(&k->index);
	free(k);
}

static void let_go(struct unpack *u)
{
	if (!u->unpacking)
		return;
	pthread_mutex_lock(&u->s->lock);
	unpacking_unref(STEAL(u->unpacking));
	pthread_mutex_unlock(&u->s->lock);
}

/* Under the lock of the call, which may therefore not be taken under the service's. */
static void give_up_waiting(void *arg)
{
	struct unpack *u = arg;

	pthread_mutex_lock(&u->s->lock);
	u->gone = true;
	pthread_cond_broadcast(&u->s->unpacked);
	pthread_mutex_unlock(&u->s->lock);
}

static bool same_question(const struct unpack *u, const struct unpacking *k)
{
	return !u->tee && !u->from_fd && !u->isolated && (!u->wants_index || k->makes_index) &&
	       (!u->has_diff_id || (!k->any_diff_id && digest_eq(&u->diff_id, &k->diff_id)));
}

/* Returns 0 when it is this call's turn (to be ended by `leave`), 1 when another one has answered the question. */
static int enter_locked(struct unpack *u, struct esgz_layer_result *r, struct err *err)
{
	struct ffs_service *s = u->s;
	struct str name = str_make(&u->blob, sizeof(u->blob));
	struct unpacking *k;

	while ((k = map_get(&s->unpacking, name))) {
		k->refs++;
		while (!k->over && !u->gone)
			pthread_cond_wait(&s->unpacked, &s->lock);
		if (!u->gone && k->why.code == ERR_OK && same_question(u, k)) {
			*r = k->result;
			u->content_bytes = k->content_bytes;
			u->unpacking = k;
			return 1;
		}
		unpacking_unref(k);
		if (u->gone)
			return err_set(err, ERR_CANCELLED, "cancelled");
	}
	k = xcalloc(1, sizeof(*k));
	k->refs = 1;
	k->any_diff_id = !u->has_diff_id;
	k->makes_index = u->wants_index;
	k->diff_id = u->diff_id;
	map_put(&s->unpacking, name, k);
	u->unpacking = k;
	return 0;
}

static int enter(struct unpack *u, struct esgz_layer_result *r, struct err *err)
{
	int result;

	rpc_on_cancel(u->call, give_up_waiting, u);
	pthread_mutex_lock(&u->s->lock);
	result = enter_locked(u, r, err);
	pthread_mutex_unlock(&u->s->lock);
	rpc_off_cancel(u->call, u);
	return result;
}

static void leave(struct unpack *u, int result, const struct esgz_layer_result *r, const struct err *why)
{
	struct unpacking *own = u->unpacking;
	struct ffs_service *s = u->s;

	pthread_mutex_lock(&s->lock);
	own->over = true;
	own->content_bytes = u->content_bytes;
	own->index = u->index;
	u->index = BUF_INIT;
	if (result < 0)
		own->why = *why;
	else
		own->result = *r;
	map_del(&s->unpacking, str_make(&u->blob, sizeof(u->blob)));
	pthread_cond_broadcast(&s->unpacked);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the verb ---- */

static int parse(const PB(UnpackRequest) * req, struct unpack *u, struct err *err)
{
	u->reference = req->reference;
	u->from_fd = req->from_fd;
	/* A blob that a client has made comes from nowhere. */
	if (*req->reference || !u->from_fd)
		TRY(reg_ref_parse(str_of(req->reference), &u->ref, err));
	TRY(access_take(u->s, req->access, &u->ref, &u->access, err));
	u->isolated = req->isolated;
	u->wants_index = req->gzip_index;
	TRY(parse_descriptor(req->layer, "layer", &u->blob, &u->blob_bytes, err));
	u->media_type = req->layer->media_type;
	u->has_diff_id = *req->diff_id;
	if (u->has_diff_id)
		TRY_WRAP(digest_parse(str_of(req->diff_id), &u->diff_id, err), err, "DiffID");
	u->tee = req->tee && !req->from_fd;
	if ((u->from_fd || u->tee) && u->fd < 0)
		return err_set(err, ERR_INVALID, "no descriptor came with the request");
	return 0;
}

static int send_index(const struct unpack *u, struct err *err)
{
	int fd;

	TRY(memfd_of("gzip index", buf_str(&u->unpacking->index), &fd, err));
	return ttrpc_reply_fd(u->call, fd, err);
}

/* The layer is here: it does not fail by an index that nobody has to have. */
static void try_index(const struct unpack *u)
{
	char text[DIGEST_TEXT_MAX];
	struct err why = ERR_INIT;

	if (u->wants_index && u->unpacking->index.n && send_index(u, &why) < 0)
		log_warn("layer %s: its gzip index is lost: %s", digest_text(&u->blob, text), why.msg);
}

static int answer(const struct unpack *u, const struct esgz_layer_result *r, struct err *err)
{
	PB(UnpackResponse) rsp = CONTENTD__CONTENTFS__V1__UNPACK_RESPONSE__INIT;
	char hex[65], text[DIGEST_TEXT_MAX];
	struct digest key;

	esgz_index_key(ESGZ_TRUST_DIFFID, &r->blob, &r->diff_id, &key);
	rsp.index_key = digest_hex(&key, hex);
	rsp.diff_id = digest_text(&r->diff_id, text);
	rsp.plain_bytes = (int64_t)r->plain_bytes;
	rsp.content_bytes = (int64_t)u->content_bytes;
	try_index(u);
	return rpc_reply(u->call, &rsp.base, err);
}

static int unpack(struct unpack *u, const PB(UnpackRequest) * req, struct err *err)
{
	struct esgz_layer_result r;
	int result;

	TRY(parse(req, u, err));
	result = enter(u, &r, err);
	if (result == 0) {
		result = run(u, &r, err);
		leave(u, result, &r, err);
	}
	TRY(verb_cut_off(u->s, u->call, err));
	if (result < 0)
		return explain(u, err);
	return answer(u, &r, err);
}

int verb_unpack(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	AUTO_FD int fd = ttrpc_call_fd(c, 0);
	struct unpack u = {.s = svc, .call = c, .fd = fd};
	int r = unpack(&u, request, err);

	access_fini(&u.access);
	let_go(&u);
	return r;
}
