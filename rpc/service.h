/*
 * Services as static tables of handlers, and what a handler may do with its call. The same tables serve gRPC
 * (rpc/server.h) and ttrpc (rpc/ttrpc.h).
 *
 *	static int version_version(struct rpc_call *c, const void *request, void *svc, struct err *err)
 *	{
 *		Version__VersionResponse rsp = VERSION__VERSION_RESPONSE__INIT;
 *
 *		rsp.version = CONTENTD_VERSION;
 *		return rpc_reply(c, &rsp.base, err);
 *	}
 *	static const struct rpc_method methods[] = {{"Version", RPC_INLINE, version_version}};
 *	const struct rpc_service version_service = {&version__version__descriptor, methods, ARRAY_LEN(methods)};
 *
 * A handler is written in blocking style and has a worker thread for itself. It returns 0, or a negative code with
 * `err` filled, which becomes the status of the call (code and message). It must end soon after its call has been
 * cancelled: what blocks in it has to wait for the cancellation too (rpc_cancel_fd, rpc_on_cancel, rpc_deadline_ns).
 * All rpc_ functions here belong to the handler's thread while it runs, unless they say otherwise.
 */
#ifndef RPC_SERVICE_H
#define RPC_SERVICE_H

#include "base/buf.h"
#include "base/err.h"
#include "rpc/arena.h"

#include <protobuf-c/protobuf-c.h>
#include <sys/socket.h>

struct rpc_call;

/* `request`: the message of a unary or server-streaming call, valid until the handler returns; NULL for methods with
 * RPC_CLIENT_STREAM. Its type is the input type of the method. */
typedef int (*rpc_handler)(struct rpc_call *c, const void *request, void *svc, struct err *err);

enum rpc_flags {
	RPC_CLIENT_STREAM = 1,
	RPC_SERVER_STREAM = 2,
	RPC_INLINE = 4, /* never blocks, takes microseconds: runs on the I/O thread. Unary only */
	RPC_LONG = 8, /* may take minutes or days (Wait, Subscribe, Transfer): has a thread outside the pool's cap, and
			   is cancelled as soon as the server stops, without grace */
};

struct rpc_method {
	const char *name; /* as in the descriptor; methods of the descriptor without an entry are Unimplemented */
	unsigned flags;
	rpc_handler fn;
};

struct rpc_service {
	const ProtobufCServiceDescriptor *descriptor; /* of the .proto file: types of requests and answers */
	const struct rpc_method *methods;
	size_t n_methods;
	void *svc;        /* handed to the handlers */
	const char *name; /* on the wire, when it is not the descriptor's (containerd.task.v3.Task); else NULL */
};

/* ---- answers ---- */

/* Sets the answer of a unary call; `msg` is packed at once. Called once; without it the answer is an empty message.
 * ERR_EXHAUSTED when it exceeds the size limit. */
int rpc_reply(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err);

/* ---- streams ---- */

/* Next message of the client: 1 with *out (T **, borrowed until the next rpc_recv), 0 when the client has closed its
 * side, negative when the call was cancelled or the message is malformed. Blocks. */
int rpc_recv(struct rpc_call *c, void *out, struct err *err);

/* As rpc_recv, undecoded: *out takes the message (its old content is freed). */
int rpc_recv_raw(struct rpc_call *c, struct buf *out, struct err *err);

/* Has the rpc_recv that is waiting, and every later one, return 0 as if the client had closed its side: for handlers
 * whose stream another call brings to its end. Any thread, while the handler runs. */
void rpc_recv_stop(struct rpc_call *c);

/* Sends one message to the client; blocks while more than 1 MiB is queued. Fails when the call is cancelled. In a
 * client-streaming method without RPC_SERVER_STREAM the answer goes through rpc_reply. May be called by another
 * thread while the handler is in rpc_recv, by one thread at a time. */
int rpc_send(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err);

/* As rpc_send for bytes that are already in wire form: *msg was begun by rpc_raw_begin, and is taken. */
void rpc_raw_begin(struct buf *msg);
int rpc_send_raw(struct rpc_call *c, struct buf *msg, struct err *err);

/* ---- the call ---- */

/* First value of a metadata key (lower case), or NULL. Any thread while the handler runs. */
const char *rpc_metadata(const struct rpc_call *c, const char *key);

/* Full name, "containerd.services.version.v1.Version/Version". */
const char *rpc_call_name(const struct rpc_call *c);

/* CLOCK_MONOTONIC; INT64_MAX when the client set none. */
int64_t rpc_deadline_ns(const struct rpc_call *c);

/* 0, or -CANCELLED (by the client, or its connection is gone), -DEADLINE, -UNAVAILABLE (the server stops) with `err`
 * filled: TRY(rpc_cancelled(c, err)). Any thread. */
int rpc_cancelled(struct rpc_call *c, struct err *err);

/* A descriptor that becomes readable when the call is cancelled, for poll(); the call's. -1 when none can be made. */
int rpc_cancel_fd(struct rpc_call *c);

/* Has fn(arg) called once when the call is cancelled (at once when it already is), on some thread, under the call's
 * lock: it must only set a flag and signal. Any number, each with an arg of its own, from any thread that works for the
 * call; after rpc_off_cancel with the same arg it will not be called. */
void rpc_on_cancel(struct rpc_call *c, void (*fn)(void *arg), void *arg);
void rpc_off_cancel(struct rpc_call *c, const void *arg);

/* Has fn(arg) called when the handler has returned, on its thread, before the client learns of it: the last one first. Any
 * thread that works for the call. */
void rpc_at_end(struct rpc_call *c, void (*fn)(void *arg), void *arg);

/* Around a wait for another process, which may answer late or never: meanwhile the handler's place in the pool is another
 * call's. Nothing in methods that are RPC_LONG. ERR_EXHAUSTED, at once, when too many calls wait; then without
 * rpc_wait_end. Any thread that works for the call. */
int rpc_wait_begin(struct rpc_call *c, struct err *err);
void rpc_wait_end(struct rpc_call *c);

/* Who is at the other end, as of connect(2). */
const struct ucred *rpc_peer(const struct rpc_call *c);

/* Memory that lives until the handler has returned, for building answers. */
struct arena *rpc_arena(struct rpc_call *c);

/* ---- a call of our own ---- */

/* Nobody made it: for work that outlives the calls which began it. What takes the call of a client takes it, too: it can be
 * cancelled, and what is to run at its end does. It has no deadline, and no answer. */
struct rpc_call *rpc_own_begin(void);
/* What rpc_cancelled says from then on. Any thread, until rpc_own_end. */
void rpc_own_cancel(struct rpc_call *c, enum err_code why);
void rpc_own_end(struct rpc_call *c);

#endif
