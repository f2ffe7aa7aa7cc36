#include "bench/netproxy/http.h"

#define LINE_MAX_BYTES 4096 /* of a chunk size or a trailer */

void http_init(struct http *h, enum http_kind kind)
{
	*h = (struct http){.kind = kind};
}

void http_fini(struct http *h)
{
	buf_fini(&h->head);
}

void http_no_body(struct http *h)
{
	if (h->state != HS_OPAQUE)
		h->state = HS_END;
}

struct str http_header(struct str head, const char *name)
{
	struct str line;

	str_split(&head, '\n', &line); /* the start line */
	while (str_split(&head, '\n', &line)) {
		ptrdiff_t colon = str_find(line, ':');

		if (colon > 0 && str_ieq(str_sub(line, 0, (size_t)colon), str_of(name)))
			return str_trim(str_sub(line, (size_t)colon + 1, SIZE_MAX));
	}
	return STR_NONE;
}

/* "GET /path HTTP/1.1"; false when it is not that. */
static bool parse_request_line(struct http_msg *m, struct str line)
{
	struct str version;

	if (!str_split(&line, ' ', &m->method) || !str_split(&line, ' ', &m->target))
		return false;
	version = str_trim(line);
	return m->method.n > 0 && m->target.n > 0 && str_starts(version, STR("HTTP/1."));
}

/* "HTTP/1.1 200 OK" */
static bool parse_status_line(struct http_msg *m, struct str line)
{
	struct str version, code;
	uint64_t status;

	if (!str_split(&line, ' ', &version) || !str_starts(version, STR("HTTP/1.")) || !str_split(&line, ' ', &code) ||
	    !str_u64(str_trim(code), 10, &status) || status < 100 || status > 999)
		return false;
	m->status = (unsigned)status;
	m->interim = status < 200 && status != 101;
	return true;
}

static bool body_is_forbidden(const struct http *h)
{
	return h->kind == HTTP_RESPONSE && (h->msg.interim || h->msg.status == 204 || h->msg.status == 304);
}

/* Reads the head in h->head and chooses the state of the body; false when it is not HTTP/1.x. */
static bool parse_head(struct http *h)
{
	struct str head = buf_str(&h->head);
	struct str rest = head;
	struct http_msg *m = &h->msg;
	struct str line, coding, length;
	uint64_t n;

	*m = (struct http_msg){.length = -1};
	str_split(&rest, '\n', &line);
	if (h->kind == HTTP_REQUEST ? !parse_request_line(m, line) : !parse_status_line(m, line))
		return false;
	m->range = http_header(head, "range");
	coding = http_header(head, "transfer-encoding");
	length = http_header(head, "content-length");
	if (length.n) {
		if (!str_u64(length, 10, &n) || n > INT64_MAX)
			return false;
		m->length = (int64_t)n;
	}
	m->chunked = coding.n >= 7 && str_ieq(str_sub(coding, coding.n - 7, 7), STR("chunked"));

	if (m->status == 101)
		h->state = HS_OPAQUE;
	else if (body_is_forbidden(h))
		h->state = HS_END;
	else if (m->chunked)
		h->state = HS_CHUNK_SIZE;
	else if (m->length > 0)
		h->state = HS_BODY;
	else if (m->length == 0)
		h->state = HS_END;
	else
		h->state = h->kind == HTTP_REQUEST ? HS_END : HS_BODY;
	h->left = m->length > 0 ? (uint64_t)m->length : UINT64_MAX;
	return true;
}

/* Index behind the empty line that ends the head, or 0. Looks only at what was not looked at before. */
static size_t head_end(struct http *h)
{
	const char *p = h->head.p;

	for (size_t i = h->scanned; i < h->head.n; i++) {
		if (p[i] != '\n')
			continue;
		if ((i >= 1 && p[i - 1] == '\n') || (i >= 2 && p[i - 1] == '\r' && p[i - 2] == '\n'))
			return i + 1;
	}
	h->scanned = (unsigned)h->head.n;
	return 0;
}

