#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/answer.h"
#include "bench/coldbench/report/csv.h"
#include "bench/coldbench/report/page.h"
#include "bench/coldbench/report/pictures.h"
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

static void add_at(struct data *d, double rtt_ms, const char *mode, const char *image, const char *form,
                   const char *engine, const char *metrics)
{
	AUTO_FREE char *line =
	    xasprintf("{\"group\":\"g\",\"mode\":\"%s\",\"image\":\"%s\",\"form\":\"%s\",\"engine\":\"%s\","
	              "\"network\":\"lan\",\"rtt_ms\":%g,\"mbit\":100,\"at\":\"t\",%s}",
	              mode, image, form, engine, rtt_ms, metrics);

	OK(sample_parse(str_of(line), vec_add(&d->set.samples), err));
}

static void add(struct data *d, const char *mode, const char *image, const char *form, const char *engine,
                const char *metrics)
{
	add_at(d, 10, mode, image, form, engine, metrics);
}

/* Seven repetitions around `ms`, with a count of round trips. */
static void add_starts(struct data *d, const char *mode, const char *form, const char *engine, double ms)
{
	for (int i = -3; i <= 3; i++) {
		AUTO_FREE char *metrics = xasprintf(
		    "\"metrics\":{\"net.round_trips\":4,\"net.bytes\":5e6,\"ready_ms\":%g}", ms * (1 + i / 100.0));

		add(d, mode, "python", form, engine, metrics);
	}
}

