/*
 * One cold or warm start of a container, measured. Times are CLOCK_MONOTONIC.
 *
 *	begun ─ resolve ─ metadata ─ unpack ─ create ─ start ─ ready
 *	        │          │          │        │        │       └ the ready condition is met (ready.h)
 *	        │          │          │        │        └ the container's first process executes the program
 *	        │          │          │        └ that process exists
 *	        │          │          └ the pulling command has ended: the image is unpacked, or mounted
 *	        │          └ the image's configuration has arrived
 *	        └ the last manifest or index before it has arrived
 *
 * The borders are seen from outside (network, commands, kernel), alike for all engines. A phase that does not occur, as all
 * of the first three with an image that is there, has length 0.
 */
#ifndef BENCH_COLDBENCH_MEASURE_LAUNCH_H
#define BENCH_COLDBENCH_MEASURE_LAUNCH_H

#include "bench/coldbench/engines/engine.h"
#include "bench/coldbench/measure/ready.h"
#include "bench/coldbench/measure/watch.h"
#include "bench/coldbench/net/net.h"
#include "bench/coldbench/sample.h"

enum phase { PHASE_RESOLVE, PHASE_METADATA, PHASE_UNPACK, PHASE_CREATE, PHASE_START, PHASE_READY, N_PHASES };
extern const char *const PHASE_NAMES[N_PHASES];

struct launch_spec {
	struct engine *engine;
	const char *ref, *id;
	const struct ready *ready;
	bool pull;                 /* false: the image is there */
	const char *const *args;   /* instead of the image's own command, or NULL */
	int64_t timeout_ns;        /* from the beginning */
	int cancel_fd;             /* -1: none */
	const char *output;        /* file that gets what the program and the commands print */
	const char *config_digest; /* of the image's configuration, or NULL: then fetching it counts as unpacking */
};

struct running;

struct launch {
	int64_t begun_ns, pulled_ns;
	int64_t ready_ns;
	struct watch_init init;
	const char *config_digest; /* the spec's */
	struct running *running;   /* until launch_end */
};

/* Runs the commands until the program is ready; it goes on running. Failures have the command's last words in them, and leave
 * nothing running. Many threads may be in it at once, with the same watch and engine, and ids and outputs of their own. */
int launch_begin(struct watch *w, const struct launch_spec *spec, struct launch *out, struct err *err);

/* Ends the container by its first process, and waits for the command, which removes it. ERR_DEADLINE when it does not end
 * within 20 s; it is killed then. Does nothing after a launch_begin that failed, and the second
 * time. */
int launch_end(struct launch *l, struct err *err);

/* Phases and network counters of a launch: phase.*, ready_ms and net.*. The network is asked now, after the fact; NULL
 * leaves its part out, and counts the time of the pull as unpacking. */
int launch_sample(const struct launch *l, struct net *net, struct sample *s, struct err *err);

#endif
