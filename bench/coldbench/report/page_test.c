#include "bench/coldbench/report/csv.h"
#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page.h"
#include "bench/coldbench/report/report.h"
#include "bench/coldbench/report/svg.h"

#include "base/file.h"
#include "base/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

static char folder[] = "/tmp/coldbench-report.XXXXXX";

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	AUTO_FD int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir_remove(tmp, folder + strlen("/tmp/"), NULL);
}

/* Of the image in the raw data below, in which 5 MB are fetched. */
static unsigned layer_bytes = 4000000;

/* Raw data of seven starts by three engines over two networks, with an engine's name as given. */
static void write_data(const char *name, const char *engine, const char *machine)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
	const char *const engines[] = {"containerd", engine, "contentd"};

	buf_addf(
	    &text,
	    "{\"coldbench\":1,\"suite\":\"quick\",\"title\":\"A <b>title</b>\",\"command\":\"coldbench run x\","
	    "\"begun\":\"2026-01-02T03:04:05Z\",\"machine\":{\"cpu\":\"%s\"},\"engines\":{\"podman\":\"podman 5\"},"
	    "\"images\":{\"python:gzip\":{\"layer_bytes\":%u,\"layers\":1}},"
	    "\"skipped\":{\"nydus\":\"is not there\"}}\n",
	    machine, layer_bytes);
	for (unsigned i = 0; i < 42; i++)
		buf_addf(&text,
		         "{\"group\":\"g\",\"mode\":\"start\",\"image\":\"python\",\"form\":\"gzip\",\"engine\":\"%s\","
		         "\"network\":\"%s\",\"rtt_ms\":%d,\"mbit\":1000,\"repetition\":%u,\"order\":%u,\"at\":\"t\","
		         "\"metrics\":"
		         "{\"ready_ms\":%u,\"phase.unpack_ms\":200,\"phase.ready_ms\":100,\"net.bytes\":5000000,"
		         "\"cpu_s.runc\":0.25,\"noise.spin_ms\":20}}\n",
		         engines[i % 3], i % 2 ? "lan" : "wan", i % 2 ? 1 : 50, i / 6, i, 600 - 100 * (i % 3) + i);
	OK(file_write_atomic(AT_FDCWD, path, buf_str(&text), 0644, err));
}

static char *read_back(const char *name)
{
	AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
	struct buf text = BUF_INIT;

	OK(file_read(AT_FDCWD, path, 16 << 20, &text, err));
	return buf_steal(&text);
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in it", part);
}

static void has_not(const char *text, const char *part)
{
	if (strstr(text, part))
		fail_msg("there is '%s' in it", part);
}

static void test_escaping(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO(buf) struct buf cut = BUF_INIT;

	html_text(&b, "<a href=\"x\">&'\x01\xff\u00e9\n");
	assert_string_equal(buf_cstr(&b), "&lt;a href=&quot;x&quot;&gt;&amp;&#39; \ufffd\u00e9 ");
	html_text_cut(&cut, "\u00e9\u00e9\u00e9", 2);
	assert_string_equal(buf_cstr(&cut), "\u00e9\u00e9\u2026");
	buf_clear(&cut);
	html_text_cut(&cut, "\u00e9\u00e9", 2);
	assert_string_equal(buf_cstr(&cut), "\u00e9\u00e9");
	html_text(&cut, NULL);
}

static void test_axes(void **state)
{
	struct axis line = {.min = 0, .max = 10, .from = 100, .to = 200};
	struct axis log = {.min = 1, .max = 100, .from = 0, .to = 10, .log = true};
	struct axis narrow = {.min = 5.5, .max = 10.5, .from = 0, .to = 10, .log = true};
	struct axis flat = {.min = 5, .max = 5, .from = 7, .to = 9};
	double ticks[10];

	assert_true(axis_at(&line, 5) == 150);
	assert_true(fabs(axis_at(&log, 10) - 5) < 1e-9);
	assert_true(axis_at(&log, 0) == 0); /* what a logarithm does not have lies at its edge */
	assert_true(axis_at(&flat, 5) == 7);
	assert_int_equal(axis_ticks(&line, ticks, 6), 6);
	assert_true(ticks[1] == 2 && ticks[5] == 10);
	assert_int_equal(axis_ticks(&log, ticks, 10), 7);
	assert_true(ticks[0] == 1 && ticks[1] == 2 && ticks[2] == 5 && ticks[6] == 100);
	assert_int_equal(axis_ticks(&log, ticks, 3), 3);
	assert_true(ticks[2] == 100);
	assert_int_equal(axis_ticks(&narrow, ticks, 6), 5);
	assert_true(ticks[0] == 6 && ticks[4] == 10);
	assert_int_equal(axis_ticks(&flat, ticks, 6), 0);
}

