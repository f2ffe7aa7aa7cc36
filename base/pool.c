#include "base/pool.h"

#include "base/buf.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

struct lane {
	struct pool_job *head, **tail;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct lane lanes[POOL_LANES]; /* lock */
	unsigned n_idle;               /* lock: workers in cond_wait */
	bool stopping;                 /* lock */
	unsigned n_threads;
	char name[12];
	pthread_t threads[];
};

/* The first job of the first lane that has one. Under the lock. */
static struct pool_job *take(struct pool *p)
{
	for (int i = 0; i < POOL_LANES; i++) {
		struct lane *l = &p->lanes[i];
		struct pool_job *job = l->head;

		if (!job)
			continue;
		l->head = job->next;
		if (!l->head)
			l->tail = &l->head;
		return job;
	}
	return NULL;
}

static void *work(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct pool_job *job = take(p);

		if (job) {
			pthread_mutex_unlock(&p->lock);
			job->fn(job);
			pthread_mutex_lock(&p->lock);
		} else if (p->stopping) {
			break;
		} else {
			p->n_idle++;
			pthread_cond_wait(&p->wake, &p->lock);
			p->n_idle--;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Starts one worker with all signals blocked: they belong to the threads that the program chose for them. */
static int start_thread(struct pool *p, struct err *err)
{
	char name[16];
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&p->threads[p->n_threads], NULL, work, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return err_errno(err, r, "start worker thread %u of %s", p->n_threads, p->name);
	snprintf(name, sizeof(name), "%s-%u", p->name, p->n_threads % 1000);
	pthread_setname_np(p->threads[p->n_threads], name);
	p->n_threads++;
	return 0;
}

int pool_new(unsigned n_threads, const char *name, struct pool **out, struct err *err)
{
	AUTO(pool) struct pool *p = NULL;

	assert(n_threads > 0);
	p = xcalloc(1, sizeof(*p) + n_threads * sizeof(p->threads[0]));
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	snprintf(p->name, sizeof(p->name), "%s", name);
	for (int i = 0; i < POOL_LANES; i++)
		p->lanes[i].tail = &p->lanes[i].head;
	while (p->n_threads < n_threads)
		TRY(start_thread(p, err));
	*out = STEAL(p);
	return 0;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void pool_submit(struct pool *p, enum pool_lane lane, struct pool_job *job)
{
	struct lane *l = &p->lanes[lane];

	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	*l->tail = job;
	l->tail = &job->next;
	if (p->n_idle)
		pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

unsigned cpu_count(void)
{
	cpu_set_t set;
	long n;

	if (!sched_getaffinity(0, sizeof(set), &set))
		return (unsigned)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
	return n > 0 ? (unsigned)n : 1;
}
