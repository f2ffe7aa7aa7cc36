/*
 * How many repetitions tell how small a difference? A slow-down is planted (plant.h): cold starts of an engine as it is, and of
 * the same with its start delayed by 5 and by 15 % of its median, go through the mode `start` in turn, like any case of a
 * suite. Two answers come of it. Drawing repetitions from the samples of the engine as it is, with the slow-down multiplied in,
 * gives the power for any number of them; drawing from those that were really delayed says whether that was right.
 */
#include "bench/coldbench/doctor/numbers.h"
#include "bench/coldbench/doctor/plant.h"
#include "bench/coldbench/doctor/power.h"
#include "bench/coldbench/doctor/stand.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>

#define SEED 1
#define PILOTS 5
#define DEFAULT_REPETITIONS 10 /* of a suite that does not say */
#define LEAST_REPETITIONS STATS_LEAST
#define MOST_REPETITIONS 200 /* more than anybody has the time for */
#define ROUNDS_MAX 60

static const size_t SIZES[] = {5, 10, 15, 20, 30, 40, 60};
static const char *const COLUMNS[] = {"n", "0 %", "5 %", "15 %", "5 % real", "15 % real"};

struct variant {
	unsigned percent;
	struct plant plant;
	struct numbers ms, planted_ms;
};

enum { SAME, SMALL, LARGE, N_VARIANTS };

/* The starts of a round, which come in random order. The engine as it is has two: all is drawn from it, and it is held against
 * itself. */
static const unsigned ROUND[] = {SAME, SAME, SMALL, LARGE};

struct trial {
	struct stand *stand;
	unsigned trials; /* of each estimate */
	struct variant variants[N_VARIANTS];
	struct numbers twins[2]; /* ms of the first and of the second SAME of ROUND */
};

static void trial_fini(struct trial *t)
{
	for (size_t i = 0; i < N_VARIANTS; i++) {
		engine_remove(&t->variants[i].plant.kind);
		numbers_fini(&t->variants[i].ms);
		numbers_fini(&t->variants[i].planted_ms);
	}
	for (size_t i = 0; i < ARRAY_LEN(t->twins); i++)
		numbers_fini(&t->twins[i]);
}
DEFINE_AUTO_FINI(trial);

/* ---- measuring ---- */

static void add_variant(struct trial *t, struct variant *v)
{
	char suffix[16];

	snprintf(suffix, sizeof(suffix), "%u%%", v->percent);
	plant_init(&v->plant, engine_find(t->stand->c.engine), 0, suffix);
	engine_add(&v->plant.kind);
}

static int measure_one(struct trial *t, struct variant *v, struct err *err)
{
	struct bench_case c = t->stand->c;
	AUTO(sample) struct sample s = {0};
	double ms;

	TRY(stand_check(t->stand, err));
	c.engine = v->plant.kind.name;
	sample_init(&s, &c, (unsigned)v->ms.v.n, t->stand->launches++);
	TRY_WRAP(mode_find("start")->measure(&t->stand->world, &c, &t->stand->target, &s, err), err, "%s", c.engine);
	ms = sample_get(&s, "ready_ms");
	if (!isfinite(ms))
		return err_set(err, ERR_INTERNAL, "%s: %s", c.engine, s.error ? s.error : "no ready_ms in the sample");
	numbers_add(&v->ms, ms);
	numbers_add(&v->planted_ms, v->plant.delay_ms);
	return 0;
}

static int pilot(struct trial *t, struct err *err)
{
	for (size_t i = 0; i < N_VARIANTS; i++)
		add_variant(t, &t->variants[i]);
	for (unsigned i = 0; i < PILOTS; i++)
		TRY(measure_one(t, &t->variants[SAME], err));
	return 0;
}

/* As much as the starts until now say, so that few that were unusual do not decide for all. */
static void plant(struct trial *t)
{
	double median_ms = numbers_median(&t->variants[SAME].ms);

	for (size_t i = 0; i < N_VARIANTS; i++)
		t->variants[i].plant.delay_ms = median_ms * t->variants[i].percent / 100;
}

static int measure_rounds(struct trial *t, int64_t until_ns, struct err *err)
{
	unsigned order[ARRAY_LEN(ROUND)];

	for (unsigned r = 0; r < ROUNDS_MAX && clock_mono_ns() < until_ns; r++) {
		stand_order(order, ARRAY_LEN(order));
		plant(t);
		for (size_t i = 0; i < ARRAY_LEN(order); i++) {
			struct variant *v = &t->variants[ROUND[order[i]]];

			TRY(measure_one(t, v, err));
			if (order[i] < ARRAY_LEN(t->twins))
				numbers_add(&t->twins[order[i]], *vec_last(&v->ms.v));
		}
	}
	return t->variants[LARGE].ms.v.n ? 0
	                                 : err_set(err, ERR_DEADLINE, "not one round of starts fitted into the time");
}

