/* What a program prints, on its way from a pipe to a file: notes when the first line was whole. */
#ifndef BENCH_COLDBENCH_OUTPUT_H
#define BENCH_COLDBENCH_OUTPUT_H

#include "base/err.h"

#include <stdint.h>

struct output;

/* Starts a thread that passes on; *write_fd is the end for the program, which the caller closes after it has started it. `path`
 * is appended to, by a megabyte at most: of what a program prints beyond it nothing is kept. */
int output_start(const char *path, struct output **out, int *write_fd, struct err *err);

/* Waits for the first whole line, *at_ns (CLOCK_MONOTONIC) is when it came. ERR_UNAVAILABLE when the output ends before;
 * ERR_DEADLINE; ERR_CANCELLED when `cancel_fd` (-1: none) becomes readable. */
int output_wait_line(struct output *o, int64_t deadline_ns, int cancel_fd, int64_t *at_ns, struct err *err);

/* Takes what is there still, but does not wait for who has the pipe yet. NULL is fine. */
void output_stop(struct output *o);

#endif
