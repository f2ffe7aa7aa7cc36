#include "bench/coldbench/modes/mode.h"

#include <string.h>

static const struct mode *const MODES[] = {
    &start_mode, &warm_mode, &burst_mode, &read_mode, &datapath_mode, &density_mode, &unpack_mode, &touched_mode,
};

const struct mode *mode_at(size_t i)
{
	return i < ARRAY_LEN(MODES) ? MODES[i] : NULL;
}

const struct mode *mode_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(MODES); i++)
		if (!strcmp(MODES[i]->name, name))
			return MODES[i];
	return NULL;
}
