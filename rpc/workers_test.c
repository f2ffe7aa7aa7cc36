#include "rpc/workers.h"

#include "rpc/testing/fixture.h"

#include <stdio.h>

struct shared {
	struct workers *w;
	atomic_int running, max_running, done;
	atomic_bool go;
};

struct job {
	struct worker_job job;
	struct shared *s;
	bool blocks;
};

static void run(struct worker_job *wj)
{
	struct job *j = CONTAINER_OF(wj, struct job, job);
	struct shared *s = j->s;
	int now = atomic_fetch_add(&s->running, 1) + 1, max = atomic_load(&s->max_running);

	while (now > max && !atomic_compare_exchange_weak(&s->max_running, &max, now))
		;
	if (j->blocks)
		assert_int_equal(workers_block_begin(s->w, NULL), 0);
	while (!atomic_load(&s->go))
		usleep(500);
	if (j->blocks)
		workers_block_end(s->w);
	atomic_fetch_sub(&s->running, 1);
	atomic_fetch_add(&s->done, 1);
	free(j);
}

static void submit(struct shared *s, unsigned n, bool is_long, bool blocks)
{
	struct err err = ERR_INIT;

	while (n--) {
		struct job *j = xcalloc(1, sizeof(*j));

		*j = (struct job){{run, NULL}, s, blocks};
		assert_int_equal(workers_submit(s->w, &j->job, is_long, &err), 0);
	}
}

static void cap_holds(void **state)
{
	struct shared s = {0};

	assert_int_equal(workers_new(3, 0, &s.w, NULL), 0);
	submit(&s, 50, false, false);
	until(&s.running, 3);
	usleep(20000);
	atomic_store(&s.go, true);
	until(&s.done, 50);
	assert_int_equal(s.max_running, 3);
	workers_free(s.w);
}

static void long_jobs_are_not_counted(void **state)
{
	struct shared longs = {0}, others = {0};

	assert_int_equal(workers_new(2, 0, &longs.w, NULL), 0);
	others.w = longs.w;
	submit(&longs, 40, true, false);
	until(&longs.running, 40);
	submit(&others, 5, false, false);
	until(&others.running, 2);
	atomic_store(&others.go, true);
	until(&others.done, 5);
	assert_int_equal(others.max_running, 2);
	/* And the other way round: a full pool does not keep long jobs back. */
	atomic_store(&others.go, false);
	submit(&others, 5, false, false);
	until(&others.running, 2);
	submit(&longs, 3, true, false);
	until(&longs.running, 43);
	atomic_store(&others.go, true);
	atomic_store(&longs.go, true);
	until(&longs.done, 43);
	until(&others.done, 10);
	workers_free(longs.w);
}

static void blocked_jobs_give_their_place(void **state)
{
	struct shared blocked = {0}, others = {0};

	assert_int_equal(workers_new(1, 0, &blocked.w, NULL), 0);
	others.w = blocked.w;
	submit(&blocked, 30, false, true);
	until(&blocked.running, 30);
	submit(&others, 4, false, false);
	until(&others.running, 1);
	atomic_store(&others.go, true);
	until(&others.done, 4);
	assert_int_equal(others.max_running, 1);
	atomic_store(&blocked.go, true);
	until(&blocked.done, 30);
	workers_free(blocked.w);
}

/* Each wait has a thread: beyond the bound it is refused, and possible again when one has ended. */
static void waits_are_bounded(void **state)
{
	struct shared longs = {0}, more = {.go = true};
	struct worker_job job = {NULL, NULL};

	OK(workers_new(2, 5, &longs.w, err));
	more.w = longs.w;
	submit(&longs, 4, true, false);
	submit(&longs, 1, false, true);
	until(&longs.running, 5);
	FAILS(workers_submit(longs.w, &job, true, err), ERR_EXHAUSTED);
	FAILS(workers_block_begin(longs.w, err), ERR_EXHAUSTED);
	submit(&more, 3, false, false);
	until(&more.done, 3);
	atomic_store(&longs.go, true);
	until(&longs.done, 5);
	workers_free(longs.w);
}

/* What was queued runs before the pool goes. */
static void free_runs_the_queue(void **state)
{
	struct shared s = {.go = true};

	assert_int_equal(workers_new(2, 0, &s.w, NULL), 0);
	submit(&s, 1000, false, false);
	workers_free(s.w);
	assert_int_equal(s.done, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cap_holds),
	    cmocka_unit_test(long_jobs_are_not_counted),
	    cmocka_unit_test(blocked_jobs_give_their_place),
	    cmocka_unit_test(waits_are_bounded),
	    cmocka_unit_test(free_runs_the_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
