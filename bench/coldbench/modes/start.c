/*
 * Mode start: one cold start. A fresh engine that knows nothing, empty caches, then the commands that pull and run.
 *
 *	ready_ms, phase.*, net.*, cpu_s.*, peak_bytes.*, cold.*, noise.*     as sample.h says
 */
#include "bench/coldbench/modes/single.h"

static int start(struct steps *t, struct err *err)
{
	TRY(steps_drop_caches(t, err));
	return single_measure(t, true, err);
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, start, err);
}

const struct mode start_mode = {
    .name = "start",
    .title = "one cold start",
    .figure = "ready_ms",
    .less_is_better = true,
    .measure = measure,
};