/* What was held of a stream that is not HTTP. */
static enum http_what give_up(struct http *h, struct str *piece)
{
	h->state = HS_OPAQUE;
	*piece = buf_str(&h->head);
	return HTTP_OPAQUE;
}

static enum http_what next_head(struct http *h, struct str *rest, struct str *piece)
{
	size_t before = h->scanned;
	size_t room, taken, end;

	if (!h->scanned)
		buf_clear(&h->head);
	room = HTTP_HEAD_MAX_BYTES - before;
	taken = rest->n < room ? rest->n : room;
	buf_add(&h->head, rest->p, taken);
	end = head_end(h);
	if (!end) {
		*rest = str_sub(*rest, taken, SIZE_MAX);
		/* A method begins with a letter, a response with "HTTP": TLS is recognised by its first byte. */
		if (h->head.n >= HTTP_HEAD_MAX_BYTES || (h->head.p[0] < 'A' || h->head.p[0] > 'Z')) {
			h->scanned = 0;
			return give_up(h, piece);
		}
		return HTTP_MORE;
	}
	*rest = str_sub(*rest, end - before, SIZE_MAX);
	h->head.n = end;
	h->scanned = 0;
	if (!parse_head(h))
		return give_up(h, piece);
	*piece = buf_str(&h->head);
	return HTTP_HEAD;
}

static enum http_what next_body(struct http *h, struct str *rest, struct str *piece)
{
	*piece = str_sub(*rest, 0, h->left > SIZE_MAX ? SIZE_MAX : (size_t)h->left);
	*rest = str_sub(*rest, piece->n, SIZE_MAX);
	if (h->left != UINT64_MAX)
		h->left -= piece->n;
	if (!h->left)
		h->state = h->state == HS_CHUNK ? HS_CHUNK_CRLF : HS_END;
	return HTTP_BODY;
}

/* The line that is complete now decides what comes next. */
static bool framing_line_done(struct http *h)
{
	struct str line = str_trim(buf_str(&h->head));
	struct str size;

	switch (h->state) {
	case HS_CHUNK_SIZE:
		str_split(&line, ';', &size);
		if (!str_u64(str_trim(size), 16, &h->left) || h->left > INT64_MAX)
			return false;
		h->state = h->left ? HS_CHUNK : HS_TRAILER;
		return true;
	case HS_CHUNK_CRLF:
		h->state = HS_CHUNK_SIZE;
		return line.n == 0;
	default:
		if (!line.n)
			h->state = HS_END;
		return true;
	}
}

/* Chunk sizes, the line end after a chunk, trailers: a line each. */
static enum http_what next_framing(struct http *h, struct str *rest, struct str *piece)
{
	ptrdiff_t end = str_find(*rest, '\n');

	*piece = str_sub(*rest, 0, end < 0 ? rest->n : (size_t)end + 1);
	*rest = str_sub(*rest, piece->n, SIZE_MAX);
	if (!h->scanned)
		buf_clear(&h->head);
	if (h->head.n + piece->n > LINE_MAX_BYTES) {
		h->state = HS_OPAQUE;
		return HTTP_OPAQUE;
	}
	buf_addstr(&h->head, *piece);
	h->scanned = 1; /* a line is begun */
	if (end >= 0) {
		h->scanned = 0;
		if (!framing_line_done(h)) {
			h->state = HS_OPAQUE;
			return HTTP_OPAQUE;
		}
	}
	return HTTP_FRAMING;
}

enum http_what http_next(struct http *h, struct str *rest, struct str *piece)
{
	*piece = STR_NONE;
	if (h->state == HS_END) {
		h->state = HS_HEAD;
		return HTTP_END;
	}
	if (!rest->n)
		return HTTP_MORE;
	switch (h->state) {
	case HS_HEAD:
		return next_head(h, rest, piece);
	case HS_BODY:
	case HS_CHUNK:
		return next_body(h, rest, piece);
	case HS_OPAQUE:
		*piece = *rest;
		*rest = STR_NONE;
		return HTTP_OPAQUE;
	default:
		return next_framing(h, rest, piece);
	}
}
