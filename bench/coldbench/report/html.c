#include "bench/coldbench/report/html.h"

void html_text_cut(struct buf *out, const char *text, size_t max)
{
	size_t left = text ? strlen(text) : 0, written = 0;

	for (size_t n; left; text += n, left -= n) {
		if (written++ == max) {
			buf_adds(out, "\u2026");
			return;
		}
		n = utf8_len(text, left);
		if (n == 0) {
			n = 1;
			buf_adds(out, "\ufffd");
		} else if (n > 1) {
			buf_add(out, text, n);
		} else if (*text == '&') {
			buf_adds(out, "&amp;");
		} else if (*text == '<') {
			buf_adds(out, "&lt;");
		} else if (*text == '>') {
			buf_adds(out, "&gt;");
		} else if (*text == '"') {
			buf_adds(out, "&quot;");
		} else if (*text == '\'') {
			buf_adds(out, "&#39;");
		} else {
			buf_addc(out, (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text);
		}
	}
}

void html_text(struct buf *out, const char *text)
{
	html_text_cut(out, text, HTML_TEXT_MAX);
}

void html_textf(struct buf *out, const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	html_text(out, buf_cstr(&text));
}

/* Unreserved characters stand for themselves (RFC 3986, 2.3). */
void html_file(struct buf *out, const char *name)
{
	buf_adds(out, "./");
	for (; *name; name++) {
		char c = *name;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c))
			buf_addc(out, c);
		else
			buf_addf(out, "%%%02X", (unsigned char)c);
	}
}
