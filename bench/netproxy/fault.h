/*
 * Faults that netproxy puts into HTTP exchanges on request.
 *
 * A rule is a line "ACTION[=ARG] WHEN TEXT": it strikes requests whose description "METHOD target range" contains TEXT,
 * e.g. `flip=50% 1 GET /v2/app/blobs/` or `status=503 every=3,from=500,for=2000 /blobs/`. Rules are tried in the order
 * they were given, the first one that strikes does. WHEN is one or more of these, with commas between, which have all to
 * be true:
 *
 *	N               only the next N of those that the others let through
 *	all             no such limit
 *	every=N         the Nth, 2Nth, ... of those within the time
 *	from=MS         not earlier than this long after the last reset of the counters (or the start)
 *	for=MS          from then on for this long
 *
 * A reset begins the schedule anew (time, and what `every` has counted); what is left of N stays. Actions:
 *
 *	stall           the request is never answered
 *	stall=MS        the server sees it (and what follows on the connection) so much later
 *	reset           the connection is reset instead of an answer
 *	lose            the server sees it and answers; the connection is reset instead of that answer
 *	truncate=N      the connection is closed after N bytes of the body (N% of it)
 *	flip=N          byte N of the body (or the one at N%) has all its bits inverted
 *	status=CODE     the answer is CODE and comes from the proxy
 *	norange         the server does not see the Range header
 */
#ifndef BENCH_NETPROXY_FAULT_H
#define BENCH_NETPROXY_FAULT_H

#include "base/err.h"
#include "base/json.h"
#include "base/vec.h"

enum fault_action {
	FAULT_NONE,
	FAULT_STALL,
	FAULT_RESET,
	FAULT_LOSE,
	FAULT_TRUNCATE,
	FAULT_FLIP,
	FAULT_STATUS,
	FAULT_NORANGE,
};

/* What happens to one exchange. */
struct fault {
	enum fault_action action;
	bool percent;   /* `value` is a percentage of the body */
	uint64_t value; /* offset in the body, the status, or ms (0 = for ever) */
};

struct fault_rule {
	struct fault fault;
	uint64_t left, hits;    /* left: UINT64_MAX = all */
	uint64_t every, seen;   /* seen: requests that fit, since the schedule began */
	int64_t from_ns, to_ns; /* after the schedule began: [from, to) */
	char *spec, *text;      /* the rule as given; what requests must contain */
};

struct fault_rules {
	VEC(struct fault_rule) rules;
};

void fault_rules_fini(struct fault_rules *f);

/* ERR_INVALID says what is wrong with the line. */
int fault_rules_add(struct fault_rules *f, struct str line, struct err *err);

void fault_rules_clear(struct fault_rules *f);

/* Schedules begin anew. */
void fault_rules_rewind(struct fault_rules *f);

/* The fault for a request that comes this long after the schedules began, FAULT_NONE for most; counts the rule down. */
struct fault fault_rules_match(struct fault_rules *f, struct str description, int64_t elapsed_ns);

/* An array of {rule, hits, left}. */
void fault_rules_write(const struct fault_rules *f, struct json_writer *w);

/* The offset in a body of `length` bytes (-1 = unknown) at which a flip or a truncation strikes; UINT64_MAX = nowhere,
 * which is so for percentages of an unknown length. */
uint64_t fault_offset(const struct fault *f, int64_t length);

#endif
