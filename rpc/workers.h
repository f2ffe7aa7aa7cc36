/*
 * Threads for call handlers: blocking work of unknown length. A thread is made when a job may run and nobody is idle,
 * and goes after ten idle seconds; the last one to go gives freed memory back to the system. At most `cap` jobs run at a
 * time; not counted are jobs submitted as long and those between workers_block_begin and _end (waiting for a client), so
 * that neither can starve the rest; of those there are at most WORKERS_WAITING_MAX, for each has a thread.
 * Any thread. Jobs are intrusive, the submitter's until they run.
 */
#ifndef RPC_WORKERS_H
#define RPC_WORKERS_H

#include "base/cleanup.h"
#include "base/err.h"

#define WORKERS_WAITING_MAX 8192

struct workers;

struct worker_job {
	void (*fn)(struct worker_job *job); /* may free the job */
	struct worker_job *next;            /* the pool's */
};

/* max_waiting 0: WORKERS_WAITING_MAX. */
int workers_new(unsigned cap, unsigned max_waiting, struct workers **out, struct err *err);
void workers_end(struct workers *w);  /* runs what is queued, joins the threads; jobs are refused from then on */
void workers_free(struct workers *w); /* ends it first */
DEFINE_AUTO_FREE(workers);

/* ERR_EXHAUSTED when too many jobs wait, or no thread can be made and none could ever take the job: it is not queued
 * then. */
int workers_submit(struct workers *w, struct worker_job *job, bool is_long, struct err *err);

/* Around a wait inside a job that was not submitted as long. ERR_EXHAUSTED when too many wait: this one must not. */
int workers_block_begin(struct workers *w, struct err *err);
void workers_block_end(struct workers *w);

#endif
