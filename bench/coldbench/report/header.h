/* The header line of raw data (sample.h), taken apart for people. Values are text, whatever they were. */
#ifndef BENCH_COLDBENCH_REPORT_HEADER_H
#define BENCH_COLDBENCH_REPORT_HEADER_H

#include "base/err.h"
#include "base/vec.h"

struct pair {
	char *key, *value;
};
typedef VEC(struct pair) pairs;

struct header {
	char *suite, *title, *command, *begun; /* NULL when absent */
	pairs machine;                         /* nested keys are joined: "cpu.model" */
	pairs engines;                         /* name: versions */
	pairs skipped;                         /* name: why */
	pairs images;                          /* "python:gzip.layer_bytes": compressed */
};

/* ERR_INVALID for what is no object, or has objects where text belongs. Long texts are cut, and beyond 256 pairs the rest of an
 * object is left out. */
int header_parse(struct str json, struct header *out, struct err *err);
void header_fini(struct header *h);
DEFINE_AUTO_FINI(header);

/* The value of a key, or NULL. */
const char *pairs_get(const pairs *p, const char *key);

/* Whether the samples of both may be compared: the load does not count. */
bool header_same_machine(const struct header *a, const struct header *b);

#endif