/* A header as one run writes it. */
static void add_header(struct data *d, const char *image, unsigned layer_bytes)
{
	buf_addf(&d->set.header, "%s{\"coldbench\":1,\"images\":{\"%s\":{\"layer_bytes\":%u,\"layers\":1}}}",
	         d->set.header.n ? "\n" : "", image, layer_bytes);
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

/* A network with faults is another one than the healthy one of its name. */
static void test_networks_with_faults(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(buf) struct buf page = BUF_INIT;
	AUTO_FREE char *table = NULL;
	size_t from, to = 0, n;
	FILE *f = open_memstream(&table, &n);

	for (int i = 0; i < 5; i++) {
		add(&d, "start", "python", "gzip", "contentd",
		    "\"faults\":\"reset 1 /b\",\"metrics\":{\"net.faults\":3,\"ready_ms\":200}");
		add(&d, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":50}");
		add(&d, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":100}");
		add(&d, "start", "python", "gzip", "containerd", "\"faults\":\"reset 1 /b\",\"error\":\"no\"");
	}
	analysis_init(&d.a, &d.set, NULL);
	assert_int_equal(d.a.cells.n, 4);
	assert_true(cell_same_network(&d.a.cells.p[2], &d.a.cells.p[3]));
	assert_false(cell_same_network(&d.a.cells.p[1], &d.a.cells.p[2]));
	assert_true(analysis_next_part(&d.a, &from, &to));
	assert_true(from == 0 && to == 2);
	assert_string_equal(d.a.cells.p[0].faults, "");
	NEAR(d.a.cells.p[0].to_reference.ratio, 0.5);
	table_of_part(&d.a, from, to, &page);
	assert_null(strstr(buf_cstr(&page), "Struck"));
	assert_true(analysis_next_part(&d.a, &from, &to));
	assert_string_equal(d.a.cells.p[2].faults, "reset 1 /b");
	table_of_part(&d.a, from, to, &page);
	assert_non_null(strstr(buf_cstr(&page), ">Struck</th>"));
	assert_non_null(strstr(buf_cstr(&page), "<td>3</td><td>5</td>")); /* n is next */
	assert_int_equal(table_print(&d.a, f), 0);
	fclose(f);
	assert_non_null(strstr(table, "  struck\n"));
	assert_non_null(strstr(table, "       3\n"));
	csv_summary(&d.a, &text);
	assert_non_null(strstr(buf_cstr(&text), "contentd,lan,10,100,reset 1 /b,1,0,ready_ms,5,200,"));
}

/* Data of two runs, whose networks have one name. */
static void test_networks_of_one_name(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf means = BUF_INIT;
	AUTO_FREE char *text = NULL;
	size_t from, to = 0, bytes;
	FILE *f = open_memstream(&text, &bytes);

	for (int i = 0; i < 5; i++) {
		add_at(&d, 1, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":100}");
		add_at(&d, 1, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":50}");
		add_at(&d, 50, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":1000}");
		add_at(&d, 50, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":200}");
	}
	analysis_init(&d.a, &d.set, NULL);
	assert_int_equal(d.a.cells.n, 4);
	assert_true(cell_same_network(&d.a.cells.p[0], &d.a.cells.p[1]));
	assert_false(cell_same_network(&d.a.cells.p[0], &d.a.cells.p[2]));
	assert_false(cell_is_beside(&d.a.cells.p[0], &d.a.cells.p[2]));
	NEAR(d.a.cells.p[0].to_reference.ratio, 0.5);
	NEAR(d.a.cells.p[2].to_reference.ratio, 0.2);
	assert_true(analysis_next_part(&d.a, &from, &to));
	assert_true(from == 0 && to == 2);
	table_of_means(&d.a, "start", &means);
	assert_non_null(strstr(buf_cstr(&means), "<small>1 ms, 100 Mbit/s</small>"));
	assert_non_null(strstr(buf_cstr(&means), "<small>50 ms, 100 Mbit/s</small>"));
	assert_non_null(strstr(buf_cstr(&means), ">0.50</b>"));
	assert_non_null(strstr(buf_cstr(&means), ">0.20</b>"));
	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_non_null(strstr(text, "\n\none cold start; lan: 50 ms, 100 Mbit/s (ratios with their 95 % intervals)\n"
	                             "  python: contentd 200 ms, "));
}

/* Nor do two cases that failed look the same. */
static void test_failures(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf page = BUF_INIT;

	add_at(&d, 1, "burst", "python", "gzip", "podman", "\"count\":8,\"error\":\"no\",\"metrics\":{}");
	add_at(&d, 1, "burst", "python", "gzip", "podman", "\"count\":50,\"error\":\"no\",\"metrics\":{}");
	add_at(&d, 50, "start", "python", "gzip", "podman",
	       "\"faults\":\"reset 1 /b\",\"error\":\"no\",\"metrics\":{}");
	analysis_init(&d.a, &d.set, NULL);
	table_of_failures(&d.a, &page);
	assert_non_null(
	    strstr(buf_cstr(&page), ">burst, python \u00d7 8, podman, lan<small>1 ms, 100 Mbit/s</small></td>"));
	assert_non_null(
	    strstr(buf_cstr(&page), ">burst, python \u00d7 50, podman, lan<small>1 ms, 100 Mbit/s</small></td>"));
	assert_non_null(strstr(buf_cstr(&page),
	                       ">start, python, podman, lan<small>50 ms, 100 Mbit/s, faults: reset 1 /b</small></td>"));
}

/* An image that an engine failed to start is in no mean, so the mean says so and is not one of all images. */
static void test_means_of_failures(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf means = BUF_INIT;

	for (int i = 0; i < 5; i++) {
		add(&d, "start", "java", "gzip", "containerd", "\"metrics\":{\"ready_ms\":1000}");
		add(&d, "start", "java", "gzip", "contentd", "\"metrics\":{\"ready_ms\":600}");
		add(&d, "start", "java", "gzip", "podman", "\"error\":\"no\",\"metrics\":{}");
		add(&d, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":100}");
		add(&d, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":60}");
		add(&d, "start", "python", "gzip", "podman", "\"metrics\":{\"ready_ms\":30}");
		add(&d, "start", "python", "gzip", "containerd-crun", "\"metrics\":{\"ready_ms\":20}");
		add(&d, "start", "java", "gzip", "new", "\"error\":\"no\",\"metrics\":{}");
	}
	analysis_init(&d.a, &d.set, NULL);
	table_of_means(&d.a, "start", &means);
	assert_non_null(strstr(buf_cstr(&means), "<td><b class=\"faster\">0.60</b></td>"));
	assert_non_null(
	    strstr(buf_cstr(&means), "<td><b class=\"mixed\">0.30</b><small>1 failed; 1 of 2 images</small></td>"));
	assert_non_null(strstr(buf_cstr(&means), "<td><b class=\"faster\">0.20</b><small>1 of 2 images</small></td>"));
	assert_non_null(strstr(buf_cstr(&means), "<td><b class=\"mixed\">\u2013</b><small>1 failed</small></td>"));
}

/* A program that ran in one repetition of four. */
static void test_programs(void **state)
{
	AUTO(data) struct data d = {0};

	add(&d, "start", "python", "gzip", "x",
	    "\"metrics\":{\"cpu_s\":2,\"cpu_s.gzip\":1,\"processes.gzip\":1,\"peak_bytes.gzip\":500}");
	for (int i = 0; i < 3; i++)
		add(&d, "start", "python", "gzip", "x", "\"metrics\":{\"cpu_s\":1}");
	add(&d, "start", "python", "gzip", "x", "\"error\":\"broke\",\"metrics\":{\"cpu_s\":1}");
	analysis_init(&d.a, &d.set, NULL);
	NEAR(cell_median(d.a.cells.p, "cpu_s.gzip"), 0);
	assert_int_equal(cell_measure(d.a.cells.p, "cpu_s.gzip")->s.n, 4);
	NEAR(cell_measure(d.a.cells.p, "cpu_s.gzip")->s.max, 1);
	NEAR(cell_median(d.a.cells.p, "processes.gzip"), 0);
	NEAR(cell_median(d.a.cells.p, "peak_bytes.gzip"), 500);
}

/* The least value is the low end of an interval, and lies to the right of the names. */
static void test_overview_has_room_for_intervals(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf svg = BUF_INIT;
	const int ms[] = {10, 10, 1000, 1000, 1000};
	const char *line;

	for (size_t i = 0; i < ARRAY_LEN(ms); i++) {
		AUTO_FREE char *metrics = xasprintf("\"metrics\":{\"ready_ms\":%d}", ms[i]);

		add(&d, "start", "python", "gzip", "x", metrics);
	}
	analysis_init(&d.a, &d.set, NULL);
	assert_true(d.a.cells.p[0].figure->s.ci.low < 20);
	assert_int_equal(picture_overview(&d.a, "start", &svg), 1);
	line = strstr(buf_cstr(&svg), "class=\"line k");
	assert_non_null(line);
	line = strstr(line, "x1=\"");
	assert_non_null(line);
	/* the axis begins at 78, where what lies before it is cut */
	assert_true(strtod(line + strlen("x1=\""), NULL) > 78);
}

static void test_answers(void **state)
{
	AUTO(data) struct data d = {0};
	struct answer n;
	size_t at = 0;

	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "estargz", "contentd", 200);
	add_starts(&d, "start", "estargz", "containerd-contentd", 100);
	add_starts(&d, "start", "esgz", "containerd-stargz", 300);
	add_starts(&d, "start", "esgz-opt", "containerd-stargz", 201);
	add_starts(&d, "warm", "gzip", "containerd", 100);
	add_starts(&d, "warm", "gzip", "contentd", 50);
	analysis_init(&d.a, &d.set, NULL);
	assert_string_equal(answer_engine(&d.a), "contentd");
	assert_true(answer_next(&d.a, &at, &n));
	assert_string_equal(n.subject->label, "contentd:estargz");         /* of warm starts it has another one */
	assert_string_equal(n.rival->label, "containerd-stargz:esgz-opt"); /* ours is no rival of ours */
	{
		AUTO(words) struct words to_reference;
		AUTO(words) struct words to_rival;

		words_init(&to_reference, n.subject, n.subject->reference, &n.subject->to_reference);
		assert_string_equal(to_reference.class, "faster");
		assert_string_equal(buf_cstr(&to_reference.verdict), "5.0 \u00d7 faster");
		assert_string_equal(buf_cstr(&to_reference.relation), "than containerd");
		assert_string_equal(buf_cstr(&to_reference.interval), "4.9\u20135.2");
		words_init(&to_rival, n.subject, n.rival, &n.to_rival);
		assert_string_equal(to_rival.class, "cannot");
		assert_string_equal(buf_cstr(&to_rival.verdict), "cannot be told");
		assert_string_equal(buf_cstr(&to_rival.relation), "from containerd-stargz:esgz-opt");
	}
	assert_false(answer_next(&d.a, &at, &n)); /* warm starts are what others are measured by */
	analysis_fini(&d.a);
	analysis_init(&d.a, &d.set, "containerd-stargz:esgz-opt");
	at = 0;
	assert_true(answer_next(&d.a, &at, &n));
	assert_null(n.rival); /* the best of the others is the reference */
	analysis_fini(&d.a);
	analysis_init(&d.a, &d.set, "contentd");
	at = 0;
	assert_false(answer_next(&d.a, &at, &n)); /* nothing to compare it with */
}

