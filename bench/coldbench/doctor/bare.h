/*
 * A start timed by the barest means: the engine's two commands one after the other, a pipe, and a clock. Nothing is watched
 * and nothing asked, so that it tells what all of that costs. One thread.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_BARE_H
#define BENCH_COLDBENCH_DOCTOR_BARE_H

#include "bench/coldbench/measure/launch.h"

/* Runs what `spec` says (its ready condition is a line of output, its program ends by itself), waits for the end; *ready_ms is
 * the time from the first command to the line, *own_ms the processor time that this process has used by then. */
int bare_start(const struct launch_spec *spec, double *ready_ms, double *own_ms, struct err *err);

/* Processor time that a process has used since its start; 0 when it is gone. */
double process_cpu_ms(pid_t pid);

#endif
