#include "rpc/workers.h"

#include "base/buf.h"
#include "base/clock.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/queue.h>

#define IDLE_NS (10 * NS_PER_S)
#define CALM_JOBS 100          /* at most, in that time: a node's pollers are hardly a load */
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

TAILQ_HEAD(share_list, worker_share);

/* Guarded by the pool's lock. */
struct worker_share {
	struct workers *pool;
	unsigned refs; /* its owner, and jobs */
	struct queue jobs;
	unsigned n_running;           /* beyond WORKERS_OWN they have places of the pool */
	unsigned n_own, n_pool, used; /* as they stand in the sums of the pool */
	struct share_list *list;      /* of the pool, NULL: in none */
	TAILQ_ENTRY(worker_share) link;
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* a job may run, or the pool ends */
	pthread_cond_t gone; /* a thread has ended */
	struct queue long_jobs;
	unsigned cap, share_max, max_waiting;
	unsigned n_waiting; /* long jobs, queued or running, and waits inside others */
	unsigned n_running; /* counted jobs that run now */
	unsigned used;      /* places of the cap that they have; may pass it for a moment when waits end */
	/* Shares with queued jobs that may run outside the cap, and the others that may have more of it; in both who was
	 * served last is last. Beside them, how many such jobs there are. */
	struct share_list own, pool;
	unsigned n_own, n_pool;
	unsigned n_threads, n_starting, n_idle; /* those starting will look for a job before they idle */
	bool ending;
	struct worker *ended; /* to be joined */

	/* What is done when there is little to do, and how that is known. */
	void (*calm)(void *arg);
	void *calm_arg;
	int64_t idle_ns;
	int64_t window_ns; /* when the time began in which jobs are counted now */
	unsigned n_done;   /* jobs since then */
	bool stirred;      /* a job has ended since the last time */
	bool calming;
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
	w->share_max = cap - cap / 4;
	w->max_waiting = max_waiting ?: WORKERS_WAITING_MAX;
	w->idle_ns = IDLE_NS;
	w->window_ns = clock_mono_ns();
	TAILQ_INIT(&w->own);
	TAILQ_INIT(&w->pool);
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

void workers_on_calm(struct workers *w, int64_t idle_ns, void (*fn)(void *arg), void *arg)
{
	w->idle_ns = idle_ns ?: IDLE_NS;
	w->calm = fn;
	w->calm_arg = arg;
}

/* ---- shares; with the lock held ---- */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned excess(unsigned a, unsigned b)
{
	return a > b ? a - b : 0;
}

/* Brings sums and lists up to date after the share's queue or running jobs have changed. Who stays in a list keeps the
 * place there: else a client could lose its turn by submitting more. */
static void share_update(struct worker_share *s)
{
	struct workers *w = s->pool;
	struct share_list *list;

	w->n_own -= s->n_own;
	w->n_pool -= s->n_pool;
	w->used -= s->used;
	s->used = excess(s->n_running, WORKERS_OWN);
	s->n_own = least(s->jobs.n, excess(WORKERS_OWN, s->n_running));
	s->n_pool = least(s->jobs.n - s->n_own, excess(w->share_max, s->used));
	w->n_own += s->n_own;
	w->n_pool += s->n_pool;
	w->used += s->used;

	list = s->n_own ? &w->own : s->n_pool ? &w->pool : NULL;
	if (list == s->list)
		return;
	if (s->list)
		TAILQ_REMOVE(s->list, s, link);
	if (list)
		TAILQ_INSERT_TAIL(list, s, link);
	s->list = list;
}

/* One more job of it runs. */
static void share_begin(struct worker_share *s)
{
	s->n_running++;
	s->pool->n_running++;
	share_update(s);
}

static void share_end(struct worker_share *s)
{
	s->n_running--;
	s->pool->n_running--;
	share_update(s);
}

static void share_unref(struct worker_share *s)
{
	if (--s->refs == 0)
		free(s);
}

/* The next job of a share whose turn it is. */
static struct worker_job *share_pop(struct workers *w)
{
	struct worker_share *s = TAILQ_FIRST(&w->own) ?: TAILQ_FIRST(&w->pool);
	struct worker_job *job = queue_pop(&s->jobs);

	TAILQ_REMOVE(s->list, s, link);
	s->list = NULL;
	share_begin(s);
	return job;
}

struct worker_share *worker_share_new(struct workers *w)
{
	struct worker_share *s = xcalloc(1, sizeof(*s));

	s->pool = w;
	s->refs = 1;
	s->jobs.tail = &s->jobs.head;
	return s;
}

void worker_share_free(struct worker_share *s)
{
	struct workers *w;

	if (!s)
		return;
	w = s->pool;
	pthread_mutex_lock(&w->lock);
	share_unref(s);
	pthread_mutex_unlock(&w->lock);
}

/* ---- threads ---- */

static unsigned runnable(const struct workers *w)
{
	return w->long_jobs.n + w->n_own + least(w->n_pool, excess(w->cap, w->used));
}

/* Waits for a job with the lock held; NULL when this thread should end. */
static struct worker_job *next_job(struct workers *w)
{
	int64_t until = clock_mono_ns() + w->idle_ns;
	struct timespec ts = {until / NS_PER_S, until % NS_PER_S};
	bool timed_out = false;

