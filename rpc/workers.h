/*
 * Threads for call handlers: blocking work of unknown length. A thread is made when a job may run and nobody is idle,
 * and goes after ten idle seconds. When ten seconds had next to no jobs, or the last thread goes, freed memory is given
 * back to the system. At most `cap` jobs run at a
 * time; not counted are jobs submitted as long and those between workers_block_begin and _end (waiting for a client), so
 * that neither can starve the rest; of those there are at most WORKERS_WAITING_MAX, for each has a thread.
 *
 * Who submits has a share, one for each connection, so that handlers which are slow for one client do not keep the others
 * waiting: WORKERS_OWN of its jobs run in any case, outside the cap. The cap is for what it has beyond that: shares
 * take turns there, and none gets more than three quarters of it.
 * Any thread. Jobs are intrusive, the submitter's until they run.
 */
#ifndef RPC_WORKERS_H
#define RPC_WORKERS_H

#include "base/cleanup.h"
#include "base/err.h"

#define WORKERS_WAITING_MAX 8192
#define WORKERS_OWN 2 /* a connection that has a slow call still gets answers to short ones */

struct workers;
struct worker_share;

struct worker_job {
	void (*fn)(struct worker_job *job); /* may free the job */

	/* The pool's. */
	struct worker_job *next;
	struct worker_share *share; /* NULL: it is long */
	unsigned n_waits;           /* its threads that are between workers_block_begin and _end */
};

/* max_waiting 0: WORKERS_WAITING_MAX. */
int workers_new(unsigned cap, unsigned max_waiting, struct workers **out, struct err *err);
void workers_end(struct workers *w);  /* runs what is queued, joins the threads; jobs are refused from then on */
void workers_free(struct workers *w); /* ends it first */
DEFINE_AUTO_FREE(workers);

/* Before the first job: what is to be done when there is little to do, before memory is given back; on a worker's thread, by
 * one at a time, not again until another job has ended. idle_ns: instead of ten seconds, here and for threads; 0 = ten. */
void workers_on_calm(struct workers *w, int64_t idle_ns, void (*fn)(void *arg), void *arg);

/* A share may be given up while jobs of it are queued or run. */
struct worker_share *worker_share_new(struct workers *w);
void worker_share_free(struct worker_share *s);

/* ERR_EXHAUSTED when no thread can be made and none could ever take the job: it is not queued then. */
int workers_submit(struct worker_share *share, struct worker_job *job, struct err *err);
/* A job that may take days. The same, and ERR_EXHAUSTED when too many jobs wait. */
int workers_submit_long(struct workers *w, struct worker_job *job, struct err *err);

/* Around a wait inside a job that was not submitted as long, in any thread that works for it. ERR_EXHAUSTED when too
 * many wait: this one must not. */
int workers_block_begin(struct workers *w, struct worker_job *job, struct err *err);
void workers_block_end(struct workers *w, struct worker_job *job);

#endif
