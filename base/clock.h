/* Time. Deadlines are absolute CLOCK_MONOTONIC nanoseconds; wall-clock times are struct timespec in UTC. Any thread. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/str.h"

#include <time.h>

#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL
#define NS_PER_US 1000LL

int64_t clock_mono_ns(void);
struct timespec clock_wall(void);

/* RFC 3339 in UTC with nanoseconds when they are not zero: "2026-01-02T03:04:05.25Z". dst needs 40 bytes. */
char *time_rfc3339(struct timespec t, char dst[static 40]);

/* Parses RFC 3339 with any offset and up to 9 fraction digits; false on anything else. Years 0000-9999. */
bool time_parse_rfc3339(struct str s, struct timespec *out);

#endif
