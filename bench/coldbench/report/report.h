/* Reports of samples: what `coldbench run` ends with and `coldbench report` makes anew. Everything comes from the lines of
 * the raw data alone. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_REPORT_H
#define BENCH_COLDBENCH_REPORT_REPORT_H

#include "bench/coldbench/sample.h"

#include <stdio.h>

/* Reads the raw data and replaces the given files: a page that stands alone (it links the raw data by its name when that
 * lies beside it), and a line per sample as CSV. Either may be NULL. */
int report_write(const char *jsonl_path, const char *html_path, const char *csv_path, struct err *err);

/* The short table for a terminal: a line per image and engine. -1 when `to` cannot be written. */
int report_print_table(const struct sample_set *set, FILE *to);

#endif
