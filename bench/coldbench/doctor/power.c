#include "bench/coldbench/doctor/power.h"

#include "base/buf.h"
#include "base/random.h"
#include "bench/coldbench/stats.h"

#include <assert.h>

static void draw(const double *pool, size_t n_pool, double *out, size_t n, uint64_t *state)
{
	for (size_t i = 0; i < n; i++)
		out[i] = pool[random_next(state) % n_pool]; /* n_pool is small: the bias is far below 2^-50 */
}

struct power power_of(const double *a, size_t n_a, const double *b, size_t n_b, size_t n, unsigned trials,
                      uint64_t seed)
{
	AUTO_FREE double *of_a = xcalloc(n, sizeof(*of_a));
	AUTO_FREE double *of_b = xcalloc(n, sizeof(*of_b));
	unsigned more = 0, less = 0;

	assert(n_a && n_b && n && trials);
	for (unsigned t = 0; t < trials; t++) {
		struct comparison c;

		draw(a, n_a, of_a, n, &seed);
		draw(b, n_b, of_b, n, &seed);
		stats_compare(of_a, n, of_b, n, &c);
		more += c.verdict == VERDICT_MORE;
		less += c.verdict == VERDICT_LESS;
	}
	return (struct power){.more = (double)more / trials, .less = (double)less / trials};
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