/* What failed is not left out of the answer. */
static void test_answers_of_failures(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(words) struct words w = {0};
	AUTO(buf) struct buf page = BUF_INIT;
	AUTO_FREE char *text = NULL;
	struct answer n;
	size_t bytes, at = 0;
	FILE *f = open_memstream(&text, &bytes);

	add(&d, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":100}");
	add(&d, "start", "python", "gzip", "contentd", "\"error\":\"no\",\"metrics\":{}");
	add(&d, "start", "redis", "gzip", "containerd", "\"error\":\"no\",\"metrics\":{}");
	add(&d, "start", "redis", "gzip", "contentd", "\"metrics\":{\"ready_ms\":100}");
	add(&d, "start", "redis", "gzip", "contentd", "\"error\":\"no\",\"metrics\":{}");
	analysis_init(&d.a, &d.set, NULL);
	assert_true(answer_next(&d.a, &at, &n) && answer_next(&d.a, &at, &n));
	words_init(&w, n.subject, n.subject->reference, &n.subject->to_reference);
	assert_string_equal(buf_cstr(&w.verdict), "no comparison");
	assert_string_equal(buf_cstr(&w.relation), "with containerd, which failed");
	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_non_null(strstr(text, "  python: contentd failed each time (1)\n"));
	assert_non_null(
	    strstr(text, "  redis: contentd 100 ms, no comparison with containerd, which failed, 1 of 2 failed\n"));
	page_answers(&d.a, &page);
	assert_non_null(strstr(buf_cstr(&page), "<b class=\"slower\">failed</b> each time (1)"));
	assert_non_null(strstr(buf_cstr(&page), "<b class=\"slower\">1 of 2</b> failed"));
}

