#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/report.h"
#include "bench/coldbench/stats.h"

#include "base/cleanup.h"
#include "base/testing.h"

#include <math.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-6)

/* A set from the lines of samples; samples of what is not given are "start" of python in gzip by lan (10 ms, 100 Mbit/s). */
struct data {
	struct sample_set set;
	struct analysis a;
};

static void add(struct data *d, const char *mode, const char *image, const char *form, const char *engine,
                const char *metrics)
{
	AUTO_FREE char *line =
	    xasprintf("{\"group\":\"g\",\"mode\":\"%s\",\"image\":\"%s\",\"form\":\"%s\",\"engine\":\"%s\","
	              "\"network\":\"lan\",\"rtt_ms\":10,\"mbit\":100,\"at\":\"t\",%s}",
	              mode, image, form, engine, metrics);

	OK(sample_parse(str_of(line), vec_add(&d->set.samples), err));
}

/* Seven repetitions around `ms`, with a count of round trips. */
static void add_starts(struct data *d, const char *mode, const char *form, const char *engine, double ms)
{
	for (int i = -3; i <= 3; i++) {
		AUTO_FREE char *metrics =
		    xasprintf("\"metrics\":{\"net.round_trips\":4,\"ready_ms\":%g}", ms * (1 + i / 100.0));

		add(d, mode, "python", form, engine, metrics);
	}
}

static void fini(struct data *d)
{
	analysis_fini(&d->a);
	sample_set_fini(&d->set);
}
DEFINE_CLEANUP(data, struct data, fini(it));

static const struct cell *find(const struct data *d, const char *label, const char *mode)
{
	vec_each(&d->a.cells, c)
		if (!strcmp(c->label, label) && !strcmp(c->mode, mode))
			return c;
	fail_msg("no case %s of %s", label, mode);
	return NULL;
}

static void test_cases_and_order(void **state)
{
	AUTO(data) struct data d = {0};
	const char *const want[] = {"contentd", "containerd", "containerd-stargz:esgz", "containerd-stargz:esgz-opt",
	                            "new"};
	size_t from, to = 0;

	add_starts(&d, "warm", "gzip", "containerd", 100);
	add_starts(&d, "start", "gzip", "new", 900);
	add_starts(&d, "start", "esgz-opt", "containerd-stargz", 800);
	add_starts(&d, "start", "esgz", "containerd-stargz", 700);
	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "estargz", "contentd", 500);
	analysis_init(&d.a, &d.set, NULL);
	assert_int_equal(d.a.cells.n, 6);
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_string_equal(d.a.cells.p[i].label, want[i]);
	assert_int_equal(d.a.cells.p[2].variant, 0);
	assert_int_equal(d.a.cells.p[3].variant, 1);
	assert_string_equal(d.a.cells.p[5].mode, "warm");
	assert_true(analysis_next_part(&d.a, &from, &to));
	assert_true(from == 0 && to == 5);
	assert_true(analysis_next_part(&d.a, &from, &to));
	assert_true(from == 5 && to == 6);
	assert_false(analysis_next_part(&d.a, &from, &to));
}

static void test_measures(void **state)
{
	AUTO(data) struct data d = {0};
	const struct cell *c;

	add(&d, "start", "python", "gzip", "x", "\"metrics\":{\"b\":3,\"ready_ms\":30,\"a\":1}");
	add(&d, "start", "python", "gzip", "x", "\"metrics\":{\"ready_ms\":10}");
	add(&d, "start", "python", "gzip", "x", "\"metrics\":{\"ready_ms\":20,\"b\":5,\"noise.spin_ms\":8}");
	add(&d, "start", "python", "gzip", "x",
	    "\"error\":\"it broke\",\"metrics\":{\"ready_ms\":9999,\"noise.spin_ms\":10}");
	analysis_init(&d.a, &d.set, NULL);
	assert_int_equal(d.a.cells.n, 1);
	c = d.a.cells.p;
	assert_int_equal(c->n_ok, 3);
	assert_int_equal(c->n_failed, 1);
	assert_string_equal(c->error, "it broke");
	NEAR(c->figure->s.median, 20);
	NEAR(cell_median(c, "b"), 4);
	NEAR(cell_median(c, "a"), 1);
	assert_true(isnan(cell_median(c, "c")));
	assert_int_equal(d.a.spin.n, 2);
	NEAR(d.a.spin.median, 9);
	assert_int_equal(d.a.n_failed, 1);
}

