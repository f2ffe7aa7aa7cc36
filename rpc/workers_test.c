#include "rpc/workers.h"

#include "rpc/testing/fixture.h"

#include <stdio.h>

struct shared {
	struct workers *w;
	struct worker_share *share;
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
		assert_int_equal(workers_block_begin(s->w, wj, NULL), 0);
	while (!atomic_load(&s->go))
		usleep(500);
	if (j->blocks)
		workers_block_end(s->w, wj);
	atomic_fetch_sub(&s->running, 1);
	atomic_fetch_add(&s->done, 1);
	free(j);
}

static void submit(struct shared *s, unsigned n, bool is_long, bool blocks)
{
	while (n--) {
		struct job *j = xcalloc(1, sizeof(*j));

		*j = (struct job){{.fn = run}, s, blocks};
		if (is_long)
			OK(workers_submit_long(s->w, &j->job, err));
		else
			OK(workers_submit(s->share, &j->job, err));
	}
}

/* Of the same pool, another client. */
static struct shared shared_new(struct workers *w)
{
	return (struct shared){.w = w, .share = worker_share_new(w)};
}

static void cap_holds(void **state)
{
	struct workers *w = NULL;
	struct shared s;

	OK(workers_new(3, 0, &w, err));
	s = shared_new(w);
	submit(&s, 50, false, false);
	until(&s.running, 3 + WORKERS_OWN);
	usleep(20000);
	atomic_store(&s.go, true);
	until(&s.done, 50);
	assert_int_equal(s.max_running, 3 + WORKERS_OWN);
	worker_share_free(s.share);
	workers_free(w);
}

/* What one client's slow jobs leave to others: a quarter of the pool, and when that is taken too, places of their own. */
static void slow_jobs_leave_room(void **state)
{
	struct workers *w = NULL;
	struct shared slow, second, third, late;

	OK(workers_new(8, 0, &w, err));
	slow = shared_new(w);
	second = shared_new(w);
	third = shared_new(w);
	late = shared_new(w);
	submit(&slow, 100, false, false);
	until(&slow.running, 6 + WORKERS_OWN);
	submit(&second, 100, false, false);
	until(&second.running, 2 + WORKERS_OWN);
	submit(&third, 100, false, false);
	until(&third.running, WORKERS_OWN);
	atomic_store(&late.go, true);
	submit(&late, 20, false, false);
	until(&late.done, 20);
	/* Nobody got more meanwhile. */
	assert_int_equal(slow.max_running, 6 + WORKERS_OWN);
	assert_int_equal(second.max_running, 2 + WORKERS_OWN);
	assert_int_equal(third.max_running, WORKERS_OWN);
	atomic_store(&slow.go, true);
	atomic_store(&second.go, true);
	atomic_store(&third.go, true);
	worker_share_free(slow.share);
	worker_share_free(second.share);
	worker_share_free(third.share);
	worker_share_free(late.share);
	workers_free(w);
	assert_int_equal(slow.done + second.done + third.done, 300);
}

/* Who has run, in order: written in the one place that they share. */
struct turns {
	char who[16];
	atomic_int n;
};

struct turn {
	struct worker_job job;
	struct turns *turns;
	char who;
};

static void take_turn(struct worker_job *job)
{
	struct turn *t = CONTAINER_OF(job, struct turn, job);

	t->turns->who[t->turns->n] = t->who;
	atomic_fetch_add(&t->turns->n, 1);
}

/* However much one has queued before: the place that gets free goes round. */
static void shares_take_turns(void **state)
{
	struct turns turns = {0};
	struct turn turn[8];
	struct workers *w = NULL;
	struct shared full, busy[2];

	OK(workers_new(1, 0, &w, err));
	full = shared_new(w);
	submit(&full, 1 + WORKERS_OWN, false, false);
	until(&full.running, 1 + WORKERS_OWN);
	for (int i = 0; i < 2; i++) {
		busy[i] = shared_new(w);
		submit(&busy[i], WORKERS_OWN, false, false);
		until(&busy[i].running, WORKERS_OWN);
	}
	for (int i = 0; i < 8; i++) {
		turn[i] = (struct turn){{.fn = take_turn}, &turns, i < 6 ? 'a' : 'b'};
		OK(workers_submit(busy[i < 6 ? 0 : 1].share, &turn[i].job, err));
	}
	atomic_store(&full.go, true);
	until(&turns.n, 8);
	atomic_store(&busy[0].go, true);
	atomic_store(&busy[1].go, true);
	worker_share_free(full.share);
	worker_share_free(busy[0].share);
	worker_share_free(busy[1].share);
	workers_free(w);
	assert_string_equal(turns.who, "ababaaaa");
}

static void long_jobs_are_not_counted(void **state)
{
	struct workers *w = NULL;
	struct shared longs, others;

	OK(workers_new(2, 0, &w, err));
	longs = shared_new(w);
	others = shared_new(w);
	submit(&longs, 40, true, false);
	until(&longs.running, 40);
	submit(&others, 7, false, false);
	until(&others.running, 2 + WORKERS_OWN);
	atomic_store(&others.go, true);
	until(&others.done, 7);
	assert_int_equal(others.max_running, 2 + WORKERS_OWN);
	/* And the other way round: a full pool does not keep long jobs back. */
	atomic_store(&others.go, false);
	submit(&others, 7, false, false);
	until(&others.running, 2 + WORKERS_OWN);
	submit(&longs, 3, true, false);
	until(&longs.running, 43);
	atomic_store(&others.go, true);
	atomic_store(&longs.go, true);
	until(&longs.done, 43);
	until(&others.done, 14);
	worker_share_free(longs.share);
	worker_share_free(others.share);
	workers_free(w);
}