/* An engine that failed four times of five is not beaten, nor the best of the others, without a word. */
static void test_answers_beside_failures(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(words) struct words few = {0};
	AUTO(words) struct words told = {0};
	AUTO_FREE char *text = NULL;
	struct answer n;
	size_t bytes, at = 0;
	FILE *f = open_memstream(&text, &bytes);

	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "estargz", "contentd", 500);
	add(&d, "start", "python", "gzip", "containerd", "\"error\":\"no\",\"metrics\":{}");
	add(&d, "start", "python", "esgz", "containerd-stargz", "\"metrics\":{\"ready_ms\":100}");
	for (int i = 0; i < 4; i++)
		add(&d, "start", "python", "esgz", "containerd-stargz", "\"error\":\"no\",\"metrics\":{}");
	analysis_init(&d.a, &d.set, NULL);
	assert_true(answer_next(&d.a, &at, &n));
	assert_string_equal(n.rival->label, "containerd-stargz");
	words_init(&told, n.subject, n.subject->reference, &n.subject->to_reference);
	assert_string_equal(buf_cstr(&told.relation), "than containerd (1 of 8 failed)");
	words_init(&few, n.subject, n.rival, &n.to_rival);
	assert_string_equal(buf_cstr(&few.relation), "beside containerd-stargz (4 of 5 failed)");
	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_non_null(strstr(text, "beside containerd-stargz (4 of 5 failed)\n"));
}

static void test_answers_of_few(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(words) struct words w = {0};
	struct answer n;
	size_t at = 0;

	add(&d, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":100}");
	add(&d, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":10}");
	analysis_init(&d.a, &d.set, NULL);
	assert_true(answer_next(&d.a, &at, &n));
	words_init(&w, n.subject, n.subject->reference, &n.subject->to_reference);
	assert_string_equal(buf_cstr(&w.verdict), "too few repetitions");
	assert_string_equal(buf_cstr(&w.relation), "beside containerd");
	assert_string_equal(buf_cstr(&w.interval), "");
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
	assert_true(isnan(cell_interval(find(&d, "contentd", "start")).low));
	assert_false(isnan(cell_interval(find(&d, "containerd", "start")).low));
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
	add_header(&d, "python:gzip", 4000000);
	analysis_init(&d.a, &d.set, NULL);
	c = find(&d, "contentd:estargz", "start");
	NEAR(c->warm->s.median, 100); /* the plain one's */
	NEAR(c->to_warm, 6);
	NEAR(c->touched_bytes, 2500000);
	NEAR(c->t_serial_ms, 100 + 4 * 10 + 200); /* 2.5 MB at 12.5 MB/s */
	c = find(&d, "containerd-stargz", "start");
	NEAR(c->warm->s.median, 200);
	assert_true(isnan(c->touched_bytes) && isnan(c->t_serial_ms));
	c = find(&d, "containerd",
	         "start"); /* all layers, since it has no chunks, and nothing of what else was fetched */
	NEAR(cell_median(c, "net.bytes"), 5000000);
	NEAR(c->touched_bytes, 4000000);
	NEAR(c->t_serial_ms, 200 + 4 * 10 + 320);
	NEAR(find(&d, "containerd-crun", "start")->warm->s.median, 150);
	assert_null(find(&d, "podman", "start")->warm);
	assert_null(find(&d, "containerd", "warm")->warm);
}

