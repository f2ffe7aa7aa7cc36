/* The figure of every image and engine, and what it is compared with. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

/* Which columns a part has anything for. */
struct part_columns {
	const char *figure;
	double factor, most;
	struct scale scale, wire;
	bool has_warm, has_serial, has_wire, has_touched, has_requests, has_trips, has_struck, has_ratio, has_failures;
	size_t n;
};

static struct scale scale_of(const struct analysis *a, size_t from, size_t to, const char *metric, double *factor,
                             double *most)
{
	double least = INFINITY;
	enum unit unit = unit_of(metric, factor);

	*most = 0;
	for (size_t i = from; i < to; i++) {
		double v = cell_median(&a->cells.p[i], metric) * *factor;

		if (!isfinite(v))
			continue;
		least = fmin(least, v);
		*most = fmax(*most, v);
	}
	return scale_for(unit, isfinite(least) ? least : 0, *most);
}

static struct part_columns columns_of(const struct analysis *a, size_t from, size_t to)
{
	struct part_columns k = {.figure = mode_figure(a->cells.p[from].mode)};
	double one, most;

	k.scale = scale_of(a, from, to, k.figure, &k.factor, &k.most);
	k.wire = scale_of(a, from, to, "net.bytes", &one, &most);
	for (size_t i = from; i < to; i++) {
		const struct cell *c = &a->cells.p[i];

		k.has_warm |= c->warm != NULL;
		k.has_serial |= !isnan(c->t_serial_ms);
		k.has_wire |= cell_measure(c, "net.bytes") != NULL;
		k.has_requests |= cell_measure(c, "net.requests") != NULL;
		k.has_trips |= cell_measure(c, "net.round_trips") != NULL;
		k.has_struck |= cell_measure(c, "net.faults") != NULL;
		k.has_ratio |= c->reference && c->reference != c && !isnan(c->to_reference.ratio);
		k.has_failures |= c->n_failed > 0;
		k.has_touched |= isfinite(cell_median(c, "net.bytes") / c->touched_bytes);
	}
	k.n = 5 + 3 * k.has_ratio + k.has_warm + k.has_serial + k.has_wire + k.has_touched + k.has_requests +
	      k.has_trips + k.has_struck + k.has_failures;
	return k;
}

static void part_head(const struct analysis *a, const struct part_columns *k, struct buf *out)
{
	AUTO_FREE char *ratio = xasprintf("/ %s", a->reference);
	AUTO_FREE char *wire = xasprintf("Wire, %s", k->wire.name);
	AUTO_FREE char *median = *k->scale.name ? xasprintf("Median, %s", k->scale.name) : xstrdup("Median");

	table_begin(out, "");
	table_head(out, "l", "Engine");
	table_head(out, "bar", "");
	table_head(out, "", median);
	table_head(out, "", "95 %");
	if (k->has_ratio) {
		table_head(out, "", ratio);
		table_head(out, "", "95 %");
		table_head(out, "l", "Verdict");
	}
	if (k->has_warm)
		table_head(out, "", "/ W");
	if (k->has_serial)
		buf_adds(out, "<th scope=\"col\">/ T<sub>serial</sub></th>");
	if (k->has_wire)
		table_head(out, "", wire);
	if (k->has_touched)
		table_head(out, "", "/ B");
	if (k->has_requests)
		table_head(out, "", "Requests");
	if (k->has_trips)
		table_head(out, "", "Trips");
	if (k->has_struck)
		table_head(out, "", "Struck");
	table_head(out, "", "n");
	if (k->has_failures)
		table_head(out, "", "Failed");
	table_body(out);
}

static void scaled_td(struct buf *out, const char *class, const struct scale *s, double value)
{
	buf_addf(out, "<td class=\"%s\">", class);
	scale_add(out, s, value);
	buf_adds(out, "</td>");
}

static void interval_td(struct buf *out, const struct scale *s, struct interval ci, double factor)
{
	if (isnan(ci.low)) {
		table_dash(out);
		return;
	}
	buf_adds(out, "<td class=\"soft\">");
	scale_add(out, s, ci.low * factor);
	buf_adds(out, "\u2013");
	scale_add(out, s, ci.high * factor);
	buf_adds(out, "</td>");
}

