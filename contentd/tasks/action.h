/*
 * The shim binary as a program: which one a runtime name means, and its actions. `start` leaves a running shim and
 * prints how to reach it; `delete` cleans up after one that is dead. Any thread; both actions block.
 */
#ifndef TASKS_ACTION_H
#define TASKS_ACTION_H

#include "base/cleanup.h"
#include "contentd/tasks/bundle.h"
#include "rpc/proto/pb.pb-c.h"

/* What every shim is told. Borrowed texts. */
struct shim_env {
	const char *address;       /* of our gRPC socket */
	const char *ttrpc_address; /* where it sends events */
	const char *daemon;        /* path of our program, for -publish-binary */
	struct rpc_io *io;
	bool debug;
};

/* The binary's name for a runtime: "io.containerd.runc.v2" -> "containerd-shim-runc-v2"; an absolute path is taken as it
 * is. ERR_INVALID for anything else. *out is the caller's. */
int shim_binary(const char *runtime, char **out, struct err *err);

/* The same as an absolute path: looked up in PATH and beside our own program. ERR_NOT_FOUND when it is not installed. */
int shim_find(const struct shim_env *env, const char *runtime, char **out, struct err *err);

/* Appends a runtime's options in the form that shims of all generations read: as an Any. Those of containerd 2.3 and later
 * first try their input as BootstrapParams, for which an Any can pass; what is put after it (field 8, no message) makes
 * them see that it is none, and the others skip it. */
void action_put_options(const Pb__Any *options, struct buf *out);

/* Runs `start` in the bundle with the runtime's options (may be NULL) on its standard input; what it prints is appended
 * to `answer`. Its output goes through a FIFO in the bundle, by which action_wait_start finds it. */
int action_start(const struct shim_env *env, const char *binary, const struct bundle *b, const Pb__Any *options,
                 struct buf *answer, struct err *err);

/* Waits for a `start` that an earlier daemon left behind, at most until deadline_ns (CLOCK_MONOTONIC): afterwards the
 * bundle's `address` is there, or there is no shim. */
void action_wait_start(const struct bundle *b, int64_t deadline_ns);

/* Runs `delete`: what it prints (a DeleteResponse) is appended to `answer`. */
int action_delete(const struct shim_env *env, const char *binary, const struct bundle *b, struct buf *answer,
                  struct err *err);

/* Runs `-info` with the runtime's options (may be NULL): what it prints (a RuntimeInfo) is appended to `answer`. Shims
 * before containerd 2.0 do not know it: ERR_UNKNOWN with what they say. */
int action_info(const struct shim_env *env, const char *binary, const Pb__Any *options, struct buf *answer,
                struct err *err);

#endif
