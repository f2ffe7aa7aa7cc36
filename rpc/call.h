/*
 * The part of a server-side call that gRPC and ttrpc share: what service.h offers to handlers. A transport embeds
 * struct rpc_call as the first member of its own call, fills the fields of the first group, has the request delivered
 * into `request`, and then calls rpc_call_run on the thread that shall run the handler.
 *
 * References: the transport holds one as long as it knows the call, the handler's run another.
 */
#ifndef RPC_CALL_H
#define RPC_CALL_H

#include "base/vec.h"
#include "rpc/methods.h"
#include "rpc/workers.h"

#include <pthread.h>
#include <stdatomic.h>

/* Room that rpc_raw_begin leaves in front of a stream's message, for gRPC's prefix. */
#define RPC_RAW_PREFIX_BYTES 5

struct rpc_call_ops {
	/* As rpc_recv_raw and rpc_send_raw; NULL where the transport has no streams. */
	int (*recv)(struct rpc_call *c, struct buf *out, struct err *err);
	int (*send)(struct rpc_call *c, struct buf *msg, struct err *err);
	/* The handler has returned: 0 with c->reply, or a negative code with err filled. */
	void (*finish)(struct rpc_call *c, int rc, const struct err *err);
	/* The last reference is gone: frees the transport's part and, by rpc_call_fini, this one. */
	void (*free)(struct rpc_call *c);
};

/* Runs around each handler; see rpc_server_opts. */
struct rpc_hook {
	int (*before)(struct rpc_call *c, void *arg, struct err *err);
	void (*after)(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns);
	void *arg;
};

struct rpc_cancel_hook {
	void (*fn)(void *arg);
	void *arg;
};

struct rpc_metadatum {
	char *key, *value;
};

struct rpc_call {
	/* Set by the transport before the handler runs, constant from then on. */
	const struct rpc_call_ops *ops;
	const struct rpc_entry *method;
	const struct rpc_hook *hook;
	struct workers *workers;    /* NULL: no threads, nothing may block */
	struct worker_share *share; /* of the connection, which is there when the call is submitted */
	struct ucred peer;
	int64_t deadline_ns; /* INT64_MAX: none */
	VEC(struct rpc_metadatum) md;
	size_t max_message_bytes;
	size_t reply_prefix_bytes; /* left free in front of a message, for the transport's framing */
	struct buf request;        /* wire form of a unary request; given up when unpacked */

	atomic_uint refs;
	struct worker_job job;

	/* The handler's thread. */
	struct arena arena;
	struct arena recv_arena; /* the message of the last rpc_recv */
	struct buf reply;        /* prefix and message; empty until rpc_reply */

	pthread_mutex_t lock;
	pthread_cond_t cond;     /* with `lock`, for the transport's waits too: broadcast by a cancellation */
	enum err_code cancelled; /* guarded by lock; ERR_OK: no */
	bool recv_stopped;       /* guarded by lock */
	int cancel_fd;           /* guarded by lock; -1 until asked for */
	VEC(struct rpc_cancel_hook) on_cancel; /* guarded by lock */
	VEC(struct rpc_cancel_hook) at_end;    /* guarded by lock */
};

void rpc_call_init(struct rpc_call *c, const struct rpc_call_ops *ops);
void rpc_call_fini(struct rpc_call *c);

struct rpc_call *rpc_call_ref(struct rpc_call *c);
void rpc_call_unref(struct rpc_call *c);

void rpc_call_add_metadata(struct rpc_call *c, struct str key, struct str value);

/* Marks the call cancelled (the first reason stays) and wakes whoever waits in it. Any thread. */
void rpc_call_cancel(struct rpc_call *c, enum err_code why);
/* The same with c->lock held. */
void rpc_call_cancel_locked(struct rpc_call *c, enum err_code why);
int rpc_call_cancelled_locked(struct rpc_call *c, struct err *err);

/* Hands the call to a worker, which runs the handler and then drops its own reference. */
int rpc_call_submit(struct rpc_call *c, struct err *err);

/* Runs the handler here and now. */
void rpc_call_run(struct rpc_call *c);

/* Waits on c->cond with c->lock held, until *wanted() or cancellation; gives the worker's place in the pool to another
 * call meanwhile. Unlocks on the way, so that the caller looks again at everything. ERR_EXHAUSTED, at once, when too many
 * calls wait. */
int rpc_call_wait(struct rpc_call *c, bool (*wanted)(struct rpc_call *c), struct err *err);

#endif
