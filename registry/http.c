#include "registry/http.h"

#include "base/json.h"

#include <stdio.h>
#include <time.h>

#define RETRY_AFTER_MAX_S 3600
#define TOKEN_LIFE_DEFAULT_S 60 /* distribution's token specification: 60 when absent, never less */
#define TOKEN_LIFE_MAX_S 86400

bool http_content_range_parse(struct str value, struct http_content_range *out)
{
	struct str range, first, last;
	ptrdiff_t slash;

	*out = (struct http_content_range){0};
	value = str_trim(value);
	if (value.n < 6 || !str_ieq(str_sub(value, 0, 5), STR("bytes")) || (value.p[5] != ' ' && value.p[5] != '='))
		return false;
	value = str_trim(str_sub(value, 6, SIZE_MAX));
	slash = str_find(value, '/');
	if (slash < 0)
		return false;
	range = str_trim(str_sub(value, 0, (size_t)slash));
	value = str_trim(str_sub(value, (size_t)slash + 1, SIZE_MAX));
	if (!str_eqc(value, "*")) {
		if (!str_u64(value, 10, &out->size) || out->size > INT64_MAX)
			return false;
		out->has_size = true;
	}
	if (str_eqc(range, "*"))
		return out->has_size;
	if (!str_split(&range, '-', &first) || !str_split(&range, '-', &last) || range.n)
		return false;
	if (!str_u64(first, 10, &out->first) || !str_u64(last, 10, &out->last) || out->last < out->first ||
	    out->last >= INT64_MAX)
		return false;
	out->has_range = true;
	return !out->has_size || out->last < out->size;
}

uint64_t http_upload_range_parse(struct str value)
{
	struct str first;
	uint64_t from, to;

	value = str_trim(value);
	str_skip(&value, STR("bytes="));
	if (!str_split(&value, '-', &first) || !str_u64(first, 10, &from) || !str_u64(value, 10, &to) || from ||
	    to >= INT64_MAX)
		return 0;
	return to ? to + 1 : 0;
}

/* Cuts *rest at the first `sep` that is outside of quotes. */
static struct str cut_unquoted(struct str *rest, char sep)
{
	struct str head = *rest;
	bool quoted = false;
	size_t i = 0;

	for (; i < rest->n && (quoted || rest->p[i] != sep); i++)
		if (rest->p[i] == '"')
			quoted = !quoted;
		else if (quoted && rest->p[i] == '\\')
			i++;
	head.n = i < rest->n ? i : rest->n;
	*rest = str_sub(*rest, head.n + 1, SIZE_MAX);
	return head;
}

/* rel=next, rel="next", rel="prefetch next" */
static bool is_relation_next(struct str parameter)
{
	struct str name = STR_NONE, word;

	str_split(&parameter, '=', &name);
	if (!str_ieq(str_trim(name), STR("rel")))
		return false;
	parameter = str_trim(parameter);
	if (parameter.n >= 2 && parameter.p[0] == '"')
		parameter = str_sub(parameter, 1, parameter.n - 2);
	while (str_split(&parameter, ' ', &word))
		if (str_ieq(word, STR("next")))
			return true;
	return false;
}

bool http_link_next(struct str value, struct str *url)
{
	while ((value = str_trim(value)).n) {
		struct str target = value, parameters;
		ptrdiff_t end = str_find(value, '>');

		if (value.p[0] != '<' || end < 0)
			return false;
		target = str_sub(value, 1, (size_t)end - 1);
		value = str_sub(value, (size_t)end + 1, SIZE_MAX);
		parameters = cut_unquoted(&value, ',');
		cut_unquoted(&parameters, ';');
		while (parameters.n)
			if (is_relation_next(cut_unquoted(&parameters, ';'))) {
				*url = target;
				return true;
			}
	}
	return false;
}

