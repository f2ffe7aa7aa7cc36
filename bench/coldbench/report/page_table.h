/* What the page's tables are made of. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_PAGE_TABLE_H
#define BENCH_COLDBENCH_REPORT_PAGE_TABLE_H

#include "bench/coldbench/report/analysis.h"

/* Up to the first heading, and from the last row. `classes` (with a blank before each): "fit" is as wide as it has to be, "plain"
 * has a rule between rows. */
void table_begin(struct buf *out, const char *classes);
void table_end(struct buf *out);

/* A column's heading; `class` may be "". */
void table_head(struct buf *out, const char *class, const char *text);

/* Ends the headings; rows follow. */
void table_body(struct buf *out);

/* A row over all `columns` with the image's name: those of its engines follow. */
void table_image(struct buf *out, const struct cell *c, size_t columns);

/* The first of a row: the engine, in its colour. */
void table_engine(struct buf *out, const struct cell *c);

/* A value of a metric, with its unit; a dash for what is none. */
void table_quantity(struct buf *out, const char *metric, double value);
void table_dash(struct buf *out);

/* Says that n more ("rows") are in the CSV; nothing for 0. */
void table_left_out(struct buf *out, size_t n, const char *what);

#endif
