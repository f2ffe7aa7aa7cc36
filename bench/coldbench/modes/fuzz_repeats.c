/* Range headers as clients write them: a line each, a blob named by the first letter. */
#include "bench/coldbench/modes/repeats.h"

#include <assert.h>

#define LINES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_exchange_list l = {0};
	struct str rest = str_make(data, size), line;
	struct repeats r;

	while (l.items.n < LINES_MAX && str_split(&rest, '\n', &line))
		vec_push(&l.items, (struct net_exchange){
				       .method = "GET",
				       .target = xasprintf("/v2/a/blobs/%c", line.n ? line.p[0] : 'x'),
				       .range = xstrndup(str_sub(line, 1, 1000).p ?: "", str_sub(line, 1, 1000).n),
				       .status = line.n % 2 ? 206 : 200,
				       .body_bytes = line.n});
	repeats_count(&l, &r);
	assert(r.distinct_bytes <= r.asked_bytes);
	vec_each(&l.items, x) {
		free(x->target);
		free(x->range);
	}
	vec_fini(&l.items);
	return 0;
}
