#include "bench/coldbench/doctor/power.h"

#include "base/buf.h"
#include "bench/coldbench/stats.h"

#include <assert.h>
#include <stdlib.h>

static void draw(const double *pool, size_t n_pool, double *out, size_t n, unsigned short state[3])
{
	for (size_t i = 0; i < n; i++)
		out[i] = pool[(size_t)(erand48(state) * (double)n_pool)];
}

double power_of_measured(const double *slow, size_t n_slow, const double *same, size_t n_same, size_t n,
                         unsigned trials, uint64_t seed)
{
	unsigned short state[3] = {(unsigned short)seed, (unsigned short)(seed >> 16), (unsigned short)(seed >> 32)};
	AUTO_FREE double *a = xcalloc(n, sizeof(*a));
	AUTO_FREE double *b = xcalloc(n, sizeof(*b));
	unsigned told = 0;

	assert(n_slow && n_same && n && trials);
	for (unsigned t = 0; t < trials; t++) {
		struct comparison c;

		draw(slow, n_slow, a, n, state);
		draw(same, n_same, b, n, state);
		stats_compare(a, n, b, n, &c);
		told += c.verdict == VERDICT_MORE;
	}
	return (double)told / trials;
}

size_t power_search(power_fn *power, const void *arg, double target, size_t least, size_t most)
{
	size_t low = least, high = least;

	assert(least && least <= most);
	while (power(high, arg) < target) {
		if (high == most)
			return 0;
		low = high + 1;
		high = high > most / 2 ? most : high * 2;
	}
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (power(middle, arg) >= target)
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}
