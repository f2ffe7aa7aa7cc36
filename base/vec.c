#include "base/vec.h"

void *vec_grow_(void *p, size_t *cap, size_t want, size_t elem_bytes)
{
	size_t to = *cap + *cap / 2; /* cannot wrap: cap elements are in memory */

	if (to < want)
		to = want;
	if (to < 8)
		to = 8;
	if (to > SIZE_MAX / elem_bytes)
		abort();
	p = xrealloc(p, to * elem_bytes);
	*cap = to;
	return p;
}
