/*
 * Named places at which a test lets the process die, as kill -9 or a power cut would have it. They are in every build and
 * cost a load and a branch.
 *
 *	CONTENTD_FAILPOINT=NAME:FILE     the process that comes to FAILPOINT("NAME") removes FILE, and gets SIGKILL
 *
 * Who finds no FILE to remove goes on: of several processes, and of those that are started after the first has died, one
 * dies. A test sees by the file whether the place was reached at all. Any thread.
 */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

#include <stdbool.h>

extern bool failpoint_armed;

/* Reads the environment; before other threads begin. */
void failpoint_init(void);
void failpoint_reached(const char *name);

#define FAILPOINT(name)                                                                                                \
	do {                                                                                                           \
		if (__builtin_expect(failpoint_armed, 0))                                                              \
			failpoint_reached(name);                                                                       \
	} while (0)

#endif