static void test_sizes_of_layers(void **state)
{
	AUTO(data) struct data d = {0};

	add_starts(&d, "start", "gzip", "containerd", 1000);
	add_starts(&d, "start", "zstd", "contentd", 500);
	add_starts(&d, "warm", "gzip", "containerd", 200);
	add_starts(&d, "warm", "gzip", "contentd-plain", 100);
	analysis_init(&d.a, &d.set, NULL); /* no header says anything */
	assert_true(isnan(find(&d, "containerd", "start")->touched_bytes));
	assert_true(isnan(find(&d, "containerd", "start")->t_serial_ms));
	analysis_fini(&d.a);
	add_header(&d, "python:gzip", 4000000);
	add_header(&d, "python:zstd", 3000000);
	add_header(&d, "python:gzip", 4000000);
	analysis_init(&d.a, &d.set, NULL); /* each run what it knows */
	NEAR(find(&d, "containerd", "start")->touched_bytes, 4000000);
	NEAR(find(&d, "contentd", "start")->touched_bytes, 3000000);
	analysis_fini(&d.a);
	add_header(&d, "python:gzip", 4000001);
	analysis_init(&d.a, &d.set, NULL); /* two images of one name */
	assert_true(isnan(find(&d, "containerd", "start")->touched_bytes));
	NEAR(find(&d, "contentd", "start")->touched_bytes, 3000000);
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
	add_header(&d, "python:gzip", 4000000);
	assert_int_equal(report_print_table(&d.set, f), 0);
	fclose(f);
	assert_string_equal(
	    text, "one cold start; lan: 10 ms, 100 Mbit/s (ratios with their 95 % intervals)\n"
		  "  python: contentd 500 ms, 2.0 \u00d7 faster than containerd (1.94\u20132.1), 1 of 8 failed\n"
		  "\n"
		  "start: one cold start; lan: 10 ms, 100 Mbit/s\n"
		  "image   engine      n  median s  95 %       / containerd              / W  / T_serial   MB   / B\n"
		  "python  contentd    7      0.50  0.48-0.52          0.50  faster                       5.0        "
		  "1 failed: broke?[1m again\n"
		  "        containerd  7      1.00  0.97-1.03                reference  4.00        1.64  5.0  1.25\n"
		  "\n"
		  "warm: a start of an image that is there; lan: 10 ms, 100 Mbit/s\n"
		  "image   engine      n  median ms  95 %                 MB\n"
		  "python  containerd  7        250  242-258  reference  5.0\n"
		  "\n"
		  "1 of 22 samples failed.\n");
}

static void says(struct buf *page, size_t n, const char *what)
{
	AUTO_FREE char *note = xasprintf(">Beyond what is shown here: %zu %s; the CSV has all.<", n, what);

	if (!strstr(buf_cstr(page), note))
		fail_msg("no '%s' in it", note);
	buf_clear(page);
}

static void test_too_many_engines(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf page = BUF_INIT;
	struct part all;

	for (int i = 0; i < 46; i++) {
		AUTO_FREE char *engine = i ? xasprintf("e%02d", i) : xstrdup("containerd");

		add(&d, "start", "python", "gzip", engine,
		    "\"metrics\":{\"ready_ms\":100,\"phase.ready_ms\":50,\"cpu_s\":1}");
	}
	analysis_init(&d.a, &d.set, NULL);
	all = (struct part){d.a.cells.p, d.a.cells.p + d.a.cells.n};
	picture_bars(&all, "cpu_s", &page);
	says(&page, 6, "engines");
	picture_phases(&all, &page);
	says(&page, 6, "engines");
	legend_engines(&all, &page);
	says(&page, 6, "engines");
	table_of_metrics(&d.a, 0, d.a.cells.n, &page);
	says(&page, 6, "engines");
	table_of_means(&d.a, "start", &page);
	says(&page, 5, "engines"); /* the reference has no row */
}

