/*
 * Listening sockets of a server on its I/O loop: accepts, and when descriptors have run out waits a moment instead of
 * spinning. Internal to rpc/. All calls on the loop's thread, but acceptor_add before acceptor_start.
 */
#ifndef RPC_ACCEPTOR_H
#define RPC_ACCEPTOR_H

#include "base/loop.h"
#include "base/vec.h"

struct acceptor_socket;

struct acceptor {
	const char *name; /* for messages */
	/* Takes a new connection (non-blocking, close-on-exec), also when it fails. */
	int (*accept)(void *arg, TAKE(int) fd, struct err *err);
	void *arg;
	struct loop *loop;
	struct loop_timer *pause;
	int64_t warned_ns; /* of refused connections; whoever may not connect must not be able to fill the log */
	unsigned unwarned;
	VEC(struct acceptor_socket *) sockets;
};

/* A listening socket, non-blocking. */
void acceptor_add(struct acceptor *a, TAKE(int) fd);
int acceptor_start(struct acceptor *a, struct loop *loop, struct err *err);
/* Closes the sockets; also when it was never started. */
void acceptor_close(struct acceptor *a);

#endif
