#include "contentd/collect/collector.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/metrics.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

METRIC_COUNTER(runs_total, "contentd_gc_runs_total", "Garbage collections that have ended: ok, error.", "result");
METRIC_HISTOGRAM(run_seconds, "contentd_gc_run_seconds", "How long garbage collections took, beside the traffic.");
METRIC_COUNTER(removed_total, "contentd_gc_removed_total", "What garbage collections have removed.", "kind");

#define STEP_UNITS 1024
#define BATCH 16 /* removals in one hold: ten microseconds each, most of it reading a snapshot's record */
#define LONG_NS (2 * NS_PER_S)

struct cd_collector {
	struct cd_meta *meta;
	struct cd_collector_store store;
	struct cd_graph *graph;
	struct gc *gc;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t wake, done;
	struct gc_sched sched;          /* lock */
	bool stopping;                  /* lock */
	uint64_t asked;                 /* lock: number of the last request */
	uint64_t served, failed;        /* lock: requests up to these have had their cycle; failed: with an error */
	struct err why;                 /* lock: of the last failure */
	struct cd_collector_stats sums; /* lock */

	atomic_bool must_sweep;
	bool reconciled; /* the thread's */
};

/* ---- when ---- */

static int64_t mono_of(struct timespec wall)
{
	struct timespec now = clock_wall();
	int64_t in_ns;

	if (wall.tv_sec == INT64_MAX || __builtin_mul_overflow(wall.tv_sec - now.tv_sec, NS_PER_S, &in_ns))
		return GC_SCHED_NEVER;
	/* Strictly later: a nanosecond after it. */
	in_ns += wall.tv_nsec - now.tv_nsec + 1;
	return clock_mono_ns() + (in_ns > 0 ? in_ns : 0);
}

/* From those who write, under the lock of the uses: only notes it. */
static void on_written(void *arg, const struct cd_written *w)
{
	struct cd_collector *c = arg;
	int64_t now = clock_mono_ns(), before;

	pthread_mutex_lock(&c->lock);
	before = gc_sched_next(&c->sched);
	for (unsigned i = 0; i < w->writes; i++)
		gc_sched_mutated(&c->sched, now, i < w->deletions);
	if (w->expires.tv_sec != INT64_MAX)
		gc_sched_expires(&c->sched, mono_of(w->expires));
	if (gc_sched_next(&c->sched) != before)
		pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
}

/* Long waits are cut into pieces: what expires does so by the wall clock, which may be set. */
#define WAIT_MAX_NS (60 * NS_PER_S)

/* False at the end. Lock held. */
static bool wait_for_turn(struct cd_collector *c)
{
	while (!c->stopping) {
		int64_t now = clock_mono_ns(), next = gc_sched_next(&c->sched);
		struct timespec until;

		if (next <= now)
			return true;
		if (next - now > WAIT_MAX_NS)
			next = now + WAIT_MAX_NS;
		until = (struct timespec){next / NS_PER_S, next % NS_PER_S};
		pthread_cond_clockwait(&c->wake, &c->lock, CLOCK_MONOTONIC, &until);
	}
	return false;
}

static bool is_stopping(struct cd_collector *c)
{
	bool stopping;

	pthread_mutex_lock(&c->lock);
	stopping = c->stopping;
	pthread_mutex_unlock(&c->lock);
	return stopping;
}

/* ---- a cycle ---- */

static int collect(struct cd_collector *c, struct err *err)
{
	int r, end;

	cd_uses_begin_cycle(cd_meta_uses(c->meta), &(struct gc_run){.now = clock_wall(), .batch = BATCH});
	while ((r = gc_step(c->gc, STEP_UNITS, err)) > 0)
		if (is_stopping(c))
			return err_set(err, ERR_CANCELLED, "contentd ends");
	end = cd_graph_finish(c->graph, r < 0 ? NULL : err);
	return r < 0 ? r : end;
}

static int run(struct cd_collector *c, struct err *err)
{
	struct cd_swept swept = {0};
	struct err why = ERR_INIT;

	if (!c->reconciled && c->store.reconcile) {
		if (c->store.reconcile(c->store.arg, &why) < 0)
			log_warn("garbage collection: %s", why.msg);
		else
			c->reconciled = true;
	}
	TRY(collect(c, err));
	if (gc_stats(c->gc)->removed[GC_INDEX])
		c->must_sweep = true;
	if (!c->store.sweep || !atomic_exchange(&c->must_sweep, false))
		return 0;
	FAILPOINT("gc-sweep");
	if (c->store.sweep(c->store.arg, &swept, err) < 0) {
		c->must_sweep = true;
		return -(int)err->code;
	}
	metric_add(&removed_total, (int64_t)swept.objects, gc_kind_name(GC_OBJECT));
	metric_add(&removed_total, (int64_t)swept.partial, gc_kind_name(GC_PARTIAL));
	pthread_mutex_lock(&c->lock);
	c->sums.removed[GC_OBJECT] += swept.objects;
	c->sums.removed[GC_PARTIAL] += swept.partial;
	c->sums.swept_bytes += swept.bytes;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static uint64_t removed_in_all(const struct gc_stats *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < GC_KINDS_N; i++)
		n += s->removed[i];
	return n;
}

