/*
 * The doctor's sections: each examines one thing that coldbench's figures rest on, and writes what it found into a sheet.
 * An error of a section means that it could not be done; what it had found until then stays in the sheet.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_DOCTOR_H
#define BENCH_COLDBENCH_DOCTOR_DOCTOR_H

#include "bench/coldbench/doctor/sheet.h"
#include "bench/coldbench/engines/engine.h"

struct doctor {
	bool quick;
	struct engine_options engines;
	const char *engine, *image; /* whose starts are measured */
	const char *dir;            /* scratch, on the disk that engines will use; its path is short */
	int cancel_fd;              /* readable once the user wants to stop */
};

/* What coldbench needs and whether it is there; how quiet the machine is. */
int machine_section(const struct doctor *d, struct sheet *s, struct err *err);

/* How true the modelled network is. */
int proxy_section(const struct doctor *d, struct sheet *s, struct err *err);

/* Does measuring disturb what is measured? */
int overhead_section(const struct doctor *d, struct sheet *s, struct err *err);

/* How many repetitions tell how small a difference? */
int power_section(const struct doctor *d, struct sheet *s, struct err *err);

#endif
