/*
 * What an engine leaves behind: containers that run, processes, mounts, control groups. An engine's containers are in control
 * groups below one of a name of its own; its daemons, shims and monitors have its folder among their arguments. Its other
 * commands need not: who runs one ends it (command.h), and engine_down (mode.h) whatever is left. One thread.
 */
#ifndef BENCH_COLDBENCH_ENGINES_LEFTOVERS_H
#define BENCH_COLDBENCH_ENGINES_LEFTOVERS_H

#include "base/str.h"
#include "bench/coldbench/engines/engine.h"

/* A name that no other engine has, for namespaces and control groups; the caller's. */
char *leftovers_name(void);

/* Kills what runs in control groups of that name: containers that nobody has ended. */
void leftovers_kill(const char *name);

/* Ends all processes below ours that have e->dir among their arguments, and what descends from them; unmounts what is mounted
 * at e->dir and below it; removes the control groups of that name and what runc keeps of the containers of such a containerd
 * namespace. ERR_INTERNAL names what is left. */
int leftovers_end(const struct engine *e, const char *name, struct err *err);

/* The mount points at `dir` and below it, those mounted last first; of /proc/self/mountinfo. Pure; texts are the caller's. */
void leftovers_mounts(struct str mountinfo, const char *dir, struct argv *out);

#endif
