/*
 * What samples say: cases with a summary of each metric, and how cases compare. Borrows from the samples, which have to stay.
 * Pure; any thread.
 *
 * W is the median of the same image's warm starts by the plain engine of the same family. T_serial = W + k*r + B/b, with the
 * case's own number of dependent round trips k and the network's round trip r and bandwidth b; B is what mode touched measured
 * of the image in that form. Forms that have no chunks (gzip, zstd) can only be fetched as a whole: their B is the size of the
 * layers in the header of the raw data; manifests and headers of exchanges are not in it.
 */
#ifndef BENCH_COLDBENCH_REPORT_ANALYSIS_H
#define BENCH_COLDBENCH_REPORT_ANALYSIS_H

#include "bench/coldbench/sample.h"
#include "bench/coldbench/stats.h"

#include <stdio.h>

/* A metric over the repetitions of a case. */
struct measure {
	const char *name;
	struct summary s;
	double *values; /* sorted; s.n of them: of a program's costs 0 for repetitions in which it did not run */
};

/* A case as it was measured. */
struct cell {
	const char *mode, *image, *form, *engine, *network;
	double rtt_ms, mbit;
	const char *faults; /* of the network, "" = none */
	unsigned count;
	char *label;             /* "containerd-stargz:esgz-opt"; the form where the engine has several in this data */
	unsigned variant;        /* which of the engine's forms, in the order of their names: 0, 1, ... */
	unsigned n_ok, n_failed; /* samples */
	const char *error;       /* of the first that failed, or NULL */
	VEC(struct measure) measures;   /* by name; of the samples that succeeded */
	const struct measure *figure;   /* what the mode is about, or NULL */
	const struct cell *reference;   /* what it is compared with; itself for the reference; NULL: there is none */
	struct comparison to_reference; /* of the figure */
	const struct measure *warm;     /* W of a start, or NULL */
	double to_warm;                 /* median / W; NaN: W is not known */
	double t_serial_ms;             /* NaN: W or B is not known */
	double touched_bytes;           /* B; NaN: not known, or headers disagree */
};

struct analysis {
	const struct sample_set *set;
	char *reference;         /* "containerd" */
	VEC(struct cell) cells;  /* by mode, network, image, count, engine and form */
	struct summary spin;     /* noise.spin_ms of all samples */
	struct summary resident; /* cold.resident_bytes */
	size_t n_failed;         /* samples */
	size_t n_left_out;       /* cases beyond what a report can hold */
};

/* `reference`: an engine, or "engine:form"; NULL: containerd, or what comes first. */
void analysis_init(struct analysis *a, const struct sample_set *set, const char *reference);
void analysis_fini(struct analysis *a);
DEFINE_AUTO_FINI(analysis);

const struct measure *cell_measure(const struct cell *c, const char *name);

/* Whether both were measured over the same network: its name and all that defines it, since data of several runs may have
 * different ones of one name. */
bool cell_same_network(const struct cell *a, const struct cell *b);

/* Whether they start the same: image and count. */
bool cell_same_image(const struct cell *a, const struct cell *b);

/* Both, and the mode: they differ in engine and form alone. */
bool cell_is_beside(const struct cell *a, const struct cell *b);

/* Median of a metric; NaN when there is none. */
double cell_median(const struct cell *c, const char *name);

/* 95 % interval of the figure; NaN where it has fewer than STATS_LEAST values, of which none can be told. */
struct interval cell_interval(const struct cell *c);

/* Cases that belong in one table: the same mode and network. False at the end; begin with *to = 0. */
bool analysis_next_part(const struct analysis *a, size_t *from, size_t *to);

/* What the mode's figure is, whether less of it is better, and what the mode is called. */
const char *mode_figure(const char *mode);
bool mode_less_is_better(const char *mode);
const char *mode_title(const char *mode);

/* In which colour and line an engine is drawn: 0 .. ENGINE_STYLES - 1, the last one for those that are not known. */
#define ENGINE_STYLES 8
unsigned engine_style(const char *engine);

/* Whether the fixed computation says that the machine had other things to do: 95 % of its times within 10 % are quiet. */
bool analysis_is_disturbed(const struct analysis *a);

/* The short table for a terminal; -1 when `to` cannot be written. */
int table_print(const struct analysis *a, FILE *to);

/* "faster", "slower" (for figures of which more is better: "more", "less"), "cannot tell", "too few" (repetitions, to
 * tell anything); "" without a comparison. */
const char *cell_verdict(const struct cell *c);

#endif
