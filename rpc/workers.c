#include "rpc/workers.h"

#include "base/buf.h"
#include "base/clock.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>

#define IDLE_NS (10 * NS_PER_S)
#define STACK_BYTES (1u << 20) /* address space; a handler touches a few pages of it */

struct queue {
	struct worker_job *head, **tail;
	unsigned n;
};

struct worker {
	struct workers *pool;
	pthread_t thread;
	struct worker *next; /* in the list of those that have ended */
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* a job may run, or the pool ends */
	pthread_cond_t gone; /* a thread has ended */
	struct queue jobs, long_jobs;
	unsigned cap, max_waiting;
	unsigned n_waiting; /* long jobs, queued or running, and waits inside others */
	unsigned n_running; /* counted jobs that run now; may pass cap for a moment when waits end */
	unsigned n_threads, n_starting, n_idle; /* those starting will look for a job before they idle */
	bool ending;
	struct worker *ended; /* to be joined */
};

static void queue_push(struct queue *q, struct worker_job *job)
{
	job->next = NULL;
	*q->tail = job;
	q->tail = &job->next;
	q->n++;
}

static struct worker_job *queue_pop(struct queue *q)
{
	struct worker_job *job = q->head;

	q->head = job->next;
	if (!q->head)
		q->tail = &q->head;
	q->n--;
	return job;
}

int workers_new(unsigned cap, unsigned max_waiting, struct workers **out, struct err *err)
{
	struct workers *w = xcalloc(1, sizeof(*w));
	pthread_condattr_t attr;

	w->cap = cap;
	w->max_waiting = max_waiting ?: WORKERS_WAITING_MAX;
	w->jobs.tail = &w->jobs.head;
	w->long_jobs.tail = &w->long_jobs.head;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attr);
	pthread_cond_init(&w->gone, NULL);
	pthread_condattr_destroy(&attr);
	*out = w;
	return 0;
}

static unsigned runnable(const struct workers *w)
{
	unsigned room = w->n_running < w->cap ? w->cap - w->n_running : 0;

	return w->long_jobs.n + (w->jobs.n < room ? w->jobs.n : room);
}

/* Waits for a job with the lock held; NULL when this thread should end. */
static struct worker_job *next_job(struct workers *w, bool *counted)
{
	int64_t until = clock_mono_ns() + IDLE_NS;
	struct timespec ts = {until / NS_PER_S, until % NS_PER_S};
	bool timed_out = false;

	while (!runnable(w)) {
		if (w->ending || timed_out)
			return NULL;
		w->n_idle++;
		timed_out = pthread_cond_timedwait(&w->wake, &w->lock, &ts) != 0;
		w->n_idle--;
	}
	*counted = !w->long_jobs.n;
	return queue_pop(*counted ? &w->jobs : &w->long_jobs);
}

static void *worker_main(void *arg)
{
	struct worker *self = arg;
	struct workers *w = self->pool;
	struct worker_job *job;
	bool counted;

	pthread_setname_np(pthread_self(), "rpc-worker");
	pthread_mutex_lock(&w->lock);
	w->n_starting--;
	while ((job = next_job(w, &counted))) {
		w->n_running += counted;
		pthread_mutex_unlock(&w->lock);
		job->fn(job);
		pthread_mutex_lock(&w->lock);
		w->n_running -= counted;
		w->n_waiting -= !counted;
	}
	if (!w->ending && !w->n_running && !w->n_idle && !w->jobs.n) {
		/* Nobody has called for a while: what handlers have freed goes back to the system. malloc would keep it. */
		pthread_mutex_unlock(&w->lock);
		malloc_trim(0);
		pthread_mutex_lock(&w->lock);
	}
	w->n_threads--;
	self->next = w->ended;
	w->ended = self;
	pthread_cond_signal(&w->gone);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void join_all(struct worker *ended)
{
	while (ended) {
		struct worker *t = ended;

		ended = t->next;
		pthread_join(t->thread, NULL);
		free(t);
	}
}

static int start_thread(struct workers *w)
{
	struct worker *t = xcalloc(1, sizeof(*t));
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	t->pool = w;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t->thread, &attr, worker_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r) {
		free(t);
		return r;
	}
	w->n_threads++;
	w->n_starting++;
	return 0;
}

/* Has as many threads awake or on their way as jobs may run. With the lock held. */
static int provide(struct workers *w)
{
	unsigned want = runnable(w), have = w->n_idle + w->n_starting;
	int r = 0;

	for (unsigned i = 0; i < want && i < w->n_idle; i++)
		pthread_cond_signal(&w->wake);
	for (; have < want && !r; have++)
		r = start_thread(w);
	return r;
}

/* One more that waits; with the lock held. */
static int wait_one(struct workers *w, struct err *err)
{
	if (w->n_waiting >= w->max_waiting)
		return err_set(err, ERR_EXHAUSTED, "%u calls are waiting already", w->n_waiting);
	w->n_waiting++;
	return 0;
}

int workers_submit(struct workers *w, struct worker_job *job, bool is_long, struct err *err)
{
	struct worker *ended;
	int r;

	pthread_mutex_lock(&w->lock);
	r = w->ending ? err_set(err, ERR_UNAVAILABLE, "no calls are served any more") : is_long ? wait_one(w, err) : 0;
	if (r < 0) {
		pthread_mutex_unlock(&w->lock);
		return r;
	}
	ended = STEAL(w->ended);
	queue_push(is_long ? &w->long_jobs : &w->jobs, job);
	r = provide(w);
	/* The job was pushed last under this lock, so it can still be taken back. Other threads would get to a normal
	 * job in time; a long one could wait for days behind other long ones. */
	if (r && (is_long || w->n_threads == 0)) {
		struct queue *q = is_long ? &w->long_jobs : &w->jobs;
		struct worker_job **at = &q->head;

		while (*at != job)
			at = &(*at)->next;
		*at = NULL;
		q->tail = at;
		q->n--;
		w->n_waiting -= is_long;
	} else {
		r = 0;
	}
	pthread_mutex_unlock(&w->lock);
	join_all(ended);
	return r ? err_set(err, ERR_EXHAUSTED, "no thread for this call: %s", strerror(r)) : 0;
}

int workers_block_begin(struct workers *w, struct err *err)
{
	int r;

	pthread_mutex_lock(&w->lock);
	r = wait_one(w, err);
	if (r >= 0) {
		w->n_running--;
		provide(w);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

void workers_block_end(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->n_running++;
	w->n_waiting--;
	pthread_mutex_unlock(&w->lock);
}

void workers_end(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_broadcast(&w->wake);
	while (w->n_threads)
		pthread_cond_wait(&w->gone, &w->lock);
	pthread_mutex_unlock(&w->lock);
	join_all(STEAL(w->ended));
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	workers_end(w);
	pthread_cond_destroy(&w->wake);
	pthread_cond_destroy(&w->gone);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
