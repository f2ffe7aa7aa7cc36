/* The head of a request to the metrics listener: any bytes, whole and piece by piece. */
#include "contentd/ops/http_head.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str all = str_make(data, n > HTTP_HEAD_BYTES_MAX ? HTTP_HEAD_BYTES_MAX : n);
	struct http_head whole = {0}, part;
	int r = http_head_parse(all, &whole), first = 0;

	assert(r == 0 || r == 200 || r == 400 || r == 405 || r == 431 || r == 505);
	if (r == 200)
		assert(whole.path.n && whole.path.p[0] == '/' && whole.path.p + whole.path.n <= all.p + all.n);
	/* The first verdict stands: what comes behind the head changes nothing. */
	for (size_t i = 1; i <= all.n && !first; i++) {
		part = (struct http_head){0};
		first = http_head_parse(str_sub(all, 0, i), &part);
	}
	assert(first == r || (r == 431 && first));
	return 0;
}
