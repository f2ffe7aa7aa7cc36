/*
 * How well netproxy keeps what it is set to: measured from outside, by a client and a server in our process with a
 * netproxy between them, on whatever the machine does besides. What client and server take themselves is measured the same
 * way without the network, after pauses as long as a round trip (processors that have slept are slow to begin), and taken
 * off; all that the proxy costs is part of the errors.
 */
#ifndef BENCH_COLDBENCH_ACCURACY_H
#define BENCH_COLDBENCH_ACCURACY_H

#include "base/err.h"
#include "base/vec.h"

/* What the harness promises. */
#define ACCURACY_RTT_ERROR_MS 0.3 /* of the median */
#define ACCURACY_RATE_ERROR 0.03
#define ACCURACY_UNLIMITED_MBIT 4000

/* Times of requests with answers of a byte, one after the other; errors are measured less expected. */
struct accuracy_delay {
	double rtt_ms;
	unsigned n;                         /* of each kind */
	double median_ms, p95_ms;           /* errors over a connection that is there: one round trip expected */
	double open_median_ms, open_p95_ms; /* over a new connection: two expected */
	double together_ms;                 /* error of 16 requests sent at once over one connection: one expected */
	double direct_ms, open_direct_ms;   /* what was taken off: medians without the network */
};

/* Large bodies; medians of the repetitions. */
struct accuracy_rate {
	double mbit; /* 0 = unlimited */
	unsigned connections;
	bool upload;
	double got_mbit;
	double error; /* got / set - 1; 0 when unlimited */
};

struct accuracy {
	VEC(struct accuracy_delay) delays;
	VEC(struct accuracy_rate) rates;
};

void accuracy_fini(struct accuracy *a);
DEFINE_AUTO_FINI(accuracy);

/* Measures all. `share`: 1 = as often and as long as the promises deserve (about half a minute); less is sooner done, and
 * coarser. `dir`: as of net_start. ERR_CANCELLED, within a second, when `cancel_fd` (-1: none) becomes readable. */
int accuracy_measure(const char *dir, double share, int cancel_fd, struct accuracy *out, struct err *err);

#endif
