/*
 * Shims: the process between the daemon and one container (runtime v2 of containerd; versions 2 and 3 of its protocol,
 * over ttrpc). Starting one, finding a running one again, calling it, and its `delete` action when it is dead. Any
 * thread; calls may be outstanding in parallel.
 */
#ifndef TASKS_SHIM_H
#define TASKS_SHIM_H

#include "contentd/tasks/action.h"
#include "rpc/proto/shim.pb-c.h"
#include "rpc/ttrpc.h"

struct shim;

/* Called once when the connection breaks, on an I/O thread: must not block. Not called by shim_close. */
typedef void shim_gone_fn(void *arg);

/* Runs the binary's `start` in the bundle and connects to what it answers; these, and which process it is, are noted in the
 * bundle. `options` of the runtime: may be NULL. */
int shim_start(const struct shim_env *env, const char *binary, const struct bundle *b, const Pb__Any *options,
               shim_gone_fn *gone, void *arg, struct shim **out, struct err *err);

/* Connects to the shim that was started in the bundle. */
int shim_reconnect(const struct shim_env *env, const struct bundle *b, shim_gone_fn *gone, void *arg, struct shim **out,
                   struct err *err);

/* Closes the connection; the process goes on. Calls outstanding fail with ERR_UNAVAILABLE. */
void shim_close(struct shim *s);
static inline void shim_cleanup(struct shim **s)
{
	shim_close(*s);
}

bool shim_alive(const struct shim *s);

/* How long a call waits for its answer. Zero fields: for ever. */
struct shim_wait {
	int64_t deadline_ns; /* CLOCK_MONOTONIC */
	/* Within its deadline, and until it is cancelled; meanwhile it takes no place in the pool of handlers. */
	struct rpc_call *on_behalf;
	/* As of ttrpc_req. */
	int64_t patience_ns;
	bool (*still_there)(void *arg);
	void *arg;
};

/* One call of containerd.task.v2.Task; *rsp as of ttrpc_call. */
int shim_call(struct shim *s, const char *method, const ProtobufCMessage *msg, const struct shim_wait *wait, void *rsp,
              struct err *err);

/* The same, for a time in ns. */
int shim_call_within(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t ns, void *rsp,
                     struct err *err);

/* The same without a waiting thread; done() as of ttrpc_call_async. */
int shim_call_async(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t deadline_ns,
                    void (*done)(void *arg, int rc, void *rsp, const struct err *why), void *arg, struct err *err);

/* Runs the binary's `delete` action: kills and cleans what is left of a container whose shim is dead. *out as of
 * pb_unpack, the caller's. */
int shim_delete(const struct shim_env *env, const char *binary, const struct bundle *b, Shim__DeleteResponse **out,
                struct err *err);

/* Removes the socket that a killed shim has left; not one that somebody listens on (a shim may serve several containers). */
void shim_remove_socket(const struct shim_env *env, const struct bundle *b);

/* What `start` printed. */
struct shim_answer {
	char *address;
	unsigned version; /* of the protocol: 2 or 3 */
};
static inline void shim_answer_fini(struct shim_answer *a)
{
	free(a->address);
}
DEFINE_AUTO_FINI(shim_answer);

/* Plain text, or the JSON of newer shims with protocol ttrpc. ERR_INVALID otherwise, ERR_UNIMPLEMENTED for another
 * protocol or version. *out is the caller's. */
int shim_parse_answer(struct str answer, struct shim_answer *out, struct err *err);

/* The answer that was noted in the bundle; ERR_NOT_FOUND. */
int shim_kept_answer(const struct bundle *b, struct shim_answer *out, struct err *err);

#endif
