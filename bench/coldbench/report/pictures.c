#include "bench/coldbench/report/pictures.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"
#include "bench/coldbench/report/svg.h"

#include <math.h>
#include <stdio.h>

/* A panel is as wide as a phone; the page makes it a little larger where there is room. */
#define WIDTH 340.0
#define ROW 34.0 /* a label with its value, and the bar below them */
#define BAR 11.0
#define ROWS_MAX 40

static const char *const PHASES[] = {"resolve", "metadata", "unpack", "create", "start", "ready"};

/* ---- panels ---- */

static void panel_begin(struct buf *out, const char *caption)
{
	buf_adds(out, "<figure><figcaption>");
	html_text(out, caption);
	buf_adds(out, "</figcaption>\n");
}

static void panel_end(struct buf *out)
{
	buf_adds(out, "</figure>\n");
}

static size_t at_most(size_t n, size_t max)
{
	return n < max ? n : max;
}

#define LABEL_CHARS_MAX 10 /* of images beside the overview's rows; whole names are in every table */

static char *short_caption(const char *caption)
{
	size_t bytes = 0, left = strlen(caption), chars = 0;

	for (size_t n; bytes < left && chars < LABEL_CHARS_MAX; chars++) {
		n = utf8_len(caption + bytes, left - bytes);
		bytes += n ? n : 1;
	}
	return bytes == left ? xstrdup(caption) : xasprintf("%.*s\u2026", (int)bytes, caption);
}

static char *image_caption(const struct cell *c)
{
	return c->count == 1 ? xstrdup(c->image) : xasprintf("%s \u00d7 %u", c->image, c->count);
}

/* The cells of the next image and count of a part; false at the end. Begin with *to = part's from. */
static bool next_image(const struct part *p, struct part *image)
{
	const struct cell *c = image->to;

	if (c >= p->to)
		return false;
	image->from = c;
	while (c < p->to && !strcmp(c->image, image->from->image) && c->count == image->from->count)
		c++;
	image->to = c;
	return true;
}

static char *classes(const char *shape, const struct cell *c)
{
	return xasprintf("%s k%u v%u", shape, engine_style(c->engine), c->variant < 3 ? c->variant : 3);
}

static void widen(double *least, double *most, double v)
{
	if (!isfinite(v))
		return;
	*least = fmin(*least, v);
	*most = fmax(*most, v);
}

static char *tick_text(const char *metric, double value)
{
	double factor;
	enum unit unit = unit_of(metric, &factor);
	struct scale s = scale_for(unit, value * factor, value * factor);
	struct buf b = BUF_INIT;

	buf_addf(&b, "%.4g", value * factor / s.divisor);
	if (*s.name)
		buf_addf(&b, " %s", s.name);
	return buf_steal(&b);
}

static char *value_text(const char *metric, double value)
{
	struct buf b = BUF_INIT;

	quantity_add(&b, metric, value);
	return buf_steal(&b);
}

/* ---- bars ---- */

static void bar_label(struct buf *out, const struct cell *c, double y, const char *value)
{
	svg_text(out, 0, y, "start", "label", c->label);
	svg_text(out, WIDTH, y, "end", "value", value);
}

static double phase_ms(const struct cell *c, const char *phase)
{
	char name[64];

	snprintf(name, sizeof(name), "phase.%s_ms", phase);
	return cell_median(c, name);
}

static bool has_phases(const struct cell *c)
{
	for (size_t i = 0; i < ARRAY_LEN(PHASES); i++)
		if (phase_ms(c, PHASES[i]) > 0)
			return true;
	return false;
}

