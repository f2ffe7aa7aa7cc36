/* Files of /proc/PID. Any thread. */
#ifndef BENCH_COLDBENCH_MEASURE_PROC_H
#define BENCH_COLDBENCH_MEASURE_PROC_H

#include "base/buf.h"

#include <sys/types.h>

/* The whole of /proc/PID/NAME, in the place of what `out` held. False, and errno, when it cannot be read, as when the
 * process is gone: then it is empty. */
bool proc_read(pid_t pid, const char *name, struct buf *out);

#endif
