/*
 * The collector at work: one thread that runs cycles of gc/ over the daemon's graph when the schedule (gc/sched.h) says so:
 * after deletions and writes, when something expires, when somebody asks. Any thread may call anything here.
 */
#ifndef CONTENTD_COLLECT_COLLECTOR_H
#define CONTENTD_COLLECT_COLLECTOR_H

#include "contentd/collect/graph.h"
#include "gc/sched.h"
#include "rpc/service.h"

struct cd_collector;

/* What a sweep has deleted: names of objects, partial files. */
struct cd_swept {
	uint64_t objects, partial, bytes;
};

/* What the collector has beside the graph's files. */
struct cd_collector_store {
	struct cd_store files;
	/* Once, before the first cycle, and again until it succeeds: what an earlier process left. May be NULL. */
	int (*reconcile)(void *arg, struct err *err);
	/* After a cycle that has dropped indexes, and after the first one: objects that no index names. May be NULL. */
	int (*sweep)(void *arg, struct cd_swept *swept, struct err *err);
	void *arg; /* of these two */
};

/* Starts the thread, and binds itself to the uses of the metadata. */
int cd_collector_start(struct cd_meta *meta, const struct cd_collector_store *store,
                       const struct gc_sched_params *params, struct cd_collector **out, struct err *err);
/* Ends the thread: a cycle that runs is given up, and who waits for one learns that there will be none. */
void cd_collector_halt(struct cd_collector *c);
/* The same, and frees it; nobody may wait any more. */
void cd_collector_stop(struct cd_collector *c);

static inline void cd_collector_cleanup(struct cd_collector **c)
{
	cd_collector_stop(*c);
}

/* Everything that is garbage now is gone when it returns: runs a whole cycle that begins after the call. Ends early when
 * `call` (may be NULL) is cancelled. ERR_ABORTED when the cycle failed. c NULL: there is no collector, nothing to wait
 * for. */
int cd_collector_run(struct cd_collector *c, struct rpc_call *call, struct err *err);

/* The same, and objects that no index names are swept whether an index went or not. */
int cd_collector_run_all(struct cd_collector *c, struct rpc_call *call, struct err *err);

struct cd_collector_stats {
	uint64_t cycles, failed;
	uint64_t removed[GC_KINDS_N]; /* since the start; OBJECT and PARTIAL by sweeps */
	uint64_t swept_bytes;
	int64_t held_ns;      /* in which nobody could announce a use: all holds together */
	struct gc_stats last; /* of the last cycle that ended well */
	int64_t last_ns;      /* how long it took */
};
void cd_collector_stats(struct cd_collector *c, struct cd_collector_stats *out);

#endif
