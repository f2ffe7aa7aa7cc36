/* Samples and summaries as CSV (RFC 4180, but lines end with LF). Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_CSV_H
#define BENCH_COLDBENCH_REPORT_CSV_H

#include "bench/coldbench/report/analysis.h"

/* A line per sample in the order of the raw data; after the case's columns one for every metric that any sample has, by name. A
 * value that is not there is empty. ERR_EXHAUSTED for more than 4096 metrics, which no run has. */
int csv_samples(const struct sample_set *set, struct buf *out, struct err *err);

/* A line per case and metric. */
void csv_summary(const struct analysis *a, struct buf *out);

#endif
