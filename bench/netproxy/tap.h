/*
 * Where netproxy looks into one connection's HTTP/1.x: follows requests and their responses in order, counts and logs
 * them, and carries out faults. What is not HTTP/1.x passes untouched. No sockets: bytes in, bytes out.
 */
#ifndef BENCH_NETPROXY_TAP_H
#define BENCH_NETPROXY_TAP_H

#include "bench/netproxy/http.h"
#include "bench/netproxy/proxy.h"

/* A request whose response has not left the server. */
struct exchange {
	char *line; /* "METHOD target range" */
	struct fault fault;
	uint64_t strike_at; /* offset in the body, or UINT64_MAX */
	int64_t begun_ns;
	struct record_id record;
	unsigned depth, status;
	uint64_t body_bytes;
	bool is_head; /* HEAD */
};

/* A place in the stream to the client that tells something once it has got there. */
struct arrival {
	uint64_t at; /* the bytes before it */
	struct record_id record;
	unsigned depth; /* 0: the end of the answer; otherwise of its head */
};

struct tap {
	struct proxy *proxy;
	unsigned number;       /* of the connection */
	int64_t open_ns;       /* when the client could have spoken on a real network */
	unsigned depth, epoch; /* of the connection as a link, while nothing is forgotten */
	struct http requests, responses;
	struct buf output;              /* to the server */
	size_t written;                 /* of it */
	int64_t hold_until_ns;          /* nothing of it goes there before */
	VEC(struct exchange) exchanges; /* the oldest first */
	VEC(struct arrival) arrivals;   /* in order */
	uint64_t answered, delivered;   /* bytes of answers that have passed here, and that have reached the client */
	bool swallow;                   /* the rest of the present request does not go to the server */
	bool opaque;                    /* not HTTP/1.x, in both directions */
	bool broken;                    /* a fault has ended the connection */
};

/* `now_ns`: when the connection was accepted; `open_ns`: when that would have been known to the client. */
void tap_init(struct tap *t, struct proxy *p, int64_t now_ns, int64_t open_ns);
void tap_fini(struct tap *t);

/* Bytes that the client sent at `sent_ns`: what may pass comes out of tap_output. */
void tap_request(struct tap *t, struct str bytes, int64_t sent_ns);

/* Bytes for the server that are not written yet; not before t->hold_until_ns. */
static inline struct str tap_output(const struct tap *t)
{
	return (struct str){t->output.p ? t->output.p + t->written : NULL, t->output.n - t->written};
}
void tap_written(struct tap *t, size_t n);

/* Bytes from the server, changed in place: a fault may invert a byte, shorten the block, and end the stream. */
void tap_response(struct tap *t, struct block *b);

/* The next answer that the proxy gives by itself, or NULL; asked again until NULL. The caller's. */
struct block *tap_answer(struct tap *t);

/* The next n bytes of what tap_response and tap_answer gave, or its end, reached the client at `now_ns`. */
void tap_delivered(struct tap *t, size_t n, int64_t now_ns);

/* True when a fault has cut the connection: the server is not needed any more. */
static inline bool tap_is_broken(const struct tap *t)
{
	return t->broken;
}

#endif
