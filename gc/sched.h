/*
 * When to collect: containerd's scheduler (its plugin io.containerd.gc.v1.scheduler, same parameters), and besides the
 * expiry of leases, which counts also when nothing else happens. No clock and no timer: the owner says what happened at
 * which time and asks when to run next. All times are monotonic nanoseconds. A value; one thread at a time.
 *
 *     for (;;) { wait until gc_sched_next() or an event; if (gc_sched_next() <= now) { began; cycle; ended } }
 */
#ifndef GC_SCHED_H
#define GC_SCHED_H

#include <stdbool.h>
#include <stdint.h>

struct gc_sched_params {
	double pause_threshold;      /* share of time that collecting may take from others; 0 < x <= 0.5 */
	uint64_t deletion_threshold; /* so many deletions: run at once; 0: they wait for the interval */
	uint64_t mutation_threshold; /* so many writes: run at the end of the interval; 0: they are no reason */
	int64_t schedule_delay_ns;   /* between a reason to run at once and the run */
	int64_t startup_delay_ns;    /* until the first run; 0: none by itself */
};

#define GC_SCHED_NEVER INT64_MAX

struct gc_sched {
	struct gc_sched_params params;
	int64_t interval_at; /* scheduled runs wait for it */
	int64_t at_once_at;  /* startup, a threshold or a request: GC_SCHED_NEVER, or when */
	int64_t expires_at;  /* the first expiry known */
	int64_t interval_ns;
	uint64_t deletions, mutations; /* since the last run began */
	double paused_ns;              /* of all runs that ended well */
	uint64_t runs;
	bool running;
};

/* A pause_threshold out of range becomes the nearest one in it. */
void gc_sched_init(struct gc_sched *s, const struct gc_sched_params *params, int64_t now);

/* A write; `deletion` for those that may leave garbage: a content, snapshot, image, container or lease record removed, or
 * a resource taken off a lease. */
void gc_sched_mutated(struct gc_sched *s, int64_t now, bool deletion);

/* Somebody waits for a collection (a delete with `sync`). */
void gc_sched_requested(struct gc_sched *s, int64_t now);

/* A lease, an image or an ingest will have expired at `at`. */
void gc_sched_expires(struct gc_sched *s, int64_t at);

/* When to run next: at or before now means now, GC_SCHED_NEVER that only an event can change it. Never while running. */
int64_t gc_sched_next(const struct gc_sched *s);

void gc_sched_began(struct gc_sched *s, int64_t now);

/* paused_ns: how long others had to wait for it, all holds together. expires_at: the first expiry that the cycle left
 * (gc_stats), or GC_SCHED_NEVER. After a failure everything is tried again, a second later than usual. */
void gc_sched_ended(struct gc_sched *s, int64_t now, int64_t paused_ns, int64_t expires_at, bool ok);

#endif
