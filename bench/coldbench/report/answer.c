#include "bench/coldbench/report/answer.h"

#include "bench/coldbench/report/quantity.h"

#include <math.h>

static bool has_engine(const struct analysis *a, const char *engine)
{
	vec_each(&a->cells, c)
		if (!strcmp(c->engine, engine))
			return true;
	return false;
}

const char *answer_engine(const struct analysis *a)
{
	return has_engine(a, "contentd") || !a->cells.n ? "contentd" : a->cells.p[0].engine;
}

static bool is_better(const struct cell *a, const struct cell *b)
{
	double x = a->figure->s.median, y = b->figure->s.median;

	return mode_less_is_better(a->mode) ? x < y : x > y;
}

static const struct cell *find_rival(const struct analysis *a, const struct cell *subject)
{
	const struct cell *best = NULL;

	vec_each(&a->cells, c)
		if (cell_is_beside(c, subject) && c->figure && strcmp(c->engine, subject->engine) != 0 &&
		    !strstr(c->engine, "contentd") && (!best || is_better(c, best)))
			best = c;
	return best == subject->reference ? NULL : best;
}

static bool has_answer(const struct cell *c, const char *engine)
{
	return !strcmp(c->engine, engine) && c->reference && c->reference != c && strcmp(c->mode, "warm") != 0 &&
	       strcmp(c->mode, "touched") != 0;
}

bool answer_next(const struct analysis *a, size_t *at, struct answer *out)
{
	const char *engine = answer_engine(a);

	while (*at < a->cells.n) {
		const struct cell *c = &a->cells.p[(*at)++];

		if (!has_answer(c, engine))
			continue;
		*out = (struct answer){.subject = c, .rival = find_rival(a, c)};
		if (out->rival && c->figure)
			stats_compare(c->figure->values, c->figure->s.n, out->rival->figure->values,
			              out->rival->figure->s.n, &out->to_rival);
		return true;
	}
	return false;
}

/* As many digits as a reader can say aloud; more only beside 1, which decides. */
static void factor_add(struct buf *out, double v)
{
	buf_addf(out, "%.*f", v >= 99.5 ? 0 : v >= 1.995 ? 1 : fabs(v - 1) < 0.01 ? 3 : 2, v);
}

/* `other` is compared by the repetitions that succeeded: how many did not is said with it. */
static void relation_add(struct buf *out, const char *word, const struct cell *other)
{
	buf_addf(out, "%s %.60s", word, other->label);
	if (other->n_failed)
		buf_addf(out, " (%u of %u failed)", other->n_failed, other->n_failed + other->n_ok);
}

static void interval_add(struct buf *out, double low, double high)
{
	if (!isfinite(low) || !isfinite(high))
		return;
	factor_add(out, low);
	buf_adds(out, "\u2013");
	factor_add(out, high);
}

void words_init(struct words *w, const struct cell *subject, const struct cell *other, const struct comparison *c)
{
	bool less = c->verdict == VERDICT_LESS, less_is_better = mode_less_is_better(subject->mode);

	*w = (struct words){.class = "cannot"};
	if (!other->figure) {
		buf_adds(&w->verdict, "no comparison");
		buf_addf(&w->relation, "with %.60s, which failed", other->label);
		return;
	}
	if (c->verdict == VERDICT_CANNOT_TELL) {
		bool few = subject->figure->s.n < STATS_LEAST || other->figure->s.n < STATS_LEAST;

		buf_adds(&w->verdict, few ? "too few repetitions" : "cannot be told");
		relation_add(&w->relation, few ? "beside" : "from", other);
		if (!few)
			interval_add(&w->interval, c->ci.low, c->ci.high);
		return;
	}
	w->class = less == less_is_better ? "faster" : "slower";
	factor_add(&w->verdict, less ? 1 / c->ratio : c->ratio);
	buf_addf(&w->verdict, " \u00d7 %s", less_is_better ? w->class : less ? "less" : "more");
	relation_add(&w->relation, "than", other);
	interval_add(&w->interval, less ? 1 / c->ci.high : c->ci.low, less ? 1 / c->ci.low : c->ci.high);
}

void words_fini(struct words *w)
{
	buf_fini(&w->verdict);
	buf_fini(&w->relation);
	buf_fini(&w->interval);
}
