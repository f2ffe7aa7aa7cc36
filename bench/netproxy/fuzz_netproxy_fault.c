/* Takes each line of the input as a fault rule, and shows the rules a request each 100 ms: they make sense, and what a percentage
 * says lies in the body. */
#include "bench/netproxy/fault.h"

#include "base/clock.h"

#define BODY_BYTES 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct fault_rule *r)
{
	uint64_t at = fault_offset(&r->fault, BODY_BYTES);

	if (r->to_ns <= r->from_ns || !r->every || !r->left)
		abort();
	if (r->fault.percent && at > BODY_BYTES - (r->fault.action == FAULT_FLIP))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct fault_rules f = {0};
	struct str text = str_make((const char *)data, n);
	struct str rest = text, line;
	struct json_writer w;

	while (n && str_split(&rest, '\n', &line))
		fault_rules_add(&f, line, NULL);
	vec_each(&f.rules, r)
		check(r);
	for (int i = 0; i < 10; i++)
		fault_rules_match(&f, i % 2 ? text : STR("GET /v2/app/blobs/sha256:0 bytes=0-9"), i * 100 * NS_PER_MS);
	fault_rules_rewind(&f);
	json_writer_init(&w, &out, NULL);
	fault_rules_write(&f, &w);
	fault_rules_fini(&f);
	return 0;
}
