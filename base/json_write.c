/* The writing half of base/json.h. */
#include "base/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

void json_writer_init(struct json_writer *w, struct buf *out, const char *indent)
{
	*w = (struct json_writer){.out = out, .indent = indent};
}

static void new_line(struct json_writer *w)
{
	if (!w->indent)
		return;
	buf_addc(w->out, '\n');
	for (unsigned i = 0; i < w->depth; i++)
		buf_adds(w->out, w->indent);
}

/* What comes before a key or an array's element. */
static void before_member(struct json_writer *w)
{
	if (w->need_comma)
		buf_addc(w->out, ',');
	if (w->depth)
		new_line(w);
}

static void before_value(struct json_writer *w)
{
	if (!w->after_key)
		before_member(w);
	w->after_key = false;
	w->need_comma = true;
}

static void begin(struct json_writer *w, char bracket)
{
	assert(w->depth < JSON_DEPTH_MAX);
	before_value(w);
	buf_addc(w->out, bracket);
	w->depth++;
	w->need_comma = false;
}

static void end(struct json_writer *w, char bracket)
{
	assert(w->depth > 0 && !w->after_key);
	w->depth--;
	if (w->need_comma)
		new_line(w);
	buf_addc(w->out, bracket);
	w->need_comma = true;
}

void json_w_object_begin(struct json_writer *w)
{
	begin(w, '{');
}

void json_w_object_end(struct json_writer *w)
{
	end(w, '}');
}

void json_w_array_begin(struct json_writer *w)
{
	begin(w, '[');
}

void json_w_array_end(struct json_writer *w)
{
	end(w, ']');
}

static void add_escape(struct buf *out, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		buf_addc(out, '\\');
		buf_addc(out, to[at - from]);
	} else {
		buf_addf(out, "\\u%04x", c);
	}
}

static void add_quoted(struct buf *out, struct str s)
{
	size_t plain = 0; /* start of what is not yet copied */

	buf_addc(out, '"');
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		size_t len = c < 0x80 ? 1 : utf8_len(s.p + i, s.n - i);

		if (len && c >= 0x20 && c != '"' && c != '\\') {
			i += len;
			continue;
		}
		buf_add(out, s.p + plain, i - plain);
		if (len)
			add_escape(out, c);
		else
			buf_adds(out, "\xef\xbf\xbd"); /* U+FFFD, one for each wrong byte */
		plain = ++i;
	}
	if (plain < s.n)
		buf_add(out, s.p + plain, s.n - plain);
	buf_addc(out, '"');
}

void json_w_key_str(struct json_writer *w, struct str key)
{
	assert(w->depth > 0 && !w->after_key);
	before_member(w);
	add_quoted(w->out, key);
	buf_adds(w->out, w->indent ? ": " : ":");
	w->after_key = true;
}

void json_w_key(struct json_writer *w, const char *key)
{
	json_w_key_str(w, str_of(key));
}

void json_w_str(struct json_writer *w, struct str s)
{
	before_value(w);
	add_quoted(w->out, s);
}

void json_w_cstr(struct json_writer *w, const char *s)
{
	json_w_str(w, str_of(s));
}

void json_w_i64(struct json_writer *w, int64_t v)
{
	before_value(w);
	buf_addf(w->out, "%lld", (long long)v);
}

void json_w_u64(struct json_writer *w, uint64_t v)
{
	before_value(w);
	buf_addf(w->out, "%llu", (unsigned long long)v);
}

void json_w_bool(struct json_writer *w, bool v)
{
	before_value(w);
	buf_adds(w->out, v ? "true" : "false");
}

void json_w_double(struct json_writer *w, double v)
{
	char text[32];

	before_value(w);
	if (!isfinite(v)) {
		buf_adds(w->out, "null");
		return;
	}
	/* The shortest of these that reads back as the same number. */
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	buf_adds(w->out, text);
}

void json_w_null(struct json_writer *w)
{
	before_value(w);
	buf_adds(w->out, "null");
}

void json_w_raw(struct json_writer *w, struct str json)
{
	before_value(w);
	buf_addstr(w->out, json);
}

void json_w_kstr(struct json_writer *w, const char *key, struct str v)
{
	json_w_key(w, key);
	json_w_str(w, v);
}

void json_w_kcstr(struct json_writer *w, const char *key, const char *v)
{
	json_w_key(w, key);
	json_w_cstr(w, v);
}

void json_w_ki64(struct json_writer *w, const char *key, int64_t v)
{
	json_w_key(w, key);
	json_w_i64(w, v);
}

void json_w_kbool(struct json_writer *w, const char *key, bool v)
{
	json_w_key(w, key);
	json_w_bool(w, v);
}
