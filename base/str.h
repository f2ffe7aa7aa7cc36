/*
 * Byte ranges by value: `struct str` is a borrowed view, never NUL-terminated by contract. Used for text and for
 * binary alike. Any thread; no allocation except where a function says so.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p; /* may be NULL only when n is 0 */
	size_t n;
};

#define STR_NONE ((struct str){NULL, 0})
#define STR(literal) ((struct str){("" literal), sizeof(literal) - 1}) /* string literals only */
#define STR_FMT "%.*s"
#define STR_ARG(s) (int)((s).n > 4096 ? 4096 : (s).n), (s).p ? (s).p : "" /* for STR_FMT; cut at 4096 bytes */

static inline struct str str_of(const char *c)
{
	return c ? (struct str){c, strlen(c)} : STR_NONE;
}
static inline struct str str_make(const void *p, size_t n)
{
	return (struct str){p, n};
}
static inline bool str_empty(struct str s)
{
	return s.n == 0;
}
static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool str_eqc(struct str a, const char *c)
{
	return str_eq(a, str_of(c));
}

/* Bytewise order, shorter first on a common prefix: <0, 0, >0. */
int str_cmp(struct str a, struct str b);

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (!prefix.n || !memcmp(s.p, prefix.p, prefix.n));
}
static inline bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && (!suffix.n || !memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n));
}

/* The bytes from `from` on, at most n; clamped to the view. */
static inline struct str str_sub(struct str s, size_t from, size_t n)
{
	if (from > s.n)
		from = s.n;
	if (n > s.n - from)
		n = s.n - from;
	return (struct str){s.p ? s.p + from : NULL, n};
}

/* Removes `prefix` from *s and returns true, or leaves it alone. */
static inline bool str_skip(struct str *s, struct str prefix)
{
	if (!str_starts(*s, prefix))
		return false;
	*s = str_sub(*s, prefix.n, SIZE_MAX);
	return true;
}

/* Index of the first (last) `c`, or -1. */
ptrdiff_t str_find(struct str s, char c);
ptrdiff_t str_rfind(struct str s, char c);

/* Cuts *rest at the first `sep`: returns true with the part before it in *head; false when *rest is used up.
 * "a,b" gives a, b; "a," gives a and an empty part; "" gives one empty part (set *rest to STR_NONE to end). */
bool str_split(struct str *rest, char sep, struct str *head);

/* ASCII white space removed at both ends. */
struct str str_trim(struct str s);

/* ASCII case-insensitive equality. */
bool str_ieq(struct str a, struct str b);

/* Whole view as a decimal (base 10) or hex (base 16) number; false on junk, emptiness or overflow. */
bool str_u64(struct str s, int base, uint64_t *out);
bool str_i64(struct str s, int64_t *out);

/* Heap copy with a terminating NUL; NULL when memory is gone. Caller frees. */
char *str_dup(struct str s);

/* Copies into dst with a NUL; false (and dst = "") when it does not fit or holds a NUL byte. */
bool str_copy(struct str s, char *dst, size_t dst_bytes);

/* FNV-1a finished by a mixer; for hash tables of trusted size, not for security. */
uint64_t str_hash(struct str s);

/* Length (1-4) of the well-formed UTF-8 sequence at p, of which n bytes may be read; 0 when there is none. */
size_t utf8_len(const char *p, size_t n);

bool str_is_utf8(struct str s);

/* Makes text from outside fit for a terminal, a log line or a message, in place: new lines and tabs become spaces,
 * other control characters and bytes that are not UTF-8 become '?'. */
void text_clean(char *s);

#endif