/* ---- what came out ---- */

struct question {
	const struct trial *t;
	double factor;
};

/* 1 for a user who wants to stop: no search goes on, and nobody is shown what comes of it. */
static double simulated(size_t n, const void *arg)
{
	const struct question *q = arg;
	const struct numbers *pool = &q->t->variants[SAME].ms;
	AUTO_FREE double *slow = xcalloc(pool->v.n, sizeof(*slow));

	for (size_t i = 0; i < pool->v.n; i++)
		slow[i] = pool->v.p[i] * q->factor;
	return stand_check(q->t->stand, NULL) < 0
	           ? 1
	           : power_of(slow, pool->v.n, pool->v.p, pool->v.n, n, q->t->trials, SEED).more;
}

static double measured(const struct trial *t, const struct variant *v, size_t n)
{
	const struct numbers *same = &t->variants[SAME].ms;

	return power_of(v->ms.v.p, v->ms.v.n, same->v.p, same->v.n, n, t->trials, SEED).more;
}

/* A report says "faster" as wrongly as "slower". Both sides are drawn from the same values: this is the test's own rate,
 * whatever the machine. */
static double false_alarms(const struct trial *t, size_t n)
{
	const struct numbers *same = &t->variants[SAME].ms;
	struct power p = power_of(same->v.p, same->v.n, same->v.p, same->v.n, n, t->trials, SEED);

	return p.more + p.less;
}

static double factor_of(const struct variant *v)
{
	return 1 + v->percent / 100.0;
}

/* The engine beside itself: nothing is drawn, the starts came in turn, with whatever the machine did meanwhile. So a report
 * would compare two cases of a suite between which there is no difference. */
static void report_itself(const struct trial *t, struct sheet *s)
{
	struct comparison c;
	struct finding *f;

	numbers_compare(&t->twins[0], &t->twins[1], &c);
	if (isnan(c.ci.low)) {
		sheet_text(s, "itself.more_percent", "beside itself", "too few repetitions");
		return;
	}
	f = sheet_number(s, "itself.more_percent", "beside itself", 100 * (c.ratio - 1), "%");
	finding_add(f, " (%+.1f to %+.1f)", 100 * (c.ci.low - 1), 100 * (c.ci.high - 1));
	finding_judge(f, c.verdict == VERDICT_CANNOT_TELL, FINDING_WARN, "has 0 %");
	if (f->state != FINDING_GOOD)
		finding_advise(f,
		               "The engine is told apart from itself: that happens once in twenty times. If it happens "
		               "again, starts here depend on those before them, and verdicts of small differences "
		               "are worth less than they say.");
}

/* What was told of the planted engine, with all samples there are. */
static void report_planted(const struct trial *t, const struct variant *v, struct sheet *s)
{
	static const char *const WORDS[] = {
	    [VERDICT_CANNOT_TELL] = "cannot tell", [VERDICT_LESS] = "less", [VERDICT_MORE] = "more"};
	const struct numbers *same = &t->variants[SAME].ms;
	double planted_ms = numbers_median(&v->planted_ms), truth = planted_ms / numbers_median(same);
	AUTO_FREE char *label = xasprintf("planted %u %%: %.1f ms, measured", v->percent, planted_ms);
	struct comparison c;
	struct finding *f;

	numbers_compare(&v->ms, same, &c);
	if (isnan(c.ci.low)) {
		sheet_text(s, sheet_keyf(s, "planted_%u.verdict", v->percent), label, "too few repetitions");
		return;
	}
	f = sheet_number(s, sheet_keyf(s, "planted_%u.more_percent", v->percent), label, 100 * (c.ratio - 1), "%");
	finding_add(f, " (%+.1f to %+.1f)", 100 * (c.ci.low - 1), 100 * (c.ci.high - 1));
	finding_judgef(f, c.ci.low - 1 <= truth && truth <= c.ci.high - 1, FINDING_WARN, "has %.1f %%", 100 * truth);
	if (f->state != FINDING_GOOD)
		finding_advise(f,
		               "The interval misses what was planted: that happens once in twenty times. If it happens "
		               "again, the machine changed meanwhile.");
	f = sheet_text(s, sheet_keyf(s, "planted_%u.verdict", v->percent), "... told with all samples to be", "%s",
	               WORDS[c.verdict]);
	if (v == &t->variants[LARGE] || c.verdict == VERDICT_LESS)
		finding_judge(f, c.verdict == VERDICT_MORE, c.verdict == VERDICT_LESS ? FINDING_BAD : FINDING_WARN,
		              "more");
}

