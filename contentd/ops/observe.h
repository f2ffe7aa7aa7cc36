/*
 * What the daemon says about itself: metrics (docs/metrics.md) and the log line of each call.
 *
 * Around calls, for rpc_server_opts; and the page of the metrics listener, which looks at the daemon when it is asked and
 * adds what contentfs counts. Any thread.
 */
#ifndef CONTENTD_OPS_OBSERVE_H
#define CONTENTD_OPS_OBSERVE_H

#include "contentd/daemon.h"

/* Before and after each call of the API. */
void cd_call_began(struct rpc_call *c);
void cd_call_ended(struct rpc_call *c, void *arg, int rc, const struct err *err, int64_t took_ns);

/* All metrics. `daemon`: struct cd_daemon. Waits for contentfs for a second at most. */
void cd_metrics_print(void *daemon, struct buf *out);

#endif