static void blocked_jobs_give_their_place(void **state)
{
	struct workers *w = NULL;
	struct shared blocked, others;

	OK(workers_new(1, 0, &w, err));
	blocked = shared_new(w);
	submit(&blocked, 30, false, true);
	until(&blocked.running, 30);
	/* Of the same client: it has all its places. */
	others = (struct shared){.w = w, .share = blocked.share};
	submit(&others, 6, false, false);
	until(&others.running, 1 + WORKERS_OWN);
	atomic_store(&others.go, true);
	until(&others.done, 6);
	assert_int_equal(others.max_running, 1 + WORKERS_OWN);
	atomic_store(&blocked.go, true);
	until(&blocked.done, 30);
	worker_share_free(blocked.share);
	workers_free(w);
}

/* Two threads of one job wait: it has given one place, and gets one back. */
static void waits_of_one_job(void **state)
{
	struct shared s, others;
	struct workers *w = NULL;
	struct job *j = xcalloc(1, sizeof(*j));

	OK(workers_new(1, 0, &w, err));
	s = shared_new(w);
	others = (struct shared){.w = w, .share = s.share};
	*j = (struct job){{.fn = run}, &s, true};
	OK(workers_submit(s.share, &j->job, err));
	until(&s.running, 1);
	OK(workers_block_begin(w, &j->job, err));
	submit(&others, 20, false, false);
	until(&others.running, 1 + WORKERS_OWN);
	workers_block_end(w, &j->job);
	atomic_store(&others.go, true);
	until(&others.done, 20);
	assert_int_equal(others.max_running, 1 + WORKERS_OWN);
	atomic_store(&s.go, true);
	worker_share_free(s.share);
	workers_free(w);
}

/* Each wait has a thread: beyond the bound it is refused, and possible again when one has ended. */
static void waits_are_bounded(void **state)
{
	struct worker_job job = {.fn = NULL};
	struct shared longs, more;
	struct workers *w = NULL;

	OK(workers_new(2, 5, &w, err));
	longs = shared_new(w);
	more = shared_new(w);
	atomic_store(&more.go, true);
	submit(&longs, 4, true, false);
	submit(&longs, 1, false, true);
	until(&longs.running, 5);
	FAILS(workers_submit_long(w, &job, err), ERR_EXHAUSTED);
	FAILS(workers_block_begin(w, &job, err), ERR_EXHAUSTED);
	submit(&more, 3, false, false);
	until(&more.done, 3);
	atomic_store(&longs.go, true);
	until(&longs.done, 5);
	worker_share_free(longs.share);
	worker_share_free(more.share);
	workers_free(w);
}

/* What was queued runs before the pool goes. */
static void free_runs_the_queue(void **state)
{
	struct workers *w = NULL;
	struct shared s;

	OK(workers_new(2, 0, &w, err));
	s = shared_new(w);
	atomic_store(&s.go, true);
	submit(&s, 1000, false, false);
	worker_share_free(s.share);
	workers_free(w);
	assert_int_equal(s.done, 1000);
}

static void count(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void calm_when_nobody_calls(void **state)
{
	struct workers *w = NULL;
	atomic_int calms = 0;
	struct shared s;

	OK(workers_new(2, 0, &w, err));
	workers_on_calm(w, 20 * NS_PER_MS, count, &calms);
	s = shared_new(w);
	atomic_store(&s.go, true);
	submit(&s, 1000, false, false);
	for (unsigned i = 0; i < 10000 && !atomic_load(&calms); i++)
		usleep(1000);
	assert_true(atomic_load(&calms) > 0);
	worker_share_free(s.share);
	workers_free(w);
}

/* As on a node where something asks now and then, and somebody waits. */
static void calm_when_few_call(void **state)
{
	struct shared slow, few;
	struct workers *w = NULL;
	atomic_int calms = 0;

	OK(workers_new(2, 0, &w, err));
	workers_on_calm(w, 20 * NS_PER_MS, count, &calms);
	slow = shared_new(w);
	few = shared_new(w);
	atomic_store(&few.go, true);
	submit(&slow, 1, false, false);
	for (unsigned i = 0; i < 2000 && atomic_load(&calms) < 2; i++) {
		submit(&few, 1, false, false);
		usleep(5000);
	}
	assert_true(atomic_load(&calms) >= 2);
	atomic_store(&slow.go, true);
	worker_share_free(slow.share);
	worker_share_free(few.share);
	workers_free(w);
}

static void busy_is_not_calm(void **state)
{
	struct workers *w = NULL;
	atomic_int calms = 0;
	struct shared s;

	OK(workers_new(2, 0, &w, err));
	workers_on_calm(w, 3600 * NS_PER_S, count, &calms);
	s = shared_new(w);
	atomic_store(&s.go, true);
	submit(&s, 1000, false, false);
	until(&s.done, 1000);
	worker_share_free(s.share);
	workers_free(w);
	assert_int_equal(calms, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cap_holds),
	    cmocka_unit_test(slow_jobs_leave_room),
	    cmocka_unit_test(shares_take_turns),
	    cmocka_unit_test(long_jobs_are_not_counted),
	    cmocka_unit_test(blocked_jobs_give_their_place),
	    cmocka_unit_test(waits_of_one_job),
	    cmocka_unit_test(waits_are_bounded),
	    cmocka_unit_test(free_runs_the_queue),
	    cmocka_unit_test(calm_when_nobody_calls),
	    cmocka_unit_test(calm_when_few_call),
	    cmocka_unit_test(busy_is_not_calm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
