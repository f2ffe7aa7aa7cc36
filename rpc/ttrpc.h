/*
 * ttrpc: the small RPC protocol of containerd's shims (10-byte frames on a UNIX stream socket), client and server, and
 * our own use of it between contentd and contentfs over SOCK_SEQPACKET, where a frame is one packet and descriptors
 * travel beside it.
 *
 * On a stream socket frames carry up to 4 MiB. On SOCK_SEQPACKET a frame is bounded by 1 MiB (TTRPC_PACKET_MAX); both
 * ends raise SO_SNDBUF for that. Extensions, used only towards our own server: data frames (type 3) from server to
 * client before the answer carry progress messages, and a data frame without data (flags 0x05) from the client says
 * that nobody waits for the call any more: ttrpc has no cancellation of its own.
 *
 * Bounds of a server, per connection: 1024 calls and 64 MiB of requests that have no answer yet, 64 MiB of answers that
 * the client does not read (then it is disconnected).
 */
#ifndef RPC_TTRPC_H
#define RPC_TTRPC_H

#include "base/cleanup.h"
#include "rpc/io.h"
#include "rpc/service.h"

#define TTRPC_FRAME_MAX (4u << 20)  /* payload of a frame on a stream socket */
#define TTRPC_PACKET_MAX (1u << 20) /* payload of a frame on SOCK_SEQPACKET */
#define TTRPC_FDS_MAX 16            /* descriptors beside one frame */

/* ---- client ---- */

struct ttrpc_client;

struct ttrpc_client_opts {
	struct rpc_io *io; /* shared thread; NULL: one of its own */
	/* The peer is gone (or sent garbage): called once, on the I/O thread, after all outstanding calls have failed
	 * with ERR_UNAVAILABLE. Not called by ttrpc_client_free. It must not block, nor free the client. */
	void (*on_close)(void *arg, const struct err *why);
	void *arg;
};

/* Takes a connected UNIX socket, SOCK_STREAM or SOCK_SEQPACKET. */
int ttrpc_client_new(TAKE(int) fd, const struct ttrpc_client_opts *opts, struct ttrpc_client **out, struct err *err);

/* Closes. Calls still outstanding fail with ERR_UNAVAILABLE, their callbacks have run when this returns. Not from the
 * I/O thread. */
void ttrpc_client_free(struct ttrpc_client *c);
DEFINE_AUTO_FREE(ttrpc_client);

bool ttrpc_client_alive(const struct ttrpc_client *c); /* any thread; what was true a moment ago */

/* One call. Zero fields mean none. */
struct ttrpc_req {
	const ProtobufCServiceDescriptor *svc;
	const char *method;
	const char *service; /* name on the wire, when it is not the descriptor's */
	const char *ns;      /* metadata containerd-namespace-ttrpc */
	const ProtobufCMessage *msg;
	const int *fds; /* SOCK_SEQPACKET only; stay the caller's */
	unsigned n_fds;
	int64_t deadline_ns; /* CLOCK_MONOTONIC; 0 or INT64_MAX: none */
	/* Ends early when this call of ours is cancelled or its deadline passes. Only ttrpc_call. */
	struct rpc_call *on_behalf;
	/* The peer is our own server: tell it when we give up (else the answer is just ignored when it comes). */
	bool can_cancel;
	/* Progress messages, in wire form, in order, on the calling thread. Only ttrpc_call. */
	void (*progress)(void *arg, struct str wire);
	/* Asked each time that patience_ns passed without an answer, on the calling thread: is the peer still there?
	 * False gives the call up: ERR_UNAVAILABLE. Only ttrpc_call. */
	bool (*still_there)(void *arg);
	int64_t patience_ns;
	void *arg; /* of both */
};

/* Descriptors that came beside an answer; what is not taken (set to -1) is closed by ttrpc_fds_fini. */
struct ttrpc_fds {
	int fd[TTRPC_FDS_MAX];
	unsigned n;
};
#define TTRPC_FDS_INIT ((struct ttrpc_fds){.n = 0})
void ttrpc_fds_fini(struct ttrpc_fds *f);
DEFINE_AUTO_FINI(ttrpc_fds);

/* Any number of threads may have calls outstanding on one client. *rsp: T ** of the method's answer, the caller's
 * (pb_free), or NULL. `fds` NULL: descriptors beside the answer are closed. */
int ttrpc_call(struct ttrpc_client *c, const struct ttrpc_req *req, void *rsp, struct ttrpc_fds *fds, struct err *err);

/* The same without a waiting thread (for calls that take days): done() runs once, on the I/O thread, and must not
 * block; `rsp` is its own (pb_free), NULL unless rc is 0. When this returns negative done() does not run. */
int ttrpc_call_async(struct ttrpc_client *c, const struct ttrpc_req *req,
                     void (*done)(void *arg, int rc, void *rsp, const struct err *why), void *arg, struct err *err);

/* ---- server ---- */

struct ttrpc_server;

struct ttrpc_server_opts {
	struct rpc_io *io;        /* shared thread; NULL: one of its own */
	unsigned max_workers;     /* 0: 64. RPC_LONG calls do not count; shared as in server.h */
	unsigned max_calls;       /* outstanding on one connection; 0: 1024 */
	unsigned max_connections; /* 0: 4096 (each shim has one) */
	bool (*allow)(const struct ucred *peer, void *arg);            /* asked at accept; NULL: everybody */
	int (*before)(struct rpc_call *c, void *arg, struct err *err); /* before each handler, on its thread */
	/* after both; as with gRPC (server.h) */
	void (*after)(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns);
	void (*on_disconnect)(const struct ucred *peer, void *arg); /* on the I/O thread; must not block; may be NULL */
	void *arg;
	/* A stop closes the connections without an answer to what was not done, instead of Unavailable: for clients that
	 * repeat a call when its connection broke, but take any answer for the last word (containerd's shims). */
	bool quiet_stop;
};

int ttrpc_server_new(const struct ttrpc_server_opts *opts, struct ttrpc_server **out, struct err *err);
void ttrpc_server_free(struct ttrpc_server *s); /* stops it */
DEFINE_AUTO_FREE(ttrpc_server);

/* Before ttrpc_server_start. Unary methods only; RPC_INLINE and RPC_LONG as with gRPC. */
int ttrpc_server_add(struct ttrpc_server *s, const struct rpc_service *svc, struct err *err);

/* Before ttrpc_server_start: a listening socket, SOCK_STREAM or SOCK_SEQPACKET, non-blocking. Several are fine. */
int ttrpc_server_listen(struct ttrpc_server *s, TAKE(int) fd, struct err *err);
/* A connected socket (from socketpair, or handed over); before or after the start. */
int ttrpc_server_adopt(struct ttrpc_server *s, TAKE(int) fd, struct err *err);

int ttrpc_server_start(struct ttrpc_server *s, struct err *err);

/* Cancels all calls (Unavailable; see quiet_stop), waits for their handlers, closes the connections. */
void ttrpc_server_stop(struct ttrpc_server *s);

/* ---- inside a handler that was called through ttrpc ---- */

/* The i-th descriptor beside the request: the caller's now. -1 when there is none or it was taken before. */
int ttrpc_call_fd(struct rpc_call *c, unsigned i);

/* Has a descriptor sent beside the answer; it is consumed. ERR_PRECONDITION on a stream socket. */
int ttrpc_reply_fd(struct rpc_call *c, TAKE(int) fd, struct err *err);

/* Sends a progress message now; waits while the connection's queue is over its bound. */
int ttrpc_progress(struct rpc_call *c, const ProtobufCMessage *msg, struct err *err);

#endif
