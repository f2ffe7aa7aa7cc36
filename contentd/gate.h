/*
 * A gate: calls wait at it for a part of the daemon that takes a moment to open. It opens for good; a failure is told to
 * whoever waits or comes, until a later attempt opens it after all. Any thread.
 */
#ifndef CONTENTD_GATE_H
#define CONTENTD_GATE_H

#include "base/err.h"

#include <pthread.h>

struct rpc_call;

struct cd_gate {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	enum { CD_GATE_CLOSED, CD_GATE_OPEN, CD_GATE_FAILED } state; /* lock */
	struct err why;                                              /* lock; CD_GATE_FAILED */
};

void cd_gate_init(struct cd_gate *g);
void cd_gate_fini(struct cd_gate *g);

/* Opens it, or (why not NULL) fails it. An open gate stays open. */
void cd_gate_set(struct cd_gate *g, const struct err *why);

bool cd_gate_is_open(struct cd_gate *g);

/* Waits until it is open or has failed: ERR_UNAVAILABLE then, "<what>: <why>". `c` (may be NULL) is the call that waits:
 * its cancellation ends the wait. */
int cd_gate_wait(struct cd_gate *g, struct rpc_call *c, const char *what, struct err *err);

#endif