int64_t http_retry_after_s(struct str value, int64_t now_s)
{
	char text[64];
	struct tm tm = {0};
	uint64_t n;
	int64_t s;

	value = str_trim(value);
	if (str_u64(value, 10, &n))
		return n > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : (int64_t)n;
	if (!str_copy(value, text, sizeof(text)) || !strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
		return 0;
	s = (int64_t)timegm(&tm) - now_s;
	return s < 0 ? 0 : s > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : s;
}

bool http_header_split(struct str line, struct str *name, struct str *value)
{
	ptrdiff_t colon = str_find(line, ':');

	if (colon <= 0 || str_starts(line, STR("HTTP/")))
		return false;
	*name = str_sub(line, 0, (size_t)colon);
	*value = str_trim(str_sub(line, (size_t)colon + 1, SIZE_MAX));
	return true;
}

int http_status_parse(struct str line)
{
	uint64_t status;
	ptrdiff_t blank;

	if (!str_starts(line, STR("HTTP/")))
		return 0;
	blank = str_find(line, ' ');
	if (blank < 0 || !str_u64(str_sub(line, (size_t)blank + 1, 3), 10, &status) || status < 100)
		return 0;
	return (int)status;
}

struct str http_bare_type(struct str content_type)
{
	struct str head = STR_NONE;

	str_split(&content_type, ';', &head);
	return str_trim(head);
}

/* Length of a valid UTF-8 sequence at s, 0 if there is none (RFC 3629). */
static size_t utf8_length(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t n = p[0] < 0x80                   ? 1
	           : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
	           : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
	           : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
	                                         : 0;

	if (n == 0 || n > s.n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* C1 controls and the bidirectional and line separators, with which a text could lie about what it is. */
static bool is_unfit(struct str s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s.p;

	if (n == 2)
		return p[0] == 0xc2 && p[1] < 0xa0;
	if (n == 3 && p[0] == 0xe2 && p[1] == 0x80)
		return (p[2] >= 0x8b && p[2] <= 0x8f) || (p[2] >= 0xa8 && p[2] <= 0xae);
	return n == 3 && p[0] == 0xe2 && p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9;
}

void http_clean_text(struct str text, size_t max, struct buf *out)
{
	size_t end = out->n + max;
	bool blank = false;

	text = str_trim(text);
	while (text.n) {
		size_t n = utf8_length(text);
		bool unfit = n == 0 || is_unfit(text, n);

		if (n == 1 && ((unsigned char)text.p[0] <= ' ' || text.p[0] == 0x7f)) {
			blank = true;
		} else {
			if (out->n + 1 + (unfit ? 1 : n) > end) {
				buf_adds(out, "...");
				return;
			}
			if (blank)
				buf_addc(out, ' ');
			blank = false;
			if (unfit)
				buf_addc(out, '?');
			else
				buf_add(out, text.p, n);
		}
		text = str_sub(text, n ? n : 1, SIZE_MAX);
	}
}

/* One element of "errors": appended as "CODE: message". */
static int add_error_entry(struct json_reader *r, struct buf *out)
{
	struct str key, code = STR_NONE, message = STR_NONE;
	enum json_type type;
	int k;

	TRY(json_object_begin(r, NULL));
	while ((k = json_object_next(r, &key, NULL)) > 0) {
		TRY(json_peek(r, &type, NULL));
		if (type == JSON_STRING && json_key_is(key, "code"))
			TRY(json_string(r, &code, NULL));
		else if (type == JSON_STRING && json_key_is(key, "message"))
			TRY(json_string(r, &message, NULL));
		else
			TRY(json_skip(r, NULL));
	}
	TRY(k);
	if (!code.n && !message.n)
		return 0;
	if (out->n)
		buf_adds(out, "; ");
	http_clean_text(code, 64, out);
	if (code.n && message.n)
		buf_adds(out, ": ");
	http_clean_text(message, HTTP_ERROR_TEXT_MAX, out);
	return 0;
}

static int add_errors(struct json_reader *r, struct buf *out)
{
	int k;

	TRY(json_array_begin(r, NULL));
	while ((k = json_array_next(r, NULL)) > 0)
		TRY(add_error_entry(r, out));
	return k;
}

static int add_json_error(struct json_reader *r, struct buf *out)
{
	enum json_type type;
	struct str key, text;
	int k;

	TRY(json_object_begin(r, NULL));
	while ((k = json_object_next(r, &key, NULL)) > 0) {
		TRY(json_peek(r, &type, NULL));
		if (type == JSON_ARRAY && json_key_is(key, "errors")) {
			TRY(add_errors(r, out));
		} else if (type == JSON_STRING &&
		           (json_key_is(key, "details") || json_key_is(key, "error") ||
		            json_key_is(key, "error_description") || json_key_is(key, "message"))) {
			TRY(json_string(r, &text, NULL));
			if (text.n && out->n)
				buf_adds(out, ": ");
			http_clean_text(text, HTTP_ERROR_TEXT_MAX, out);
		} else {
			TRY(json_skip(r, NULL));
		}
	}
	return k;
}

void http_error_text(struct str body, struct buf *out)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(json_reader) struct json_reader *r = NULL;

	body = str_trim(str_sub(body, 0, HTTP_ERROR_BODY_MAX));
	if (!body.n || body.p[0] == '<')
		return;
	if (body.p[0] == '{') {
		r = json_reader_new(body);
		if (add_json_error(r, &text) < 0 && !text.n) /* cut JSON still says something */
			http_clean_text(body, HTTP_ERROR_TEXT_MAX, &text);
		body = buf_str(&text);
	}
	http_clean_text(body, HTTP_ERROR_TEXT_MAX, out);
}

void http_escape(struct str text, struct buf *out)
{
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c && strchr("-._~", c)))
			buf_addc(out, (char)c);
		else
			buf_addf(out, "%%%02X", c);
	}
}

