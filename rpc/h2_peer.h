/*
 * Who is at the other end: one process, whatever number of connections it has. What it makes us hold is charged to it
 * here, so that its bounds do not grow with its connections and one that misbehaves takes nothing from the others.
 */
#ifndef RPC_H2_PEER_H
#define RPC_H2_PEER_H

#include "base/err.h"

#include <stdatomic.h>
#include <sys/types.h>

#define H2_PEER_CONNS_MAX 256
#define H2_PEER_CALLS_MAX                                                                                              \
	4096 /* half of what may wait (workers.h); also those that were reset and whose handlers have not returned yet */
#define H2_PEER_BUFFER_MAX                                                                                             \
	(512u << 20) /* bytes of requests that handlers have not taken: the call that passes this is refused */
#define H2_PEER_UNSENT_MAX                                                                                             \
	(256u                                                                                                          \
	 << 20) /* bytes of answers that it does not read: then unary answers become errors, and streams queue a message at most */

struct h2_env;

struct h2_peer {
	atomic_uint refs; /* connections and calls; the first group below is gone with the last connection */
	atomic_uint calls;
	atomic_size_t unsent;

	/* The I/O thread's. */
	struct h2_peer *next; /* of the environment, while it has connections */
	pid_t pid;
	unsigned n_conns;
	size_t buffered;
};

/* I/O thread: the account of a process, for one more connection. ERR_EXHAUSTED when it has too many. */
int h2_peer_connect(struct h2_env *env, pid_t pid, struct h2_peer **out, struct err *err);
void h2_peer_disconnect(struct h2_env *env, struct h2_peer *p);

/* For a call: any thread. */
struct h2_peer *h2_peer_ref(struct h2_peer *p);
void h2_peer_unref(struct h2_peer *p);

#endif
