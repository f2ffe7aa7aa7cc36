#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

METRIC_COUNTER(plain, "t_plain_total", "Without labels.");
METRIC_COUNTER(labelled, "t_by_two_total", "By \"two\"\nlabels \\.", "one", "two");
METRIC_GAUGE(gauge, "t_gauge", "Up and down.", "what");
METRIC_HISTOGRAM(durations, "t_durations_seconds", "Durations.", "of");
METRIC_COUNTER(raced, "t_raced_total", "Counted by many.", "who");
METRIC_COUNTER(crowded, "t_crowded_total", "Too many labels.", "who");

/* The lines of one metric, without HELP and TYPE. */
static void lines_of(const char *name, struct buf *out)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct str rest, line;

	metrics_print(&text);
	rest = buf_str(&text);
	while (str_split(&rest, '\n', &line))
		if (str_starts(line, str_of(name))) {
			buf_addstr(out, line);
			buf_addc(out, '\n');
		}
}

static void assert_lines(const char *name, const char *expected)
{
	AUTO(buf) struct buf b = BUF_INIT;

	lines_of(name, &b);
	assert_string_equal(buf_cstr(&b), expected);
}

static void counters_and_gauges(void **state)
{
	assert_lines("t_plain", "t_plain_total 0\n");
	metric_add(&plain, 1);
	metric_add(&plain, 41);
	assert_lines("t_plain", "t_plain_total 42\n");
	metric_add(&labelled, 2, "b", "x");
	metric_add(&labelled, 3, "a", "q\"\\\n");
	metric_add(&labelled, 5, "b", "x");
	assert_lines("t_by_two", "t_by_two_total{one=\"a\",two=\"q\\\"\\\\\\n\"} 3\n"
	                         "t_by_two_total{one=\"b\",two=\"x\"} 7\n");
	metric_set(&gauge, 5, "y");
	metric_add(&gauge, -7, "y");
	metric_set(&gauge, 1, "z");
	assert_lines("t_gauge", "t_gauge{what=\"y\"} -2\nt_gauge{what=\"z\"} 1\n");
}

static void heads(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;

	metrics_print(&text);
	assert_non_null(
	    strstr(text.p, "# HELP t_by_two_total By \"two\"\\nlabels \\\\.\n# TYPE t_by_two_total counter\n"));
	assert_non_null(strstr(text.p, "# TYPE t_gauge gauge\n"));
	assert_non_null(strstr(text.p, "# TYPE t_durations_seconds histogram\n"));
	/* In order, whatever the order of their declaration. */
	assert_true(strstr(text.p, "# HELP t_by_two") < strstr(text.p, "# HELP t_durations"));
	assert_true(strstr(text.p, "# HELP t_gauge") < strstr(text.p, "# HELP t_plain"));
}

static void histograms(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	metric_observe_ns(&durations, 10000, "x"); /* the bound itself is inside */
	metric_observe_ns(&durations, 10001, "x");
	metric_observe_ns(&durations, 2000000000, "x");
	metric_observe_ns(&durations, 301000000000, "x"); /* beyond the last bound */
	lines_of("t_durations", &b);
	assert_non_null(strstr(b.p, "t_durations_seconds_bucket{of=\"x\",le=\"1e-05\"} 1\n"
	                            "t_durations_seconds_bucket{of=\"x\",le=\"5e-05\"} 2\n"));
	assert_non_null(strstr(b.p, ",le=\"1\"} 2\nt_durations_seconds_bucket{of=\"x\",le=\"2.5\"} 3\n"));
	assert_non_null(strstr(b.p, ",le=\"300\"} 3\nt_durations_seconds_bucket{of=\"x\",le=\"+Inf\"} 4\n"
	                            "t_durations_seconds_sum{of=\"x\"} 303.000020001\n"
	                            "t_durations_seconds_count{of=\"x\"} 4\n"));
}

#define RACERS 8
#define ROUNDS 2000

static void *race(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		char who[16];

		snprintf(who, sizeof(who), "%d", i % 100);
		metric_add(&raced, 1, who);
	}
	return NULL;
}

static void threads_lose_no_count(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct str rest, line;
	pthread_t t[RACERS];
	uint64_t n = 0, lines = 0;

	for (int i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race, NULL), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(t[i], NULL);
	lines_of("t_raced", &b);
	rest = buf_str(&b);
	while (str_split(&rest, '\n', &line)) {
		uint64_t one;

		if (!line.n)
			continue;
		assert_true(str_u64(str_sub(line, (size_t)str_rfind(line, ' ') + 1, SIZE_MAX), 10, &one));
		n += one;
		lines++;
	}
	assert_int_equal(lines, 100);
	assert_int_equal(n, RACERS * ROUNDS);
}

static void labels_are_bounded(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	size_t lines = 0;

	for (int i = 0; i < METRIC_SERIES_MAX + 50; i++) {
		char who[16];

		snprintf(who, sizeof(who), "%d", i);
		metric_add(&crowded, 1, who);
	}
	lines_of("t_crowded", &b);
	for (const char *p = b.p; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, METRIC_SERIES_MAX + 1);
	assert_non_null(strstr(b.p, "t_crowded_total{who=\"other\"} 50\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(counters_and_gauges), cmocka_unit_test(heads),
	    cmocka_unit_test(histograms),          cmocka_unit_test(threads_lose_no_count),
	    cmocka_unit_test(labels_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
