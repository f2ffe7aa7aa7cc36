/*
 * Where netproxy looks into one connection's HTTP/1.x: follows requests and their responses in order, counts and logs
 * them, and carries out faults. What is not HTTP/1.x passes untouched. No sockets: bytes in, bytes out.
 */
#ifndef BENCH_NETPROXY_TAP_H
#define BENCH_NETPROXY_TAP_H

#include "bench/netproxy/http.h"
#include "bench/netproxy/proxy.h"

/* A request whose response is not complete. */
struct exchange {
	char *line; /* "METHOD target range" */
	struct fault fault;
	uint64_t strike_at; /* offset in the body, or UINT64_MAX */
	int64_t begun_ns;
	unsigned status;
	uint64_t body_bytes;
	bool is_head; /* HEAD */
};

struct tap {
	struct proxy *proxy;
	struct http requests, responses;
	struct buf output;              /* to the server */
	size_t written;                 /* of it */
	VEC(struct exchange) exchanges; /* the oldest first */
	bool swallow;                   /* the rest of the present request does not go to the server */
	bool opaque;                    /* not HTTP/1.x, in both directions */
	bool broken;                    /* a fault has ended the connection */
};

void tap_init(struct tap *t, struct proxy *p);
void tap_fini(struct tap *t);

/* Bytes from the client: what may pass comes out of tap_output. */
void tap_request(struct tap *t, struct str bytes);

/* Bytes for the server that are not written yet. */
static inline struct str tap_output(const struct tap *t)
{
	return (struct str){t->output.p ? t->output.p + t->written : NULL, t->output.n - t->written};
}
void tap_written(struct tap *t, size_t n);

/* Bytes from the server, changed in place: a fault may invert a byte, shorten the block, and end the stream. */
void tap_response(struct tap *t, struct block *b);

/* The next answer that the proxy gives by itself, or NULL; asked again until NULL. The caller's. */
struct block *tap_answer(struct tap *t);

/* True when a fault has cut the connection: the server is not needed any more. */
static inline bool tap_is_broken(const struct tap *t)
{
	return t->broken;
}

#endif
