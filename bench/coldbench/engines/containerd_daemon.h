/*
 * A containerd of its own in an engine's folder, of this machine or of a newer suite, with its own snapshotter or with a proxy
 * plugin, and the commands of its ctr: what the engines that need one have in common. Except for the start, which differs,
 * the functions are those of an engine_kind (engine.h). One thread.
 */
#ifndef BENCH_COLDBENCH_ENGINES_CONTAINERD_DAEMON_H
#define BENCH_COLDBENCH_ENGINES_CONTAINERD_DAEMON_H

#include "bench/coldbench/engines/daemon.h"

/* What differs between the engines. */
struct containerd_spec {
	const char *snapshotter; /* "overlayfs", or the name of the proxy plugin */
	const char *runtime;     /* "runc" or "crun"; NULL: the options' */
	/* Starts the proxy plugin outside of the room, where it has to listen on `socket` when this returns; containerd sees
	 * what it mounts below e->dir. NULL: the snapshotter is containerd's own. */
	int (*start_plugin)(const struct engine *e, const char *socket, struct daemon *out, struct err *err);
};

/* Opens the room (options' suite; crun has no use for two kinds of control groups), starts the plugin, writes the configuration,
 * starts the daemon, and waits until it answers. The spec's texts are static. */
int containerd_start(struct engine *e, const struct containerd_spec *spec, struct err *err);

/* Ends containers, the daemon, the plugin, shims, mounts and control groups; also what has never started. */
int containerd_stop(struct engine *e, struct err *err);

/* By ctr; lazily by ctr-remote, since ctr of 1.6 and 1.7 does not tell a snapshotter which layer it unpacks. */
int containerd_pull(struct engine *e, const char *ref, struct argv *out, struct err *err);
int containerd_pull_lazily(struct engine *e, const char *ref, struct argv *out, struct err *err);

int containerd_run(struct engine *e, const char *ref, const char *id, bool detach, const char *const *args,
                   struct argv *out, struct err *err);
int containerd_mount(struct engine *e, const char *ref, const char *at, struct err *err);

/* options' runtime, "runc" when they name none. */
const char *containerd_runtime(const struct engine_options *o);

#endif
