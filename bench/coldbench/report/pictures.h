/* The figures of a page. Each adds panels that stand in a grid, one under the other on a phone; nothing when there is nothing to
 * draw. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_PICTURES_H
#define BENCH_COLDBENCH_REPORT_PICTURES_H

#include "bench/coldbench/report/analysis.h"

/* At most so many panels of a kind are drawn, and that there were more is said behind them; each of these returns how many were. */
#define PANELS_MAX 60

/* Cells of one part (analysis_next_part). */
struct part {
	const struct cell *from, *to;
};

/* A panel per part: images down, the figure along a logarithmic axis, a dot per engine. */
size_t picture_overview(const struct analysis *a, const char *mode, struct buf *out);

/* A panel per image of a part: a bar per engine, divided into phases, with a mark at T_serial. */
size_t picture_phases(const struct part *p, struct buf *out);

/* A panel per image of a part: a bar per engine, of one metric; net.bytes has a mark at B. */
size_t picture_bars(const struct part *p, const char *metric, struct buf *out);

/* A panel per image of a part: the share of starts that are ready by then. */
size_t picture_cdf(const struct part *p, struct buf *out);

/* Panels of each image: the figure against the round trip at one bandwidth, and against the bandwidth at one round trip. */
size_t picture_networks(const struct analysis *a, const char *mode, struct buf *out);

/* Engines of a part with their colours, and the phases with theirs. */
void legend_engines(const struct part *p, struct buf *out);
void legend_phases(struct buf *out);

#endif
