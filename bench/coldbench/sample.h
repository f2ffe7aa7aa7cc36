/*
 * A sample: one repetition of a case as it was measured. It is a line of JSON in the raw data, and everything that
 * reports is computed from such lines alone:
 *
 *	{"group": "start", "mode": "start", "image": "python", "form": "estargz", "engine": "contentd",
 *	 "network": "lan", "rtt_ms": 1, "mbit": 1000, "faults": "reset 1 /blobs/", "count": 1, "repetition": 3, "order": 41,
 *	 "at": "2026-01-02T03:04:05Z", "error": "...", "metrics": {"ready_ms": 512.3, "phase.resolve_ms": 11.2, ...}}
 *
 * Metrics (units in their names):
 *
 *	ready_ms                    from the exec of the first command to ready: the figure of the modes start and burst
 *	phase.PHASE_ms              its parts; they sum to ready_ms
 *	net.bytes                   to the client until ready; also net.requests, net.connections, net.round_trips
 *	net.PHASE.bytes             of the phase alone, likewise
 *	net.left_out                exchanges that the network kept no list of, when there were any: what is made of that list (where
 *	                            phases of the pull end, net.repeated_bytes) does not know of them
 *	net.faults                  over a network with faults: how many requests they struck, from the first measured one to the end of
 *	                            the sample; what a mode prepares goes over a healthy network
 *	cpu_s.PROGRAM               user and system time until ready, over all processes of that name
 *	peak_bytes.PROGRAM          largest VmHWM among them; processes.PROGRAM: how many there were
 *	majflt.PROGRAM, minflt.PROGRAM
 *	cpu_s, majflt               of the whole engine, the container's own processes left out
 *	cold.resident_bytes         of the programs that engines, all of them, are driven with: in the page cache before the start
 *	noise.spin_ms               a fixed piece of computation, timed just before
 *	start.ready_ms.p50, .p95, .max    mode burst: over the starts; ready_ms is when the last one was ready
 *	start.IMAGE.ready_ms.p50, ...     over those of an image, in a burst of several ("image": "python+nginx")
 *
 * Other modes have metrics of their own (modes/).
 */
#ifndef BENCH_COLDBENCH_SAMPLE_H
#define BENCH_COLDBENCH_SAMPLE_H

#include "base/json.h"
#include "base/vec.h"
#include "bench/coldbench/suite.h"

struct metric {
	char *name;
	double value;
};

struct sample {
	char *group, *mode, *image, *form, *engine, *network;
	double rtt_ms, mbit;
	char *faults; /* of the network (suite.h); NULL: none */
	unsigned count, repetition, order;
	char *at;    /* RFC 3339 */
	char *error; /* NULL: it succeeded */
	VEC(struct metric) metrics;
};

void sample_init(struct sample *s, const struct bench_case *c, unsigned repetition, unsigned order);
void sample_fini(struct sample *s);
DEFINE_AUTO_FINI(sample);

/* Sets a metric, or changes it. */
void sample_set(struct sample *s, const char *name, double value);
void sample_setf(struct sample *s, double value, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* NaN when there is none. */
double sample_get(const struct sample *s, const char *name);

/* One line, with its end. */
void sample_write(const struct sample *s, struct buf *out);
int sample_parse(struct str line, struct sample *out, struct err *err);

/* What the raw data of a run is: a header line {"coldbench": 1, "suite": ..., "title": ..., "command": ..., "begun": ...,
 * "machine": {fingerprint}, "engines": {name: versions, ...}, "images": {"python:gzip": {"layer_bytes": ..., "layers": ...}, ...},
 * "skipped": {name: why, ...}}, then samples. */
struct sample_set {
	struct buf header; /* that line: JSON; of samples of several runs, a line each */
	VEC(struct sample) samples;
};

int sample_set_read(const char *path, struct sample_set *out, struct err *err);
void sample_set_fini(struct sample_set *s);
DEFINE_AUTO_FINI(sample_set);

#endif
