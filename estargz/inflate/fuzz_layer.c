/* Input: a layer as it comes from a registry. What is accepted must open as an index. */
#include "estargz/inflate/layer.h"

#define PLAIN_MAX (4u << 20)

static int on_begin(void *arg, uint64_t size, struct err *err)
{
	return 0;
}

static int on_data(void *arg, struct str bytes, struct err *err)
{
	uint64_t *n = arg;

	*n += bytes.n;
	return *n > PLAIN_MAX ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static int on_end(void *arg, const struct digest *content, struct err *err)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint64_t bytes = 0;
	const struct esgz_layer_sink sink = {.begin = on_begin, .data = on_data, .end = on_end, .arg = &bytes};
	AUTO(esgz_layer) struct esgz_layer *l = esgz_layer_new(&sink);
	AUTO(buf) struct buf file = BUF_INIT;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	struct esgz_layer_result r;
	struct err err = ERR_INIT;

	if (esgz_layer_feed(l, str_make(data, n), &err) < 0 || esgz_layer_finish(l, &r, &err) < 0 ||
	    esgz_layer_index(l, &file, &err) < 0)
		return 0;
	if (esgz_index_open(buf_str(&file), &ix, &err) < 0)
		abort();
	return 0;
}
