/*
 * An HTTP/1 listener of one page, GET /metrics: for Prometheus, on a UNIX socket or a TCP port.
 *
 * One thread of its own, so that whatever the page needs to be made holds up nobody but other scrapes. It is open to
 * whoever reaches the address, so all of a client is bounded: 16 connections, 4 KiB of request, 10 seconds from accept to
 * end; more clients wait in the kernel's queue. Written here, small as it is: libmicrohttpd brings GnuTLS and eight more
 * libraries, a megabyte of a daemon that has fifteen.
 */
#ifndef CONTENTD_OPS_METRICS_SERVER_H
#define CONTENTD_OPS_METRICS_SERVER_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

struct cd_metrics_server;

/* "/path/of/socket" (mode 0660), "127.0.0.1:9100" or "[::1]:9100" (port 0: any). `print` makes the page, on the server's
 * thread. ERR_INVALID for other addresses. */
int cd_metrics_server_start(const char *address, void (*print)(void *arg, struct buf *out), void *arg,
                            struct cd_metrics_server **out, struct err *err);

/* ERR_INVALID when cd_metrics_server_start would not take the address. */
int cd_metrics_address_check(const char *address, struct err *err);

/* The port it listens at; 0 for a UNIX socket. */
unsigned cd_metrics_server_port(const struct cd_metrics_server *s);

/* Ends connections at once; waits for a page that is being made. NULL is fine. */
void cd_metrics_server_free(struct cd_metrics_server *s);
DEFINE_AUTO_FREE(cd_metrics_server);

#endif
