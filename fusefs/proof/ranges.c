#include "fusefs/proof/ranges.h"

#define QUEUED_MAX (1u << 20)
#define LULL_NS (20 * NS_PER_MS)
#define LOOK_NS (50 * NS_PER_MS) /* how often it looks whether it is to stop */

/* One request. `lock` guards what follows it; the I/O thread and the prover use it. */
struct range {
	struct ffs_data *d;
	uint64_t pos; /* the I/O thread's: bytes before it were taken */

	pthread_mutex_t lock;
	pthread_cond_t change; /* CLOCK_MONOTONIC */
	struct buf queued;
	bool paused, stopped, done;
	int result;
	struct err err;
};

/* ---- giving way ---- */

/* When it may go on; INT64_MAX: not known; 0: at once. Negative code: never. */
static int may_go_on(struct ffs_data *d, const struct layer *l, int64_t *at, struct err *err)
{
	if (d->prover_stopping || l->removed)
		return err_set(err, ERR_CANCELLED, "cancelled");
	*at = 0;
	if (d->opts.background == FFS_BACKGROUND_EAGER)
		return 0;
	if (d->n_demand)
		*at = INT64_MAX;
	else if (d->last_demand_ns)
		*at = d->last_demand_ns + LULL_NS;
	return 0;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t when)
{
	struct timespec ts = {.tv_sec = when / NS_PER_S, .tv_nsec = when % NS_PER_S};

	pthread_cond_timedwait(cond, lock, &ts);
}

int prover_give_way(struct ffs_data *d, const struct layer *l, struct err *err)
{
	int64_t at = 0;
	int r;

	pthread_mutex_lock(&d->lock);
	while ((r = may_go_on(d, l, &at, err)) >= 0) {
		int64_t now = clock_mono_ns();

		if (at <= now)
			break;
		wait_until(&d->prove_wake, &d->lock, at < now + LOOK_NS ? at : now + LOOK_NS);
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

/* ---- the I/O thread ---- */

static bool somebody_waits(struct ffs_data *d)
{
	bool waits;

	if (d->opts.background == FFS_BACKGROUND_EAGER)
		return false;
	pthread_mutex_lock(&d->lock);
	waits = d->n_demand > 0;
	pthread_mutex_unlock(&d->lock);
	return waits;
}

static enum ffs_flow on_data(void *arg, uint64_t at, struct str bytes)
{
	struct range *r = arg;
	bool waits = somebody_waits(r->d);
	enum ffs_flow flow;

	if (at < r->pos)
		bytes = str_sub(bytes, r->pos - at < bytes.n ? r->pos - at : bytes.n, SIZE_MAX);
	pthread_mutex_lock(&r->lock);
	r->paused = !r->stopped && (waits || r->queued.n >= QUEUED_MAX);
	flow = r->stopped ? FFS_FLOW_STOP : r->paused ? FFS_FLOW_PAUSE : FFS_FLOW_MORE;
	if (flow == FFS_FLOW_MORE) {
		buf_addstr(&r->queued, bytes);
		r->pos += bytes.n;
	}
	pthread_cond_signal(&r->change);
	pthread_mutex_unlock(&r->lock);
	return flow;
}

static void on_done(void *arg, int result, const struct err *err)
{
	struct range *r = arg;

	pthread_mutex_lock(&r->lock);
	r->done = true;
	r->result = result;
	if (result < 0)
		r->err = *err;
	pthread_cond_signal(&r->change);
	pthread_mutex_unlock(&r->lock);
}

/* ---- the prover ---- */

/* The next bytes: 1; 0: it is over. Nothing for a while is `bytes` without any. */
static int next_bytes(struct range *r, struct buf *bytes, bool *resume, struct err *err)
{
	int result = 1;

	pthread_mutex_lock(&r->lock);
	if (!r->queued.n && !r->done && !r->paused)
		wait_until(&r->change, &r->lock, clock_mono_ns() + LOOK_NS);
	buf_fini(bytes);
	*bytes = r->queued;
	r->queued = BUF_INIT;
	*resume = r->paused;
	r->paused = false;
	if (!bytes->n && r->done)
		result = r->result < 0 ? err_set(err, r->err.code, "%s", r->err.msg) : 0;
	pthread_mutex_unlock(&r->lock);
	return result;
}

static int take_all(struct range *r, const struct layer *l, void *handle, uint64_t want,
                    int (*sink)(void *arg, struct str bytes, struct err *err), void *arg, struct err *err)
{
	AUTO(buf) struct buf bytes = BUF_INIT;
	struct ffs_blobs *blobs = &r->d->blobs;
	uint64_t got = 0;
	bool resume;
	int more;

	while ((more = next_bytes(r, &bytes, &resume, err)) > 0) {
		if (bytes.n)
			TRY(sink(arg, buf_str(&bytes), err));
		got += bytes.n;
		TRY(prover_give_way(r->d, l, err));
		if (resume)
			blobs->resume(blobs->self, handle);
	}
	TRY(more);
	return got == want ? 0 : err_set(err, ERR_UNAVAILABLE, "the registry's copy of the layer ends early");
}

/* Its callbacks use what is on our stack. */
static void wait_done(struct range *r)
{
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	while (!r->done)
		pthread_cond_wait(&r->change, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void cond_init_mono(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int range_stream(struct ffs_data *d, const struct layer *l, uint64_t from, uint64_t until,
                 int (*sink)(void *arg, struct str bytes, struct err *err), void *arg, struct err *err)
{
	const struct origin *origin = atomic_load(&l->origin);
	struct range r = {.d = d, .pos = from, .queued = BUF_INIT};
	const struct ffs_blob_query q = {.reference = origin->reference,
	                                 .owner = origin->owner,
	                                 .blob = l->info->blob,
	                                 .blob_bytes = l->info->blob_bytes,
	                                 .offset = from,
	                                 .length = until - from,
	                                 .deadline_ns = INT64_MAX,
	                                 .data = on_data,
	                                 .done = on_done,
	                                 .arg = &r};
	void *handle = NULL;
	int result;

	TRY(prover_give_way(d, l, err));
	pthread_mutex_init(&r.lock, NULL);
	cond_init_mono(&r.change);
	result = d->blobs.get(d->blobs.self, &q, &handle, err);
	if (result >= 0) {
		pthread_mutex_lock(&d->lock);
		d->counters.requests[FFS_BACKGROUND]++;
		pthread_mutex_unlock(&d->lock);
		result = take_all(&r, l, handle, until - from, sink, arg, err);
		if (result < 0)
			d->blobs.cancel(d->blobs.self, handle);
		wait_done(&r);
		d->blobs.unref(d->blobs.self, handle);
	}
	buf_fini(&r.queued);
	pthread_cond_destroy(&r.change);
	pthread_mutex_destroy(&r.lock);
	return result;
}
