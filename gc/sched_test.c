#include "gc/sched.h"

#include "base/clock.h"
#include "base/testing.h"

#define MS NS_PER_MS
#define START (1000 * NS_PER_S)

/* containerd's own. */
static const struct gc_sched_params DEFAULTS = {
    .pause_threshold = 0.02, .mutation_threshold = 100, .startup_delay_ns = 100 * MS};

static struct gc_sched fresh(int64_t startup_ns)
{
	struct gc_sched_params p = DEFAULTS;
	struct gc_sched s;

	p.startup_delay_ns = startup_ns;
	gc_sched_init(&s, &p, START);
	return s;
}

/* A run of `pause` that begins at `at` and takes nothing else. */
static void run(struct gc_sched *s, int64_t at, int64_t pause)
{
	gc_sched_began(s, at);
	assert_true(gc_sched_next(s) == GC_SCHED_NEVER);
	gc_sched_ended(s, at, pause, GC_SCHED_NEVER, true);
}

static void startup(void **state)
{
	struct gc_sched s = fresh(100 * MS);

	assert_true(gc_sched_next(&s) == START + 100 * MS);
	s = fresh(0);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
}

static void idle_stays_idle(void **state)
{
	struct gc_sched s = fresh(100 * MS);

	run(&s, START + 100 * MS, 0);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
	for (int i = 0; i < 99; i++)
		gc_sched_mutated(&s, START + NS_PER_S, false);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
	gc_sched_mutated(&s, START + NS_PER_S, false);
	assert_true(gc_sched_next(&s) == START + 345 * MS); /* in the past: at once */
}

/* pause_threshold 0.02: 5 ms at least -> 245 ms; mean 20 ms -> 980 ms. */
static void pauses_make_intervals(void **state)
{
	struct gc_sched s = fresh(0);

	gc_sched_mutated(&s, START, true);
	assert_true(gc_sched_next(&s) == START + 245 * MS);
	run(&s, START, 10 * MS);
	run(&s, START, 30 * MS);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
	gc_sched_mutated(&s, START, true);
	assert_true(gc_sched_next(&s) == START + 980 * MS);
}

static void thresholds_trigger(void **state)
{
	struct gc_sched_params p = DEFAULTS;
	struct gc_sched s;

	p.startup_delay_ns = 0;
	p.deletion_threshold = 2;
	p.schedule_delay_ns = 7 * MS;
	gc_sched_init(&s, &p, START);
	gc_sched_mutated(&s, START, true);
	assert_true(gc_sched_next(&s) == START + 245 * MS);
	gc_sched_mutated(&s, START + MS, true);
	assert_true(gc_sched_next(&s) == START + 8 * MS);
	gc_sched_mutated(&s, START + 2 * MS, true); /* does not put it off */
	assert_true(gc_sched_next(&s) == START + 8 * MS);
}

/* Without a threshold writes alone are no reason, however many; deletions, expiry and requests are. */
static void writes_alone_may_be_no_reason(void **state)
{
	struct gc_sched_params p = DEFAULTS;
	struct gc_sched s;

	p.startup_delay_ns = 0;
	p.mutation_threshold = 0;
	gc_sched_init(&s, &p, START);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
	for (int i = 0; i < 1000; i++)
		gc_sched_mutated(&s, START + MS, false);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
	gc_sched_expires(&s, START + NS_PER_S);
	assert_true(gc_sched_next(&s) == START + NS_PER_S);
	gc_sched_mutated(&s, START + MS, true);
	assert_true(gc_sched_next(&s) == START + 245 * MS);
	gc_sched_requested(&s, START + 2 * MS);
	assert_true(gc_sched_next(&s) == START + 2 * MS);
}

static void requests(void **state)
{
	struct gc_sched s = fresh(0);

	gc_sched_requested(&s, START + MS);
	assert_true(gc_sched_next(&s) == START + MS);
	gc_sched_began(&s, START + MS);
	gc_sched_requested(&s, START + 2 * MS); /* wants the next one */
	gc_sched_ended(&s, START + 3 * MS, 0, GC_SCHED_NEVER, true);
	assert_true(gc_sched_next(&s) == START + 2 * MS);
}

static void expiry_without_events(void **state)
{
	struct gc_sched s = fresh(0);

	gc_sched_expires(&s, START + 3600 * NS_PER_S);
	gc_sched_expires(&s, START + 7200 * NS_PER_S);
	assert_true(gc_sched_next(&s) == START + 3600 * NS_PER_S);
	gc_sched_began(&s, START + 3600 * NS_PER_S);
	gc_sched_ended(&s, START + 3600 * NS_PER_S, 0, START + 7200 * NS_PER_S, true);
	assert_true(gc_sched_next(&s) == START + 7200 * NS_PER_S);
}

/* Many leases that expire within an interval make one run. */
static void expiries_wait_for_the_interval(void **state)
{
	struct gc_sched s = fresh(0);

	run(&s, START, 0);
	gc_sched_expires(&s, START + 10 * MS);
	assert_true(gc_sched_next(&s) == START + 245 * MS);
}

static void failures_are_retried(void **state)
{
	struct gc_sched s = fresh(0);

	gc_sched_began(&s, START);
	gc_sched_ended(&s, START, 0, GC_SCHED_NEVER, false);
	assert_true(gc_sched_next(&s) == START + 1245 * MS);
	gc_sched_began(&s, START + 1245 * MS);
	gc_sched_ended(&s, START + 1245 * MS, 0, GC_SCHED_NEVER, false);
	assert_true(gc_sched_next(&s) == START + 1245 * MS + 2245 * MS);
	run(&s, START + 4000 * MS, 0);
	assert_true(gc_sched_next(&s) == GC_SCHED_NEVER);
}

static void odd_parameters(void **state)
{
	struct gc_sched_params p = {.pause_threshold = 7};
	struct gc_sched s;

	gc_sched_init(&s, &p, START);
	assert_true(s.interval_ns == 5 * MS); /* one half */
	p.pause_threshold = -1;
	gc_sched_init(&s, &p, START);
	assert_true(s.interval_ns > 0);
	p.pause_threshold = 0.0 / 0.0;
	gc_sched_init(&s, &p, START);
	assert_true(s.interval_ns > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(startup),
	    cmocka_unit_test(idle_stays_idle),
	    cmocka_unit_test(pauses_make_intervals),
	    cmocka_unit_test(thresholds_trigger),
	    cmocka_unit_test(writes_alone_may_be_no_reason),
	    cmocka_unit_test(requests),
	    cmocka_unit_test(expiry_without_events),
	    cmocka_unit_test(expiries_wait_for_the_interval),
	    cmocka_unit_test(failures_are_retried),
	    cmocka_unit_test(odd_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
