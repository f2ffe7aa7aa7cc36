#include "contentd/ops/http_head.h"

/* Bytes up to and with the empty line that ends the head, or 0. A bare LF ends a line too, as RFC 9112 2.2 allows. */
static size_t head_bytes(struct str bytes)
{
	for (size_t i = 0; i + 1 < bytes.n; i++) {
		if (bytes.p[i] != '\n')
			continue;
		if (bytes.p[i + 1] == '\n')
			return i + 2;
		if (bytes.p[i + 1] == '\r' && i + 2 < bytes.n && bytes.p[i + 2] == '\n')
			return i + 3;
	}
	return 0;
}

static int parse_line(struct str line, struct http_head *out)
{
	struct str method, target, rest = line;

	for (size_t i = 0; i < line.n; i++)
		if (line.p[i] <= ' ' && line.p[i] != ' ')
			return 400;
	if (!str_split(&rest, ' ', &method) || !str_split(&rest, ' ', &target) || target.n < 1 || target.p[0] != '/')
		return 400;
	if (!str_starts(rest, STR("HTTP/")) || str_find(rest, ' ') >= 0)
		return 400;
	if (!str_starts(rest, STR("HTTP/1.")))
		return 505;
	if (!str_eqc(method, "GET") && !str_eqc(method, "HEAD"))
		return 405;
	out->is_head = method.n == 4;
	out->path = target;
	if (str_find(target, '?') >= 0)
		out->path = str_sub(target, 0, (size_t)str_find(target, '?'));
	return 200;
}

int http_head_parse(struct str bytes, struct http_head *out)
{
	size_t n = head_bytes(bytes);
	struct str line;

	if (n > HTTP_HEAD_BYTES_MAX || (!n && bytes.n >= HTTP_HEAD_BYTES_MAX))
		return 431;
	if (!n)
		return 0;
	line = str_sub(bytes, 0, (size_t)str_find(bytes, '\n'));
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return parse_line(line, out);
}
