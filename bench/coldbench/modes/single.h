/* The start of one container, as the modes start, warm and touched measure it. */
#ifndef BENCH_COLDBENCH_MODES_SINGLE_H
#define BENCH_COLDBENCH_MODES_SINGLE_H

#include "bench/coldbench/modes/steps.h"

/* Starts the image, from the pull on or (!pull) from what is there, and sets all that sample.h says of a start. The container
 * has ended when this returns. */
int single_measure(struct steps *t, bool pull, struct err *err);

/* Pulls and starts it, and forgets how long that took. */
int single_discard(struct steps *t, struct err *err);

/* Pulls and starts it with an engine that fetches nothing but what is read, and sets touched_bytes alone. */
int single_touched(struct steps *t, struct err *err);

#endif
