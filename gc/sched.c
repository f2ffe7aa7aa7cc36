#include "gc/sched.h"

#define PAUSE_MIN_NS 5e6 /* containerd: a pause shorter than 5 ms counts as that much */
#define RETRY_NS 1000000000LL
#define THRESHOLD_MIN 0.0001

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* INT64_MAX stays what it is. */
static int64_t later_by(int64_t at, int64_t by)
{
	int64_t sum;

	return __builtin_add_overflow(at, by, &sum) ? GC_SCHED_NEVER : sum;
}

/* So long that mean pauses take no more than their share of pause and interval. */
static int64_t interval_of(const struct gc_sched *s)
{
	double mean = s->runs ? s->paused_ns / s->runs : 0;

	if (mean < PAUSE_MIN_NS)
		mean = PAUSE_MIN_NS;
	return mean / s->params.pause_threshold - mean;
}

void gc_sched_init(struct gc_sched *s, const struct gc_sched_params *params, int64_t now)
{
	*s = (struct gc_sched){.params = *params, .at_once_at = GC_SCHED_NEVER, .expires_at = GC_SCHED_NEVER};
	if (!(s->params.pause_threshold >= THRESHOLD_MIN))
		s->params.pause_threshold = THRESHOLD_MIN;
	if (s->params.pause_threshold > 0.5)
		s->params.pause_threshold = 0.5;
	if (s->params.startup_delay_ns > 0)
		s->at_once_at = later_by(now, s->params.startup_delay_ns);
	s->interval_ns = interval_of(s);
	s->interval_at = later_by(now, s->interval_ns);
}

static void trigger(struct gc_sched *s, int64_t now)
{
	s->at_once_at = earlier(s->at_once_at, later_by(now, s->params.schedule_delay_ns));
}

void gc_sched_mutated(struct gc_sched *s, int64_t now, bool deletion)
{
	s->mutations++;
	s->deletions += deletion;
	if (s->params.deletion_threshold && s->deletions >= s->params.deletion_threshold)
		trigger(s, now);
}

void gc_sched_requested(struct gc_sched *s, int64_t now)
{
	trigger(s, now);
}

void gc_sched_expires(struct gc_sched *s, int64_t at)
{
	s->expires_at = earlier(s->expires_at, at);
}

int64_t gc_sched_next(const struct gc_sched *s)
{
	int64_t next = s->at_once_at;

	if (s->running)
		return GC_SCHED_NEVER;
	if (s->deletions || (s->params.mutation_threshold && s->mutations >= s->params.mutation_threshold))
		next = earlier(next, s->interval_at);
	/* Leases that expire one after the other must not make one run each. */
	if (s->expires_at != GC_SCHED_NEVER)
		next = earlier(next, s->expires_at > s->interval_at ? s->expires_at : s->interval_at);
	return next;
}

void gc_sched_began(struct gc_sched *s, int64_t now)
{
	s->running = true;
	s->deletions = s->mutations = 0;
	s->at_once_at = s->expires_at = GC_SCHED_NEVER;
}

void gc_sched_ended(struct gc_sched *s, int64_t now, int64_t paused_ns, int64_t expires_at, bool ok)
{
	s->running = false;
	if (!ok) {
		s->interval_ns = later_by(s->interval_ns, RETRY_NS);
		s->interval_at = later_by(now, s->interval_ns);
		s->at_once_at = earlier(s->at_once_at, s->interval_at);
		return;
	}
	s->runs++;
	s->paused_ns += paused_ns;
	s->interval_ns = interval_of(s);
	s->interval_at = later_by(now, s->interval_ns);
	gc_sched_expires(s, expires_at);
}
