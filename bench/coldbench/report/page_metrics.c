/* Tables of all that was measured: metrics, programs, failures. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define COLUMNS_MAX 40
#define IMAGES_MAX 50

/* ---- all metrics ---- */

static bool is_named_before(const struct analysis *a, size_t from, const struct cell *c, const char *metric)
{
	for (size_t i = from; &a->cells.p[i] < c; i++)
		if (cell_measure(&a->cells.p[i], metric))
			return true;
	return false;
}

/* A row of a metric, for cells [from, to) of one image. */
static void metric_row(const struct analysis *a, size_t from, size_t to, const char *metric, struct buf *out)
{
	buf_adds(out, "<tr><th scope=\"row\" class=\"l soft\"><code>");
	html_text_cut(out, metric, 80);
	buf_adds(out, "</code></th>");
	for (size_t i = from; i < to; i++)
		table_quantity(out, metric, cell_median(&a->cells.p[i], metric));
	buf_adds(out, "</tr>\n");
}

static void metrics_of_image(const struct analysis *a, size_t from, size_t end, struct buf *out)
{
	size_t to = end - from > COLUMNS_MAX ? from + COLUMNS_MAX : end, rows = 0, more = 0;

	table_begin(out, " plain");
	table_head(out, "l", "Median of");
	for (size_t i = from; i < to; i++)
		table_head(out, "", a->cells.p[i].label);
	table_body(out);
	for (size_t i = from; i < to; i++)
		vec_each(&a->cells.p[i].measures, m) {
			if (is_named_before(a, from, &a->cells.p[i], m->name))
				continue;
			if (rows++ < TABLE_ROWS_MAX / 2)
				metric_row(a, from, to, m->name, out);
			else
				more++;
		}
	table_end(out);
	table_left_out(out, more, "metrics");
	table_left_out(out, end - to, "engines");
}

void table_of_metrics(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	size_t end, images = 0;

	for (size_t i = from; i < to; i = end) {
		for (end = i + 1; end < to && cell_same_image(&a->cells.p[i], &a->cells.p[end]); end++)
			;
		if (images++ >= IMAGES_MAX)
			continue;
		buf_adds(out, "<h4>");
		html_text(out, a->cells.p[i].image);
		if (a->cells.p[i].count != 1)
			buf_addf(out, " \u00d7 %u", a->cells.p[i].count);
		buf_adds(out, "</h4>\n");
		metrics_of_image(a, i, end, out);
	}
	table_left_out(out, images > IMAGES_MAX ? images - IMAGES_MAX : 0, "images");
}

/* ---- processes ---- */

static void process_cells(const struct cell *c, const char *program, struct buf *out)
{
	static const char *const metrics[] = {"cpu_s", "peak_bytes", "processes", "majflt", "minflt"};

	for (size_t i = 0; i < ARRAY_LEN(metrics); i++) {
		AUTO_FREE char *name = xasprintf("%s.%s", metrics[i], program);

		table_quantity(out, name, cell_median(c, name));
	}
}

static size_t process_rows(const struct cell *c, struct buf *out)
{
	const char prefix[] = "cpu_s.";
	size_t rows = 0;

	vec_each(&c->measures, m) {
		const char *program = m->name + strlen(prefix);

		if (strncmp(m->name, prefix, strlen(prefix)) != 0)
			continue;
		buf_adds(out, "<tr>");
		if (rows)
			buf_adds(out, "<td></td>");
		else
			table_engine(out, c);
		buf_adds(out, "<td class=\"l\">");
		html_text_cut(out, program, 40);
		buf_adds(out, "</td>");
		process_cells(c, program, out);
		buf_adds(out, "</tr>\n");
		rows++;
	}
	return rows;
}

void table_of_processes(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	AUTO(buf) struct buf rows = BUF_INIT;
	const struct cell *last = NULL;
	size_t n = 0, i;

	for (i = from; i < to && n < TABLE_ROWS_MAX; i++) {
		const struct cell *c = &a->cells.p[i];
		AUTO(buf) struct buf more = BUF_INIT;
		size_t n_more = process_rows(c, &more);

		if (n_more && (!last || !cell_same_image(last, c)))
			table_image(&rows, last = c, 7);
		buf_addstr(&rows, buf_str(&more));
		n += n_more;
	}
	if (!n)
		return;
	table_begin(out, "");
	table_head(out, "l", "Engine");
	table_head(out, "l", "Program");
	table_head(out, "", "Processor time");
	table_head(out, "", "Peak memory");
	table_head(out, "", "Processes");
	table_head(out, "", "Major faults");
	table_head(out, "", "Minor faults");
	table_body(out);
	buf_addstr(out, buf_str(&rows));
	table_end(out);
	table_left_out(out, to - i, "cases");
}

/* ---- failures ---- */

/* Two cases may differ in nothing but the count, or the definition of the network. */
static void failed_case(struct buf *out, const struct cell *c)
{
	AUTO(buf) struct buf network = BUF_INIT;

	network_add(&network, c->rtt_ms, c->mbit, c->faults);
	html_textf(out, "%s, %s", c->mode, c->image);
	if (c->count != 1)
		buf_addf(out, " \u00d7 %u", c->count);
	html_textf(out, ", %s, %s", c->label, c->network);
	buf_adds(out, "<small>");
	html_text(out, buf_cstr(&network));
	buf_adds(out, "</small>");
}

void table_of_failures(const struct analysis *a, struct buf *out)
{
	size_t rows = 0;

	table_begin(out, " plain");
	table_head(out, "l", "Case");
	table_head(out, "", "Failed");
	table_head(out, "l", "What the first one said");
	table_body(out);
	vec_each(&a->cells, c) {
		if (!c->n_failed || rows++ >= TABLE_ROWS_MAX)
			continue;
		buf_adds(out, "<tr><td class=\"l\">");
		failed_case(out, c);
		buf_addf(out, "</td><td>%u of %u</td><td class=\"l\" style=\"white-space:normal\">", c->n_failed,
		         c->n_failed + c->n_ok);
		html_text(out, c->error);
		buf_adds(out, "</td></tr>\n");
	}
	table_end(out);
	table_left_out(out, rows > TABLE_ROWS_MAX ? rows - TABLE_ROWS_MAX : 0, "cases");
}
