#include "base/testing.h"
#include "bench/coldbench/doctor/sheet.h"

#include <math.h>

static void fill(struct sheet *s)
{
	static const char *const columns[] = {"n", "share"};
	struct finding *f;
	struct grid *g;

	s->name = "test";
	s->title = "a sheet";
	f = sheet_number(s, "speed_ms", "speed", 12.345, "ms");
	finding_judgef(f, false, FINDING_BAD, "<= %d ms", 10);
	finding_advise(f, "Make it faster.");
	sheet_text(s, "kind", "kind", "%s", "round");
	finding_judge(sheet_number(s, "none", "nothing", NAN, "ms"), true, FINDING_WARN, NULL);
	g = sheet_grid(s, "table", "a table", columns, ARRAY_LEN(columns));
	vec_push(&g->cells, 5);
	vec_push(&g->cells, 0.25);
	vec_push(&g->cells, 10);
	vec_push(&g->cells, NAN);
}

static char *printed(const struct sheet *s, unsigned width)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);

	sheet_print(s, to, width);
	fclose(to);
	return text;
}

static void people_see_values_bounds_and_advice(void **state)
{
	AUTO(sheet) struct sheet s = {0};
	AUTO_FREE char *text = NULL;

	fill(&s);
	text = printed(&s, 80);
	assert_non_null(strstr(text, "test: a sheet\n"));
	assert_non_null(strstr(text, "  speed    12.3 ms  <= 10 ms  MISSED\n      Make it faster.\n"));
	assert_non_null(strstr(text, "  kind     round\n"));
	assert_non_null(strstr(text, "  nothing  none     ok\n"));
	assert_non_null(strstr(text, "         n   share\n         5    0.25\n        10       -\n"));
}

static void advice_is_wrapped(void **state)
{
	AUTO(sheet) struct sheet s = {0};
	AUTO_FREE char *text = NULL;

	fill(&s);
	finding_advise(&s.findings.p[0], "Words that do not all fit into one line of thirty columns.");
	text = printed(&s, 20);
	assert_non_null(strstr(text, "\n      Words that do not all fit into\n      one line of thirty columns.\n"));
}

static void a_long_text_moves_no_bounds(void **state)
{
	AUTO(sheet) struct sheet s = {0};
	AUTO_FREE char *text = NULL;

	fill(&s);
	finding_judge(sheet_text(&s, "long", "long", "%s", "a text that is longer than any value has to be"), true,
	              FINDING_BAD, NULL);
	text = printed(&s, 80);
	assert_non_null(strstr(text, "  speed    12.3 ms  <= 10 ms  MISSED\n"));
	assert_non_null(strstr(text, "  long     a text that is longer than any value has to be  ok\n"));
}

static void programs_get_numbers(void **state)
{
	AUTO(sheet) struct sheet s = {0};
	AUTO(buf) struct buf out = BUF_INIT;
	struct json_writer w;

	fill(&s);
	json_writer_init(&w, &out, NULL);
	sheet_json(&s, &w);
	assert_string_equal(
	    buf_cstr(&out),
	    "{\"passed\":false,\"findings\":{"
	    "\"speed_ms\":{\"label\":\"speed\",\"value\":12.345,\"state\":\"bad\",\"bound\":\"<= 10 ms\","
	    "\"advice\":\"Make it faster.\"},"
	    "\"kind\":{\"label\":\"kind\",\"value\":\"round\",\"state\":\"fact\"},"
	    "\"none\":{\"label\":\"nothing\",\"value\":null,\"state\":\"good\"}},"
	    "\"tables\":{\"table\":[{\"n\":5,\"share\":0.25},{\"n\":10,\"share\":null}]}}");
}

static void states_are_counted(void **state)
{
	AUTO(sheet) struct sheet s = {0};

	fill(&s);
	assert_int_equal(sheet_count(&s, FINDING_BAD), 1);
	assert_int_equal(sheet_count(&s, FINDING_GOOD), 1);
	assert_int_equal(sheet_count(&s, FINDING_WARN), 0);
}

static void numbers_have_three_digits_that_mean_something(void **state)
{
	const struct {
		double value;
		const char *text;
	} cases[] = {{0, "0 ms"},         {7, "7 ms"},        {0.01234, "0.012 ms"}, {1.2345, "1.23 ms"},
	             {12.345, "12.3 ms"}, {-2.5, "-2.50 ms"}, {1234.5, "1234 ms"},   {INFINITY, "none"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(sheet) struct sheet s = {0};

		assert_string_equal(sheet_number(&s, "k", "label", cases[i].value, "ms")->text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(people_see_values_bounds_and_advice),
	    cmocka_unit_test(advice_is_wrapped),
	    cmocka_unit_test(a_long_text_moves_no_bounds),
	    cmocka_unit_test(programs_get_numbers),
	    cmocka_unit_test(states_are_counted),
	    cmocka_unit_test(numbers_have_three_digits_that_mean_something),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
