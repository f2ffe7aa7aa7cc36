#include "bench/coldbench/report/svg.h"

#include "bench/coldbench/report/html.h"

#include <math.h>

#define STEPS_MAX 200

/* One decimal is a tenth of a pixel. */
static double place(double v)
{
	return isfinite(v) ? fmin(fmax(v, -1e5), 1e5) : 0;
}

void svg_begin(struct buf *out, double width, double height, const char *title)
{
	buf_addf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", place(width), place(height));
	html_text(out, title);
	buf_adds(out, "\">\n");
}

void svg_end(struct buf *out)
{
	buf_adds(out, "</svg>\n");
}

static void end_shape(struct buf *out, const char *element, const char *tip)
{
	if (!tip) {
		buf_adds(out, "/>\n");
		return;
	}
	buf_adds(out, "><title>");
	html_text(out, tip);
	buf_addf(out, "</title></%s>\n", element);
}

void svg_rect(struct buf *out, double x, double y, double width, double height, const char *class, const char *tip)
{
	buf_addf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", class, place(x),
	         place(y), fmax(place(width), 0), fmax(place(height), 0));
	end_shape(out, "rect", tip);
}

void svg_dot(struct buf *out, double x, double y, double radius, const char *class, const char *tip)
{
	buf_addf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", class, place(x), place(y),
	         fmax(place(radius), 0));
	end_shape(out, "circle", tip);
}

void svg_line(struct buf *out, double x1, double y1, double x2, double y2, const char *class)
{
	buf_addf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, place(x1),
	         place(y1), place(x2), place(y2));
}

void svg_text(struct buf *out, double x, double y, const char *anchor, const char *class, const char *text)
{
	buf_addf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, place(x), place(y),
	         anchor);
	html_text(out, text);
	buf_adds(out, "</text>\n");
}

void svg_path_begin(struct buf *out, const char *class)
{
	buf_addf(out, "<polyline class=\"%s\" points=\"", class);
}

void svg_path_to(struct buf *out, double x, double y)
{
	buf_addf(out, "%.1f,%.1f ", place(x), place(y));
}

void svg_path_end(struct buf *out)
{
	buf_adds(out, "\"/>\n");
}

double axis_at(const struct axis *a, double value)
{
	double min = a->log ? log(a->min) : a->min, max = a->log ? log(a->max) : a->max;
	double v = a->log ? log(fmax(value, a->min)) : value;

	return max > min ? a->from + (v - min) / (max - min) * (a->to - a->from) : a->from;
}

/* 1, 2, 5, 10, 20, ... of which `skip` are left out each time when there are too many. */
static size_t log_ticks(const struct axis *a, double *ticks, size_t max, const double *digits, size_t n_digits)
{
	size_t n = 0;

	for (double power = pow(10, floor(log10(a->min))); power <= a->max && power > 0; power *= 10)
		for (size_t i = 0; i < n_digits; i++) {
			double v = power * digits[i];

			if (v < a->min * 0.999 || v > a->max * 1.001)
				continue;
			if (n == max)
				return max + 1;
			ticks[n++] = v;
		}
	return n;
}

static size_t linear_ticks(const struct axis *a, double *ticks, size_t max)
{
	double least = (a->max - a->min) / (double)max, power = pow(10, floor(log10(least)));
	double step = power * (least <= power ? 1 : least <= 2 * power ? 2 : least <= 5 * power ? 5 : 10);
	size_t n = 0;

	for (double v = ceil(a->min / step) * step; v <= a->max + step * 1e-9 && n < max; v += step)
		ticks[n++] = v;
	return n;
}

size_t axis_ticks(const struct axis *a, double *ticks, size_t max)
{
	static const double digits[] = {1, 2, 5}, halves[] = {1, 3}, powers[] = {1};
	size_t n;

	if (!(a->max > a->min) || !isfinite(a->max) || !isfinite(a->min) || max < 2)
		return 0;
	if (!a->log)
		return linear_ticks(a, ticks, max);
	n = log_ticks(a, ticks, max, digits, 3);
	if (n < 3) /* less than a decade: round steps say more */
		return linear_ticks(a, ticks, max);
	if (n <= max || (n = log_ticks(a, ticks, max, halves, 2)) <= max)
		return n;
	n = log_ticks(a, ticks, max, powers, 1);
	return n < max ? n : max;
}

void svg_steps(struct buf *out, const struct axis *x, const struct axis *y, const double *sorted, size_t n,
               const char *class)
{
	size_t stride = n / STEPS_MAX + 1;
	double before = axis_at(y, 0);

	if (!n)
		return;
	svg_path_begin(out, class);
	for (size_t i = 0; i < n; i += stride) {
		size_t last = i + stride - 1 < n ? i + stride - 1 : n - 1;
		double at = axis_at(x, sorted[last]), share = axis_at(y, (double)(last + 1) / (double)n);

		svg_path_to(out, at, before);
		svg_path_to(out, at, share);
		before = share;
	}
	svg_path_end(out);
}