static void test_steps(void **state)
{
	static double many[10000];
	struct axis x = {.min = 0, .max = 10, .from = 0, .to = 10}, y = {.min = 0, .max = 1, .from = 100, .to = 0};
	const double values[] = {2, 4};
	AUTO(buf) struct buf b = BUF_INIT;

	svg_steps(&b, &x, &y, values, 2, "line");
	assert_string_equal(buf_cstr(&b),
	                    "<polyline class=\"line\" points=\"2.0,100.0 2.0,50.0 4.0,50.0 4.0,0.0 \"/>\n");
	buf_clear(&b);
	svg_steps(&b, &x, &y, many, ARRAY_LEN(many), "line");
	assert_true(b.n < 8000);
	has(buf_cstr(&b), "0.0,0.0 \"/>");
}

/* A brace too few, and the rest of the sheet is lost. */
static void test_style(void **state)
{
	int depth = 0;

	for (const char *p = PAGE_STYLE; *p; p++) {
		depth += (*p == '{') - (*p == '}');
		assert_in_range(depth, 0, 3);
	}
	assert_int_equal(depth, 0);
	has_not(PAGE_STYLE, "</");
}

static void test_page(void **state)
{
	AUTO_FREE char *data = xasprintf("%s/a.jsonl", folder);
	AUTO_FREE char *page = xasprintf("%s/a.html", folder);
	AUTO_FREE char *csv = xasprintf("%s/a.csv", folder);
	AUTO_FREE char *html = NULL;

	write_data("a.jsonl", "<script>alert(1)</script>", "fast & new");
	OK(report_write(data, page, csv, err));
	html = read_back("a.html");
	has_not(html, "<script");
	has(html, "&lt;script&gt;alert(1)&lt;/script&gt;");
	has(html, "<title>A &lt;b&gt;title&lt;/b&gt;</title>");
	has(html, "fast &amp; new");
	has(html, "<a href=\"./a.jsonl\">");
	has(html, "prefers-color-scheme:dark");
	has(html, "coldbench run x");
	assert_true(strstr(html, "coldbench run x") < strstr(html, "id=\"answer\""));
	assert_true(strstr(html, "id=\"answer\"") < strstr(html, "id=\"summary\""));
	has(html, " It is ahead of that one in 2 of 2 cold starts and behind in 0.");
	has(html, "Forms of the images: contentd gzip, ");
	has_not(html, "<details><summary>lan"); /* both networks are open: neither's losses are folded away */
	has_not(html, "<details><summary>wan");
	has(html, "<b>python</b>: contentd ");
	has(html, "\u00d7 faster</b> than containerd ");
	has(html, "</tbody></table></div>\n<details><summary>All metrics"); /* of the start, too */
	has(html, "<code>noise.spin_ms</code>");
	has(html, "is not there");
	has(html, "class=\"p2\"");          /* phases */
	has(html, "python, by round trip"); /* networks */
	has(html, "id=\"spread\"");
	has(html, "<td class=\"l faster\">faster</td>");
	has(html, "<td>250 ms</td>");          /* runc's */
	has(html, "<td class=\"\">1.25</td>"); /* of B */
	has(html, "None of 42 repetitions failed.");
	has_not(html, "http://"); /* nothing from elsewhere */
	has_not(html, "https://");
	has_not(html, "nan");
	has_not(html, "inf\"");
}

static void test_csv(void **state)
{
	AUTO_FREE char *data = xasprintf("%s/b.jsonl", folder);
	AUTO_FREE char *csv = xasprintf("%s/b.csv", folder);
	AUTO_FREE char *samples = NULL;
	AUTO_FREE char *summary = NULL;

	write_data("b.jsonl", "x, \\\"y\\\"", "m");
	OK(report_write(data, NULL, csv, err));
	samples = read_back("b.csv");
	summary = read_back("b-summary.csv");
	has(samples, "group,mode,image,form,engine,network,rtt_ms,mbit,faults,count,repetition,order,at,error,cpu_s."
	             "runc,net.bytes,"
	             "noise.spin_ms,phase.ready_ms,phase.unpack_ms,ready_ms\n"
	             "g,start,python,gzip,containerd,wan,50,1000,,1,0,0,t,,0.25,5000000,20,100,200,600\n"
	             "g,start,python,gzip,\"x, \"\"y\"\"\",lan,1,1000,,1,0,1,t,,0.25,5000000,20,100,200,501\n");
	has(summary, "start,python,gzip,contentd,lan,1,1000,,1,0,ready_ms,7,423,");
}

/* A page can be made anew from what is kept beside it, whatever the paths look like. */
static void test_made_again(void **state)
{
	AUTO_FREE char *sub = xasprintf("%s/kept", folder);
	AUTO_FREE char *data = xasprintf("%s/kept/a #1 %%.jsonl", folder);
	AUTO_FREE char *page = xasprintf("%s/kept/./report.html", folder);
	AUTO_FREE char *once = NULL;
	AUTO_FREE char *again = NULL;
	const char *paths[] = {sub};
	struct report_options o = {.paths = paths, .n_paths = 1, .html = page, .warnings = stderr};

	assert_int_equal(mkdir(sub, 0700), 0);
	write_data("kept/a #1 %.jsonl", "x", "m");
	OK(report_write(data, page, NULL, err));
	once = read_back("kept/report.html");
	OK(report_make(&o, err));
	again = read_back("kept/report.html");
	assert_string_equal(once, again);
	has(once, "<a href=\"./a%20%231%20%25.jsonl\">a #1 %.jsonl</a>");
}

