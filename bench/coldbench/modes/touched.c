/*
 * Mode touched: what a start reads of the image, by an engine that fetches nothing else (contentd-exact). It is B, the least
 * that a lazy start can fetch of that form; the engine's times say nothing, so none are kept.
 *
 *	touched_bytes            compressed bytes of the chunks that the start read, what the kernel read ahead included
 */
#include "bench/coldbench/modes/single.h"

static int touched(struct steps *t, struct err *err)
{
	if (!t->engine.kind->exact)
		return err_set(err, ERR_INVALID, "%s fetches more than is read: mode touched is for contentd-exact",
		               t->engine.kind->name);
	TRY(steps_drop_caches(t, err)); /* files in the page cache would not be read */
	return single_touched(t, err);
}

static int measure(struct world *w, const struct bench_case *c, const struct target *targets, struct sample *s,
                   struct err *err)
{
	struct steps t = {.w = w, .c = c, .targets = targets, .s = s};

	return steps_with_engine(&t, touched, err);
}

const struct mode touched_mode = {
    .name = "touched",
    .title = "what a start reads",
    .figure = "touched_bytes",
    .less_is_better = true,
    .measure = measure,
};
