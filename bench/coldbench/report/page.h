/* The page: self-contained HTML of an analysis. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_PAGE_H
#define BENCH_COLDBENCH_REPORT_PAGE_H

#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/header.h"

/* A file of raw data. */
struct source {
	char *path;
	char *link; /* its name in the page's folder, or NULL */
	struct header header;
};
typedef VEC(struct source) sources;

/* Rows of a table; what is beyond is said, and in the CSV. */
#define TABLE_ROWS_MAX 400

void page_write(const struct analysis *a, const sources *from, struct buf *out);

/* ---- parts of it ---- */

void page_section(struct buf *out, const char *id, const char *title);
void page_section_end(struct buf *out);

/* Names and titles of modes are lower case; headings are not. The caller's, of at most 60 bytes. */
char *page_capital(const char *text);

/* page_answer.c: in sentences, how the engine in question does. Nothing when it is compared with nothing. */
void page_answers(const struct analysis *a, struct buf *out);

/* page_start.c: everything on cold starts. */
void page_starts(const struct analysis *a, struct buf *out);

/* Every part of a mode by `add`, the first of several open, the others to be opened. */
typedef void page_part_fn(const struct analysis *a, size_t from, size_t to, struct buf *out);
void page_parts(const struct analysis *a, const char *mode, page_part_fn *add, struct buf *out);

/* Panels of pictures beside each other. */
void page_grid(struct buf *out, const struct buf *panels);

/* page_about.c. */
void page_run(const struct analysis *a, const sources *from, struct buf *out);
void page_noise(const struct analysis *a, struct buf *out);
void page_method(struct buf *out);

/* page_means.c: engines down, networks across: geometric means of the ratios to the reference, and of how many images. Nothing when
 * there is nothing to compare with. */
void table_of_means(const struct analysis *a, const char *mode, struct buf *out);

/* page_cases.c: a row per image and engine of a part: the figure and what it is compared with; behind it all metrics, closed. */
void table_of_part(const struct analysis *a, size_t from, size_t to, struct buf *out);

/* page_metrics.c: all metrics of a part, a column per engine. */
void table_of_metrics(const struct analysis *a, size_t from, size_t to, struct buf *out);

/* Processor time and memory by the name of the program. Nothing when no sample has them. */
void table_of_processes(const struct analysis *a, size_t from, size_t to, struct buf *out);

void table_of_failures(const struct analysis *a, struct buf *out);

extern const char PAGE_STYLE[];

#endif
