/*
 * A scripted HTTP/1.1 server on loopback, for tests of the client alone: one thread a connection, a handler that
 * answers each request with whatever bytes it likes, and a log of what was asked. It checks nothing by itself.
 */
#ifndef REGISTRY_TESTSERVER_H
#define REGISTRY_TESTSERVER_H

#include "base/buf.h"

struct testserver;

/* One request, as the handler sees it. */
struct exchange {
	struct testserver *server;
	int fd;
	unsigned n; /* how many requests the server had before this one */
	struct str method;
	struct str path;    /* with the query */
	struct str headers; /* raw lines */
	struct str body;
	void *arg;
};

/* Answers; false closes the connection. */
typedef bool testserver_fn(struct exchange *x);

struct testserver *testserver_new(testserver_fn *fn, void *arg);
/* Closes all connections, waits for their threads. */
void testserver_free(struct testserver *s);
unsigned testserver_port(const struct testserver *s);
/* Lines "METHOD path [Authorization value]", in order; the caller frees. */
char *testserver_log(struct testserver *s);
/* How many requests' log lines contain the text. */
unsigned testserver_count(struct testserver *s, const char *text);

/* The value of a request header, "" when absent. */
struct str exchange_header(const struct exchange *x, const char *name);
/* Sends all of it; false when the peer is gone. */
bool exchange_send(struct exchange *x, const void *p, size_t n);
bool exchange_printf(struct exchange *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Status line, Content-Length, extra header lines ("A: b\r\n"), body. */
bool exchange_reply(struct exchange *x, int status, const char *headers, struct str body);
/* Answers a blob GET as a good registry does: 200, or 206 for "bytes=a-b", "bytes=a-", "bytes=-n". */
bool exchange_blob(struct exchange *x, struct str blob);

#endif
