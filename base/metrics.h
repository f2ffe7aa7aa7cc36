/*
 * Counters, gauges and histograms of this process, printed as Prometheus' text format 0.0.4. Declared at file scope,
 * where they are counted; declaring is all that it takes to have them printed.
 *
 *	METRIC_COUNTER(pulls, "contentd_pulls_total", "Pulls that have ended.", "result");
 *	METRIC_HISTOGRAM(held, "contentd_gc_hold_seconds", "How long the collector held records.");
 *
 *	metric_add(&pulls, 1, "ok");              one value for each label, in their order
 *	metric_observe_ns(&held, clock_mono_ns() - began);
 *
 * Any thread, also in hot paths: counting takes no lock (a hash and a walk of a short list where there are labels, then
 * one atomic addition). Label values come from closed sets, codes and method names: a metric has at most
 * METRIC_SERIES_MAX combinations, what comes beyond is counted under "other". docs/metrics.md lists all metrics.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>

#define METRIC_LABELS_MAX 3
#define METRIC_SERIES_MAX 1000
#define METRIC_SLOTS 16

enum metric_kind { METRIC_KIND_COUNTER, METRIC_KIND_GAUGE, METRIC_KIND_HISTOGRAM };

struct metric_series;

struct metric {
	const char *name, *help;
	enum metric_kind kind;
	const char *labels[METRIC_LABELS_MAX + 1];           /* NULL-terminated */
	_Atomic(struct metric_series *) slots[METRIC_SLOTS]; /* lists by hash of the values */
	atomic_uint n_series;
	struct metric *next; /* of all; written once, before it is in the list */
};

/* "…_total". */
#define METRIC_COUNTER(var, name_, help_, ...) METRIC_DEFINE_(var, COUNTER, name_, help_, ##__VA_ARGS__)
#define METRIC_GAUGE(var, name_, help_, ...) METRIC_DEFINE_(var, GAUGE, name_, help_, ##__VA_ARGS__)
/* Of durations, "…_seconds": buckets from 10 µs to 5 minutes. */
#define METRIC_HISTOGRAM(var, name_, help_, ...) METRIC_DEFINE_(var, HISTOGRAM, name_, help_, ##__VA_ARGS__)

#define METRIC_DEFINE_(var, kind_, name_, help_, ...)                                                                  \
	static struct metric var = {                                                                                   \
	    .name = name_, .help = help_, .kind = METRIC_KIND_##kind_, .labels = {__VA_ARGS__}};                       \
	static void __attribute__((constructor)) var##_register_(void)                                                 \
	{                                                                                                              \
		metric_register(&var);                                                                                 \
	}                                                                                                              \
	struct cleanup_needs_semicolon_

/* metric_add(m, n, label values...), of a counter or (n may be negative) a gauge. */
#define metric_add(m, n, ...) metric_add_to((m), (n), METRIC_VALUES_(__VA_ARGS__))
/* metric_set(gauge, value, label values...) */
#define metric_set(m, n, ...) metric_set_to((m), (n), METRIC_VALUES_(__VA_ARGS__))
/* metric_observe_ns(histogram, nanoseconds, label values...) */
#define metric_observe_ns(m, ns, ...) metric_observe_in((m), (ns), METRIC_VALUES_(__VA_ARGS__))
#define METRIC_VALUES_(...) ((const char *const[METRIC_LABELS_MAX + 1]){__VA_ARGS__})

void metric_register(struct metric *m);
void metric_add_to(struct metric *m, int64_t n, const char *const *values);
void metric_set_to(struct metric *m, int64_t n, const char *const *values);
void metric_observe_in(struct metric *m, int64_t ns, const char *const *values);

/* Memory of this process, for a gauge. */
int64_t process_resident_bytes(void);

/* Appends all metrics of the process, ordered by name. */
void metrics_print(struct buf *out);

#endif
