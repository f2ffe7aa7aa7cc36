/*
 * Mode warm: a start of an image that is there, all of it, with caches as the start before has left them. With an engine
 * that unpacks it is W, what no way of loading can undercut.
 *
 *	ready_ms, phase.*, net.*, cpu_s.*, peak_bytes.*, noise.*     as sample.h says; net.bytes should be 0
 */
#include "bench/coldbench/modes/single.h"

static int warm(struct steps *t, struct err *err)
{
	TRY_WRAP(single_discard(t, err), err, "the start before");
	/* A lazy engine goes on fetching. */
	TRY(steps_settle(t, NULL, err));
	return single_measure(t, false, err);
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, warm, err);
}

const struct mode warm_mode = {
    .name = "warm",
    .title = "a start of an image that is there",
    .figure = "ready_ms",
    .less_is_better = true,
    .measure = measure,
};
