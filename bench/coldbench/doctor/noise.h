/* How quiet the machine is: the same work timed again and again, and who else uses it. One thread; takes some seconds. */
#ifndef BENCH_COLDBENCH_DOCTOR_NOISE_H
#define BENCH_COLDBENCH_DOCTOR_NOISE_H

#include "base/err.h"
#include "bench/coldbench/stats.h"

struct noise {
	unsigned n_cpus;
	double load[3];                         /* load averages: 1, 5, 15 minutes */
	double others_cpus;                     /* processors that other processes used meanwhile, on average */
	double steal;                           /* share of all processors' time that the hypervisor gave to others */
	char busiest[64];                       /* "NAME (pid N), 0.8 processors" */
	char governor[32];                      /* of the frequency; "none" when the system cannot choose */
	char frequency[64];                     /* "2100 MHz" */
	struct summary spin;                    /* a fixed piece of computation, in ms */
	struct summary timer;                   /* how much later than asked for a sleep of 1 ms ended, in ms */
	double disk_write_mb_s, disk_read_mb_s; /* in a row, uncached; written means durable */
	double disk_sync_ms;                    /* median of making 4 KiB durable */
};

/* `dir`: on the disk in question; the file there is removed again. ERR_CANCELLED when `cancel_fd` (-1: none) becomes readable. */
int noise_measure(const char *dir, bool quick, int cancel_fd, struct noise *out, struct err *err);

#endif