static void test_too_many_files(void **state)
{
	AUTO_FREE char *sub = xasprintf("%s/many", folder);
	const char *paths[] = {sub};
	struct report_options o = {.paths = paths, .n_paths = 1, .warnings = stderr};
	AUTO_FREE char *last = xasprintf("%s/many/256.jsonl", folder);

	assert_int_equal(mkdir(sub, 0700), 0);
	for (int i = 0; i <= 256; i++) {
		AUTO_FREE char *name = xasprintf("many/%d.jsonl", i);

		write_data(name, "x", "m");
	}
	FAILS(report_make(&o, err), ERR_EXHAUSTED);
	assert_int_equal(unlink(last), 0);
	OK(report_make(&o, err));
}

/* More columns than a table has room for are an error, not left out. */
static void test_too_many_metrics(void **state)
{
	AUTO(sample_set) struct sample_set set = {0};
	AUTO(buf) struct buf out = BUF_INIT;
	struct network network = {.name = (char *)"lan"};
	struct bench_case c = {
	    .group = "g", .mode = "start", .image = "i", .engine = "e", .form = "f", .network = &network, .count = 1};

	for (unsigned i = 0; i < 1025; i++) {
		struct sample *s = vec_add(&set.samples);

		sample_init(s, &c, i, i);
		for (int k = 0; k < 4; k++)
			sample_setf(s, k, "metric-%u-%d", i, k);
		if (i == 1023)
			OK(csv_samples(&set, &out, err));
	}
	has(buf_cstr(&out), ",metric-1023-3");
	FAILS(csv_samples(&set, &out, err), ERR_EXHAUSTED);
}

static void test_merging(void **state)
{
	AUTO_FREE char *warned = NULL;
	AUTO_FREE char *printed = NULL;
	size_t n_warned, n_printed;
	FILE *warnings = open_memstream(&warned, &n_warned), *out = open_memstream(&printed, &n_printed);
	AUTO_FREE char *sub = xasprintf("%s/two", folder);
	const char *paths[] = {sub};
	struct report_options o = {.paths = paths, .n_paths = 1, .out = out, .warnings = warnings};

	assert_int_equal(mkdir(sub, 0700), 0);
	write_data("two/1.jsonl", "x", "m");
	write_data("two/2.jsonl", "x", "other");
	OK(report_make(&o, err));
	fclose(warnings);
	fclose(out);
	has(warned, "two/1.jsonl and ");
	has(warned, "different machines");
	has(printed, "python  contentd    14 "); /* 7 and 7 */
	has(printed, "  1.25\n");
}

/* Whether the bytes fetched were too many cannot be told when the runs had different images. */
static void test_merging_of_different_images(void **state)
{
	AUTO_FREE char *printed = NULL;
	size_t n;
	FILE *out = open_memstream(&printed, &n);
	AUTO_FREE char *sub = xasprintf("%s/images", folder);
	const char *paths[] = {sub};
	struct report_options o = {.paths = paths, .n_paths = 1, .out = out, .warnings = stderr};

	assert_int_equal(mkdir(sub, 0700), 0);
	write_data("images/1.jsonl", "x", "m");
	layer_bytes = 4500000;
	write_data("images/2.jsonl", "x", "m");
	layer_bytes = 4000000;
	OK(report_make(&o, err));
	fclose(out);
	has(printed, "python  contentd    14 ");
	has_not(printed, "/ B");
}

static void test_what_is_not_there(void **state)
{
	AUTO_FREE char *none = xasprintf("%s/none.jsonl", folder);
	AUTO_FREE char *data = xasprintf("%s/c.jsonl", folder);
	AUTO_FREE char *empty = xasprintf("%s/empty", folder);
	const char *paths[] = {data};
	struct report_options o = {.paths = paths, .n_paths = 1, .reference = "nydus", .warnings = stderr};

	FAILS(report_write(none, NULL, NULL, err), ERR_NOT_FOUND);
	write_data("c.jsonl", "x", "m");
	FAILS(report_make(&o, err), ERR_NOT_FOUND);
	o.reference = "x:gzip";
	OK(report_make(&o, err));
	assert_int_equal(mkdir(empty, 0700), 0);
	paths[0] = empty;
	FAILS(report_make(&o, err), ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_escaping),
	    cmocka_unit_test(test_axes),
	    cmocka_unit_test(test_steps),
	    cmocka_unit_test(test_style),
	    cmocka_unit_test(test_page),
	    cmocka_unit_test(test_csv),
	    cmocka_unit_test(test_made_again),
	    cmocka_unit_test(test_too_many_files),
	    cmocka_unit_test(test_too_many_metrics),
	    cmocka_unit_test(test_merging),
	    cmocka_unit_test(test_merging_of_different_images),
	    cmocka_unit_test(test_what_is_not_there),
	};

	return cmocka_run_group_tests_name("coldbench_page", tests, make_folder, remove_folder);
}
