/*
 * A room: the mount namespace in which the daemons and commands of one engine run, so that they have the programs of
 * another Debian suite (peers.h) without a change of the machine.
 *
 *	machine   /usr  /etc ...  DIR ──────────┐ one shared mount: what either mounts below it, both see
 *	room      /usr (the suite's)  ...  DIR ─┘ other mounts of the room are its own
 *
 * A room that would not differ from this machine is no namespace at all, and DIR is left alone.
 *
 * A process is in its room before it executes its program: nothing else is loaded, which would be measured with it. Those that
 * have no room are started in the same way. room_start is for any thread, the rest for one.
 */
#ifndef BENCH_COLDBENCH_PEERS_ROOM_H
#define BENCH_COLDBENCH_PEERS_ROOM_H

#include "base/unix.h"
#include "bench/coldbench/engines/engine.h"

/* The folder `from` in the place of the machine's folder `at`, for what a program keeps at a fixed place. Both are made; `at`
 * and the folders above it that were made for a room are marked (with an extended attribute) as such, and room_close removes
 * them when they are empty and no other room, of any process, has them. Those of a killed process go with the next room. */
struct room_bind {
	const char *from, *at;
};

struct room_spec {
	const char *root; /* whose /usr; NULL: this machine's */
	const char *dir;  /* absolute, with nothing mounted below yet; NULL: no shared folder */
	bool one_cgroups; /* beside cgroup v1, the unified hierarchy is out of sight: crun refuses to run with both */
	const struct room_bind *binds; /* NULL: none; else ends with an empty one */
};

/* Needs root. */
int room_open(const struct room_spec *spec, struct room **out, struct err *err);

/* Processes in it live on, mounts below DIR are detached; NULL is fine. */
void room_close(struct room *r);
#define room_free room_close
DEFINE_AUTO_FREE(room);

/* Starts a command line in its room, with what `how` says beside its argv and environment: in a namespace programs are found
 * in the suite's /usr, and the working folder is "/" where `how` names none; without one, it is ours. The environment is ours
 * without what would overrule an engine's configuration, such as CONTAINERS_CONF. The caller reaps *pid. A thread that ends at
 * once is the one that starts it: nothing that is started so may ask for a signal at its parent's death (PR_SET_PDEATHSIG),
 * which is the death of that thread. */
int room_start(const struct argv *a, struct spawn how, pid_t *pid, struct err *err);

#endif
