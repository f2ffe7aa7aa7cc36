/*
 * Does measuring disturb what is measured? The same start with all that coldbench does, and by the barest means (bare.h), in
 * turn, on the same engine and through the same network. Three looks at it, since each alone would be weak:
 *
 *  - cold starts: the very thing, but they vary by more than the bound, so that the ratio's interval is usually wider;
 *  - warm starts: far quieter, and many fit into the time. What measuring costs in milliseconds is the same (the same commands
 *    are started, the same processes watched, the same questions asked before and after), so their difference, in pairs, as a
 *    share of a cold start is the figure that can be held against the bound. What it leaves out is what grows with the
 *    traffic of a cold start:
 *  - processor time that coldbench itself spends while a cold start runs, less what the barest means spend. It can delay the
 *    start by no more than that, were there one processor for both. netproxy's is shown beside it: it is the modelled network,
 *    which both sides pay.
 */
#include "bench/coldbench/doctor/bare.h"
#include "bench/coldbench/doctor/numbers.h"
#include "bench/coldbench/doctor/stand.h"
#include "bench/coldbench/measure/cold.h"
#include "bench/coldbench/modes/single.h"

#include "base/clock.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>

#define BOUND 0.01

struct overhead {
	struct stand *stand;
	struct numbers cold_full, cold_bare, warm_full, warm_bare;
	struct numbers warm_more;                /* full - bare of each pair, ms */
	struct numbers full_cpu_ms, bare_cpu_ms; /* of this process, during cold starts */
	struct numbers net_cpu_ms;
};

static void overhead_fini(struct overhead *o)
{
	struct numbers *all[] = {&o->cold_full, &o->cold_bare,   &o->warm_full,   &o->warm_bare,
	                         &o->warm_more, &o->full_cpu_ms, &o->bare_cpu_ms, &o->net_cpu_ms};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		numbers_fini(all[i]);
}
DEFINE_AUTO_FINI(overhead);

/* ---- one start ---- */

static struct launch_spec spec_of(const struct overhead *o, struct steps *t, const char *id, bool pull)
{
	return (struct launch_spec){.engine = &t->engine,
	                            .ref = t->targets->ref,
	                            .id = id,
	                            .ready = &t->targets->img->ready,
	                            .pull = pull,
	                            .timeout_ns = t->w->timeout_ns,
	                            .cancel_fd = t->w->cancel_fd,
	                            .output = t->output,
	                            .config_digest = t->targets->img->config_digest};
}

/* What a mode makes of a start that runs. */
static int look_back(struct steps *t, const struct launch *l, struct err *err)
{
	AUTO(usage) struct usage after = {VEC_INIT};

	TRY(usage_take(&l->init.pid, 1, false, &after, err));
	usage_sample(&t->before, &after, t->s);
	TRY(launch_sample(l, t->w->net, t->s, err));
	return watch_lost(t->w->watch) ? err_set(err, ERR_DATA_LOSS, "the kernel has dropped process events") : 0;
}

/* As a mode measures it, and with an eye on the measurer. */
static int full_start(struct overhead *o, struct steps *t, bool pull, double *ready_ms, struct err *err)
{
	char id[32];
	struct launch_spec spec = spec_of(o, t, stand_next_id(o->stand, id), pull);
	struct launch l = {0};
	double own_ms, net_ms;
	int looked, ended;

	TRY(stand_watch(o->stand, true, err));
	watch_reset(t->w->watch);
	TRY(steps_begin_counting(t, err));
	own_ms = process_cpu_ms(getpid());
	net_ms = process_cpu_ms(net_pid(t->w->net));
	TRY(launch_begin(t->w->watch, &spec, &l, err));
	own_ms = process_cpu_ms(getpid()) - own_ms;
	net_ms = process_cpu_ms(net_pid(t->w->net)) - net_ms;
	looked = look_back(t, &l, err);
	ended = launch_end(&l, looked < 0 ? NULL : err);
	TRY(looked);
	TRY(ended);
	*ready_ms = sample_get(t->s, "ready_ms");
	if (pull) {
		numbers_add(&o->full_cpu_ms, own_ms);
		numbers_add(&o->net_cpu_ms, net_ms);
	}
	return 0;
}

static int plain_start(struct overhead *o, struct steps *t, bool pull, double *ready_ms, struct err *err)
{
	char id[32];
	struct launch_spec spec = spec_of(o, t, stand_next_id(o->stand, id), pull);
	double own_ms;

	TRY(stand_watch(o->stand, false, err));
	TRY(steps_begin_network(t, err));
	TRY(bare_start(&spec, ready_ms, &own_ms, err));
	if (pull)
		numbers_add(&o->bare_cpu_ms, own_ms);
	return 0;
}

