#include "contentd/convert/download.h"

#include <pthread.h>

#define RING_BYTES (4u << 20)
#define RESUME_BYTES (RING_BYTES / 2) /* room that is worth waking the connection */

struct download {
	struct place_source base;
	struct reg_request *request;
	struct reg_canceller *canceller; /* or NULL */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char *ring;
	uint64_t in, out; /* lock; bytes that have ever come and gone */
	bool paused;      /* lock */
	bool is_over;     /* lock */
	int result;       /* lock */
	struct err err;   /* lock */
};

/* On the client's thread. */
static enum reg_flow take(void *arg, uint64_t offset, struct str bytes)
{
	struct download *d = arg;
	enum reg_flow flow = REG_FLOW_MORE;

	pthread_mutex_lock(&d->lock);
	d->paused = RING_BYTES - (d->in - d->out) < bytes.n;
	if (d->paused)
		flow = REG_FLOW_PAUSE;
	while (!d->paused && bytes.n) {
		size_t at = d->in % RING_BYTES;
		struct str some = str_sub(bytes, 0, RING_BYTES - at);

		memcpy(d->ring + at, some.p, some.n);
		d->in += some.n;
		bytes = str_sub(bytes, some.n, SIZE_MAX);
	}
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
	return flow;
}

static void end(void *arg, struct reg_answer *answer)
{
	struct download *d = arg;

	pthread_mutex_lock(&d->lock);
	d->result = answer->result;
	d->err = *answer->err;
	d->is_over = true;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

static int download_read(struct place_source *s, void *dst, size_t n, size_t *got, struct err *err)
{
	struct download *d = (struct download *)s;
	bool resume = false;
	size_t at;

	*got = 0;
	pthread_mutex_lock(&d->lock);
	while (d->in == d->out && !d->is_over)
		pthread_cond_wait(&d->changed, &d->lock);
	at = d->out % RING_BYTES;
	if (d->in > d->out) {
		*got = d->in - d->out < n ? (size_t)(d->in - d->out) : n;
		*got = *got < RING_BYTES - at ? *got : RING_BYTES - at;
		memcpy(dst, d->ring + at, *got);
		d->out += *got;
		resume = d->paused && RING_BYTES - (d->in - d->out) >= RESUME_BYTES;
		d->paused = d->paused && !resume;
	} else if (d->result < 0 && err) {
		*err = d->err;
	}
	pthread_mutex_unlock(&d->lock);
	if (resume)
		reg_request_resume(d->request);
	return *got ? 0 : d->result;
}

static void download_stop(struct place_source *s)
{
	struct download *d = (struct download *)s;

	if (d->request)
		reg_request_cancel(d->request);
}

static void download_free(struct place_source *s)
{
	struct download *d = (struct download *)s;

	download_stop(s);
	pthread_mutex_lock(&d->lock);
	while (!d->is_over)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
	if (d->canceller && d->request)
		reg_canceller_leave(d->canceller);
	reg_request_unref(d->request);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d->ring);
	free(d);
}

int download_open(struct reg_client *c, const struct reg_ref *ref, const struct reg_descriptor *descriptor,
                  uint64_t offset, int64_t deadline_ns, struct reg_canceller *canceller, struct place_source **out,
                  struct err *err)
{
	struct download *d = xcalloc(1, sizeof(*d));
	struct reg_blob_get q = {.ref = ref,
	                         .digest = descriptor->digest,
	                         .blob_size = descriptor->size,
	                         .offset = offset,
	                         .length = REG_TO_END,
	                         .lane = REG_BULK,
	                         .deadline_ns = deadline_ns,
	                         .data = take,
	                         .done = end,
	                         .arg = d};
	int r = 0;

	d->base = (struct place_source){download_read, download_free, download_stop};
	d->canceller = canceller;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
	d->ring = xmalloc(RING_BYTES);
	d->is_over = offset == descriptor->size; /* there is nothing that could be asked for */
	if (!d->is_over)
		r = reg_blob_get(c, &q, &d->request, err);
	if (r < 0) {
		d->is_over = true;
		download_free(&d->base);
		return r;
	}
	if (d->request && canceller)
		reg_canceller_enter(canceller, d->request);
	*out = &d->base;
	return 0;
}
