/*
 * The head of an HTTP/1 request, as far as a server needs it that answers GET with one document and closes. Bytes in,
 * struct out; no I/O. RFC 9112. Any thread.
 */
#ifndef CONTENTD_OPS_HTTP_HEAD_H
#define CONTENTD_OPS_HTTP_HEAD_H

#include "base/str.h"

#define HTTP_HEAD_BYTES_MAX 4096

struct http_head {
	bool is_head;    /* HEAD: the answer has no body */
	struct str path; /* without the query; borrowed from the input */
};

/* Of the bytes received so far. 0: more are needed. 200: *out is filled. Else the status to refuse with: 400 (no HTTP),
 * 405 (neither GET nor HEAD), 431 (longer than HTTP_HEAD_BYTES_MAX), 505 (not HTTP/1). */
int http_head_parse(struct str bytes, struct http_head *out);

#endif
