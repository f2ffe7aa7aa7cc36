/*
 * The texts of HTTP that a registry client must read: header values, error bodies, token answers. Sans-I/O, bounded,
 * fuzzed; private to registry/. Any thread.
 */
#ifndef REGISTRY_HTTP_H
#define REGISTRY_HTTP_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

/* Content-Range (RFC 9110, 14.4): "bytes 0-9/100"; either side of the slash may be an asterisk. */
struct http_content_range {
	bool has_range; /* false for the form of a 416 */
	uint64_t first, last;
	bool has_size;
	uint64_t size;
};

/* False on anything that is not a consistent byte range (last < first, last >= size, other units). */
bool http_content_range_parse(struct str value, struct http_content_range *out);

/* The Range of an upload under way, "0-1023", sometimes with "bytes=" before it: how many bytes the registry has; 0 on
 * junk. (Registries say "0-0" for none; a single byte is then sent again, which they take.) */
uint64_t http_upload_range_parse(struct str value);

/* Link (RFC 8288): the target whose relation is "next", a view into the value; false when there is none. */
bool http_link_next(struct str value, struct str *url);

/* Retry-After: seconds, or an HTTP date relative to `now` (wall clock, seconds). At most an hour; 0 on junk. */
int64_t http_retry_after_s(struct str value, int64_t now_s);

/* One header line "Name: value\r\n": false for the status line and junk; value trimmed. */
bool http_header_split(struct str line, struct str *name, struct str *value);

/* HTTP status of a status line, 0 on junk. */
int http_status_parse(struct str line);

/* The value without parameters: "a/b; charset=x" gives "a/b". */
struct str http_bare_type(struct str content_type);

/*
 * What a registry says went wrong, fit for a message: {"errors": [{code, message}]} as "CODE: message; …", token
 * servers' {"details"} and {"error_description"}, else the text itself unless it is HTML. One line, at most
 * HTTP_ERROR_TEXT_MAX bytes, control characters and invalid UTF-8 replaced. Appends nothing when there is no text.
 */
#define HTTP_ERROR_BODY_MAX 16384
#define HTTP_ERROR_TEXT_MAX 400
void http_error_text(struct str body, struct buf *out);

/* Appends a bounded, clean copy of outside text (as above). */
void http_clean_text(struct str text, size_t max, struct buf *out);

/* Appends text percent-encoded for a query or a form (RFC 3986 unreserved stay). */
void http_escape(struct str text, struct buf *out);

/* An URL fit for a message: without user information, query and fragment. */
void http_printable_url(struct str url, struct buf *out);

/* The JSON answer of a token server. */
#define HTTP_TOKEN_MAX 65536
struct http_token {
	char *value;          /* heap; the caller wipes and frees */
	int64_t expires_in_s; /* 60 at least, a day at most */
};
int http_token_parse(struct str body, struct http_token *out, struct err *err);

#endif
