/* The page: self-contained HTML of an analysis. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_PAGE_H
#define BENCH_COLDBENCH_REPORT_PAGE_H

#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/header.h"

/* A file of raw data. */
struct source {
	char *path;
	char *link; /* from the page to it, or NULL */
	struct header header;
};
typedef VEC(struct source) sources;

/* Rows of a table; what is beyond is said, and in the CSV. */
#define TABLE_ROWS_MAX 400

void page_write(const struct analysis *a, const sources *from, struct buf *out);

/* Parts of it, in page_tables.c. */

/* Engines down, networks across: geometric means of the ratios to the reference. Nothing when there is no ratio. */
void table_of_means(const struct analysis *a, const char *mode, struct buf *out);

/* A row per image and engine of a part: the figure and what it is compared with. */
void table_of_part(const struct analysis *a, size_t from, size_t to, struct buf *out);

/* All metrics of a part: a column per engine. */
void table_of_metrics(const struct analysis *a, size_t from, size_t to, struct buf *out);

/* Processor time and memory by the name of the program. Nothing when no sample has them. */
void table_of_processes(const struct analysis *a, size_t from, size_t to, struct buf *out);

void table_of_failures(const struct analysis *a, struct buf *out);

extern const char PAGE_STYLE[];

#endif