/* Medians of phases need not sum to the median of the whole: they are drawn in proportion to its length. */
static void phase_bar(struct buf *out, const struct cell *c, const struct axis *x, double y)
{
	double sum = 0, at = 0;

	for (size_t i = 0; i < ARRAY_LEN(PHASES); i++)
		sum += fmax(phase_ms(c, PHASES[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(PHASES); i++) {
		double ms = phase_ms(c, PHASES[i]), length = ms / sum * c->figure->s.median;
		AUTO_FREE char *value = value_text("_ms", ms);
		AUTO_FREE char *tip = xasprintf("%.60s, %s: %s", c->label, PHASES[i], value);
		double drawn = axis_at(x, at + length) - axis_at(x, at);
		char class[16];

		if (!(length > 0))
			continue;
		snprintf(class, sizeof(class), "p%zu", i);
		/* a hair between phases, where they are wide enough to have one */
		svg_rect(out, axis_at(x, at), y, drawn > 3 ? drawn - 0.7 : drawn, BAR, class, tip);
		at += length;
	}
}

/* A mark across a bar; nothing when the value is none. */
static void bar_mark(struct buf *out, const struct axis *x, double y, double value)
{
	if (isfinite(value))
		svg_line(out, axis_at(x, value), y - 3, axis_at(x, value), y + BAR + 3, "mark");
}

/* Each image has a scale of its own, so that the phases of quick starts can be seen. */
static void phases_panel(const struct part *image, const void *arg, struct buf *out)
{
	AUTO_FREE char *caption = image_caption(image->from);
	AUTO_FREE char *title = xasprintf("Phases of %.60s: a bar per engine", caption);
	struct axis x = {.from = 0, .to = WIDTH};
	double y = 0, least = 0;
	size_t all = 0, rows;

	for (const struct cell *c = image->from; c < image->to; c++)
		if (c->figure && has_phases(c)) {
			widen(&least, &x.max, c->figure->s.median);
			widen(&least, &x.max, c->t_serial_ms);
			all++;
		}
	if (!(x.max > 0))
		return;
	rows = at_most(all, ROWS_MAX);
	panel_begin(out, caption);
	svg_begin(out, WIDTH, (double)rows * ROW - 6, title);
	for (const struct cell *c = image->from; c < image->to && y < (double)rows * ROW; c++) {
		AUTO_FREE char *value = NULL;

		if (!c->figure || !has_phases(c))
			continue;
		value = value_text(c->figure->name, c->figure->s.median);
		bar_label(out, c, y + 11, value);
		phase_bar(out, c, &x, y + 16);
		bar_mark(out, &x, y + 16, c->t_serial_ms);
		y += ROW;
	}
	svg_end(out);
	table_left_out(out, all - rows, "engines");
	panel_end(out);
}

static double mark_of(const struct cell *c, const char *metric)
{
	return !strcmp(metric, "net.bytes") ? c->touched_bytes : NAN;
}

/* All panels of a part have one scale. */
struct bars {
	const char *metric;
	double most;
};

static void bars_panel(const struct part *image, const void *arg, struct buf *out)
{
	const struct bars *bars = arg;
	const char *metric = bars->metric;
	AUTO_FREE char *caption = image_caption(image->from);
	AUTO_FREE char *title = xasprintf("%.60s of %.60s: a bar per engine", metric, caption);
	struct axis x = {.min = 0, .max = bars->most, .from = 0, .to = WIDTH};
	double y = 0;
	size_t all = 0, rows;

	for (const struct cell *c = image->from; c < image->to; c++)
		all += isfinite(cell_median(c, metric));
	if (!all)
		return;
	rows = at_most(all, ROWS_MAX);
	panel_begin(out, caption);
	svg_begin(out, WIDTH, (double)rows * ROW - 6, title);
	for (const struct cell *c = image->from; c < image->to && y < (double)rows * ROW; c++) {
		double v = cell_median(c, metric);
		AUTO_FREE char *value = value_text(metric, v);
		AUTO_FREE char *class = classes("fill", c);

		if (!isfinite(v))
			continue;
		bar_label(out, c, y + 11, value);
		svg_rect(out, 0, y + 16, WIDTH, BAR, "track", NULL);
		svg_rect(out, 0, y + 16, fmax(axis_at(&x, v), 1), BAR, class, NULL);
		bar_mark(out, &x, y + 16, mark_of(c, metric));
		y += ROW;
	}
	svg_end(out);
	table_left_out(out, all - rows, "engines");
	panel_end(out);
}

/* Adds the panel of an image; nothing when there is nothing to draw. */
typedef void panel_fn(const struct part *image, const void *arg, struct buf *out);

static size_t add_panels(const struct part *p, panel_fn *add, const void *arg, struct buf *out)
{
	struct part image = {.to = p->from};
	size_t panels = 0, left_out = 0;

	while (next_image(p, &image)) {
		size_t before = out->n;

		if (panels == PANELS_MAX) {
			left_out++;
			continue;
		}
		add(&image, arg, out);
		panels += out->n > before;
	}
	table_left_out(out, left_out, "images");
	return panels;
}

size_t picture_phases(const struct part *p, struct buf *out)
{
	return add_panels(p, phases_panel, NULL, out);
}

size_t picture_bars(const struct part *p, const char *metric, struct buf *out)
{
	struct bars bars = {.metric = metric};
	double least = 0;

	for (const struct cell *c = p->from; c < p->to; c++) {
		widen(&least, &bars.most, cell_median(c, metric));
		widen(&least, &bars.most, mark_of(c, metric));
	}
	return bars.most > 0 ? add_panels(p, bars_panel, &bars, out) : 0;
}

/* ---- axes ---- */

/* From just below the least to just above the most. */
static struct axis log_axis(double least, double most, double from, double to)
{
	return (struct axis){.min = least / 1.15, .max = most * 1.15, .from = from, .to = to, .log = true};
}

static void vertical_grid(struct buf *out, const struct axis *x, double top, double bottom, const char *metric)
{
	double ticks[6];
	size_t n = axis_ticks(x, ticks, ARRAY_LEN(ticks));

	for (size_t i = 0; i < n; i++) {
		AUTO_FREE char *text = tick_text(metric, ticks[i]);
		double at = axis_at(x, ticks[i]);

		svg_line(out, at, top, at, bottom, "grid");
		svg_text(out, fmin(at, WIDTH - 14), bottom + 15, "middle", "tick", text);
	}
}

/* ---- the overview ---- */

static void overview_row(struct buf *out, const struct part *image, const struct axis *x, double y)
{
	for (int pass = 0; pass < 2; pass++)
		for (const struct cell *c = image->from; c < image->to; c++) {
			AUTO_FREE char *line = classes("line", c);
			AUTO_FREE char *dot = classes("dot", c);
			AUTO_FREE char *value = NULL;
			AUTO_FREE char *tip = NULL;
			const struct measure *m = c->figure;

			if (!m || !(m->s.median > 0))
				continue;
			value = value_text(m->name, m->s.median);
			tip = xasprintf("%.60s, %.60s: %s", image->from->image, c->label, value);
			if (pass)
				svg_dot(out, axis_at(x, m->s.median), y, 5, dot, tip);
			else if (m->s.ci.low > 0)
				svg_line(out, axis_at(x, m->s.ci.low), y, axis_at(x, m->s.ci.high), y, line);
		}
}

static void overview_panel(const struct part *p, struct axis x, struct buf *out)
{
	struct part image = {.to = p->from};
	AUTO(buf) struct buf caption = BUF_INIT;
	double y = 14, bottom;
	size_t all = 0, rows;

	while (next_image(p, &image))
		all++;
	rows = at_most(all, ROWS_MAX);
	image.to = p->from;
	bottom = (double)rows * 26 + 2;
	buf_addf(&caption, "%.60s (", p->from->network);
	network_add(&caption, p->from->rtt_ms, p->from->mbit, p->from->faults);
	buf_addc(&caption, ')');
	panel_begin(out, buf_cstr(&caption));
	svg_begin(out, WIDTH, bottom + 20, buf_cstr(&caption));
	vertical_grid(out, &x, 2, bottom, p->from->figure ? p->from->figure->name : "_ms");
	while (y < bottom && next_image(p, &image)) {
		AUTO_FREE char *whole = image_caption(image.from);
		AUTO_FREE char *name = short_caption(whole);

		svg_text(out, 0, y + 4, "start", "label", name);
		svg_line(out, x.from, y, x.to, y, "row");
		overview_row(out, &image, &x, y);
		y += 26;
	}
	svg_end(out);
	table_left_out(out, all - rows, "images");
	panel_end(out);
}

/* Parts of a mode whose figure is there; least and most of it. */
static bool mode_range(const struct analysis *a, const char *mode, double *least, double *most)
{
	*least = INFINITY;
	*most = 0;
	vec_each(&a->cells, c)
		if (!strcmp(c->mode, mode) && c->figure && c->figure->s.median > 0) {
			widen(least, most, c->figure->s.median);
			widen(least, most, c->figure->s.ci.high);
			if (c->figure->s.ci.low > 0) /* what a logarithm has */
				widen(least, most, c->figure->s.ci.low);
		}
	return *most > 0 && isfinite(*most / *least);
}

size_t picture_overview(const struct analysis *a, const char *mode, struct buf *out)
{
	size_t from, to = 0, panels = 0;
	double least, most;

	if (!mode_range(a, mode, &least, &most))
		return 0;
	while (analysis_next_part(a, &from, &to)) {
		struct part p = {a->cells.p + from, a->cells.p + to};

		if (strcmp(p.from->mode, mode) == 0 && panels++ < PANELS_MAX)
			overview_panel(&p, log_axis(least, most, 78, WIDTH - 6), out);
	}
	table_left_out(out, panels - at_most(panels, PANELS_MAX), "networks");
	return at_most(panels, PANELS_MAX);
}

/* ---- distributions ---- */

static void cdf_panel(const struct part *image, const void *arg, struct buf *out)
{
	AUTO_FREE char *caption = image_caption(image->from);
	AUTO_FREE char *title = xasprintf("Distribution of the repetitions of %.60s", caption);
	double least = INFINITY, most = 0, bottom = 150;
	struct axis x, y = {.min = 0, .max = 1, .from = bottom, .to = 8};

	for (const struct cell *c = image->from; c < image->to; c++)
		if (c->figure && c->figure->s.min > 0) {
			widen(&least, &most, c->figure->s.min);
			widen(&least, &most, c->figure->s.max);
		}
	if (!(most > 0) || !isfinite(most / least))
		return;
	x = log_axis(least, most, 40, WIDTH - 4);
	panel_begin(out, caption);
	svg_begin(out, WIDTH, bottom + 20, title);
	vertical_grid(out, &x, 8, bottom, mode_figure(image->from->mode));
	for (int i = 0; i <= 2; i++) {
		static const char *const shares[] = {"0", "50 %", "100 %"};

		svg_line(out, 40, axis_at(&y, i / 2.0), WIDTH - 4, axis_at(&y, i / 2.0), "grid");
		svg_text(out, 36, axis_at(&y, i / 2.0) + 4, "end", "tick", shares[i]);
	}
	for (const struct cell *c = image->from; c < image->to; c++) {
		AUTO_FREE char *class = classes("line", c);

		if (c->figure && c->figure->s.min > 0)
			svg_steps(out, &x, &y, c->figure->values, c->figure->s.n, class);
	}
	svg_end(out);
	panel_end(out);
}

size_t picture_cdf(const struct part *p, struct buf *out)
{
	return add_panels(p, cdf_panel, NULL, out);
}

/* ---- legends ---- */

void legend_engines(const struct part *p, struct buf *out)
{
	size_t all = 0;

	buf_adds(out, "<ul class=\"legend\">\n");
	for (const struct cell *c = p->from; c < p->to; c++) {
		bool seen = false;

		for (const struct cell *other = p->from; other < c; other++)
			seen |= !strcmp(other->label, c->label);
		if (seen || all++ >= ROWS_MAX)
			continue;
		buf_addf(out, "<li><i class=\"chip k%u v%u\"></i>", engine_style(c->engine),
		         c->variant < 3 ? c->variant : 3);
		html_text(out, c->label);
		buf_adds(out, "</li>\n");
	}
	buf_adds(out, "</ul>\n");
	table_left_out(out, all - at_most(all, ROWS_MAX), "engines");
}

void legend_phases(struct buf *out)
{
	buf_adds(out, "<ul class=\"legend\">\n");
	for (size_t i = 0; i < ARRAY_LEN(PHASES); i++)
		buf_addf(out, "<li><i class=\"chip p%zu\"></i>%s</li>\n", i, PHASES[i]);
	buf_adds(out, "</ul>\n");
}
