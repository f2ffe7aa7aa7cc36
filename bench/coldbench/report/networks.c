/* The figure against round trip and bandwidth. */
#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/pictures.h"
#include "bench/coldbench/report/quantity.h"
#include "bench/coldbench/report/svg.h"

#include <math.h>
#include <stdio.h>

#define WIDTH 340.0
#define TOP 8.0
#define BOTTOM 170.0
#define LEFT 46.0
#define RIGHT 12.0
#define POINTS_MAX 24

/* What a panel varies, the other one being the same for all of its points. Networks with faults have no place in it. */
enum vary { VARY_RTT, VARY_MBIT };

struct panel {
	const struct analysis *a;
	const struct cell *of; /* image, mode and count; the network that the fixed side is from */
	enum vary vary;
	double at[POINTS_MAX]; /* different values of what varies, in the axis' order */
	size_t n;
	size_t n_left_out;  /* cases that it has no room for */
	double least, most; /* of the figure */
};

static double varied(const struct panel *p, const struct cell *c)
{
	return p->vary == VARY_RTT ? c->rtt_ms : c->mbit;
}

static bool belongs(const struct panel *p, const struct cell *c)
{
	return c->figure && c->figure->s.median > 0 && !*c->faults && !*p->of->faults &&
	       !strcmp(c->mode, p->of->mode) && !strcmp(c->image, p->of->image) && c->count == p->of->count &&
	       (p->vary == VARY_RTT ? c->mbit == p->of->mbit : c->rtt_ms == p->of->rtt_ms);
}

/* No limit stands at the far end. */
static double order_of(const struct panel *p, double v)
{
	return p->vary == VARY_MBIT && v == 0 ? INFINITY : v;
}

static void add_point(struct panel *p, double v)
{
	size_t i = 0;

	while (i < p->n && order_of(p, p->at[i]) < order_of(p, v))
		i++;
	if (i < p->n && p->at[i] == v)
		return;
	if (p->n == POINTS_MAX) {
		p->n_left_out++;
		return;
	}
	memmove(p->at + i + 1, p->at + i, (p->n - i) * sizeof(*p->at));
	p->at[i] = v;
	p->n++;
}

static void collect(struct panel *p)
{
	p->n = 0;
	p->least = INFINITY;
	p->most = 0;
	vec_each(&p->a->cells, c)
		if (belongs(p, c)) {
			add_point(p, varied(p, c));
			p->least = fmin(p->least, c->figure->s.median);
			p->most = fmax(p->most, c->figure->s.median);
		}
}

/* Whether an earlier case begins the same panel. */
static bool is_repeated(const struct panel *p)
{
	for (const struct cell *c = p->a->cells.p; c < p->of; c++)
		if (belongs(p, c))
			return true;
	return false;
}

/* Places along the axis by order: networks are chosen by steps, not evenly. */
static double x_of(const struct panel *p, double v)
{
	size_t i = 0;

	while (i + 1 < p->n && p->at[i] != v)
		i++;
	return LEFT + (WIDTH - LEFT - RIGHT) * ((double)i + 0.5) / (double)p->n;
}

static char *point_name(const struct panel *p, double v)
{
	if (p->vary == VARY_RTT)
		return v > 0 ? xasprintf("%g ms", v) : xstrdup("none");
	return v == 0 ? xstrdup("no limit") : v >= 1000 ? xasprintf("%g Gbit/s", v / 1000) : xasprintf("%g Mbit/s", v);
}

static void draw_axes(const struct panel *p, const struct axis *y, struct buf *out)
{
	double ticks[7];
	size_t n = axis_ticks(y, ticks, ARRAY_LEN(ticks));

	for (size_t i = 0; i < n; i++) {
		AUTO(buf) struct buf text = BUF_INIT;

		if (ticks[i] >= 1000)
			buf_addf(&text, "%.4g s", ticks[i] / 1000);
		else
			buf_addf(&text, "%.4g ms", ticks[i]);
		svg_line(out, LEFT, axis_at(y, ticks[i]), WIDTH, axis_at(y, ticks[i]), "grid");
		svg_text(out, LEFT - 6, axis_at(y, ticks[i]) + 4, "end", "tick", buf_cstr(&text));
	}
	for (size_t i = 0; i < p->n; i++) {
		AUTO_FREE char *name = point_name(p, p->at[i]);

		svg_text(out, x_of(p, p->at[i]), BOTTOM + 15, "middle", "tick", name);
	}
}

