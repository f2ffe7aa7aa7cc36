/*
 * One proxied connection: client <-> links <-> HTTP tap <-> server. The tap sits at the server's end: a request is seen
 * when it has crossed the network, and an answer of the proxy crosses it as one of the server would. Freed by itself
 * when both sides have ended.
 */
#ifndef BENCH_NETPROXY_CONN_H
#define BENCH_NETPROXY_CONN_H

#include "bench/netproxy/proxy.h"

/* Takes over an accepted, non-blocking socket and connects to the server. */
void conn_start(struct proxy *p, int client_fd);

/* Resets every connection, on both sides. */
void conn_reset_all(struct proxy *p);

/* Closes a socket so that the peer sees a reset. */
void socket_reset(int fd);

#endif