/*
 * Two things that come before a start in a mode come before either side's, as they make it slower or faster and are no part of
 * measuring it: the computation that times noise, without which it would follow the one before at once; and a question to
 * netproxy (steps_begin_network), which is the modelled network and answers sooner when it has just been awake. What the full
 * side alone does before its start is part of what it adds: it empties the table of processes, and reads /proc.
 */
static int one_start(struct overhead *o, struct steps *t, bool full, bool pull, double *ready_ms, struct err *err)
{
	TRY(stand_check(o->stand, err));
	noise_spin_ms();
	return full ? full_start(o, t, pull, ready_ms, err) : plain_start(o, t, pull, ready_ms, err);
}

/* ---- pairs ---- */

/* What a pair's body has beside the steps. */
struct work {
	struct overhead *o;
	bool full; /* the cold start; the warm ones are both */
	unsigned most;
	int64_t until_ns;
};

static int with_engine(struct work *work, int (*body)(struct steps *t, struct err *err), struct err *err)
{
	AUTO(sample) struct sample sample = {0};
	struct stand *stand = work->o->stand;
	struct steps t = {.w = &stand->world, .c = &stand->c, .targets = &stand->target, .s = &sample, .own = work};

	sample_init(&sample, &stand->c, 0, 0);
	TRY(stand_watch(stand, work->full, err));
	return steps_with_engine(&t, body, err);
}

static int cold_start(struct steps *t, struct err *err)
{
	struct work *work = t->own;
	double ms;

	TRY(steps_drop_caches(t, err));
	TRY(one_start(work->o, t, work->full, true, &ms, err));
	numbers_add(work->full ? &work->o->cold_full : &work->o->cold_bare, ms);
	return 0;
}

static int cold_pairs(struct overhead *o, unsigned most, int64_t until_ns, struct err *err)
{
	for (unsigned i = 0; i < most && clock_mono_ns() < until_ns; i++) {
		bool full_first = random_u64() & 1;

		TRY(with_engine(&(struct work){.o = o, .full = full_first}, cold_start, err));
		TRY(with_engine(&(struct work){.o = o, .full = !full_first}, cold_start, err));
	}
	return 0;
}

static int warm_starts(struct steps *t, struct err *err)
{
	struct work *work = t->own;
	struct overhead *o = work->o;
	double ms;

	TRY(one_start(o, t, false, true, &ms, err)); /* pulls; not counted */
	TRY(steps_settle(t, NULL, err));
	for (unsigned i = 0; i < work->most && clock_mono_ns() < work->until_ns; i++) {
		bool full_first = random_u64() & 1;
		double of[2]; /* bare, full */

		TRY(one_start(o, t, full_first, false, &of[full_first], err));
		TRY(one_start(o, t, !full_first, false, &of[!full_first], err));
		numbers_add(&o->warm_bare, of[false]);
		numbers_add(&o->warm_full, of[true]);
		numbers_add(&o->warm_more, of[true] - of[false]);
	}
	return 0;
}

/* ---- what came out ---- */

/* Below the bound with all of its interval, above with all of it, or neither. */
static void judge(struct finding *f, struct interval ci, const char *bound)
{
	if (ci.high <= BOUND)
		finding_judge(f, true, FINDING_BAD, bound);
	else
		finding_judge(f, false, ci.low > BOUND ? FINDING_BAD : FINDING_WARN, bound);
}

static void report_cold(struct overhead *o, struct sheet *s)
{
	double wide, times;
	struct comparison c;
	struct finding *f;

	numbers_compare(&o->cold_full, &o->cold_bare, &c);
	sheet_number(s, "cold.pairs", "cold starts, pairs", (double)o->cold_full.v.n, "");
	sheet_number(s, "cold.bare_ms", "... by the barest means", numbers_median(&o->cold_bare), "ms");
	sheet_number(s, "cold.full_ms", "... measured with everything", numbers_median(&o->cold_full), "ms");
	if (isnan(c.ci.low)) {
		sheet_text(s, "cold.more_percent", "... more", "too few pairs");
		return;
	}
	f = sheet_number(s, "cold.more_percent", "... more", 100 * (c.ratio - 1), "%");
	finding_add(f, " (%+.1f to %+.1f)", 100 * (c.ci.low - 1), 100 * (c.ci.high - 1));
	wide = (c.ci.high - c.ci.low) / 2;
	times = wide / BOUND;
	if (c.ci.low - 1 > BOUND) {
		finding_judge(f, false, FINDING_BAD, "<= 1 %");
		finding_advise(f,
		               "Measuring slows a cold start down. Free a processor for coldbench, or take the figures "
		               "of all engines as too high by so much.");
	} else if (c.ci.high - 1 <= BOUND) {
		finding_judge(f, true, FINDING_BAD, "<= 1 %");
	} else {
		finding_advise(f,
		               "Cold starts vary too much for this to say it: it would take about %.0f pairs. The two "
		               "below do.",
		               ceil((double)o->cold_full.v.n * times * times));
	}
}

