/*
 * A containerd of its own in an engine's folder, of this machine or of a newer suite, and the commands of its ctr. What the
 * engines that need one have in common. One thread.
 */
#ifndef BENCH_COLDBENCH_ENGINES_CONTAINERD_DAEMON_H
#define BENCH_COLDBENCH_ENGINES_CONTAINERD_DAEMON_H

#include "bench/coldbench/engines/daemon.h"
#include "bench/coldbench/peers/room.h"

/* What differs between the engines. */
struct containerd_spec {
	const char *snapshotter; /* "overlayfs", or the name of the proxy plugin */
	const char *plugin;      /* socket of the proxy plugin; NULL: the snapshotter is containerd's own */
	const char *labels;      /* lines of TOML for [proxy_plugins.NAME.exports], or NULL */
	const char *runtime;     /* "runc" or "crun" */
};

struct containerd {
	struct daemon daemon;
	struct room *room;
	char *name; /* of the namespace, and the folder of the control groups */
	char *socket, *fifos;
	const char *snapshotter, *runtime; /* static */
};

/* Opens the room (options' suite; crun has no use for two kinds of control groups), for a snapshotter to be started in or
 * beside it: what it mounts below e->dir is seen inside. */
int containerd_open(struct containerd *c, const struct engine *e, const char *runtime, struct err *err);

/* Writes the configuration, starts the daemon and waits until it answers. */
int containerd_start(struct containerd *c, const struct engine *e, const struct containerd_spec *spec, struct err *err);

/* Ends containers, the daemon, shims, mounts and control groups; also what has never started. The caller's own daemons live
 * until `end_others`, which is called between (NULL: none). */
int containerd_stop(struct containerd *c, const struct engine *e, void (*end_others)(const struct engine *e),
                    struct err *err);

/* The beginning of a command: `program` is ctr, or one that takes the same options. */
void containerd_client(const struct containerd *c, const char *program, struct argv *out);

/* The commands of an engine_kind. `pull` is ctr's own. */
void containerd_pull(const struct containerd *c, const char *ref, struct argv *out);
void containerd_run(const struct containerd *c, const char *ref, const char *id, bool detach, const char *const *args,
                    struct argv *out);
int containerd_mount(const struct containerd *c, const struct engine *e, const char *ref, const char *at,
                     struct err *err);

/* options' runtime, "runc" when they name none. */
const char *containerd_runtime(const struct engine_options *o);

#endif
