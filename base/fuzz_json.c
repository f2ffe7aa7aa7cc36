/*
 * The JSON reader against yajl: both accept or both reject, and what they read is the same. Where the two differ by
 * decision (depth, strict UTF-8) the expectation is computed here. Then the reader against itself: pulling, skipping
 * and taking raw bytes agree, and what the writer wrote reads back.
 */
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <yajl/yajl_parse.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "fuzz_json: line %d: %s\n", __LINE__, #condition);                             \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Each value is noted as one line, so that two readers can be compared whatever the order of their calls. */
static void note(struct buf *out, const char *what, struct str s)
{
	buf_addf(out, "%s %zu ", what, s.n);
	buf_addstr(out, s);
	buf_addc(out, '\n');
}

struct yajl_run {
	yajl_handle h;
	struct buf notes;
	unsigned depth, deepest; /* without the array around the text */
	unsigned n_values;       /* at the top of the text */
	size_t end;              /* bytes read when the array around the text ended */
};

/* yajl takes an unfinished string after a whole value for the end of its input. So the text is given to it as the one
 * element of an array, which must end where it should. */
static void value_begins(struct yajl_run *run)
{
	run->n_values += run->depth == 0;
}

static int on_null(void *arg)
{
	struct yajl_run *run = arg;

	value_begins(run);
	note(&run->notes, "null", STR_NONE);
	return 1;
}

static int on_bool(void *arg, int v)
{
	struct yajl_run *run = arg;

	value_begins(run);
	note(&run->notes, v ? "true" : "false", STR_NONE);
	return 1;
}

static int on_number(void *arg, const char *p, size_t n)
{
	struct yajl_run *run = arg;

	value_begins(run);
	note(&run->notes, "number", str_make(p, n));
	return 1;
}

static int on_string(void *arg, const unsigned char *p, size_t n)
{
	struct yajl_run *run = arg;

	value_begins(run);
	note(&run->notes, "string", str_make(p, n));
	return 1;
}

static int on_key(void *arg, const unsigned char *p, size_t n)
{
	struct yajl_run *run = arg;

	note(&run->notes, "key", str_make(p, n));
	return 1;
}

static int enter(struct yajl_run *run, const char *what)
{
	note(&run->notes, what, STR_NONE);
	value_begins(run);
	if (++run->depth > run->deepest)
		run->deepest = run->depth;
	return 1;
}

static int leave(struct yajl_run *run, const char *what)
{
	note(&run->notes, what, STR_NONE);
	run->depth--;
	return 1;
}

static int on_object(void *arg)
{
	return enter(arg, "{");
}

static int on_object_end(void *arg)
{
	return leave(arg, "}");
}

static int on_array(void *arg)
{
	struct yajl_run *run = arg;

	if (yajl_get_bytes_consumed(run->h) == 1)
		return 1;
	return enter(arg, "[");
}

static int on_array_end(void *arg)
{
	struct yajl_run *run = arg;

	if (run->depth)
		return leave(arg, "]");
	run->end = yajl_get_bytes_consumed(run->h);
	return 1;
}

static bool yajl_reads(struct str text, struct yajl_run *run)
{
	static const yajl_callbacks callbacks = {
	    .yajl_null = on_null,
	    .yajl_boolean = on_bool,
	    .yajl_number = on_number,
	    .yajl_string = on_string,
	    .yajl_start_map = on_object,
	    .yajl_map_key = on_key,
	    .yajl_end_map = on_object_end,
	    .yajl_start_array = on_array,
	    .yajl_end_array = on_array_end,
	};
	AUTO(buf) struct buf wrapped = BUF_INIT;
	bool ok;

	buf_addc(&wrapped, '[');
	buf_addstr(&wrapped, text);
	buf_addc(&wrapped, ']');
	run->h = yajl_alloc(&callbacks, NULL, run);
	ok = yajl_parse(run->h, (const unsigned char *)wrapped.p, wrapped.n) == yajl_status_ok &&
	     yajl_complete_parse(run->h) == yajl_status_ok;
	yajl_free(run->h);
	return ok && run->n_values == 1 && run->end == wrapped.n;
}

/* A second opinion on UTF-8, by decoding instead of by tables. */
static bool is_utf8(struct str s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		unsigned n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
		uint32_t cp = n == 1 ? c : c & (0x7fu >> n);

		if (!n || s.n - i < n)
			return false;
		for (unsigned k = 1; k < n; k++) {
			if ((s.p[i + k] & 0xc0) != 0x80)
				return false;
			cp = cp << 6 | (s.p[i + k] & 0x3f);
		}
		if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
			return false;
		i += n;
	}
	return true;
}

/* yajl puts '?' for a lone surrogate: where the text may hold one, contents are not compared. */
static bool may_hold_surrogates(struct str s)
{
	for (size_t i = 0; i + 3 < s.n; i++)
		if (s.p[i] == '\\' && s.p[i + 1] == 'u' && (s.p[i + 2] | 0x20) == 'd')
			return true;
	return false;
}

