/*
 * gRPC server on nghttp2, over UNIX stream sockets (HTTP/2 without TLS, prior knowledge).
 *
 * One thread of its own does all network work; handlers run on worker threads (rpc/service.h). Workers are made when
 * needed, at most max_workers that are not waiting for a client; calls marked RPC_LONG and calls blocked in rpc_recv
 * or rpc_send do not count. No connection gets more than three quarters of them, connections take turns, and two calls
 * of each run in any case (rpc/workers.h): calls that are slow for one client keep no other waiting. Idle workers go after some seconds. Programs with a server call mallopt(M_ARENA_MAX, 2)
 * first: one malloc arena per worker would cost tens of megabytes.
 *
 * Bounds, per connection: 1024 calls, 8 KiB of request headers, 1 MiB of window per call; above 64 MiB of unread request
 * bytes senders are paused, above four times that the call that adds to them is refused; clients that reset streams
 * or send control frames in floods are disconnected, and those that do not begin to speak HTTP/2 within 20 s.
 * Per process (rpc/h2_peer.h): 256 connections, 4096 calls that are open or still running, 512 MiB of unread requests,
 * 256 MiB of unread answers. Compressed messages are refused (Unimplemented), as are strings that are not UTF-8.
 */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include "base/cleanup.h"
#include "rpc/service.h"

struct rpc_server;

/* Zero means the default. */
struct rpc_server_opts {
	unsigned max_workers;      /* 64 */
	unsigned max_connections;  /* 1024; further ones are closed at once */
	unsigned max_calls;        /* 4096 of one process, open or still running */
	size_t max_message_bytes;  /* 16 MiB, requests and answers */
	size_t max_buffered_bytes; /* 64 MiB of unread requests on a connection; the other bounds are multiples */
	int64_t greeting_ns;       /* 20 s until a connection has its HTTP/2 preface, or, refused, is closed */
	/* Who may talk to us, asked at accept; NULL: whoever could open the socket. `fd`: the connection, for more questions
	 * about the peer. Negative: calls of this connection are answered with `err`, without a look at them. It is kept for
	 * greeting_ns, and beside 31 others; then, and when there are more, it is just closed. */
	int (*allow)(const struct ucred *peer, int fd, void *arg, struct err *err);
	/* Runs before each handler on its thread; a negative return ends the call with `err`. */
	int (*before)(struct rpc_call *c, void *arg, struct err *err);
	/* Runs after `before` (which ran in any case) and the handler, on their thread, before the client has the answer.
	 * rc: what the handler (or `before`) returned, `err` as it filled it; its message may be changed. */
	void (*after)(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns);
	/* Runs when hardly anybody has called for ten seconds (workers_on_calm), or NULL. */
	void (*calm)(void *arg);
	/* The grace of a stop is over, and all calls are cancelled: for what handlers wait for without looking. May be NULL. */
	void (*cancelled)(void *arg);
	void *arg;
};

int rpc_server_new(const struct rpc_server_opts *opts, struct rpc_server **out, struct err *err);
void rpc_server_free(struct rpc_server *s); /* stops it first, without grace */
DEFINE_AUTO_FREE(rpc_server);

/* Before rpc_server_start. The tables stay the caller's and must outlive the server; *svc is copied.
 * ERR_INVALID when a method is not in the descriptor. */
int rpc_server_add(struct rpc_server *s, const struct rpc_service *svc, struct err *err);

/* Before rpc_server_start: a listening, non-blocking socket (unix_listen, or socket activation). */
int rpc_server_listen(struct rpc_server *s, TAKE(int) fd, struct err *err);

int rpc_server_start(struct rpc_server *s, struct err *err);

/* No new connections or calls (GOAWAY); RPC_LONG calls are cancelled, the others have grace_ns to finish, then they
 * are cancelled too (Unavailable). Returns when all handlers have returned and the threads are gone. */
void rpc_server_stop(struct rpc_server *s, int64_t grace_ns);

#endif
