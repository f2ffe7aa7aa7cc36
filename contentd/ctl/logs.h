/*
 * The log of a detached container: a file to which its shim copies what the container writes, also for a moment after
 * the container has ended. The shim is done when it closes the file.
 */
#ifndef CTL_LOGS_H
#define CTL_LOGS_H

#include "base/err.h"

/* After the container has ended: calls copy(arg), which takes what there is from its place on, until it has had all. `fd`:
 * the log, open for reading only; `changes`: an inotify descriptor, non-blocking, that watches it. Gives up after 10 s. */
int logs_copy_rest(int fd, int changes, int (*copy)(void *arg, struct err *err), void *arg, struct err *err);

#endif