static void report_warm(struct overhead *o, double cold_ms, struct sheet *s)
{
	struct interval ci;
	double more_ms = stats_shift(o->warm_more.v.p, o->warm_more.v.n, &ci);
	struct finding *f;

	sheet_number(s, "warm.pairs", "warm starts, pairs", (double)o->warm_more.v.n, "");
	sheet_number(s, "warm.bare_ms", "... by the barest means", numbers_median(&o->warm_bare), "ms");
	sheet_number(s, "warm.full_ms", "... measured with everything", numbers_median(&o->warm_full), "ms");
	if (isnan(ci.low)) {
		f = sheet_text(s, "warm.share_percent", "... more, of a cold start", "too few pairs");
		finding_judge(f, false, FINDING_WARN, "<= 1 %");
		finding_advise(f, "Starts take too long here for this to say it: repeat it without --quick, or with an "
		                  "--engine that is faster.");
		return;
	}
	f = sheet_number(s, "warm.more_ms", "... more, within pairs", more_ms, "ms");
	finding_add(f, " (%+.3f to %+.3f)", ci.low, ci.high);
	f = sheet_number(s, "warm.share_percent", "... of a cold start", 100 * more_ms / cold_ms, "%");
	finding_add(f, " (%+.2f to %+.2f)", 100 * ci.low / cold_ms, 100 * ci.high / cold_ms);
	judge(f, (struct interval){ci.low / cold_ms, ci.high / cold_ms}, "<= 1 %");
	if (f->state == FINDING_BAD)
		finding_advise(
		    f, "Measuring costs more than it may of so short a start: shorter ones than this are not to be "
		       "compared with others' figures.");
	if (f->state == FINDING_WARN)
		finding_advise(f, "Too noisy to tell. Quieten the machine (section machine), and repeat.");
}

static void report_cpu(struct overhead *o, double cold_ms, struct sheet *s)
{
	double full_ms = numbers_median(&o->full_cpu_ms), more_ms = full_ms - numbers_median(&o->bare_cpu_ms);
	double net_ms = numbers_median(&o->net_cpu_ms);
	struct finding *f =
	    sheet_number(s, "cpu.full_ms", "processor time of coldbench in a cold start", full_ms, "ms");

	f = sheet_number(s, "cpu.more_ms", "... more than the barest means", more_ms, "ms");
	f = sheet_number(s, "cpu.more_percent", "... of a cold start: the most it delays", 100 * more_ms / cold_ms,
	                 "%");
	finding_judge(f, more_ms / cold_ms <= BOUND, FINDING_BAD, "<= 1 %");
	if (f->state == FINDING_BAD)
		finding_advise(
		    f, "On a machine whose processors the engine keeps busy, this much is added. Many processes that "
		       "come and go elsewhere on the machine raise it: each is an event.");
	f = sheet_number(s, "cpu.netproxy_ms", "processor time of the network in it", net_ms, "ms");
	finding_add(f, ", %.1f %% of it", 100 * net_ms / cold_ms);
}

static int measure(struct overhead *o, bool quick, struct err *err)
{
	int64_t now = clock_mono_ns();

	TRY(cold_pairs(o, quick ? 5 : 15, now + (quick ? 12 : 25) * NS_PER_S, err));
	now = clock_mono_ns();
	return with_engine(
	    &(struct work){
		.o = o, .full = true, .most = quick ? 60 : 900, .until_ns = now + (quick ? 10 : 120) * NS_PER_S},
	    warm_starts, err);
}

int overhead_section(const struct doctor *d, struct sheet *s, struct err *err)
{
	AUTO(stand) struct stand stand = {0};
	AUTO(overhead) struct overhead o = {.stand = &stand};
	double cold_ms;

	s->title = "what measuring adds to what is measured";
	TRY(stand_start(d, &stand, err));
	if (stand.image.ready.kind != READY_LINE)
		return err_set(err, ERR_INVALID,
		               "image %s is not ready with a line of output, which is all that the barest "
		               "means can see",
		               d->image);
	TRY(measure(&o, d->quick, err));
	if (!o.cold_bare.v.n || !o.warm_more.v.n)
		return err_set(err, ERR_DEADLINE, "not one pair of starts fitted into the time");
	sheet_text(s, "what", "start", "%s with image %s, %g ms and %g Mbit/s", d->engine, d->image,
	           stand.network.rtt_ms, stand.network.mbit);
	report_cold(&o, s);
	cold_ms = numbers_median(&o.cold_bare);
	report_warm(&o, cold_ms, s);
	report_cpu(&o, cold_ms, s);
	return 0;
}
