#include "base/pool.h"

#include "base/buf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A gate that holds workers until it is opened. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool open;
	unsigned inside;
};

#define GATE_INIT                                                                                                      \
	{                                                                                                              \
		PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0                                          \
	}

static void gate_pass(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->inside++;
	pthread_cond_broadcast(&g->moved);
	while (!g->open)
		pthread_cond_wait(&g->moved, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void gate_await(struct gate *g, unsigned inside)
{
	pthread_mutex_lock(&g->lock);
	while (g->inside < inside)
		pthread_cond_wait(&g->moved, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void gate_open(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->open = true;
	pthread_cond_broadcast(&g->moved);
	pthread_mutex_unlock(&g->lock);
}

struct job {
	struct pool_job base;
	struct gate *gate;
	atomic_uint *counter;
	unsigned ran_as; /* 1 = first */
};

static void pass_gate(struct pool_job *j)
{
	struct job *job = CONTAINER_OF(j, struct job, base);

	gate_pass(job->gate);
}

static void count(struct pool_job *j)
{
	struct job *job = CONTAINER_OF(j, struct job, base);

	job->ran_as = atomic_fetch_add(job->counter, 1) + 1;
}

static void lanes_have_strict_priority(void **state)
{
	struct gate gate = GATE_INIT;
	struct job holder = {.base.fn = pass_gate, .gate = &gate};
	struct job jobs[POOL_LANES][3];
	atomic_uint counter = 0;
	struct err err = ERR_INIT;
	struct pool *p;

	assert_int_equal(pool_new(1, "test", &p, &err), 0);
	pool_submit(p, POOL_BACKGROUND, &holder.base);
	gate_await(&gate, 1);
	/* Worst first, so that only priority can put them right. */
	for (int lane = POOL_LANES - 1; lane >= 0; lane--)
		for (int i = 0; i < 3; i++) {
			jobs[lane][i] = (struct job){.base.fn = count, .counter = &counter};
			pool_submit(p, (enum pool_lane)lane, &jobs[lane][i].base);
		}
	gate_open(&gate);
	pool_free(p);
	for (int lane = 0; lane < POOL_LANES; lane++)
		for (int i = 0; i < 3; i++)
			assert_int_equal(jobs[lane][i].ran_as, lane * 3 + i + 1);
}

static void all_threads_work(void **state)
{
	struct gate gate = GATE_INIT;
	struct job jobs[4];
	struct err err = ERR_INIT;
	struct pool *p;

	assert_int_equal(pool_new(4, "a name longer than sixteen", &p, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
		jobs[i] = (struct job){.base.fn = pass_gate, .gate = &gate};
		pool_submit(p, POOL_DEMAND, &jobs[i].base);
	}
	gate_await(&gate, 4); /* hangs when fewer than four run at once */
	gate_open(&gate);
	pool_free(p);
}

static atomic_uint n_freed;

static void free_itself(struct pool_job *j)
{
	free(CONTAINER_OF(j, struct job, base));
	atomic_fetch_add(&n_freed, 1);
}

struct submitter {
	struct pool *pool;
	unsigned n;
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;

	for (unsigned i = 0; i < s->n; i++) {
		struct job *job = xcalloc(1, sizeof(*job));

		job->base.fn = free_itself;
		pool_submit(s->pool, (enum pool_lane)(i % POOL_LANES), &job->base);
	}
	return NULL;
}

static void many_submitters(void **state)
{
	struct submitter s = {.n = 5000};
	pthread_t threads[3];
	struct err err = ERR_INIT;

	atomic_store(&n_freed, 0);
	assert_int_equal(pool_new(3, "test", &s.pool, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &s), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	pool_free(s.pool); /* runs what is still queued */
	assert_int_equal(atomic_load(&n_freed), 3 * 5000);
}

struct chain {
	struct pool_job base;
	struct pool *pool;
	unsigned left;
};

static void submit_again(struct pool_job *j)
{
	struct chain *c = CONTAINER_OF(j, struct chain, base);

	if (c->left--)
		pool_submit(c->pool, POOL_BACKGROUND, &c->base);
	else
		c->pool = NULL;
}

static void a_job_may_submit_while_the_pool_ends(void **state)
{
	struct chain c = {.base.fn = submit_again, .left = 1000};
	struct err err = ERR_INIT;
	struct pool *p;

	assert_int_equal(pool_new(2, "test", &p, &err), 0);
	c.pool = p;
	pool_submit(p, POOL_DEMAND, &c.base);
	pool_free(p);
	assert_null(c.pool);
}

static void cpus(void **state)
{
	assert_true(cpu_count() >= 1);
	assert_true(cpu_count() <= (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lanes_have_strict_priority),
	    cmocka_unit_test(all_threads_work),
	    cmocka_unit_test(many_submitters),
	    cmocka_unit_test(a_job_may_submit_while_the_pool_ends),
	    cmocka_unit_test(cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
