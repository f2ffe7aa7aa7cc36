/*
 * Shims: the process between the daemon and one container (runtime v2 of containerd). Starting one, finding a running
 * one again, calling it, and its `delete` action when it is dead. Any thread; calls may be outstanding in parallel.
 */
#ifndef TASKS_SHIM_H
#define TASKS_SHIM_H

#include "contentd/tasks/bundle.h"
#include "rpc/proto/shim.pb-c.h"
#include "rpc/ttrpc.h"

/* What every shim is told. Borrowed texts. */
struct shim_env {
	const char *address;       /* of our gRPC socket */
	const char *ttrpc_address; /* where it sends events */
	const char *daemon;        /* path of our program, for -publish-binary */
	struct rpc_io *io;
	bool debug;
};

struct shim;

/* The binary for a runtime name: "io.containerd.runc.v2" -> "containerd-shim-runc-v2"; an absolute path is taken as it is.
 * ERR_INVALID for anything else. *out is the caller's. */
int shim_binary(const char *runtime, char **out, struct err *err);

/* Called once when the connection breaks, on an I/O thread: must not block. Not called by shim_close. */
typedef void shim_gone_fn(void *arg);

/* Runs the binary's `start` in the bundle and connects to what it answers. */
int shim_start(const struct shim_env *env, const char *binary, const struct bundle *b, shim_gone_fn *gone, void *arg,
               struct shim **out, struct err *err);

/* Connects to the shim that wrote the bundle's `address`. */
int shim_reconnect(const struct shim_env *env, const struct bundle *b, shim_gone_fn *gone, void *arg, struct shim **out,
                   struct err *err);

/* Closes the connection; the process goes on. Calls outstanding fail with ERR_UNAVAILABLE. */
void shim_close(struct shim *s);
static inline void shim_cleanup(struct shim **s)
{
	shim_close(*s);
}

bool shim_alive(const struct shim *s);

/* One call of containerd.task.v2.Task. deadline_ns 0: none. on_behalf (may be NULL): ends when that call is cancelled.
 * *rsp as of ttrpc_call. */
int shim_call(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t deadline_ns,
              struct rpc_call *on_behalf, void *rsp, struct err *err);

/* Runs the binary's `delete` action: kills and cleans what is left of a container whose shim is dead. *out as of
 * pb_unpack, the caller's. */
int shim_delete(const struct shim_env *env, const char *binary, const struct bundle *b, Shim__DeleteResponse **out,
                struct err *err);

/* Takes the address out of what `start` printed: plain text, or the JSON of bootstrap version 2 and 3 with protocol
 * ttrpc. ERR_INVALID otherwise. *out is the caller's. */
int shim_parse_answer(struct str answer, char **out, struct err *err);

#endif