/* The line of an engine and form; drawn for the first of its cases. */
static void draw_line(const struct panel *p, const struct cell *first, const struct axis *y, struct buf *out)
{
	AUTO_FREE char *line =
	    xasprintf("line k%u v%u", engine_style(first->engine), first->variant < 3 ? first->variant : 3);
	AUTO_FREE char *dot =
	    xasprintf("dot k%u v%u", engine_style(first->engine), first->variant < 3 ? first->variant : 3);
	const struct cell *at[POINTS_MAX] = {0};

	for (const struct cell *c = p->a->cells.p; c < p->a->cells.p + p->a->cells.n; c++) {
		if (!belongs(p, c) || strcmp(c->label, first->label) != 0)
			continue;
		if (c < first)
			return;
		for (size_t i = 0; i < p->n; i++)
			if (p->at[i] == varied(p, c))
				at[i] = c;
	}
	svg_path_begin(out, line);
	for (size_t i = 0; i < p->n; i++)
		if (at[i])
			svg_path_to(out, x_of(p, p->at[i]), axis_at(y, at[i]->figure->s.median));
	svg_path_end(out);
	for (size_t i = 0; i < p->n; i++) {
		AUTO(buf) struct buf tip = BUF_INIT;

		if (!at[i])
			continue;
		buf_addf(&tip, "%.60s: ", first->label);
		quantity_add(&tip, at[i]->figure->name, at[i]->figure->s.median);
		svg_dot(out, x_of(p, p->at[i]), axis_at(y, at[i]->figure->s.median), 3.5, dot, buf_cstr(&tip));
	}
}

static void draw(const struct panel *p, struct buf *out)
{
	struct axis y = {.min = p->least / 1.2, .max = p->most * 1.2, .from = BOTTOM, .to = TOP, .log = true};
	AUTO_FREE char *fixed = NULL;
	AUTO_FREE char *caption = NULL;

	if (p->vary == VARY_RTT && p->of->mbit >= 1000)
		fixed = xasprintf("at %g Gbit/s", p->of->mbit / 1000);
	else if (p->vary == VARY_RTT && p->of->mbit > 0)
		fixed = xasprintf("at %g Mbit/s", p->of->mbit);
	else if (p->vary == VARY_MBIT)
		fixed = xasprintf("at %g ms", p->of->rtt_ms);
	else
		fixed = xstrdup("without a limit");
	caption = xasprintf("%.60s, by %s %s", p->of->image, p->vary == VARY_RTT ? "round trip" : "bandwidth", fixed);
	buf_adds(out, "<figure><figcaption>");
	html_text(out, caption);
	buf_adds(out, "</figcaption>\n");
	svg_begin(out, WIDTH, BOTTOM + 20, caption);
	draw_axes(p, &y, out);
	for (const struct cell *c = p->a->cells.p; c < p->a->cells.p + p->a->cells.n; c++)
		if (belongs(p, c))
			draw_line(p, c, &y, out);
	svg_end(out);
	table_left_out(out, p->n_left_out, "cases");
	buf_adds(out, "</figure>\n");
}

size_t picture_networks(const struct analysis *a, const char *mode, struct buf *out)
{
	size_t panels = 0, panels_left;

	for (enum vary vary = VARY_RTT; vary <= VARY_MBIT; vary++)
		vec_each(&a->cells, c) {
			struct panel p = {.a = a, .of = c, .vary = vary};

			if (strcmp(c->mode, mode) != 0 || is_repeated(&p))
				continue;
			collect(&p);
			if (p.n < 2 || !isfinite(p.most / p.least))
				continue;
			if (panels++ < PANELS_MAX)
				draw(&p, out);
		}
	panels_left = panels > PANELS_MAX ? panels - PANELS_MAX : 0;
	table_left_out(out, panels_left, "panels");
	return panels - panels_left;
}