static void ratio_td(struct buf *out, const char *class, double ratio)
{
	buf_addf(out, "<td class=\"%s\">", class);
	ratio_add(out, ratio);
	buf_adds(out, "</td>");
}

static void count_td(struct buf *out, double value)
{
	if (!isfinite(value))
		table_dash(out);
	else
		buf_addf(out, "<td>%.0f</td>", value);
}

static const char *verdict_class(const struct cell *c)
{
	const char *verdict = cell_verdict(c);

	return !strcmp(verdict, "cannot tell") || !strcmp(verdict, "too few") ? "cannot" : verdict;
}

static void comparison_tds(struct buf *out, const struct cell *c)
{
	if (c->reference == c) {
		buf_adds(out, "<td class=\"soft\">1</td><td></td><td class=\"l reference\">reference</td>");
		return;
	}
	if (!*cell_verdict(c)) {
		buf_adds(out, "<td></td><td></td><td></td>");
		return;
	}
	ratio_td(out, "main", c->to_reference.ratio);
	if (isnan(c->to_reference.ci.low)) {
		table_dash(out);
	} else {
		buf_adds(out, "<td class=\"soft\">");
		ratio_add(out, c->to_reference.ci.low);
		buf_adds(out, "\u2013");
		ratio_add(out, c->to_reference.ci.high);
		buf_adds(out, "</td>");
	}
	buf_addf(out, "<td class=\"l %s\">%s</td>", verdict_class(c), cell_verdict(c));
}

static void part_row(const struct cell *c, const struct part_columns *k, struct buf *out)
{
	double median = c->figure ? c->figure->s.median * k->factor : NAN;

	buf_adds(out, "<tr>");
	table_engine(out, c);
	buf_addf(out, "<td class=\"bar\"><span class=\"meter k%u\"><i style=\"width:%.1f%%\"></i></span></td>",
	         engine_style(c->engine), median > 0 && k->most > 0 ? fmax(median / k->most * 100, 1) : 0);
	scaled_td(out, "main", &k->scale, median);
	interval_td(out, &k->scale, cell_interval(c), k->factor);
	if (k->has_ratio)
		comparison_tds(out, c);
	if (k->has_warm)
		ratio_td(out, "", c->to_warm);
	if (k->has_serial)
		ratio_td(out, "", c->figure ? c->figure->s.median / c->t_serial_ms : NAN);
	if (k->has_wire)
		scaled_td(out, "", &k->wire, cell_median(c, "net.bytes"));
	if (k->has_touched)
		ratio_td(out, "", cell_median(c, "net.bytes") / c->touched_bytes);
	if (k->has_requests)
		count_td(out, cell_median(c, "net.requests"));
	if (k->has_trips)
		count_td(out, cell_median(c, "net.round_trips"));
	if (k->has_struck)
		count_td(out, cell_median(c, "net.faults"));
	buf_addf(out, "<td>%u</td>", c->n_ok);
	if (c->n_failed)
		buf_addf(out, "<td class=\"slower\">%u</td>", c->n_failed);
	else if (k->has_failures)
		buf_adds(out, "<td></td>");
	buf_adds(out, "</tr>\n");
}

void table_of_part(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part_columns k = columns_of(a, from, to);
	size_t end = to - from > TABLE_ROWS_MAX ? from + TABLE_ROWS_MAX : to;

	part_head(a, &k, out);
	for (size_t i = from; i < end; i++) {
		if (i == from || !cell_same_image(&a->cells.p[i], &a->cells.p[i - 1]))
			table_image(out, &a->cells.p[i], k.n);
		part_row(&a->cells.p[i], &k, out);
	}
	table_end(out);
	table_left_out(out, to - end, "rows");
	buf_adds(out, "<details><summary>All metrics <small>medians</small></summary>\n");
	table_of_metrics(a, from, to, out);
	buf_adds(out, "</details>\n");
}
