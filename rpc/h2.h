/*
 * The server's side of one HTTP/2 connection that carries gRPC: bytes in, calls started, bytes out. No sockets here
 * (server.c has them), so that it can be fed from memory. Everything in this header belongs to the I/O thread; the
 * calls themselves are shared with workers, who reach back only through the ready list of the environment.
 *
 * Flow control: connection credit is given at once, stream credit only while the handler keeps up (H2_UNREAD_MAX). Whole
 * messages count for that, not the one that is arriving: else one larger than the window could never arrive.
 */
#ifndef RPC_H2_H
#define RPC_H2_H

#include "base/loop.h"
#include "rpc/call.h"
#include "rpc/h2_peer.h"

#define H2_STREAMS_MAX 1024
#define H2_HEADERS_MAX 8192 /* bytes of a request's headers, as HTTP/2 counts them */
#define H2_STREAM_WINDOW (1u << 20)
#define H2_CONN_WINDOW (16u << 20)
#define H2_UNREAD_MAX (4u << 20)         /* received, not taken by the handler: then its sender is paused */
#define H2_CONN_BUFFER_SOFT (64u << 20)  /* of all calls: all senders but one are paused */
#define H2_CONN_BUFFER_HARD (256u << 20) /* the call that would pass this is refused */
#define H2_QUEUED_MAX (1u << 20)         /* answers not sent yet: then rpc_send waits */
#define H2_CONTROL_BURST 4096       /* frames that ask for nothing (PING, SETTINGS, ...) a client may send at once, */
#define H2_CONTROL_RATE 1000        /* per second after that, */
#define H2_CONTROL_PER_FRAME 4      /* and for each frame of an answer: clients measure the link, and give credit */
#define H2_INVALID_COST 16          /* a frame that is an error counts as so many */
#define H2_RESET_BURST 2000         /* RST_STREAM frames a client may send at once, */
#define H2_RESET_RATE 200           /* and per second after that */
#define H2_REFUSED_STREAMS 4        /* calls at a time on a connection that is refused, */
#define H2_REFUSED_WINDOW 0         /* which need not be heard to the end, */
#define H2_REFUSED_COST 32          /* what each of its frames costs, */
#define H2_REFUSED_BYTES (1u << 20) /* and the bytes that it is read in all */

struct h2_call;

/* What the connections of a server share. */
struct h2_env {
	struct rpc_methods methods;
	struct rpc_hook hook;
	struct workers *workers; /* NULL: handlers run at once on this thread, when their request is complete */
	struct loop *loop;       /* NULL: no timers, no wake-ups; with workers == NULL only */
	size_t max_message_bytes;
	size_t buffer_soft, buffer_hard;         /* H2_CONN_BUFFER_SOFT, _HARD */
	unsigned peer_conns_max, peer_calls_max; /* H2_PEER_CONNS_MAX, _CALLS_MAX */
	size_t peer_buffer_max, peer_unsent_max; /* H2_PEER_BUFFER_MAX, _UNSENT_MAX */
	struct h2_peer *peers;                   /* the I/O thread's: those with connections */

	/* After one or more connections had `output` called outside h2_conn_feed; with loop. */
	void (*flush)(void *arg);
	void *flush_arg;

	pthread_mutex_t lock;
	struct h2_call *ready; /* guarded by lock: calls whose state a worker has changed */
	bool posted;           /* guarded by lock: the loop will look at `ready` */
};

void h2_env_init(struct h2_env *env); /* zeroes, and sets the bounds */
void h2_env_fini(struct h2_env *env);

/* Serves the ready list; the connections concerned have `output` called. */
void h2_env_service(struct h2_env *env);

struct h2_conn;

/* `refusal`: NULL, or the status of all calls of this connection, which gets no more than that takes (H2_REFUSED_);
 * copied. `output(arg)` notes that the connection has something to send: called for what did not come from h2_conn_feed.
 * ERR_EXHAUSTED when the process has too many connections. */
int h2_conn_new(struct h2_env *env, const struct ucred *peer, const struct err *refusal, void (*output)(void *arg),
                void *arg, struct h2_conn **out, struct err *err);
/* Cancels the calls. */
void h2_conn_free(struct h2_conn *c);
DEFINE_AUTO_FREE(h2_conn);

/* Takes bytes from the peer; negative when the connection is beyond repair. A flood is answered by GOAWAY: pull that,
 * the connection is done then. */
int h2_conn_feed(struct h2_conn *c, struct str bytes, struct err *err);

/* Appends what is to be sent, until `out` holds about max_bytes or nothing is left. */
int h2_conn_pull(struct h2_conn *c, struct buf *out, size_t max_bytes, struct err *err);

/* True when the client's preface and settings have come. */
bool h2_conn_greeted(const struct h2_conn *c);

/* True when nothing is going on and nothing can come any more. */
bool h2_conn_done(const struct h2_conn *c);

/* GOAWAY; ends the calls marked RPC_LONG, or all of them, as Unavailable. */
void h2_conn_stop(struct h2_conn *c, bool all);

size_t h2_conn_calls(const struct h2_conn *c);

#endif
