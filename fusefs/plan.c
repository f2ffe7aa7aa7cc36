#include "fusefs/core.h"

void plan_demand(const struct layer *l, uint32_t m, uint32_t window, uint64_t need_until, uint32_t *end)
{
	uint64_t from = l->members[m].offset;
	uint32_t i = m + 1;

	/* Forward over absent members, as far as the window reaches; beyond it only what this very reader needs. A member
	 * that is here, or on its way, ends the request: what lies behind it was not missed. */
	for (; i < l->n_members; i++) {
		const struct member *it = &l->members[i];
		uint64_t until = it->offset + it->bytes;

		if (l->state[i] != MEMBER_ABSENT || it->bytes == 0)
			break;
		if (until - from > window && (it->offset >= need_until || until - from > FFS_STEP_BYTES))
			break;
	}
	*end = i;
}

bool plan_bulk(const struct layer *l, uint32_t from, uint32_t max_bytes, uint32_t gap, uint32_t *first, uint32_t *end)
{
	uint32_t i = from, last;

	while (i < l->n_members && (l->state[i] != MEMBER_ABSENT || l->members[i].bytes == 0))
		i++;
	if (i == l->n_members)
		return false;
	*first = last = i;
	for (i = i + 1; i < l->n_members; i++) {
		const struct member *it = &l->members[i];

		if (it->offset + it->bytes - l->members[*first].offset > max_bytes || l->state[i] == MEMBER_INFLIGHT)
			break;
		if (l->state[i] == MEMBER_ABSENT && it->bytes)
			last = i;
		else if (it->offset + it->bytes - (l->members[last].offset + l->members[last].bytes) > gap)
			break;
	}
	*end = last + 1;
	return true;
}