static void report_enough(const struct trial *t, const struct variant *v, struct sheet *s)
{
	const struct question q = {t, factor_of(v)};
	size_t likely = power_search(simulated, &q, 0.8, LEAST_REPETITIONS, MOST_REPETITIONS);
	size_t sure = power_search(simulated, &q, 0.95, likely ? likely : MOST_REPETITIONS, MOST_REPETITIONS);
	AUTO_FREE char *label = xasprintf("repetitions that tell %u %%", v->percent);
	struct finding *f =
	    sheet_number(s, sheet_keyf(s, "enough_%u.power_80", v->percent), label, likely ? (double)likely : NAN, "");

	finding_add(f, " in 80 %% of runs");
	if (v == &t->variants[LARGE]) {
		finding_judgef(f, likely && likely <= DEFAULT_REPETITIONS, likely ? FINDING_WARN : FINDING_BAD, "<= %d",
		               DEFAULT_REPETITIONS);
		if (f->state != FINDING_GOOD)
			finding_advise(
			    f,
			    "The usual number of repetitions is too small here: quieten the machine (section "
			    "machine), or give suites `repetitions = %zu`.",
			    likely ? likely : MOST_REPETITIONS);
	} else if (!likely) {
		finding_advise(f, "Not even %d do: do not look for differences this small here.", MOST_REPETITIONS);
	}
	f = sheet_number(s, sheet_keyf(s, "enough_%u.power_95", v->percent), "...", sure ? (double)sure : NAN, "");
	finding_add(f, " in 95 %% of runs");
}

static void report_table(const struct trial *t, struct sheet *s)
{
	struct grid *g =
	    sheet_grid(s, "power",
	               "share of runs in which n repetitions a side tell it (0 %: false alarms, of the test "
	               "alone; real: drawn from the delayed starts)",
	               COLUMNS, ARRAY_LEN(COLUMNS));

	for (size_t i = 0; i < ARRAY_LEN(SIZES) && stand_check(t->stand, NULL) >= 0; i++) {
		vec_push(&g->cells, (double)SIZES[i]);
		vec_push(&g->cells, false_alarms(t, SIZES[i]));
		vec_push(&g->cells, simulated(SIZES[i], &(struct question){t, factor_of(&t->variants[SMALL])}));
		vec_push(&g->cells, simulated(SIZES[i], &(struct question){t, factor_of(&t->variants[LARGE])}));
		vec_push(&g->cells, measured(t, &t->variants[SMALL], SIZES[i]));
		vec_push(&g->cells, measured(t, &t->variants[LARGE], SIZES[i]));
	}
}

static void report(const struct trial *t, struct sheet *s)
{
	const struct numbers *same = &t->variants[SAME].ms;
	struct summary all;

	numbers_summary(same, &all);
	sheet_text(s, "what", "start", "%s with image %s, %g ms and %g Mbit/s", t->stand->c.engine, t->stand->c.image,
	           t->stand->network.rtt_ms, t->stand->network.mbit);
	sheet_text(s, "samples", "samples", "%zu as it is, %zu with 5 %%, %zu with 15 %%", same->v.n,
	           t->variants[SMALL].ms.v.n, t->variants[LARGE].ms.v.n);
	sheet_number(s, "median_ms", "as it is, median", all.median, "ms");
	sheet_number(s, "noise_percent", "... median deviation from it", 100 * all.mad, "%");
	report_itself(t, s);
	for (size_t i = SMALL; i < N_VARIANTS; i++)
		report_planted(t, &t->variants[i], s);
	for (size_t i = N_VARIANTS - 1; i >= SMALL; i--)
		report_enough(t, &t->variants[i], s);
	report_table(t, s);
}

int power_section(const struct doctor *d, struct sheet *s, struct err *err)
{
	AUTO(stand) struct stand stand = {0};
	AUTO(trial)
	struct trial t = {
	    .stand = &stand,
	    .trials = d->quick ? 100 : 200,
	    .variants = {[SAME] = {0}, [SMALL] = {5}, [LARGE] = {15}},
	};
	int64_t begun = clock_mono_ns();

	s->title = "how many repetitions tell a slow-down";
	TRY(stand_start(d, &stand, err));
	TRY(stand_watch(&stand, true, err));
	TRY(pilot(&t, err));
	TRY(measure_rounds(&t, begun + (d->quick ? 25 : 110) * NS_PER_S, err));
	report(&t, s);
	return stand_check(&stand, err);
}
