/*
 * One ttrpc connection, for either end: frames in on the I/O thread, frames out from any thread. A frame is written at
 * once by whoever sends it when the socket takes it; else it is queued and the I/O thread goes on. Nobody ever waits
 * here for the peer.
 *
 * References: the owner's, until ttrpc_link_close has run on the I/O thread, and those of whoever may still send.
 */
#ifndef RPC_TTRPC_LINK_H
#define RPC_TTRPC_LINK_H

#include "base/loop.h"
#include "rpc/ttrpc_wire.h"

#include <sys/socket.h>

#define TTRPC_QUEUED_MAX (1u << 20)   /* above this progress waits */
#define TTRPC_PAUSE_BYTES (8u << 20)  /* above this nothing is read from the peer (when the owner wants that) */
#define TTRPC_QUEUED_HARD (64u << 20) /* above this the connection ends: the peer does not read */

struct ttrpc_link;

/* All on the I/O thread; `arg` is the owner. */
struct ttrpc_link_ops {
	/* A frame, with the descriptors beside it: the owner takes those it wants by setting them to -1. */
	void (*on_frame)(void *arg, const struct ttrpc_frame *f, struct ttrpc_fds *fds);
	/* The queue has fallen to TTRPC_QUEUED_MAX; may be NULL. */
	void (*on_drain)(void *arg);
	/* The peer is gone or sent garbage. Once, and nothing comes after it; the owner closes the link in here
	 * or later. */
	void (*on_close)(void *arg, const struct err *why);
	bool pause_reading; /* while the peer does not take what was sent to it */
};

/* Takes the socket. Any thread; frames come after ttrpc_link_start. */
int ttrpc_link_new(TAKE(int) fd, struct loop *loop, const struct ttrpc_link_ops *ops, void *arg,
                   struct ttrpc_link **out, struct err *err);

/* I/O thread: begins to read. */
int ttrpc_link_start(struct ttrpc_link *l, struct err *err);

/* I/O thread: no callbacks any more, sending fails; drops the owner's reference. */
void ttrpc_link_close(struct ttrpc_link *l);

struct ttrpc_link *ttrpc_link_ref(struct ttrpc_link *l);
void ttrpc_link_unref(struct ttrpc_link *l);

/* Sends a whole frame, and descriptors beside it (they stay the caller's). Any thread, does not block. ERR_UNAVAILABLE
 * when the connection is gone, or the peer reads nothing of what was sent before, ERR_EXHAUSTED when the frame is too long, ERR_PRECONDITION for descriptors on a stream
 * socket. */
int ttrpc_link_send(struct ttrpc_link *l, struct str frame, const int *fds, unsigned n_fds, struct err *err);

/* Payload of the longest frame. */
uint32_t ttrpc_link_frame_max(const struct ttrpc_link *l);
bool ttrpc_link_has_fds(const struct ttrpc_link *l);

bool ttrpc_link_alive(struct ttrpc_link *l);
/* Bytes queued: any thread. */
size_t ttrpc_link_queued(struct ttrpc_link *l);

/* A peer's credentials, as of connect(2). */
const struct ucred *ttrpc_link_peer(const struct ttrpc_link *l);

#endif
