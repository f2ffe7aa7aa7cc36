#include "registry/internal.h"

void waiter_init(struct waiter *w)
{
	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
}

void waiter_fini(struct waiter *w)
{
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	buf_fini(&w->body);
	free(w->location);
}

void waiter_done(void *arg, struct reg_answer *a)
{
	struct waiter *w = arg;

	pthread_mutex_lock(&w->lock);
	w->result = a->result;
	w->err = *a->err;
	w->status = a->status;
	w->digest = a->digest;
	w->length = a->length;
	w->blob_size = a->blob_size;
	str_copy(a->media_type, w->media_type, sizeof(w->media_type));
	if (a->body) {
		w->body = *a->body;
		*a->body = BUF_INIT;
	}
	w->done = true;
	/* Under the lock: the waiter may destroy it all as soon as it sees `done`. */
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

int waiter_wait(struct waiter *w, struct err *err)
{
	pthread_mutex_lock(&w->lock);
	while (!w->done)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	if (w->result < 0 && err)
		*err = w->err;
	return w->result;
}

int waiter_wait_cancellable(struct waiter *w, struct reg_canceller *k, TAKE(struct reg_request *) r, struct err *err)
{
	int result;

	if (k)
		reg_canceller_enter(k, r);
	result = waiter_wait(w, err);
	if (k)
		reg_canceller_leave(k);
	reg_request_unref(r);
	return result;
}
