/*
 * netproxy's control socket: a UNIX stream socket that takes one command line per connection and answers with one JSON
 * object, {"error": "...", "code": N} (base/err.h) when the command failed, that of `stats` where nothing else is said.
 *
 *	stats                      counters, marks, fault rules
 *	mark NAME                  keeps the present counters under NAME
 *	reset                      counters to zero; marks, history and exchanges forgotten, schedules begun anew
 *	at NS [NS...]              {"at": [{...}]}: the counters as they were then (history.h); CLOCK_MONOTONIC
 *	exchanges                  {"exchanges": [{...}], "left_out": N}: what was asked since the reset (record.h)
 *	fault ACTION WHEN TEXT     adds a fault rule (fault.h)
 *	clear                      forgets the fault rules
 *	net RTT_MS MBIT            another network
 *	down [reset|silent]        the network fails (proxy.h); up: it works again
 *	up
 */
#ifndef BENCH_NETPROXY_CONTROL_H
#define BENCH_NETPROXY_CONTROL_H

#include "bench/netproxy/proxy.h"

#define CONTROL_ANSWER_MAX_BYTES (64u << 20) /* what the client's side should be ready for */

struct control;

/* Listens on `path`, which is removed again by control_stop. */
int control_start(struct proxy *p, const char *path, struct control **out, struct err *err);
void control_stop(struct control *c);

/* Carries out a line and appends the answer, with a line end. */
void control_execute(struct proxy *p, struct str line, struct buf *answer);

/* The client's side: sends a line to the socket at `path` and prints the answer on stdout. 1 when it is an error. */
int control_ask(const char *path, struct str line, struct err *err);

/* "RTT_MS MBIT" */
int control_parse_network(const char *rtt_ms, const char *mbit, int64_t *rtt_ns, double *out_mbit, struct err *err);

#endif
