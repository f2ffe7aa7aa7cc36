/*
 * Dependent round trips: how many of them had to be waited for one after the other.
 *
 * An exchange can depend on an answer only if the client had begun to receive that answer before it sent the request.
 * So the links of a chain are exchanges of which each was sent, at the client's end of the network, after the head of
 * the answer before had arrived there; opening a connection is a link as well, in front of what is sent over it. The
 * depth of an exchange is the length of the longest chain that ends with it.
 *
 *	connect ── GET /token ──┬── GET /manifest ──┬── GET /blob 1        depth 4
 *	(1)        (2)          └── connect         └── GET /blob 2        depth 4, over a new connection: 5
 *	                            (3)
 *
 * What follows from this:
 * - Requests sent together, pipelined or on connections side by side, have the same depth, however many they are.
 * - A request sent while an earlier answer is still streaming comes after that answer's head, not after its last byte.
 * - No two links of a chain overlap and each takes a round trip at least: depth times round trip is time that no
 *   bandwidth could have saved.
 * - Whether the client needed an answer for the next request, or merely sent it later, cannot be seen from outside: for
 *   what is truly dependent the depth is an upper bound. Who asks up to a moment (trips_at) leaves out what came later.
 * - A connection counts when an answer comes over it. One that was open before the last trips_reset costs nothing.
 *
 * Sans-I/O: times come in as arguments. One thread.
 */
#ifndef BENCH_NETPROXY_TRIPS_H
#define BENCH_NETPROXY_TRIPS_H

#include "base/vec.h"

#define TRIPS_MAX (1u << 20) /* longer chains are counted as this long */

struct trips {
	VEC(int64_t) answered_ns; /* [i]: when the first chain of i + 1 links was answered; never falls */
};

void trips_fini(struct trips *t);

/* From here on all counts begin at zero. Answers to what was sent before must not be told any more. */
void trips_reset(struct trips *t);

/* The longest chain of which the last answer had reached the client by then. */
unsigned trips_at(const struct trips *t, int64_t ns);

/* The depth of a link that the client began at `ns`; `after` = the depth of the connection that it uses, 0 for a new
 * connection itself. */
unsigned trips_begin(const struct trips *t, unsigned after, int64_t ns);

/* The answer to a link of this depth reached the client at `ns`. In order of time. */
void trips_answered(struct trips *t, unsigned depth, int64_t ns);

#endif
