#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define COLUMNS_MAX 40

/* Classes: "fit" is as wide as it has to be, "plain" has a rule between rows. */
static void table_begin(struct buf *out, const char *classes)
{
	buf_addf(out, "<div class=\"scroll%s\" tabindex=\"0\"><table>\n<thead><tr>", classes);
}

static void table_end(struct buf *out)
{
	buf_adds(out, "</tbody></table></div>\n");
}

static void left_out(struct buf *out, size_t n)
{
	if (n)
		buf_addf(out, "<p class=\"note\">%zu more rows are in the CSV.</p>\n", n);
}

static void head(struct buf *out, const char *class, const char *text)
{
	buf_addf(out, "<th scope=\"col\"%s%s%s>", *class ? " class=\"" : "", class, *class ? "\"" : "");
	html_text(out, text);
	buf_adds(out, "</th>");
}

static void dash(struct buf *out)
{
	buf_adds(out, "<td class=\"soft\">\u2013</td>");
}

static void engine_td(struct buf *out, const struct cell *c)
{
	buf_addf(out, "<td class=\"l\"><i class=\"chip k%u v%u\"></i>", engine_style(c->engine),
	         c->variant < 3 ? c->variant : 3);
	html_text(out, c->label);
	buf_adds(out, "</td>");
}

static void image_th(struct buf *out, const struct cell *c)
{
	buf_adds(out, "<th scope=\"row\" class=\"l\">");
	html_text(out, c->image);
	if (c->count != 1)
		buf_addf(out, " \u00d7 %u", c->count);
	buf_adds(out, "</th>");
}

static bool same_image(const struct cell *a, const struct cell *b)
{
	return !strcmp(a->image, b->image) && a->count == b->count;
}

static const char *verdict_class(const struct cell *c)
{
	const char *verdict = cell_verdict(c);

	return !strcmp(verdict, "cannot tell") || !strcmp(verdict, "too few") ? "cannot" : verdict;
}

/* ---- means ---- */

/* Over the images of a network: geometric mean of the ratios, and how many of them are told to be better or worse. */
struct mean {
	double log_sum;
	unsigned n, better, worse;
};

static bool counts(const struct cell *c, const char *mode, const char *label, const char *network)
{
	return !strcmp(c->mode, mode) && !strcmp(c->label, label) && !strcmp(c->network, network) && c->reference &&
	       c->reference != c && c->to_reference.ratio > 0 && isfinite(c->to_reference.ratio);
}

static struct mean mean_of(const struct analysis *a, const char *mode, const char *label, const char *network)
{
	struct mean m = {0};

	vec_each(&a->cells, c)
		if (counts(c, mode, label, network)) {
			bool less = c->to_reference.verdict == VERDICT_LESS;

			m.log_sum += log(c->to_reference.ratio);
			m.n++;
			if (c->to_reference.verdict != VERDICT_CANNOT_TELL)
				*(less == mode_less_is_better(mode) ? &m.better : &m.worse) += 1;
		}
	return m;
}

static void add_share(struct buf *out, bool *any, unsigned n, const char *what)
{
	if (!n)
		return;
	buf_addf(out, "%s%u %s", *any ? ", " : "", n, what);
	*any = true;
}

/* The mean, and where the images do not all agree how many of them say what. */
static void mean_td(struct buf *out, const struct mean *m)
{
	bool any = false;

	if (!m->n) {
		dash(out);
		return;
	}
	buf_addf(out, "<td><b class=\"%s\">", m->better == m->n ? "faster" : m->worse == m->n ? "slower" : "mixed");
	ratio_add(out, exp(m->log_sum / m->n));
	buf_adds(out, "</b>");
	if (m->better != m->n && m->worse != m->n) {
		buf_adds(out, "<small>");
		add_share(out, &any, m->better, "better");
		add_share(out, &any, m->worse, "worse");
		add_share(out, &any, m->n - m->better - m->worse, "open");
		buf_adds(out, "</small>");
	}
	buf_adds(out, "</td>");
}

