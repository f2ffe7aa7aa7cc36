#include "bench/netproxy/trips.h"

void trips_fini(struct trips *t)
{
	vec_fini(&t->answered_ns);
}

void trips_reset(struct trips *t)
{
	vec_clear(&t->answered_ns);
}

unsigned trips_at(const struct trips *t, int64_t ns)
{
	size_t from = 0, to = t->answered_ns.n;

	/* All before `from` were answered by ns, none from `to` on. */
	while (from < to) {
		size_t half = from + (to - from) / 2;

		if (t->answered_ns.p[half] <= ns)
			from = half + 1;
		else
			to = half;
	}
	return (unsigned)from;
}

unsigned trips_begin(const struct trips *t, unsigned after, int64_t ns)
{
	unsigned known = trips_at(t, ns);
	unsigned depth = 1 + (after > known ? after : known);

	return depth < TRIPS_MAX ? depth : TRIPS_MAX;
}

void trips_answered(struct trips *t, unsigned depth, int64_t ns)
{
	/* The connection's link, which nobody told of, is known to be answered when something comes over it. */
	while (t->answered_ns.n < depth)
		vec_push(&t->answered_ns, ns);
}
