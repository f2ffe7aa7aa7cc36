#include "base/json.h"

#include <assert.h>

/* JSON_SCALAR_SCAN builds the scan of other architectures here too, for its test. */
#if defined(__SSE2__) && !defined(JSON_SCALAR_SCAN)
#define VECTOR_SCAN 1
#include <emmintrin.h>
#else
#define VECTOR_SCAN 0
#endif

/* Zero bytes after the input. A zero byte ends every scan below, so none of them checks for the end; the vector scan
 * reads up to 15 bytes beyond the byte it stops at, a pair of \u escapes up to 12. */
#define PADDING 64

struct json_reader {
	struct buf in; /* input and padding; in.n is the input alone */
	char *p;       /* next byte to read */
	unsigned depth;
	bool fresh;     /* a container was begun and nothing of it read */
	bool null_open; /* ... and that container is a null */
};

/* Cold: says what was expected and what is there instead. */
static __attribute__((noinline, cold)) int unexpected(struct json_reader *r, const char *at, const char *expected,
                                                      struct err *err)
{
	size_t offset = (size_t)(at - r->in.p);
	unsigned char c = (unsigned char)*at;

	if (offset >= r->in.n)
		return err_set(err, ERR_INVALID, "JSON ends where %s is expected", expected);
	if (c >= 0x20 && c < 0x7f)
		return err_set(err, ERR_INVALID, "JSON: '%c' at byte %zu where %s is expected", c, offset, expected);
	return err_set(err, ERR_INVALID, "JSON: byte 0x%02x at byte %zu where %s is expected", c, offset, expected);
}

static __attribute__((noinline, cold)) int too_deep(struct json_reader *r, struct err *err)
{
	return err_set(err, ERR_INVALID, "JSON is nested deeper than %d levels at byte %zu", JSON_DEPTH_MAX,
	               (size_t)(r->p - r->in.p));
}

struct json_reader *json_reader_new(struct str input)
{
	AUTO(buf) struct buf copy = BUF_INIT;

	buf_reserve(&copy, input.n + PADDING);
	buf_addstr(&copy, input);
	return json_reader_new_take(&copy);
}

struct json_reader *json_reader_new_take(struct buf *input)
{
	struct json_reader *r = xcalloc(1, sizeof(*r));

	memset(buf_reserve(input, PADDING), 0, PADDING);
	r->in = *input;
	r->p = r->in.p;
	*input = BUF_INIT;
	return r;
}

void json_reader_free(struct json_reader *r)
{
	if (!r)
		return;
	buf_fini(&r->in);
	free(r);
}

static inline bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Moves to the next byte that is not white space and returns it. */
static inline char skip_space(struct json_reader *r)
{
	while (is_space(*r->p))
		r->p++;
	return *r->p;
}

/* The first byte from p on that ends a plain run of a string: a quote, a backslash, a control character (the padding
 * is one) or a byte that is not ASCII. */
static inline char *scan_plain(char *p)
{
#if VECTOR_SCAN
	const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');

	for (;; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)p);
		/* Signed comparison: bytes from 0x80 on are negative, so one test finds them and the controls. */
		__m128i special = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)),
		                               _mm_cmplt_epi8(v, space));
		unsigned mask = (unsigned)_mm_movemask_epi8(special);

		if (mask)
			return p + __builtin_ctz(mask);
	}
#else
	const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;

	/* Eight bytes at a time while none is special; the high bit of a byte of `hit` says that it may be. */
	for (;; p += 8) {
		uint64_t v, quote, backslash, hit;

		memcpy(&v, p, sizeof(v));
		quote = v ^ ones * '"';
		backslash = v ^ ones * '\\';
		hit = (v | (v - ones * ' ') | (quote - ones) | (backslash - ones)) & highs;
		if (hit)
			break;
	}
	while ((signed char)*p >= ' ' && *p != '"' && *p != '\\')
		p++;
	return p;
#endif
}

/* Value of four hex digits, or -1. */
static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)p[i], l = c | 0x20;

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (l >= 'a' && l <= 'f')
			v = v << 4 | (l - 'a' + 10);
		else
			return -1;
	}
	return v;
}