	while (!runnable(w)) {
		if (w->ending || timed_out)
			return NULL;
		w->n_idle++;
		timed_out = pthread_cond_timedwait(&w->wake, &w->lock, &ts) != 0;
		w->n_idle--;
	}
	return w->long_jobs.n ? queue_pop(&w->long_jobs) : share_pop(w);
}

/* Whether it is time to tidy up; `last`: no thread is left that works or waits for a job. With the lock held. */
static bool is_calm(struct workers *w, bool last)
{
	int64_t now = clock_mono_ns();
	bool over = now - w->window_ns >= w->idle_ns, few = w->n_done <= CALM_JOBS;

	if (over) {
		w->window_ns = now;
		w->n_done = 0;
	}
	return w->stirred && !w->calming && !w->ending && (last || (over && few));
}

/* With the lock held, which it leaves: what handlers have freed goes back to the system. malloc would keep it. */
static void calm_down(struct workers *w)
{
	w->calming = true;
	w->stirred = false;
	pthread_mutex_unlock(&w->lock);
	if (w->calm)
		w->calm(w->calm_arg);
	malloc_trim(0);
	pthread_mutex_lock(&w->lock);
	w->calming = false;
}

static void job_done(struct workers *w, struct worker_share *share)
{
	if (share) {
		share_end(share);
		share_unref(share);
	} else {
		w->n_waiting--;
	}
	w->n_done++;
	w->stirred = true;
	if (is_calm(w, false))
		calm_down(w);
}

static void *worker_main(void *arg)
{
	struct worker *self = arg;
	struct workers *w = self->pool;
	struct worker_job *job;

	pthread_setname_np(pthread_self(), "rpc-worker");
	pthread_mutex_lock(&w->lock);
	w->n_starting--;
	while ((job = next_job(w))) {
		struct worker_share *share = job->share;

		pthread_mutex_unlock(&w->lock);
		job->fn(job);
		pthread_mutex_lock(&w->lock);
		job_done(w, share);
	}
	if (is_calm(w, !w->n_running && !w->n_idle && !runnable(w)))
		calm_down(w);
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

/* Pushed last under the lock, it can still be taken back. */
static void queue_unpush(struct queue *q, const struct worker_job *job)
{
	struct worker_job **at = &q->head;

	while (*at != job)
		at = &(*at)->next;
	*at = NULL;
	q->tail = at;
	q->n--;
}

static int no_thread(struct err *err, int why)
{
	return err_set(err, ERR_EXHAUSTED, "no thread for this call: %s", strerror(why));
}

static int check_open(const struct workers *w, struct err *err)
{
	return w->ending ? err_set(err, ERR_UNAVAILABLE, "no calls are served any more") : 0;
}

/* With the lock held. Where there are threads, one of them gets to the job in time. */
static int submit_locked(struct worker_share *s, struct worker_job *job, struct err *err)
{
	struct workers *w = s->pool;
	int failed;

	TRY(check_open(w, err));
	queue_push(&s->jobs, job);
	share_update(s);
	failed = provide(w);
	if (failed && !w->n_threads) {
		queue_unpush(&s->jobs, job);
		share_update(s);
		return no_thread(err, failed);
	}
	s->refs++;
	return 0;
}

/* With the lock held. Without a thread of its own it could wait for days behind other long ones. */
static int submit_long_locked(struct workers *w, struct worker_job *job, struct err *err)
{
	int failed;

	TRY(check_open(w, err));
	TRY(wait_one(w, err));
	queue_push(&w->long_jobs, job);
	failed = provide(w);
	if (failed) {
		queue_unpush(&w->long_jobs, job);
		w->n_waiting--;
		return no_thread(err, failed);
	}
	return 0;
}

int workers_submit(struct worker_share *share, struct worker_job *job, struct err *err)
{
	struct workers *w = share->pool;
	struct worker *ended;
	int r;

	job->share = share;
	job->n_waits = 0;
	pthread_mutex_lock(&w->lock);
	ended = STEAL(w->ended);
	r = submit_locked(share, job, err);
	pthread_mutex_unlock(&w->lock);
	join_all(ended);
	return r;
}

int workers_submit_long(struct workers *w, struct worker_job *job, struct err *err)
{
	struct worker *ended;
	int r;

	job->share = NULL;
	pthread_mutex_lock(&w->lock);
	ended = STEAL(w->ended);
	r = submit_long_locked(w, job, err);
	pthread_mutex_unlock(&w->lock);
	join_all(ended);
	return r;
}

int workers_block_begin(struct workers *w, struct worker_job *job, struct err *err)
{
	int r;

	pthread_mutex_lock(&w->lock);
	r = wait_one(w, err);
	if (r >= 0 && job->n_waits++ == 0) {
		share_end(job->share);
		provide(w);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

void workers_block_end(struct workers *w, struct worker_job *job)
{
	pthread_mutex_lock(&w->lock);
	w->n_waiting--;
	if (--job->n_waits == 0)
		share_begin(job->share);
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
