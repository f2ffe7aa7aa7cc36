/* The summary as JSON, for programs: an array of cases. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_JSON_H
#define BENCH_COLDBENCH_REPORT_JSON_H

#include "bench/coldbench/report/analysis.h"

/* {"reference": ..., "noise": {...}, "cases": [{"mode", "image", "form", "engine", "network", "rtt_ms", "mbit", "faults", "count", "n",
 * "failed", "figure", "ratio", "ratio_ci", "verdict", "ratio_to_w", "t_serial_ms", "touched_bytes",
 * "metrics": {NAME: {"n", "median", "ci", "mad", "min", "p95", "max"}}}]}; what is not known is absent. */
void json_report(const struct analysis *a, struct buf *out);

#endif
