/* The daemons of an engine: processes of ours with a log in its folder. One thread. */
#ifndef BENCH_COLDBENCH_ENGINES_DAEMON_H
#define BENCH_COLDBENCH_ENGINES_DAEMON_H

#include "bench/coldbench/engines/engine.h"

struct daemon {
	const char *name; /* static; its log is NAME.log */
	pid_t pid;        /* 0: does not run */
};

/* Starts it in a session of its own. */
int daemon_start(struct daemon *d, const struct engine *e, const char *name, const struct argv *argv, struct err *err);

/* Repeats a command until it succeeds: then the daemon answers. ERR_UNAVAILABLE with its last words when it ends, or has not
 * answered within 30 s; ERR_CANCELLED once the engine's cancel_fd is readable. */
int daemon_await(const struct daemon *d, const struct engine *e, const struct argv *question, struct err *err);

/* Politely, after 10 s not. Fine when it does not run. */
void daemon_stop(struct daemon *d);

#endif
