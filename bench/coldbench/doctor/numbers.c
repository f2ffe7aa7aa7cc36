#include "bench/coldbench/doctor/numbers.h"

/* The same samples have the same intervals. */
#define SEED 1

void numbers_fini(struct numbers *n)
{
	vec_fini(&n->v);
}

void numbers_add(struct numbers *n, double value)
{
	vec_push(&n->v, value);
}

void numbers_summary(const struct numbers *n, struct summary *out)
{
	AUTO_FREE double *copy = xcalloc(n->v.n ? n->v.n : 1, sizeof(*copy));

	for (size_t i = 0; i < n->v.n; i++)
		copy[i] = n->v.p[i];
	stats_summary(copy, n->v.n, SEED, out);
}

double numbers_median(const struct numbers *n)
{
	struct summary all;

	numbers_summary(n, &all);
	return all.median;
}

void numbers_compare(const struct numbers *a, const struct numbers *b, struct comparison *out)
{
	stats_compare(a->v.p, a->v.n, b->v.p, b->v.n, out);
}
