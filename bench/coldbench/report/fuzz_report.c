/* Input: lines of samples, the first one a header. The page, the table, both CSVs and the summary come out, bounded; no tag
 * comes from the input. */
#include "bench/coldbench/report/csv.h"
#include "bench/coldbench/report/json.h"
#include "bench/coldbench/report/page.h"

#include "base/json.h"

#include <stdio.h>

#define SAMPLES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "fuzz_report: line %d: %s\n", __LINE__, #condition);                           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void check_page(const struct analysis *a, const sources *from, size_t input_bytes)
{
	AUTO(buf) struct buf page = BUF_INIT;

	page_write(a, from, &page);
	REQUIRE(!strstr(page.p, "<script"));
	REQUIRE(str_is_utf8(buf_str(&page)));
	/* A metric is some table rows, a sample some shapes; both were named in the input. */
	REQUIRE(page.n < 100000 + 3000 * (input_bytes + 1));
}

static void check_rest(const struct analysis *a)
{
	AUTO(buf) struct buf samples = BUF_INIT;
	AUTO(buf) struct buf summary = BUF_INIT;
	AUTO(buf) struct buf json = BUF_INIT;
	AUTO(json_reader) struct json_reader *r = NULL;
	FILE *null = fopen("/dev/null", "w");

	csv_samples(a->set, &samples, NULL);
	csv_summary(a, &summary);
	json_report(a, &json);
	r = json_reader_new(buf_str(&json));
	REQUIRE(!json_skip(r, NULL) && !json_end(r, NULL));
	REQUIRE(!table_print(a, null));
	fclose(null);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	AUTO(sample_set) struct sample_set set = {0};
	AUTO(analysis) struct analysis a = {0};
	struct str rest = str_make(data, n), line;
	struct source source = {.path = "x", .link = "./x"};
	sources from = VEC_INIT;

	if (n > 65536 || !str_split(&rest, '\n', &line) || header_parse(line, &source.header, NULL) < 0)
		return 0;
	buf_addstr(&set.header, line);
	while (set.samples.n < SAMPLES_MAX && str_split(&rest, '\n', &line)) {
		struct sample s;

		if (!sample_parse(line, &s, NULL))
			vec_push(&set.samples, s);
	}
	vec_push(&from, source);
	analysis_init(&a, &set, NULL);
	check_page(&a, &from, n);
	check_rest(&a);
	header_fini(&from.p[0].header);
	vec_fini(&from);
	return 0;
}
