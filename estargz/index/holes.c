#include "estargz/index/holes.h"

#include <stdlib.h>

#define ZEROS_BYTES (64u << 10)

void esgz_holes_fini(struct esgz_holes *h)
{
	vec_fini(&h->list);
}

bool esgz_holes_add(struct esgz_holes *h, uint64_t bytes, const struct digest *digest, uint32_t id)
{
	if (bytes > ESGZ_HOLES_BYTES_MAX - h->bytes)
		return false;
	h->bytes += bytes;
	if (bytes <= ESGZ_HOLE_CHECKED_MAX)
		vec_push(&h->list, (struct esgz_hole){bytes, *digest, id});
	return true;
}

static int cmp_hole(const void *a, const void *b)
{
	const struct esgz_hole *x = a, *y = b;

	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

const struct esgz_hole *esgz_holes_wrong(struct esgz_holes *h)
{
	static const uint8_t zeros[ZEROS_BYTES];
	AUTO(hasher) struct hasher *sum = NULL;
	struct digest got;
	uint64_t at = 0;

	if (h->list.n == 0)
		return NULL;
	sum = hasher_new();
	qsort(h->list.p, h->list.n, sizeof(*h->list.p), cmp_hole);
	vec_each(&h->list, it) {
		if (at < it->bytes) {
			for (uint64_t n; at < it->bytes; at += n) {
				n = it->bytes - at < ZEROS_BYTES ? it->bytes - at : ZEROS_BYTES;
				hasher_add(sum, zeros, n);
			}
			hasher_peek(sum, &got);
		}
		if (!digest_eq(&got, &it->digest))
			return it;
	}
	return NULL;
}
