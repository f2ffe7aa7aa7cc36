/*
 * Commands that run to their end: what engines are driven with, apart from the one whose output says when a program is
 * ready (launch.h). Any number of threads.
 */
#ifndef BENCH_COLDBENCH_COMMAND_H
#define BENCH_COLDBENCH_COMMAND_H

#include "bench/coldbench/engines/engine.h"

#include <stdint.h>
#include <sys/types.h>

/* Starts a command in a process group of its own with nothing to read, and output at the end of the file `output` (made
 * when absent; NULL: nowhere). */
int command_start(const struct argv *argv, const char *output, pid_t *out, struct err *err);

/* Waits until it has ended. A status that is not 0 is ERR_INTERNAL with the last line of `output` in it; at the deadline
 * (CLOCK_MONOTONIC), and when `cancel_fd` (-1: none) becomes readable, its group is ended, after 20 s by force: ERR_DEADLINE,
 * ERR_CANCELLED. `argv` is for messages. */
int command_wait(pid_t pid, const struct argv *argv, const char *output, int64_t deadline_ns, int cancel_fd,
                 struct err *err);

/* Both. */
int command_run(const struct argv *argv, const char *output, int64_t deadline_ns, int cancel_fd, struct err *err);

/* Runs a command for what it prints, at most 64 KiB, which is appended to `out`; `with_errors`: to its standard error, too,
 * which else is ours. *status is its end as a shell tells it. Deadline and `cancel_fd` as above. */
int command_output(const struct argv *argv, bool with_errors, int64_t deadline_ns, int cancel_fd, struct buf *out,
                   int *status, struct err *err);

/* A program of the project: the one beside ours, or in ../bin from there; the caller's. ERR_NOT_FOUND. */
int program_beside(const char *name, char **out, struct err *err);

/* The last line of a file that is not empty, cleaned for a message; the caller's, "" when there is none. */
char *last_words(const char *path);

#endif
