/* Preloaded by initdb, so that two runs of it write the same: the time stands still, randomness is none. */
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define STILL 1735689600 /* 2025-01-01 */

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	*tv = (struct timeval){.tv_sec = STILL};
	return 0;
}

time_t time(time_t *out)
{
	if (out)
		*out = STILL;
	return STILL;
}

/* OpenSSL's. */
int RAND_bytes(unsigned char *out, int n)
{
	memset(out, 0x5c, (size_t)n);
	return 1;
}