static size_t utf8_put(char *dst, uint32_t c)
{
	if (c < 0x80) {
		dst[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		dst[0] = (char)(0xc0 | c >> 6);
		dst[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		dst[0] = (char)(0xe0 | c >> 12);
		dst[1] = (char)(0x80 | (c >> 6 & 63));
		dst[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	dst[0] = (char)(0xf0 | c >> 18);
	dst[1] = (char)(0x80 | (c >> 12 & 63));
	dst[2] = (char)(0x80 | (c >> 6 & 63));
	dst[3] = (char)(0x80 | (c & 63));
	return 4;
}

/* Decodes the escape at p, a backslash, into dst: returns its length in the input, 0 when it is none. */
static size_t unescape(const char *p, char dst[static 4], size_t *n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	int c, low;

	if (p[1] == 'u') {
		c = hex4(p + 2);
		if (c < 0)
			return 0;
		if (c >= 0xd800 && c <= 0xdbff && p[6] == '\\' && p[7] == 'u') {
			low = hex4(p + 8);
			if (low >= 0xdc00 && low <= 0xdfff) {
				*n = utf8_put(dst, 0x10000 + ((uint32_t)(c - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
				return 12;
			}
		}
		*n = utf8_put(dst, c >= 0xd800 && c <= 0xdfff ? 0xfffd : (uint32_t)c);
		return 6;
	}
	for (size_t i = 0; from[i]; i++)
		if (p[1] == from[i]) {
			dst[0] = to[i];
			*n = 1;
			return 2;
		}
	return 0;
}

/* The rest of a string that is not plain ASCII, from `p` on. With `out` it is unescaped in place: what is written never
 * overtakes what is read, since no escape is shorter than what it stands for. */
static int read_special(struct json_reader *r, char *start, char *p, struct str *out, struct err *err)
{
	char *end = r->in.p + r->in.n, *w = p;
	char *plain;
	char c[4];
	size_t len, n;

	for (;;) {
		if (*p == '"') {
			if (out)
				*out = (struct str){start, (size_t)(w - start)};
			r->p = p + 1;
			return 0;
		}
		if (*p == '\\') {
			len = unescape(p, c, &n);
			if (!len)
				return unexpected(r, p + 1, "an escape", err);
			if (out)
				memcpy(w, c, n);
		} else {
			len = n = (unsigned char)*p < 0x80 ? 0 : utf8_len(p, (size_t)(end - p));
			if (!len)
				return unexpected(r, p, "a character of a string, in UTF-8,", err);
			if (out && w != p)
				memmove(w, p, n);
		}
		p += len;
		w += n;
		plain = scan_plain(p);
		n = (size_t)(plain - p);
		if (out && w != p)
			memmove(w, p, n);
		p = plain;
		w += n;
	}
}

/* Reads the string whose opening quote is at r->p; `out` NULL only checks it and leaves its bytes alone. */
static inline int read_string(struct json_reader *r, struct str *out, struct err *err)
{
	char *start = r->p + 1, *p = scan_plain(start);

	if (*p != '"')
		return read_special(r, start, p, out, err);
	if (out)
		*out = (struct str){start, (size_t)(p - start)};
	r->p = p + 1;
	return 0;
}

/* A key and its colon; r->p is where the key's quote must be. */
static inline int read_key(struct json_reader *r, struct str *out, struct err *err)
{
	if (*r->p != '"')
		return unexpected(r, r->p, "a key", err);
	TRY(read_string(r, out, err));
	if (*r->p != ':' && skip_space(r) != ':')
		return unexpected(r, r->p, "':'", err);
	r->p++;
	return 0;
}

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int read_word(struct json_reader *r, const char *word, struct err *err)
{
	size_t n = strlen(word);

	if (memcmp(r->p, word, n) != 0)
		return unexpected(r, r->p, "a value", err);
	r->p += n;
	return 0;
}

/* Checks the number at r->p against the grammar and moves behind it; *integer tells whether it is written as one. */
static int read_number(struct json_reader *r, bool *integer, struct err *err)
{
	char *p = r->p;

	p += *p == '-';
	if (!is_digit(*p))
		return unexpected(r, p, "a digit", err);
	if (*p++ != '0')
		while (is_digit(*p))
			p++;
	*integer = true;
	if (*p == '.') {
		*integer = false;
		if (!is_digit(*++p))
			return unexpected(r, p, "a digit", err);
		while (is_digit(*p))
			p++;
	}
	if (*p == 'e' || *p == 'E') {
		*integer = false;
		p++;
		p += *p == '+' || *p == '-';
		if (!is_digit(*p))
			return unexpected(r, p, "a digit", err);
		while (is_digit(*p))
			p++;
	}
	r->p = p;
	return 0;
}

int json_peek(struct json_reader *r, enum json_type *type, struct err *err)
{
	char c = skip_space(r);

	if (c == '"')
		*type = JSON_STRING;
	else if (c == '{')
		*type = JSON_OBJECT;
	else if (c == '[')
		*type = JSON_ARRAY;
	else if (c == '-' || is_digit(c))
		*type = JSON_NUMBER;
	else if (c == 't' || c == 'f')
		*type = JSON_BOOL;
	else if (c == 'n')
		*type = JSON_NULL;
	else
		return unexpected(r, r->p, "a value", err);
	return 0;
}

static inline int begin(struct json_reader *r, char bracket, const char *expected, struct err *err)
{
	char c = skip_space(r);

	if (c != bracket && c != 'n')
		return unexpected(r, r->p, expected, err);
	if (r->depth >= JSON_DEPTH_MAX)
		return too_deep(r, err);
	if (c == bracket) {
		r->p++;
	} else {
		TRY(read_word(r, "null", err));
		r->null_open = true;
	}
	r->depth++;
	r->fresh = true;
	return 0;
}

/* Moves to the next member of a container: 1 with r->p at it, 0 when the container ended. */
static inline int next(struct json_reader *r, char bracket, const char *expected, struct err *err)
{
	char c;

	assert(r->depth > 0);
	if (r->null_open) {
		r->null_open = r->fresh = false;
		r->depth--;
		return 0;
	}
	c = skip_space(r);
	if (c == bracket) {
		r->p++;
		r->fresh = false;
		r->depth--;
		return 0;
	}
	if (r->fresh) {
		r->fresh = false;
		return 1;
	}
	if (c != ',')
		return unexpected(r, r->p, expected, err);
	r->p++;
	skip_space(r);
	return 1;
}

int json_object_begin(struct json_reader *r, struct err *err)
{
	return begin(r, '{', "an object", err);
}

int json_object_next(struct json_reader *r, struct str *key, struct err *err)
{
	int more = next(r, '}', "',' or '}'", err);

	if (more > 0)
		TRY(read_key(r, key, err));
	return more;
}

int json_array_begin(struct json_reader *r, struct err *err)
{
	return begin(r, '[', "an array", err);
}

int json_array_next(struct json_reader *r, struct err *err)
{
	return next(r, ']', "',' or ']'", err);
}

int json_string(struct json_reader *r, struct str *out, struct err *err)
{
	char c = skip_space(r);

	if (c == '"')
		return read_string(r, out, err);
	if (c != 'n')
		return unexpected(r, r->p, "a string", err);
	*out = STR_NONE;
	return read_word(r, "null", err);
}

/* The sign and the digits of an integer of 64 bits; null gives 0. */
static inline int read_integer(struct json_reader *r, bool *negative, uint64_t *magnitude, struct err *err)
{
	uint64_t v = 0;
	char *p;

	*negative = false;
	*magnitude = 0;
	if (skip_space(r) == 'n')
		return read_word(r, "null", err);
	p = r->p;
	*negative = *p == '-';
	p += *negative;
	if (!is_digit(*p))
		return unexpected(r, p, "an integer", err);
	if (*p == '0') {
		p++;
	} else {
		for (; is_digit(*p); p++)
			if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
				return err_set(err, ERR_INVALID, "JSON: the integer at byte %zu is out of range",
				               (size_t)(r->p - r->in.p));
	}
	if (*p == '.' || *p == 'e' || *p == 'E')
		return unexpected(r, p, "the end of an integer", err);
	r->p = p;
	*magnitude = v;
	return 0;
}

static __attribute__((noinline, cold)) int out_of_range(const char *type, struct err *err)
{
	return err_set(err, ERR_INVALID, "JSON: the integer does not fit %s", type);
}

int json_i64(struct json_reader *r, int64_t *out, struct err *err)
{
	bool negative;
	uint64_t v;

	TRY(read_integer(r, &negative, &v, err));
	if (v > (uint64_t)INT64_MAX + negative)
		return out_of_range("64 bits", err);
	*out = (int64_t)(negative ? 0 - v : v);
	return 0;
}

int json_u64(struct json_reader *r, uint64_t *out, struct err *err)
{
	bool negative;

	TRY(read_integer(r, &negative, out, err));
	return negative ? out_of_range("64 bits without a sign", err) : 0;
}

int json_bool(struct json_reader *r, bool *out, struct err *err)
{
	char c = skip_space(r);

	*out = c == 't';
	if (c != 't' && c != 'f' && c != 'n')
		return unexpected(r, r->p, "true or false", err);
	return read_word(r, c == 't' ? "true" : c == 'f' ? "false" : "null", err);
}

int json_double(struct json_reader *r, double *out, struct err *err)
{
	char c = skip_space(r), *start = r->p, *stop;
	bool integer;

	*out = 0;
	if (c == 'n')
		return read_word(r, "null", err);
	if (c != '-' && !is_digit(c))
		return unexpected(r, r->p, "a number", err);
	TRY(read_number(r, &integer, err));
	*out = strtod(start, &stop);
	/* strtod knows more spellings than JSON, such as 0x10. */
	if (stop != r->p)
		return unexpected(r, r->p, "the end of a number", err);
	if (__builtin_isinf(*out))
		return err_set(err, ERR_INVALID, "JSON: the number at byte %zu is out of range",
		               (size_t)(start - r->in.p));
	return 0;
}

/* Skips a value that is no container. */
static int skip_scalar(struct json_reader *r, struct err *err)
{
	bool integer;

	switch (*r->p) {
	case '"':
		return read_string(r, NULL, err);
	case 't':
		return read_word(r, "true", err);
	case 'f':
		return read_word(r, "false", err);
	case 'n':
		return read_word(r, "null", err);
	case '-':
	case '0' ... '9':
		return read_number(r, &integer, err);
	default:
		return unexpected(r, r->p, "a value", err);
	}
}

/* After a value: moves over commas to the next value, and out of containers that end. *depth is 0 after the last. Bit i
 * of `objects` says that level i + 1 is an object. */
static int skip_separator(struct json_reader *r, uint64_t objects, unsigned *depth, struct err *err)
{
	while (*depth) {
		bool object = objects >> (*depth - 1) & 1;
		char c = skip_space(r);

		if (c == ',') {
			r->p++;
			skip_space(r);
			return object ? read_key(r, NULL, err) : 0;
		}
		if (c != (object ? '}' : ']'))
			return unexpected(r, r->p, object ? "',' or '}'" : "',' or ']'", err);
		r->p++;
		--*depth;
	}
	return 0;
}

int json_skip(struct json_reader *r, struct err *err)
{
	unsigned depth = 0; /* containers entered here */
	uint64_t objects = 0;

	do {
		char c = skip_space(r);

		if (c != '{' && c != '[') {
			TRY(skip_scalar(r, err));
			TRY(skip_separator(r, objects, &depth, err));
			continue;
		}
		if (r->depth + depth >= JSON_DEPTH_MAX)
			return too_deep(r, err);
		objects = (objects & ~(1ULL << depth)) | (uint64_t)(c == '{') << depth;
		depth++;
		r->p++;
		if (skip_space(r) == c + 2) { /* in ASCII the closing bracket is the opening one + 2 */
			r->p++;
			depth--;
			TRY(skip_separator(r, objects, &depth, err));
		} else if (c == '{') {
			TRY(read_key(r, NULL, err));
		}
	} while (depth);
	return 0;
}

int json_raw(struct json_reader *r, struct str *out, struct err *err)
{
	char *start;

	skip_space(r);
	start = r->p;
	TRY(json_skip(r, err));
	*out = (struct str){start, (size_t)(r->p - start)};
	return 0;
}

size_t json_offset(const struct json_reader *r)
{
	return (size_t)(r->p - r->in.p);
}

int json_end(struct json_reader *r, struct err *err)
{
	skip_space(r);
	if (r->p != r->in.p + r->in.n)
		return unexpected(r, r->p, "the end", err);
	return 0;
}

bool json_key_ieq_(struct str key, const char *name)
{
	return str_ieq(key, str_of(name));
}
