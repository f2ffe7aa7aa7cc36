/*
 * JSON: a strict pull reader over a private copy of the input, and a small writer.
 *
 * The reader unescapes in place, so string views point into its own buffer and live as long as it does. It accepts
 * RFC 8259 and nothing else: UTF-8 is checked, numbers are range-checked when taken, depth is bounded
 * (JSON_DEPTH_MAX), bytes after the value are an error. Lone surrogates become U+FFFD. Duplicate keys are delivered
 * in order: the caller's last assignment wins, as in Go. After an error the reader is good for nothing but freeing.
 * One owner; not thread-safe.
 *
 * Reading an object:
 *	TRY(json_object_begin(r, err));
 *	while ((k = json_object_next(r, &key, err)) > 0)
 *		if (json_key_is(key, "size"))
 *			TRY(json_i64(r, &size, err));
 *		else
 *			TRY(json_skip(r, err));
 *	TRY(k);
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#define JSON_DEPTH_MAX 64

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_reader;

/* Copies the input (with the padding the scanner needs). The caller bounds n. Never fails: errors come while reading. */
struct json_reader *json_reader_new(struct str input);

/* As json_reader_new, but takes over `input` (it is grown for padding, not copied when there is room). */
struct json_reader *json_reader_new_take(struct buf *input);
void json_reader_free(struct json_reader *r);
DEFINE_AUTO_FREE(json_reader);

/* Type of the next value, without consuming it. */
int json_peek(struct json_reader *r, enum json_type *type, struct err *err);

/* null reads as an empty object (or array, below): Go programs write it for an empty map (or slice). */
int json_object_begin(struct json_reader *r, struct err *err);
/* 1 with the next key, 0 at the end of the object, negative on error. After 1 exactly one value must be read. */
int json_object_next(struct json_reader *r, struct str *key, struct err *err);

int json_array_begin(struct json_reader *r, struct err *err);
/* 1 when another element follows, 0 at the end, negative on error. */
int json_array_next(struct json_reader *r, struct err *err);

/* The unescaped string: borrowed, valid while the reader lives; may hold NUL bytes. null reads as the empty string. */
int json_string(struct json_reader *r, struct str *out, struct err *err);
/* Integers: fractions, exponents and overflow are ERR_INVALID. null reads as 0. */
int json_i64(struct json_reader *r, int64_t *out, struct err *err);
int json_u64(struct json_reader *r, uint64_t *out, struct err *err);
/* null reads as false. */
int json_bool(struct json_reader *r, bool *out, struct err *err);
/* Any finite number, as double (the process stays in the C locale); null reads as 0. */
int json_double(struct json_reader *r, double *out, struct err *err);
/* Skips one value of any type. */
int json_skip(struct json_reader *r, struct err *err);
/* Skips one value and gives its exact bytes as they stood in the input (for storing a value untouched). */
int json_raw(struct json_reader *r, struct str *out, struct err *err);
/* How many bytes of the input have been read. */
size_t json_offset(const struct json_reader *r);
/* Must be called at the end: anything but white space left is ERR_INVALID. */
int json_end(struct json_reader *r, struct err *err);

bool json_key_ieq_(struct str key, const char *name);

/* Key comparison as Go's decoder does it: ASCII case-insensitive. Inline, since with a literal it is one comparison. */
static inline bool json_key_is(struct str key, const char *name)
{
	return key.n == strlen(name) && (!memcmp(key.p, name, key.n) || json_key_ieq_(key, name));
}

/* Writer: appends to a buf; commas are put by itself. Nesting up to JSON_DEPTH_MAX. indent 0 = compact. */
struct json_writer {
	struct buf *out;
	unsigned depth;
	bool need_comma, after_key;
	const char *indent; /* NULL, or the text of one level, e.g. "\t" */
};

void json_writer_init(struct json_writer *w, struct buf *out, const char *indent);
void json_w_object_begin(struct json_writer *w);
void json_w_object_end(struct json_writer *w);
void json_w_array_begin(struct json_writer *w);
void json_w_array_end(struct json_writer *w);
void json_w_key(struct json_writer *w, const char *key);
void json_w_key_str(struct json_writer *w, struct str key);
void json_w_str(struct json_writer *w, struct str s); /* bytes that are not UTF-8 become U+FFFD */
void json_w_cstr(struct json_writer *w, const char *s);
void json_w_i64(struct json_writer *w, int64_t v);
void json_w_u64(struct json_writer *w, uint64_t v);
void json_w_bool(struct json_writer *w, bool v);
void json_w_double(struct json_writer *w, double v); /* null when not finite */
void json_w_null(struct json_writer *w);
void json_w_raw(struct json_writer *w, struct str json); /* already encoded */
/* key and value in one */
void json_w_kstr(struct json_writer *w, const char *key, struct str v);
void json_w_kcstr(struct json_writer *w, const char *key, const char *v);
void json_w_ki64(struct json_writer *w, const char *key, int64_t v);
void json_w_kbool(struct json_writer *w, const char *key, bool v);

#endif
