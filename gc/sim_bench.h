/* Time of one collection of a large store that costs nothing to read. */
#ifndef GC_SIM_BENCH_H
#define GC_SIM_BENCH_H

#include <stdint.h>

/* Prints what it finds; the exit status. `budget`: units of work in a step. */
int sim_bench(uint64_t nodes, unsigned budget);

#endif
