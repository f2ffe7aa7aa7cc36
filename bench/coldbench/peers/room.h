/*
 * A room: the mount namespace in which the daemons and commands of one engine run, so that they have the programs of
 * another Debian suite (peers.h) without a change of the machine.
 *
 *	machine   /usr  /etc ...  DIR ──────────┐ one shared mount: what either mounts below it, both see
 *	room      /usr (the suite's)  ...  DIR ─┘ other mounts of the room are its own
 *
 * A room that would not differ from this machine is no namespace at all, and DIR is left alone. One thread.
 */
#ifndef BENCH_COLDBENCH_PEERS_ROOM_H
#define BENCH_COLDBENCH_PEERS_ROOM_H

#include "bench/coldbench/engines/engine.h"

struct room;

/* The folder `from` in the place of the machine's folder `at`, for what a program keeps at a fixed place. Both are made. */
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

/* Puts in front of a command line what makes the command run in the room, in the process that is started: the words are valid
 * until room_close. Programs are found in the suite's /usr, the working folder is "/". */
void room_enter(const struct room *r, struct argv *a);

#endif
