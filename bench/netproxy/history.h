/*
 * The counters as they were at any moment since the last reset, in bounded memory.
 *
 * A moment is kept per change while these lie apart; changes closer together than the grain (0.1 ms at first) become
 * one, at the time of the last of them. When too many are kept, the grain doubles. So a question is answered as of at
 * most one grain too early, and exactly after a pause of a grain.
 *
 * Sans-I/O: times come in as arguments and never go back. One thread.
 */
#ifndef BENCH_NETPROXY_HISTORY_H
#define BENCH_NETPROXY_HISTORY_H

#include "base/vec.h"

struct moment {
	int64_t time_ns;
	uint64_t to_server_bytes, to_client_bytes, connections, requests;
};

struct history {
	VEC(struct moment) moments; /* the first is the reset */
	size_t max;
	int64_t grain_ns;
};

/* `max`: how many moments may be kept, at least 4. */
void history_init(struct history *h, size_t max, int64_t now_ns);
void history_fini(struct history *h);

/* Forgets all; everything is zero from now on. */
void history_reset(struct history *h, int64_t now_ns);

/* The counters now; what has not changed is not kept. */
void history_note(struct history *h, const struct moment *now);

/* As it was at `ns`, which is put into time_ns; zero before the reset. */
struct moment history_at(const struct history *h, int64_t ns);

#endif