void table_of_means(const struct analysis *a, const char *mode, struct buf *out)
{
	VEC(const struct cell *) networks = VEC_INIT;
	VEC(const struct cell *) engines = VEC_INIT;

	vec_each(&a->cells, c) {
		bool known = strcmp(c->mode, mode) != 0 || networks.n == COLUMNS_MAX;

		vec_each(&networks, n)
			known |= !strcmp((*n)->network, c->network);
		if (!known)
			vec_push(&networks, c);
		known = strcmp(c->mode, mode) != 0 || engines.n == COLUMNS_MAX || !c->reference || c->reference == c;
		vec_each(&engines, e)
			known |= !strcmp((*e)->label, c->label);
		if (!known)
			vec_push(&engines, c);
	}
	if (engines.n) {
		table_begin(out, " fit plain");
		head(out, "l", "Engine");
		vec_each(&networks, n)
			head(out, "", (*n)->network);
		buf_adds(out, "</tr></thead><tbody>\n");
		vec_each(&engines, e) {
			buf_adds(out, "<tr>");
			engine_td(out, *e);
			vec_each(&networks, n) {
				struct mean m = mean_of(a, mode, (*e)->label, (*n)->network);

				mean_td(out, &m);
			}
			buf_adds(out, "</tr>\n");
		}
		table_end(out);
	}
	vec_fini(&networks);
	vec_fini(&engines);
}

/* ---- the figure ---- */

/* Which columns a part has anything for. */
struct part_columns {
	const char *figure;
	double factor, most;
	struct scale scale, wire;
	bool has_warm, has_serial, has_wire, has_requests, has_trips, has_ratio, has_failures;
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
		k.has_ratio |= c->reference && c->reference != c && !isnan(c->to_reference.ratio);
		k.has_failures |= c->n_failed > 0;
	}
	return k;
}

static void part_head(const struct analysis *a, const struct part_columns *k, struct buf *out)
{
	AUTO_FREE char *ratio = xasprintf("/ %s", a->reference);
	AUTO_FREE char *wire = xasprintf("Wire, %s", k->wire.name);
	AUTO_FREE char *median = *k->scale.name ? xasprintf("Median, %s", k->scale.name) : xstrdup("Median");

	table_begin(out, "");
	head(out, "l", "Image");
	head(out, "l", "Engine");
	head(out, "bar", "");
	head(out, "", median);
	head(out, "", "95 %");
	if (k->has_ratio) {
		head(out, "", ratio);
		head(out, "", "95 %");
		head(out, "l", "Verdict");
	}
	if (k->has_warm)
		head(out, "", "/ W");
	if (k->has_serial)
		buf_adds(out, "<th scope=\"col\">/ T<sub>serial</sub></th>");
	if (k->has_wire)
		head(out, "", wire);
	if (k->has_requests)
		head(out, "", "Requests");
	if (k->has_trips)
		head(out, "", "Trips");
	head(out, "", "n");
	if (k->has_failures)
		head(out, "", "Failed");
	buf_adds(out, "</tr></thead><tbody>\n");
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
		dash(out);
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
		dash(out);
	else
		buf_addf(out, "<td>%.0f</td>", value);
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
		dash(out);
	} else {
		buf_adds(out, "<td class=\"soft\">");
		ratio_add(out, c->to_reference.ci.low);
		buf_adds(out, "\u2013");
		ratio_add(out, c->to_reference.ci.high);
		buf_adds(out, "</td>");
	}
	buf_addf(out, "<td class=\"l %s\">%s</td>", verdict_class(c), cell_verdict(c));
}

static void part_row(const struct cell *c, bool begins_image, const struct part_columns *k, struct buf *out)
{
	double median = c->figure ? c->figure->s.median * k->factor : NAN;

	buf_adds(out, begins_image ? "<tr class=\"group\">" : "<tr>");
	if (begins_image)
		image_th(out, c);
	else
		buf_adds(out, "<td></td>");
	engine_td(out, c);
	buf_addf(out, "<td class=\"bar\"><span class=\"meter k%u\"><i style=\"width:%.1f%%\"></i></span></td>",
	         engine_style(c->engine), median > 0 && k->most > 0 ? fmax(median / k->most * 100, 1) : 0);
	scaled_td(out, "main", &k->scale, median);
	interval_td(out, &k->scale, c->figure ? c->figure->s.ci : (struct interval){NAN, NAN}, k->factor);
	if (k->has_ratio)
		comparison_tds(out, c);
	if (k->has_warm)
		ratio_td(out, "", c->to_warm.ratio);
	if (k->has_serial)
		ratio_td(out, "", c->figure ? c->figure->s.median / c->t_serial_ms : NAN);
	if (k->has_wire)
		scaled_td(out, "", &k->wire, cell_median(c, "net.bytes"));
	if (k->has_requests)
		count_td(out, cell_median(c, "net.requests"));
	if (k->has_trips)
		count_td(out, cell_median(c, "net.round_trips"));
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
	for (size_t i = from; i < end; i++)
		part_row(&a->cells.p[i], i == from || !same_image(&a->cells.p[i], &a->cells.p[i - 1]), &k, out);
	table_end(out);
	left_out(out, to - end);
}

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
	for (size_t i = from; i < to; i++) {
		double v = cell_median(&a->cells.p[i], metric);

		if (!isfinite(v)) {
			dash(out);
			continue;
		}
		buf_adds(out, "<td>");
		quantity_add(out, metric, v);
		buf_adds(out, "</td>");
	}
	buf_adds(out, "</tr>\n");
}

