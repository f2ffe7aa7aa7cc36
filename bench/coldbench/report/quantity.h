/* Numbers with their units, as people read them. A metric's unit is in its name (sample.h). Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_QUANTITY_H
#define BENCH_COLDBENCH_REPORT_QUANTITY_H

#include "base/buf.h"

enum unit { UNIT_NONE, UNIT_SECONDS, UNIT_BYTES, UNIT_PER_SECOND, UNIT_BYTES_PER_SECOND };

/* Reads the unit off a name: "phase.create_ms", "net.bytes", "cpu_s.runc". *factor makes the base unit of a value. */
enum unit unit_of(const char *metric, double *factor);

/* How the numbers of one column or axis are written, so that they can be compared at a glance. */
struct scale {
	enum unit unit;
	double divisor;
	int decimals;
	const char *name; /* "ms"; "" of plain numbers */
};

/* For values of that unit (base units) from `least` to `most`. */
struct scale scale_for(enum unit unit, double least, double most);

/* The number alone; a dash when it is none. */
void scale_add(struct buf *out, const struct scale *s, double value);

/* One number on its own, three digits, with its unit: "512 ms", "1.27 s", "18.6 MB". `value` as the metric has it. */
void quantity_add(struct buf *out, const char *metric, double value);

/* Of ratios: "0.12", "1.24", "12.40", "124"; decimal points stand below each other. */
void ratio_add(struct buf *out, double value);

/* "1 ms, 100 Mbit/s", "no delay, no limit, faults: reset 1 /blobs/". `faults`: "" = none. */
void network_add(struct buf *out, double rtt_ms, double mbit, const char *faults);

#endif
