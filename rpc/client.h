/*
 * Blocking gRPC client over one UNIX socket, for command line tools and tests: no threads, nothing at start-up but
 * connect(2). One thread uses a client at a time. Several calls may be open at once; every blocking function pumps all
 * of them. Methods are named by the service descriptor of the .proto file and the method's name.
 *
 * One call:
 *	AUTO(pb) Version__VersionResponse *rsp = NULL;
 *	TRY(rpc_call(c, &version__version__descriptor, "Version", NULL, &req.base, &rsp, err));
 *
 * A stream beside a long call:
 *	TRY(rpc_stream_open(c, &streaming__streaming__descriptor, "Stream", opts, &s, err));
 *	TRY(rpc_stream_open(c, &transfer__transfer__descriptor, "Transfer", opts, &t, err));
 *	TRY(rpc_stream_send(t, &req.base, err)); TRY(rpc_stream_close_send(t, err));
 *	for (;;) {
 *		while ((r = rpc_stream_try_recv(s, &any, err)) == RPC_MESSAGE) ...
 *		if ((r = rpc_stream_try_recv(t, &empty, err)) != RPC_AGAIN) break;   the answer, or the error
 *		TRY(rpc_client_poll(c, NULL, 0, INT64_MAX, err));
 *	}
 * Deadlines are CLOCK_MONOTONIC nanoseconds, INT64_MAX for none.
 */
#ifndef RPC_CLIENT_H
#define RPC_CLIENT_H

#include "base/cleanup.h"
#include "base/err.h"

#include <poll.h>
#include <protobuf-c/protobuf-c.h>

struct rpc_client;
struct rpc_stream;

/* Metadata of a call: keys in lower case. */
struct rpc_md {
	const char *key, *value;
};

/* NULL, and zero fields, mean the default: no metadata but the client's own, no deadline. */
struct rpc_call_opts {
	const struct rpc_md *md;
	size_t n_md;
	int64_t deadline_ns; /* also sent to the server; 0 or INT64_MAX: none */
	const char *service; /* name on the wire, when it is not the descriptor's */
};

/* ERR_UNAVAILABLE when nobody serves the path. */
int rpc_client_connect(const char *path, struct rpc_client **out, struct err *err);
/* Takes a connected stream socket. */
int rpc_client_new(TAKE(int) fd, struct rpc_client **out, struct err *err);
void rpc_client_free(struct rpc_client *c); /* its streams must be gone */
DEFINE_AUTO_FREE(rpc_client);

/* Metadata sent with every call from now on; an empty or NULL value takes it back. For "containerd-namespace". */
void rpc_client_set_metadata(struct rpc_client *c, const char *key, const char *value);

/* Unary call. *rsp: T **, the caller's (pb_free); NULL to ignore the answer. The server's status becomes `err`; a
 * connection that breaks is ERR_UNAVAILABLE. */
int rpc_call(struct rpc_client *c, const ProtobufCServiceDescriptor *svc, const char *method,
             const struct rpc_call_opts *opts, const ProtobufCMessage *req, void *rsp, struct err *err);

/* ---- any call, step by step ---- */

enum rpc_recv_result { RPC_END = 0, RPC_MESSAGE = 1, RPC_AGAIN = 2 };

int rpc_stream_open(struct rpc_client *c, const ProtobufCServiceDescriptor *svc, const char *method,
                    const struct rpc_call_opts *opts, struct rpc_stream **out, struct err *err);
/* Cancels the call if it is still open. */
void rpc_stream_free(struct rpc_stream *s);
DEFINE_AUTO_FREE(rpc_stream);

/* Queues a message, and waits while more than 1 MiB is queued. When the server has ended the call already, the status
 * is the error (an OK status: ERR_UNAVAILABLE); ask rpc_stream_recv for what was received before. */
int rpc_stream_send(struct rpc_stream *s, const ProtobufCMessage *msg, struct err *err);
int rpc_stream_close_send(struct rpc_stream *s, struct err *err);

/* RPC_MESSAGE with *out (T **, the caller's), RPC_END when the call ended well, negative with the status of the call
 * otherwise. Blocks until the deadline, which ends only the wait: ERR_DEADLINE without the call being ended. */
int rpc_stream_recv(struct rpc_stream *s, int64_t deadline_ns, void *out, struct err *err);

/* The same without waiting: RPC_AGAIN when there is nothing yet. */
int rpc_stream_try_recv(struct rpc_stream *s, void *out, struct err *err);

/* Sends and receives what can be, for all calls: 1 when something arrived (or an `extra` descriptor is ready: see its
 * revents), 0 at the deadline, negative when the connection is gone (the calls report it too). */
int rpc_client_poll(struct rpc_client *c, struct pollfd *extra, size_t n_extra, int64_t deadline_ns, struct err *err);

#endif
