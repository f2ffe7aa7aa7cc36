/* Reports of samples: what `coldbench run` ends with and `coldbench report` makes anew. Everything comes from the lines of
 * the raw data alone. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_REPORT_H
#define BENCH_COLDBENCH_REPORT_REPORT_H

#include "bench/coldbench/sample.h"

#include <stdio.h>

/* Reads the raw data and replaces the given files: a page that stands alone (it links the raw data by its name when that
 * lies beside it), and a line per sample as CSV, with a line per case and metric in NAME-summary.csv beside NAME.csv. Either may
 * be NULL. */
int report_write(const char *jsonl_path, const char *html_path, const char *csv_path, struct err *err);

/* The short table for a terminal: a line per image and engine. -1 when `to` cannot be written. */
int report_print_table(const struct sample_set *set, FILE *to);

/* A report of several files, which `coldbench report` makes. */
struct report_options {
	const char *const *paths; /* of raw data, or folders with *.jsonl in them */
	size_t n_paths;
	const char *html, *csv; /* files to be replaced, or NULL */
	bool json;              /* the summary as JSON on `out` instead of the table */
	const char *reference;  /* an engine, or engine:form; NULL: containerd when it is there */
	FILE *out, *warnings;
};

/* ERR_NOT_FOUND when there are no samples, or no such reference. Files of different machines are merged with a warning. */
int report_make(const struct report_options *o, struct err *err);

#endif