/* A number by all the calls that take one, against the C library. */
static void check_number(struct str raw)
{
	AUTO(json_reader) struct json_reader *a = json_reader_new(raw);
	AUTO(json_reader) struct json_reader *b = json_reader_new(raw);
	AUTO(json_reader) struct json_reader *c = json_reader_new(raw);
	AUTO_FREE char *text = str_dup(raw);
	bool integer = !strpbrk(text, ".eE");
	double d, want_d = strtod(text, NULL);
	uint64_t u, want_u;
	int64_t i, want_i;
	char *stop;

	errno = 0;
	want_i = strtoll(text, &stop, 10);
	REQUIRE(!json_i64(a, &i, NULL) == (integer && !errno));
	REQUIRE(!integer || errno || i == want_i);
	errno = 0;
	want_u = strtoull(text, &stop, 10);
	REQUIRE(!json_u64(b, &u, NULL) == (integer && !errno && *text != '-'));
	REQUIRE(!integer || errno || *text == '-' || u == want_u);
	REQUIRE(!json_double(c, &d, NULL) == !__builtin_isinf(want_d));
	REQUIRE(__builtin_isinf(want_d) || d == want_d);
}

/* Reads one value with the pull calls: notes it, and writes it again. */
static int read_value(struct json_reader *r, struct buf *notes, struct json_writer *w)
{
	enum json_type type;
	struct str s;
	bool b;
	int more;

	TRY(json_peek(r, &type, NULL));
	switch (type) {
	case JSON_OBJECT:
		TRY(json_object_begin(r, NULL));
		note(notes, "{", STR_NONE);
		json_w_object_begin(w);
		while ((more = json_object_next(r, &s, NULL)) > 0) {
			note(notes, "key", s);
			json_w_key_str(w, s);
			TRY(read_value(r, notes, w));
		}
		note(notes, "}", STR_NONE);
		json_w_object_end(w);
		return more;
	case JSON_ARRAY:
		TRY(json_array_begin(r, NULL));
		note(notes, "[", STR_NONE);
		json_w_array_begin(w);
		while ((more = json_array_next(r, NULL)) > 0)
			TRY(read_value(r, notes, w));
		note(notes, "]", STR_NONE);
		json_w_array_end(w);
		return more;
	case JSON_STRING:
		TRY(json_string(r, &s, NULL));
		note(notes, "string", s);
		json_w_str(w, s);
		return 0;
	case JSON_NUMBER:
		TRY(json_raw(r, &s, NULL));
		note(notes, "number", s);
		check_number(s);
		json_w_raw(w, s);
		return 0;
	case JSON_BOOL:
		TRY(json_bool(r, &b, NULL));
		note(notes, b ? "true" : "false", STR_NONE);
		json_w_bool(w, b);
		return 0;
	case JSON_NULL:
		TRY(json_string(r, &s, NULL));
		note(notes, "null", STR_NONE);
		json_w_null(w);
		return 0;
	}
	return 0;
}

static bool pull(struct str text, struct buf *notes, const char *indent, struct buf *out)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	struct json_writer w;

	json_writer_init(&w, out, indent);
	return !read_value(r, notes, &w) && !json_end(r, NULL);
}

static bool skip(struct str text)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	size_t spaces = 0;
	struct str raw;

	if (json_raw(r, &raw, NULL) || json_end(r, NULL))
		return false;
	while (strchr(" \t\r\n", text.p[spaces]))
		spaces++;
	REQUIRE(str_starts(str_sub(text, spaces, SIZE_MAX), raw));
	return true;
}

static void check_rewritten(struct str compact, struct str notes)
{
	static const char *const indents[] = {NULL, "\t", "  "};

	for (size_t i = 0; i < ARRAY_LEN(indents); i++) {
		AUTO(buf) struct buf styled = BUF_INIT;
		AUTO(buf) struct buf again = BUF_INIT;
		AUTO(buf) struct buf notes1 = BUF_INIT;
		AUTO(buf) struct buf notes2 = BUF_INIT;

		REQUIRE(pull(compact, &notes1, indents[i], &styled));
		REQUIRE(pull(buf_str(&styled), &notes2, NULL, &again));
		REQUIRE(str_eq(buf_str(&notes1), notes) && str_eq(buf_str(&notes2), notes));
		REQUIRE(str_eq(buf_str(&again), compact));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str text = str_make(data, n);
	AUTO(buf) struct buf notes = BUF_INIT;
	AUTO(buf) struct buf compact = BUF_INIT;
	struct yajl_run run = {0};
	bool ours = pull(text, &notes, NULL, &compact);

	REQUIRE(skip(text) == ours);
	/* yajl is lax about UTF-8, and takes vertical tabs and form feeds for white space: no JSON text holds them raw. */
	if (!is_utf8(text) || str_find(text, '\v') >= 0 || str_find(text, '\f') >= 0) {
		REQUIRE(!ours);
	} else {
		bool theirs = yajl_reads(text, &run);

		REQUIRE(ours == (theirs && run.deepest <= JSON_DEPTH_MAX));
		REQUIRE(!ours || may_hold_surrogates(text) || str_eq(buf_str(&notes), buf_str(&run.notes)));
	}
	buf_fini(&run.notes);
	if (ours)
		check_rewritten(buf_str(&compact), buf_str(&notes));
	return 0;
}
