/*
 * Worker threads for CPU work (inflate, hash) with strictly prioritised lanes. Jobs are intrusive: the submitter owns
 * the job's memory until its function has begun. pool_submit never blocks; submitters bound what they have in flight.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/cleanup.h"
#include "base/err.h"

enum pool_lane { POOL_DEMAND, POOL_READAHEAD, POOL_PREFETCH, POOL_BACKGROUND, POOL_LANES };

struct pool_job {
	void (*fn)(struct pool_job *job); /* runs on a worker; may free the job */
	struct pool_job *next;            /* the pool's */
};

struct pool;
int pool_new(unsigned n_threads, const char *name, struct pool **out, struct err *err);
/* Runs what is queued, joins the threads. */
void pool_free(struct pool *p);
DEFINE_AUTO_FREE(pool);

/* Any thread. */
void pool_submit(struct pool *p, enum pool_lane lane, struct pool_job *job);

/* CPUs this process may use, at least 1. */
unsigned cpu_count(void);

#endif