void http_printable_url(struct str url, struct buf *out)
{
	size_t n = 0, scheme_end = 0, authority_end;
	ptrdiff_t at;

	while (n < url.n && url.p[n] != '?' && url.p[n] != '#')
		n++;
	url.n = n;
	for (size_t i = 0; i + 2 < url.n; i++)
		if (!memcmp(url.p + i, "://", 3)) {
			scheme_end = i + 3;
			break;
		}
	authority_end = scheme_end;
	while (authority_end < url.n && url.p[authority_end] != '/')
		authority_end++;
	at = str_rfind(str_make(url.p + scheme_end, authority_end - scheme_end), '@');
	http_clean_text(str_sub(url, 0, scheme_end), 16, out);
	http_clean_text(str_sub(url, scheme_end + (size_t)(at + 1), SIZE_MAX), 300, out);
}

int http_token_parse(struct str body, struct http_token *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	struct str key, token = STR_NONE, access_token = STR_NONE;
	double life = 0;
	enum json_type type;
	int k;

	*out = (struct http_token){NULL, 0};
	if (body.n > 2 * HTTP_TOKEN_MAX)
		return err_set(err, ERR_EXHAUSTED, "token answer of %zu bytes", body.n);
	r = json_reader_new(body);
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0) {
		TRY(json_peek(r, &type, err));
		if (json_key_is(key, "token"))
			TRY(json_string(r, &token, err));
		else if (json_key_is(key, "access_token"))
			TRY(json_string(r, &access_token, err));
		else if (json_key_is(key, "expires_in") && type == JSON_NUMBER)
			TRY(json_double(r, &life, err));
		else
			TRY(json_skip(r, err));
	}
	TRY(k);
	TRY(json_end(r, err));
	if (!token.n)
		token = access_token;
	if (!token.n)
		return err_set(err, ERR_UNAUTHENTICATED, "answer without a token");
	if (token.n > HTTP_TOKEN_MAX)
		return err_set(err, ERR_EXHAUSTED, "token of %zu bytes", token.n);
	for (size_t i = 0; i < token.n; i++)
		if ((unsigned char)token.p[i] <= ' ' || (unsigned char)token.p[i] > 0x7e)
			return err_set(err, ERR_INVALID, "token with characters that no header may carry");
	out->value = xstrndup(token.p, token.n);
	out->expires_in_s = !(life > TOKEN_LIFE_DEFAULT_S) ? TOKEN_LIFE_DEFAULT_S
	                    : life > TOKEN_LIFE_MAX_S      ? TOKEN_LIFE_MAX_S
	                                                   : (int64_t)life;
	explicit_bzero((char *)(uintptr_t)token.p, token.n);
	if (access_token.n && access_token.p != token.p)
		explicit_bzero((char *)(uintptr_t)access_token.p, access_token.n);
	return 0;
}
