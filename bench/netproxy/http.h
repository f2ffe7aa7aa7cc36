/*
 * A light HTTP/1.x parser: finds where messages begin and end in one direction of a connection, and little more. What
 * it does not understand (TLS, HTTP/2, an upgraded connection, a head beyond 64 KiB) it calls opaque for good, and
 * leaves alone. Sans-I/O; one owner.
 *
 *	while ((what = http_next(&h, &rest, &piece)) != HTTP_MORE) ...
 *
 * All bytes come out again, in order, as pieces. Framing as in RFC 9112 section 6.
 */
#ifndef BENCH_NETPROXY_HTTP_H
#define BENCH_NETPROXY_HTTP_H

#include "base/buf.h"

#define HTTP_HEAD_MAX_BYTES (64u << 10)

enum http_kind { HTTP_REQUEST, HTTP_RESPONSE };

enum http_what {
	HTTP_MORE,    /* the input is used up */
	HTTP_HEAD,    /* piece = the whole head, with its empty line; `msg` is filled */
	HTTP_FRAMING, /* piece = chunk sizes, line ends, trailers */
	HTTP_BODY,    /* piece = payload */
	HTTP_END,     /* the message is complete; piece is empty */
	HTTP_OPAQUE,  /* piece = bytes that cannot be read as HTTP/1.x */
};

struct http_msg {
	struct str method, target, range; /* requests; borrowed until the next HTTP_HEAD */
	unsigned status;                  /* responses */
	int64_t length;                   /* of the body; -1 = not said */
	bool chunked, interim;            /* interim: a 1xx, the real response follows */
};

enum http_state { HS_HEAD, HS_BODY, HS_CHUNK_SIZE, HS_CHUNK, HS_CHUNK_CRLF, HS_TRAILER, HS_END, HS_OPAQUE };

struct http {
	enum http_kind kind;
	enum http_state state;
	struct buf head;  /* of the current message, or the line of framing being read */
	uint64_t left;    /* bytes of the body or chunk; UINT64_MAX = until the connection ends */
	unsigned scanned; /* bytes of `head` in which no end was found */
	struct http_msg msg;
};

void http_init(struct http *h, enum http_kind kind);
void http_fini(struct http *h);
DEFINE_AUTO_FINI(http);

/* Takes the next piece off *rest. The piece lies in *rest, or in the parser until the next call (heads, and what was
 * held when the stream turned out to be opaque). */
enum http_what http_next(struct http *h, struct str *rest, struct str *piece);

/* After the HTTP_HEAD of a response to HEAD: it has no body, whatever its head says. */
void http_no_body(struct http *h);

/* The value of a header in a head (ASCII case-insensitive name, trimmed value), or STR_NONE. */
struct str http_header(struct str head, const char *name);

#endif
