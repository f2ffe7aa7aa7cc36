#include "bench/netproxy/history.h"

#include "base/clock.h"

#include <assert.h>

#define GRAIN_NS (100 * NS_PER_US)

void history_init(struct history *h, size_t max, int64_t now_ns)
{
	assert(max >= 4);
	*h = (struct history){.max = max};
	history_reset(h, now_ns);
}

void history_fini(struct history *h)
{
	vec_fini(&h->moments);
}

void history_reset(struct history *h, int64_t now_ns)
{
	h->grain_ns = GRAIN_NS;
	vec_clear(&h->moments);
	vec_push(&h->moments, (struct moment){.time_ns = now_ns});
}

static bool is_same(const struct moment *a, const struct moment *b)
{
	return a->to_server_bytes == b->to_server_bytes && a->to_client_bytes == b->to_client_bytes &&
	       a->connections == b->connections && a->requests == b->requests;
}

/* Appends, or takes the place of the last one when that is less than a grain after the one before it. The reset stays. */
static void append(struct history *h, const struct moment *m)
{
	size_t n = h->moments.n;

	if (n >= 2 && m->time_ns - h->moments.p[n - 2].time_ns < h->grain_ns)
		h->moments.p[n - 1] = *m;
	else
		vec_push(&h->moments, *m);
}

/* Doubles the grain until half of the room is free. */
static void coarsen(struct history *h)
{
	while (h->moments.n > h->max / 2) {
		size_t n = h->moments.n;

		h->grain_ns *= 2;
		h->moments.n = 1;
		for (size_t i = 1; i < n; i++) {
			const struct moment m = h->moments.p[i]; /* append writes at most where this was */

			append(h, &m);
		}
	}
}

void history_note(struct history *h, const struct moment *now)
{
	if (is_same(now, vec_last(&h->moments)))
		return;
	append(h, now);
	if (h->moments.n >= h->max)
		coarsen(h);
}

struct moment history_at(const struct history *h, int64_t ns)
{
	size_t from = 0, to = h->moments.n;
	struct moment m = {0};

	/* All before `from` are at or before ns, none from `to` on. */
	while (from < to) {
		size_t half = from + (to - from) / 2;

		if (h->moments.p[half].time_ns <= ns)
			from = half + 1;
		else
			to = half;
	}
	if (from)
		m = h->moments.p[from - 1];
	m.time_ns = ns;
	return m;
}
