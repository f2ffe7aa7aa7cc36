/* How large the plain tar of an image's layers is. */
#ifndef BENCH_COLDBENCH_MODES_LAYERS_H
#define BENCH_COLDBENCH_MODES_LAYERS_H

#include "base/err.h"

#include <stdint.h>

/* Inflates all layers of an OCI layout (a folder, whose index names one image) to see. The answer for the last layout that was
 * asked for is kept, since repetitions ask for the same again. One thread. */
int layers_tar_bytes(const char *layout, uint64_t *out, struct err *err);

#endif