static void count_run(const struct gc_stats *s, int64_t took_ns, bool failed)
{
	metric_add(&runs_total, 1, failed ? "error" : "ok");
	metric_observe_ns(&run_seconds, took_ns);
	for (size_t i = 0; i < GC_KINDS_N; i++)
		if (s->removed[i])
			metric_add(&removed_total, (int64_t)s->removed[i], gc_kind_name((enum gc_kind)i));
}

/* Lock held. */
static void note_end(struct cd_collector *c, uint64_t serving, int64_t began, int result, const struct err *err)
{
	const struct gc_stats *s = gc_stats(c->gc);
	int64_t now = clock_mono_ns(), held = cd_graph_held(c->graph);

	gc_sched_ended(&c->sched, now, held, result < 0 ? GC_SCHED_NEVER : mono_of(s->next_expiry), result >= 0);
	count_run(s, now - began, result < 0);
	c->served = serving;
	c->sums.held_ns += held;
	for (size_t i = 0; i < GC_KINDS_N; i++)
		c->sums.removed[i] += s->removed[i];
	c->sums.cycles++;
	if (result >= 0) {
		c->sums.last = *s;
		c->sums.last_ns = now - began;
	} else {
		c->failed = serving;
		c->why = *err;
		c->sums.failed++;
	}
	pthread_cond_broadcast(&c->done);
}

static void *work(void *arg)
{
	struct cd_collector *c = arg;

	pthread_mutex_lock(&c->lock);
	while (wait_for_turn(c)) {
		int64_t began = clock_mono_ns();
		struct err err = ERR_INIT;
		uint64_t serving = c->asked;
		int r;

		gc_sched_began(&c->sched, began);
		pthread_mutex_unlock(&c->lock);
		r = run(c, &err);
		if (r < 0 && !is_stopping(c))
			log_warn("garbage collection: %s", err.msg);
		else if (removed_in_all(gc_stats(c->gc)))
			log_info("garbage collection: %llu removed in %.3f s",
			         (unsigned long long)removed_in_all(gc_stats(c->gc)),
			         (double)(clock_mono_ns() - began) / 1e9);
		if (clock_mono_ns() - began >= LONG_NS)
			malloc_trim(0); /* of a large store, perhaps at a start, when no call will come for long */
		pthread_mutex_lock(&c->lock);
		note_end(c, serving, began, r, &err);
	}
	c->failed = c->served = UINT64_MAX;
	err_set(&c->why, ERR_UNAVAILABLE, "contentd ends");
	pthread_cond_broadcast(&c->done);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- asking ---- */

struct waiting {
	struct cd_collector *collector;
	bool cancelled; /* collector->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->collector->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->collector->done);
	pthread_mutex_unlock(&w->collector->lock);
}

int cd_collector_run(struct cd_collector *c, struct rpc_call *call, struct err *err)
{
	struct waiting w = {.collector = c};
	struct err why = ERR_INIT;
	uint64_t mine;
	bool failed;

	if (!c)
		return 0;
	if (call)
		rpc_on_cancel(call, stop_waiting, &w);
	pthread_mutex_lock(&c->lock);
	mine = ++c->asked;
	gc_sched_requested(&c->sched, clock_mono_ns());
	pthread_cond_signal(&c->wake);
	while (c->served < mine && !w.cancelled)
		pthread_cond_wait(&c->done, &c->lock);
	failed = c->failed >= mine;
	why = c->why;
	pthread_mutex_unlock(&c->lock);
	if (call) {
		rpc_off_cancel(call, &w);
		TRY(rpc_cancelled(call, err));
	}
	return failed ? err_set(err, ERR_ABORTED, "garbage collection: %s", why.msg) : 0;
}

int cd_collector_run_all(struct cd_collector *c, struct rpc_call *call, struct err *err)
{
	if (c)
		c->must_sweep = true;
	return cd_collector_run(c, call, err);
}

void cd_collector_stats(struct cd_collector *c, struct cd_collector_stats *out)
{
	pthread_mutex_lock(&c->lock);
	*out = c->sums;
	pthread_mutex_unlock(&c->lock);
}

/* ---- life ---- */

int cd_collector_start(struct cd_meta *meta, const struct cd_collector_store *store,
                       const struct gc_sched_params *params, struct cd_collector **out, struct err *err)
{
	struct cd_collector *c = xcalloc(1, sizeof(*c));
	int r;

	c->meta = meta;
	c->store = *store;
	c->must_sweep = true;
	c->graph = cd_graph_new(meta, &store->files, false);
	c->gc = gc_new(cd_graph_gc(c->graph));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_cond_init(&c->done, NULL);
	gc_sched_init(&c->sched, params, clock_mono_ns());
	cd_uses_bind(cd_meta_uses(meta), c->gc, on_written, c);
	*out = c;
	r = pthread_create(&c->thread, NULL, work, c);
	if (!r)
		return 0;
	c->stopping = true;
	c->thread = 0;
	cd_collector_stop(c);
	*out = NULL;
	return err_errno(err, r, "pthread_create");
}

void cd_collector_halt(struct cd_collector *c)
{
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	if (c->thread)
		pthread_join(c->thread, NULL);
	c->thread = 0;
}

void cd_collector_stop(struct cd_collector *c)
{
	if (!c)
		return;
	cd_collector_halt(c);
	cd_uses_bind(cd_meta_uses(c->meta), NULL, NULL, NULL);
	gc_free(c->gc);
	cd_graph_free(c->graph);
	pthread_cond_destroy(&c->wake);
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
