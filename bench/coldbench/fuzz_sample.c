/* Input: a line of raw data. What is read and written again reads back as the same. */
#include "bench/coldbench/sample.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(sample) struct sample s = {0};
	AUTO(sample) struct sample back = {0};
	AUTO(buf) struct buf line = BUF_INIT;
	AUTO(buf) struct buf again = BUF_INIT;

	if (sample_parse(str_make(data, n), &s, NULL) < 0)
		return 0;
	sample_write(&s, &line);
	if (sample_parse(buf_str(&line), &back, NULL) < 0)
		abort();
	sample_write(&back, &again);
	if (!str_eq(buf_str(&line), buf_str(&again)))
		abort();
	return 0;
}
