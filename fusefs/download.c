#include "fusefs/download.h"

/* ---- queue ---- */

void queue_init(struct queue *q)
{
	memset(q, 0, sizeof(*q));
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->change, NULL);
}

void queue_fini(struct queue *q)
{
	while (q->n) {
		free(q->ring[q->first]);
		q->first = (q->first + 1) % ARRAY_LEN(q->ring);
		q->n--;
	}
	pthread_cond_destroy(&q->change);
	pthread_mutex_destroy(&q->lock);
}

static void put_locked(struct queue *q, struct block *b)
{
	q->ring[(q->first + q->n++) % ARRAY_LEN(q->ring)] = b;
	pthread_cond_broadcast(&q->change);
}

int queue_push(struct queue *q, TAKE(struct block *) b, struct err *err)
{
	bool aborted;

	pthread_mutex_lock(&q->lock);
	while (q->n >= QUEUE_BLOCKS && !q->aborted)
		pthread_cond_wait(&q->change, &q->lock);
	aborted = q->aborted;
	if (!aborted)
		put_locked(q, b);
	pthread_mutex_unlock(&q->lock);
	if (!aborted)
		return 0;
	free(b);
	return err_set(err, ERR_CANCELLED, "cancelled");
}

void queue_close(struct queue *q, const struct err *why)
{
	pthread_mutex_lock(&q->lock);
	if (why)
		q->end = *why;
	q->closed = true;
	pthread_cond_broadcast(&q->change);
	pthread_mutex_unlock(&q->lock);
}

static int pop_locked(struct queue *q, struct block **out, struct err *err)
{
	while (!q->n && !q->closed && !q->aborted)
		pthread_cond_wait(&q->change, &q->lock);
	if (q->aborted)
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (!q->n)
		return q->end.code == ERR_OK ? 0 : err_set(err, q->end.code, "%s", q->end.msg);
	*out = q->ring[q->first];
	q->first = (q->first + 1) % ARRAY_LEN(q->ring);
	q->n--;
	pthread_cond_broadcast(&q->change);
	return 1;
}

int queue_pop(struct queue *q, struct block **out, struct err *err)
{
	int r;

	pthread_mutex_lock(&q->lock);
	r = pop_locked(q, out, err);
	pthread_mutex_unlock(&q->lock);
	return r;
}

void queue_abort(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->aborted = true;
	pthread_cond_broadcast(&q->change);
	pthread_mutex_unlock(&q->lock);
}

/* ---- download ---- */

struct download {
	struct queue q;
	struct reg_request *request;
	struct block *filling; /* the I/O thread's */
	bool paused;           /* guarded by q.lock */
};

/* Hands the block over, if there is room. The I/O thread never waits: the request is paused instead. */
static bool offer(struct download *d)
{
	bool room;

	pthread_mutex_lock(&d->q.lock);
	room = d->q.n < QUEUE_BLOCKS;
	if (room)
		put_locked(&d->q, STEAL(d->filling));
	d->paused = !room;
	pthread_mutex_unlock(&d->q.lock);
	return room;
}

static enum reg_flow on_data(void *arg, uint64_t offset, struct str bytes)
{
	struct download *d = arg;

	if (d->filling && d->filling->n + bytes.n > BLOCK_BYTES && !offer(d))
		return REG_FLOW_PAUSE;
	if (!d->filling) {
		d->filling = xmalloc(sizeof(*d->filling));
		d->filling->n = 0;
	}
	memcpy(d->filling->bytes + d->filling->n, bytes.p, bytes.n);
	d->filling->n += bytes.n;
	return REG_FLOW_MORE;
}

static void on_done(void *arg, struct reg_answer *answer)
{
	struct download *d = arg;

	if (d->filling) {
		pthread_mutex_lock(&d->q.lock);
		put_locked(&d->q, STEAL(d->filling));
		pthread_mutex_unlock(&d->q.lock);
	}
	queue_close(&d->q, answer->result < 0 ? answer->err : NULL);
}

int download_start(struct reg_client *client, const struct reg_ref *ref, struct reg_account *account,
                   const struct digest *blob, uint64_t blob_bytes, uint64_t offset, int64_t deadline_ns,
                   struct download **out, struct err *err)
{
	struct download *d = xcalloc(1, sizeof(*d));
	const struct reg_blob_get q = {.ref = ref,
	                               .account = account,
	                               .digest = *blob,
	                               .blob_size = blob_bytes,
	                               .offset = offset,
	                               .length = REG_TO_END,
	                               .lane = REG_BULK,
	                               .deadline_ns = deadline_ns,
	                               .data = on_data,
	                               .done = on_done,
	                               .arg = d};
	int r;

	queue_init(&d->q);
	r = reg_blob_get(client, &q, &d->request, err);
	if (r < 0) {
		queue_fini(&d->q);
		free(d);
		return r;
	}
	*out = d;
	return 0;
}

void download_free(struct download *d)
{
	if (!d)
		return;
	reg_request_cancel(d->request);
	pthread_mutex_lock(&d->q.lock);
	while (!d->q.closed)
		pthread_cond_wait(&d->q.change, &d->q.lock);
	pthread_mutex_unlock(&d->q.lock);
	reg_request_unref(d->request);
	queue_fini(&d->q);
	free(d);
}

int download_next(struct download *d, struct block **out, struct err *err)
{
	bool resume;
	int r;

	pthread_mutex_lock(&d->q.lock);
	r = pop_locked(&d->q, out, err);
	resume = r > 0 && d->paused;
	if (resume)
		d->paused = false;
	pthread_mutex_unlock(&d->q.lock);
	if (resume)
		reg_request_resume(d->request);
	return r;
}

void download_abort(struct download *d)
{
	queue_abort(&d->q);
}