static void test_too_many_images(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf page = BUF_INIT;
	struct part all;

	for (int i = 0; i < 401; i++) {
		AUTO_FREE char *image = xasprintf("i%03d", i);

		add(&d, "start", image, "gzip", "containerd", "\"metrics\":{\"ready_ms\":200,\"cpu_s\":1}");
		add(&d, "start", image, "gzip", "contentd", "\"metrics\":{\"ready_ms\":100,\"cpu_s\":1}");
	}
	analysis_init(&d.a, &d.set, NULL);
	all = (struct part){d.a.cells.p, d.a.cells.p + d.a.cells.n};
	assert_int_equal(picture_bars(&all, "cpu_s", &page), 60);
	says(&page, 341, "images");
	assert_int_equal(picture_cdf(&all, &page), 60);
	says(&page, 341, "images");
	picture_overview(&d.a, "start", &page);
	says(&page, 361, "images");
	table_of_metrics(&d.a, 0, d.a.cells.n, &page);
	says(&page, 351, "images");
	page_answers(&d.a, &page);
	says(&page, 1, "answers");
}

static void test_too_many_networks(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf page = BUF_INIT;
	sources from = VEC_INIT;

	for (int i = 1; i <= 62; i++) {
		add_at(&d, i, "start", "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":200}");
		add_at(&d, i, "start", "python", "gzip", "contentd", "\"metrics\":{\"ready_ms\":100}");
	}
	analysis_init(&d.a, &d.set, NULL);
	assert_int_equal(picture_overview(&d.a, "start", &page), 60);
	says(&page, 2, "networks");
	assert_int_equal(picture_networks(&d.a, "start", &page), 1);
	says(&page, 76, "cases"); /* an axis has 24 networks */
	table_of_means(&d.a, "start", &page);
	says(&page, 22, "networks");
	vec_push(&from, (struct source){0});
	page_run(&d.a, &from, &page);
	says(&page, 22, "networks");
	vec_fini(&from);
}

static void test_too_many_modes(void **state)
{
	AUTO(data) struct data d = {0};
	AUTO(buf) struct buf page = BUF_INIT;
	sources from = VEC_INIT;

	for (int i = 0; i < 22; i++) {
		AUTO_FREE char *mode = xasprintf("m%02d", i);

		add(&d, mode, "python", "gzip", "containerd", "\"metrics\":{\"ready_ms\":200}");
	}
	analysis_init(&d.a, &d.set, NULL);
	vec_push(&from, (struct source){0});
	page_write(&d.a, &from, &page);
	says(&page, 2, "modes");
	vec_fini(&from);
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
	    cmocka_unit_test(test_cases_and_order),
	    cmocka_unit_test(test_measures),
	    cmocka_unit_test(test_reference),
	    cmocka_unit_test(test_more_is_better),
	    cmocka_unit_test(test_too_few),
	    cmocka_unit_test(test_warm_and_serial),
	    cmocka_unit_test(test_sizes_of_layers),
	    cmocka_unit_test(test_networks_of_one_name),
	    cmocka_unit_test(test_failures),
	    cmocka_unit_test(test_networks_with_faults),
	    cmocka_unit_test(test_means_of_failures),
	    cmocka_unit_test(test_programs),
	    cmocka_unit_test(test_overview_has_room_for_intervals),
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_answers_of_few),
	    cmocka_unit_test(test_answers_of_failures),
	    cmocka_unit_test(test_answers_beside_failures),
	    cmocka_unit_test(test_table),
	    cmocka_unit_test(test_table_of_nothing),
	    cmocka_unit_test(test_too_many_engines),
	    cmocka_unit_test(test_too_many_images),
	    cmocka_unit_test(test_too_many_networks),
	    cmocka_unit_test(test_too_many_modes),
	};

	return cmocka_run_group_tests_name("coldbench_analysis", tests, NULL, NULL);
}
