/*
 * A thread with an event loop, for the network work of any number of servers and clients. What is written here for
 * others than rpc/ is the pair rpc_io_new and rpc_io_free.
 */
#ifndef RPC_IO_H
#define RPC_IO_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/loop.h"

struct rpc_io;

int rpc_io_new(struct rpc_io **out, struct err *err);
void rpc_io_free(struct rpc_io *io); /* its servers and clients must be gone; not on its own thread */
DEFINE_AUTO_FREE(rpc_io);

/* The loop; only for use on the thread, except loop_post. */
struct loop *rpc_io_loop(struct rpc_io *io);

/* Runs fn(arg) on the thread and waits for it. Not on the thread itself. */
void rpc_io_run(struct rpc_io *io, void (*fn)(void *arg), void *arg);

#endif