static void test_reference(void **state)
{
	AUTO(data) struct data d = {0};
	const struct cell *c;

	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "esgz", "containerd-stargz", 1005);
	add_starts(&d, "start", "estargz", "contentd", 500);
	analysis_init(&d.a, &d.set, NULL);
	assert_string_equal(d.a.reference, "containerd");
	c = find(&d, "contentd", "start");
	NEAR(c->to_reference.ratio, 0.5);
	assert_string_equal(cell_verdict(c), "faster");
	assert_string_equal(cell_verdict(find(&d, "containerd-stargz", "start")), "cannot tell");
	assert_string_equal(cell_verdict(find(&d, "containerd", "start")), "");
	analysis_fini(&d.a);
	analysis_init(&d.a, &d.set, "contentd:estargz");
	c = find(&d, "containerd", "start");
	NEAR(c->to_reference.ratio, 2);
	assert_string_equal(cell_verdict(c), "slower");
	analysis_fini(&d.a);
	analysis_init(&d.a, &d.set, "contentd:gzip"); /* which there is not */
	assert_null(find(&d, "containerd", "start")->reference);
}

static void test_too_few(void **state)
{
	AUTO(data) struct data d = {0};

	add_starts(&d, "start", "gzip", "containerd", 1000);
	for (int i = 0; i < STATS_LEAST - 1; i++)
		add(&d, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":10}");
	analysis_init(&d.a, &d.set, NULL);
	assert_string_equal(cell_verdict(find(&d, "contentd", "start")), "too few");
}

static void test_more_is_better(void **state)
{
	AUTO(data) struct data d = {0};

	for (int i = 0; i < 6; i++) {
		AUTO_FREE char *slow = xasprintf("\"metrics\":{\"mb_per_s\":%d}", 100 + i);
		AUTO_FREE char *fast = xasprintf("\"metrics\":{\"mb_per_s\":%d}", 400 + i);

		add(&d, "unpack", "python", "gzip", "containerd", slow);
		add(&d, "unpack", "python", "gzip", "contentd", fast);
	}
	analysis_init(&d.a, &d.set, NULL);
	assert_string_equal(cell_verdict(find(&d, "contentd", "unpack")), "more");
}

static void test_warm_and_serial(void **state)
{
	AUTO(data) struct data d = {0};
	const struct cell *c;

	add_starts(&d, "warm", "gzip", "containerd", 200);
	add_starts(&d, "warm", "gzip", "containerd-crun", 150);
	add_starts(&d, "warm", "gzip", "contentd", 110);
	add_starts(&d, "warm", "gzip", "contentd-plain", 100);
	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "gzip", "containerd-crun", 900);
	add_starts(&d, "start", "esgz", "containerd-stargz", 800);
	add_starts(&d, "start", "estargz", "contentd", 600);
	add_starts(&d, "start", "zstdchunked", "podman", 600);
	add(&d, "touched", "python", "estargz", "contentd-exact", "\"metrics\":{\"touched_bytes\":2500000}");
	analysis_init(&d.a, &d.set, NULL);
	c = find(&d, "contentd", "start");
	NEAR(c->warm->s.median, 100); /* the plain one's */
	NEAR(c->to_warm.ratio, 6);
	NEAR(c->touched_bytes, 2500000);
	NEAR(c->t_serial_ms, 100 + 4 * 10 + 200); /* 2.5 MB at 12.5 MB/s */
	c = find(&d, "containerd-stargz", "start");
	NEAR(c->warm->s.median, 200);
	assert_true(isnan(c->touched_bytes) && isnan(c->t_serial_ms));
	NEAR(find(&d, "containerd-crun", "start")->warm->s.median, 150);
	assert_null(find(&d, "podman", "start")->warm);
	assert_null(find(&d, "containerd", "warm")->warm);
}

static void test_table(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO_FREE char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	add_starts(&d, "warm", "gzip", "containerd", 250);
	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "estargz", "contentd", 500);
	add(&d, "start", "python", "estargz", "contentd", "\"error\":\"broke\\u001b[1m\\nagain\"");
	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_string_equal(
	    text,
	    "start: one cold start; lan: 10 ms, 100 Mbit/s\n"
	    "image   engine      n  median s  95 %        / W  / containerd\n"
	    "python  contentd    7      0.50  0.48-0.52                0.50  faster     1 failed: broke?[1m again\n"
	    "        containerd  7      1.00  0.97-1.03  4.00                reference\n"
	    "\n"
	    "warm: a start of an image that is there; lan: 10 ms, 100 Mbit/s\n"
	    "image   engine      n  median ms  95 %\n"
	    "python  containerd  7        250  242-258  reference\n"
	    "\n"
	    "1 of 22 samples failed.\n");
}

static void test_table_of_nothing(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO_FREE char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_string_equal(text, "No samples.\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cases_and_order), cmocka_unit_test(test_measures),
	    cmocka_unit_test(test_reference),       cmocka_unit_test(test_more_is_better),
	    cmocka_unit_test(test_too_few),         cmocka_unit_test(test_warm_and_serial),
	    cmocka_unit_test(test_table),           cmocka_unit_test(test_table_of_nothing),
	};

	return cmocka_run_group_tests_name("coldbench_analysis", tests, NULL, NULL);
}
