/*
 * The process of a shim, for the case that it does not answer any more. Which one it is the shim says itself while it
 * answers; that is noted in the bundle with the time at which that process began, so that a number that is another's by now
 * is never taken for it. Of a shim that never answered it is looked for by its command line. Any thread.
 */
#ifndef TASKS_PROCESS_H
#define TASKS_PROCESS_H

#include "contentd/tasks/action.h"

/* Notes that the shim says to be process `pid`. Not done when that process is no shim for this namespace (a shim in another
 * pid namespace counts in its own), nor when it is noted already. */
void shim_process_note(const struct bundle *b, uint32_t pid);

/* Ends the process, by SIGKILL, and waits until it is gone. ERR_NOT_FOUND when there is none, or none that is known to be
 * it; ERR_DEADLINE when it does not end. */
int shim_process_end(const struct shim_env *env, const struct bundle *b, struct err *err);

/* A process that is there, and no zombie. */
bool process_runs(uint32_t pid);

#endif