static void metrics_of_image(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	size_t rows = 0, more = 0;

	table_begin(out, " plain");
	head(out, "l", "Median of");
	for (size_t i = from; i < to; i++)
		head(out, "", a->cells.p[i].label);
	buf_adds(out, "</tr></thead><tbody>\n");
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
	left_out(out, more);
}

void table_of_metrics(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	size_t end, images = 0;

	for (size_t i = from; i < to && images < TABLE_ROWS_MAX / 8; i = end, images++) {
		for (end = i + 1; end < to && same_image(&a->cells.p[i], &a->cells.p[end]); end++)
			;
		buf_adds(out, "<h4>");
		html_text(out, a->cells.p[i].image);
		if (a->cells.p[i].count != 1)
			buf_addf(out, " \u00d7 %u", a->cells.p[i].count);
		buf_adds(out, "</h4>\n");
		metrics_of_image(a, i, end - i > COLUMNS_MAX ? i + COLUMNS_MAX : end, out);
	}
}

/* ---- processes ---- */

static void process_cells(const struct cell *c, const char *program, struct buf *out)
{
	static const char *const metrics[] = {"cpu_s", "peak_bytes", "processes", "majflt", "minflt"};

	for (size_t i = 0; i < ARRAY_LEN(metrics); i++) {
		AUTO_FREE char *name = xasprintf("%s.%s", metrics[i], program);
		double v = cell_median(c, name);

		if (!isfinite(v)) {
			dash(out);
			continue;
		}
		buf_adds(out, "<td>");
		quantity_add(out, name, v);
		buf_adds(out, "</td>");
	}
}

static size_t process_rows(const struct cell *c, bool begins_image, struct buf *out)
{
	const char prefix[] = "cpu_s.";
	size_t rows = 0;

	vec_each(&c->measures, m) {
		const char *program = m->name + strlen(prefix);

		if (strncmp(m->name, prefix, strlen(prefix)) != 0)
			continue;
		buf_adds(out, begins_image && !rows ? "<tr class=\"group\">" : "<tr>");
		if (begins_image && !rows)
			image_th(out, c);
		else
			buf_adds(out, "<td></td>");
		if (rows)
			buf_adds(out, "<td></td>");
		else
			engine_td(out, c);
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
		size_t more = process_rows(&a->cells.p[i], !last || !same_image(last, &a->cells.p[i]), &rows);

		if (more)
			last = &a->cells.p[i];
		n += more;
	}
	if (!n)
		return;
	table_begin(out, "");
	head(out, "l", "Image");
	head(out, "l", "Engine");
	head(out, "l", "Program");
	head(out, "", "Processor time");
	head(out, "", "Peak memory");
	head(out, "", "Processes");
	head(out, "", "Major faults");
	head(out, "", "Minor faults");
	buf_adds(out, "</tr></thead><tbody>\n");
	buf_addstr(out, buf_str(&rows));
	table_end(out);
	if (i < to)
		buf_addf(out, "<p class=\"note\">%zu more cases are in the CSV.</p>\n", to - i);
}

/* ---- failures ---- */

void table_of_failures(const struct analysis *a, struct buf *out)
{
	size_t rows = 0;

	table_begin(out, " plain");
	head(out, "l", "Case");
	head(out, "", "Failed");
	head(out, "l", "What the first one said");
	buf_adds(out, "</tr></thead><tbody>\n");
	vec_each(&a->cells, c) {
		if (!c->n_failed || rows++ >= TABLE_ROWS_MAX)
			continue;
		buf_adds(out, "<tr><td class=\"l\">");
		html_textf(out, "%s, %s, %s, %s", c->mode, c->image, c->label, c->network);
		buf_addf(out, "</td><td>%u of %u</td><td class=\"l\" style=\"white-space:normal\">", c->n_failed,
		         c->n_failed + c->n_ok);
		html_text(out, c->error);
		buf_adds(out, "</td></tr>\n");
	}
	table_end(out);
	left_out(out, rows > TABLE_ROWS_MAX ? rows - TABLE_ROWS_MAX : 0);
}
