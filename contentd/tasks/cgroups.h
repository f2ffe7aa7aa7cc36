/*
 * Control groups around containers. A container's own group is made and removed by the OCI runtime, which also makes
 * the groups above it ("/<namespace>" with most clients) and leaves them. Those that were not there before our
 * containers came are removed here when the last of these has gone; a group that somebody else made stays. Which are
 * ours is kept in a file, for the daemon after this one. Any thread.
 */
#ifndef TASKS_CGROUPS_H
#define TASKS_CGROUPS_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

struct cgroups;

/* `file`: what is kept between runs. Reads which hierarchies there are; without any nothing is ever removed. */
int cgroups_new(const char *file, struct cgroups **out, struct err *err);
void cgroups_free(struct cgroups *g);
DEFINE_AUTO_FREE(cgroups);

/* The group that a runtime configuration asks for, "/default/c1"; NULL when it names none, or one of systemd's. The
 * caller's. */
char *cgroups_path(struct str config);

/* A container is about to be in the group `path`, or (`again`) has been since an earlier daemon. */
void cgroups_enter(struct cgroups *g, const char *path, bool again);
/* It is gone. `rough`: not by the runtime's own doing, which may have left the group, and processes that are ending. */
void cgroups_leave(struct cgroups *g, const char *path, bool rough);

/* Removes those that an earlier daemon left and that no container is in. */
void cgroups_sweep(struct cgroups *g);

#endif
