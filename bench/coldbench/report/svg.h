/*
 * A small drawing vocabulary: SVG that stands in a page and takes its colours from the page's style sheet, by class.
 * Coordinates are those of the picture; a number that is none is drawn at 0. Any thread.
 */
#ifndef BENCH_COLDBENCH_REPORT_SVG_H
#define BENCH_COLDBENCH_REPORT_SVG_H

#include "base/buf.h"

/* `title` is what a screen reader says instead of the picture. */
void svg_begin(struct buf *out, double width, double height, const char *title);
void svg_end(struct buf *out);

/* `tip` (NULL: none) is shown to who points at it. Classes are the program's own words. */
void svg_rect(struct buf *out, double x, double y, double width, double height, const char *class, const char *tip);
void svg_dot(struct buf *out, double x, double y, double radius, const char *class, const char *tip);
void svg_line(struct buf *out, double x1, double y1, double x2, double y2, const char *class);

/* anchor: where x is: "start", "middle" or "end" of the text, whose baseline is y. */
void svg_text(struct buf *out, double x, double y, const char *anchor, const char *class, const char *text);

/* A line through points: begin, any number of points, end. */
void svg_path_begin(struct buf *out, const char *class);
void svg_path_to(struct buf *out, double x, double y);
void svg_path_end(struct buf *out);

/* From values to coordinates. */
struct axis {
	double min, max; /* values; above 0 when log */
	double from, to; /* where they are drawn */
	bool log;
};

double axis_at(const struct axis *a, double value);

/* Round values within the axis, at most `max` of them: 1, 2, 5 times a power of ten. */
size_t axis_ticks(const struct axis *a, double *ticks, size_t max);

/* The share of values that are at most x, in steps: sorted values, y from 0 to 1. Thousands of values are thinned out. */
void svg_steps(struct buf *out, const struct axis *x, const struct axis *y, const double *sorted, size_t n,
               const char *class);

#endif
