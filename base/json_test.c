#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Reads one value of any type through the pull calls and writes it again. */
static int copy_value(struct json_reader *r, struct json_writer *w, struct err *err);

static int copy_object(struct json_reader *r, struct json_writer *w, struct err *err)
{
	struct str key;
	int more;

	TRY(json_object_begin(r, err));
	json_w_object_begin(w);
	while ((more = json_object_next(r, &key, err)) > 0) {
		json_w_key_str(w, key);
		TRY(copy_value(r, w, err));
	}
	json_w_object_end(w);
	return more;
}

static int copy_array(struct json_reader *r, struct json_writer *w, struct err *err)
{
	int more;

	TRY(json_array_begin(r, err));
	json_w_array_begin(w);
	while ((more = json_array_next(r, err)) > 0)
		TRY(copy_value(r, w, err));
	json_w_array_end(w);
	return more;
}

static int copy_value(struct json_reader *r, struct json_writer *w, struct err *err)
{
	enum json_type type;
	struct str s;
	bool b;

	TRY(json_peek(r, &type, err));
	switch (type) {
	case JSON_OBJECT:
		return copy_object(r, w, err);
	case JSON_ARRAY:
		return copy_array(r, w, err);
	case JSON_STRING:
		TRY(json_string(r, &s, err));
		json_w_str(w, s);
		return 0;
	case JSON_BOOL:
		TRY(json_bool(r, &b, err));
		json_w_bool(w, b);
		return 0;
	case JSON_NUMBER:
		TRY(json_raw(r, &s, err));
		json_w_raw(w, s);
		return 0;
	default:
		TRY(json_skip(r, err));
		json_w_null(w);
		return 0;
	}
}

/* A whole document read value by value; the copy is appended to `out`. */
static int copy_document(struct str text, const char *indent, struct buf *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	struct json_writer w;

	json_writer_init(&w, out, indent);
	TRY(copy_value(r, &w, err));
	return json_end(r, err);
}

static int skip_document(struct str text, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);

	TRY(json_skip(r, err));
	return json_end(r, err);
}

static void assert_accepted(struct str text)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (copy_document(text, NULL, &out, &err) || skip_document(text, &err))
		fail_msg("rejected: " STR_FMT ": %s", STR_ARG(text), err.msg);
}

static void assert_rejected(struct str text)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (copy_document(text, NULL, &out, &err) != -ERR_INVALID || skip_document(text, &err) != -ERR_INVALID)
		fail_msg("accepted: " STR_FMT, STR_ARG(text));
	assert_int_equal(err.code, ERR_INVALID);
}

static void grammar(void **state)
{
	static const char *const good[] = {
	    "0",
	    "-0",
	    "10",
	    "1.5",
	    "-1.5e+10",
	    "1E-2",
	    "1e5",
	    "\"\"",
	    "\"x\"",
	    "true",
	    "false",
	    "null",
	    "[]",
	    "{}",
	    " [ ] ",
	    "\t{ }\r\n",
	    "[1]",
	    "[1,2]",
	    "[[],[[]],{}]",
	    "{\"a\":1}",
	    "{ \"a\" : { \"b\" : [ 1 , 2 ] } , \"c\":0}",
	    "{\"\":0}",
	    "{\"a\":1,\"a\":2}",
	    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
	    "\"\x7f\"",
	    "123456789012345678901234567890",
	};
	static const char *const bad[] = {
	    "",
	    " ",
	    "\n",
	    "01",
	    "-",
	    "-a",
	    "+1",
	    ".5",
	    "1.",
	    "1.e5",
	    "1e",
	    "1e+",
	    "0x10",
	    "1a",
	    "--1",
	    "NaN",
	    "Infinity",
	    "\"",
	    "\"x",
	    "'x'",
	    "\"\\\"",
	    "\"\\x41\"",
	    "\"\\u12\"",
	    "\"\\u12g4\"",
	    "\"\n\"",
	    "\"\t\"",
	    "\"\x1f\"",
	    "tru",
	    "truex",
	    "True",
	    "nul",
	    "falsee",
	    "[",
	    "]",
	    "[1",
	    "[1,",
	    "[1,]",
	    "[,1]",
	    "[1 2]",
	    "[1}",
	    "{",
	    "}",
	    "{1:2}",
	    "{\"a\"}",
	    "{\"a\":}",
	    "{\"a\":1,}",
	    "{\"a\":1",
	    "{\"a\":1]",
	    "{,}",
	    "{\"a\" 1}",
	    "{\"a\"::1}",
	    "{\"a\":1 \"b\":2}",
	    "{a:1}",
	    "1 2",
	    "[] []",
	    "{}x",
	    "null,",
	    "// c\n1",
	    "/* c */ 1",
	    "[1]]",
	    "\xef\xbb\xbf"
	    "1",
	    "\v1",
	    "\xa0",
	    "[\"a\",\"b]",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_accepted(str_of(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_rejected(str_of(bad[i]));
	assert_rejected(STR("1\0"));
	assert_rejected(STR("\0001"));
	assert_rejected(STR("[1\0,2]"));
	assert_rejected(STR("\"a\0b\""));
}

/* What the JSON string with these bytes between its quotes reads as; fails the test when it is not one. */
static void assert_reads(struct str quoted, struct str want)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	AUTO(buf) struct buf text = BUF_INIT;
	struct err err = ERR_INIT;
	struct str got;

	buf_addc(&text, '"');
	buf_addstr(&text, quoted);
	buf_addc(&text, '"');
	r = json_reader_new(buf_str(&text));
	if (json_string(r, &got, &err) || json_end(r, &err))
		fail_msg("%s: %s", text.p, err.msg);
	if (!str_eq(got, want))
		fail_msg("%s reads as " STR_FMT, text.p, STR_ARG(got));
}

static void escapes(void **state)
{
	assert_reads(STR("\\\"\\\\\\/\\b\\f\\n\\r\\t"), STR("\"\\/\b\f\n\r\t"));
	assert_reads(STR("a\\u0000b"), STR("a\0b"));
	assert_reads(STR("\\u0041\\u00e9\\u20AC\\uD83D\\ude00"), STR("A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
	/* Lone surrogates, in every company. */
	assert_reads(STR("\\ud83d"), STR("\xef\xbf\xbd"));
	assert_reads(STR("\\ude00"), STR("\xef\xbf\xbd"));
	assert_reads(STR("\\ud83dx"), STR("\xef\xbf\xbdx"));
	assert_reads(STR("\\ud83d\\n"), STR("\xef\xbf\xbd\n"));
	assert_reads(STR("\\ud83d\\u0041"), STR("\xef\xbf\xbd"
	                                        "A"));
	assert_reads(STR("\\ud83d\\ud83d\\ude00"), STR("\xef\xbf\xbd\xf0\x9f\x98\x80"));
	assert_reads(STR("\\ude00\\ud83d"), STR("\xef\xbf\xbd\xef\xbf\xbd"));
	assert_rejected(STR("\"\\ud83d\\u12\""));
	assert_rejected(STR("\"\\ud83d\\u"));
}

static void utf8(void **state)
{
	static const struct str good[] = {
	    STR("\xc2\x80"),         STR("\xdf\xbf"),         STR("\xe0\xa0\x80"),
	    STR("\xed\x9f\xbf"),     STR("\xee\x80\x80"),     STR("\xef\xbf\xbf"),
	    STR("\xf0\x90\x80\x80"), STR("\xf4\x8f\xbf\xbf"), STR("\xe6\x97\xa5\xe6\x9c\xac")};
	static const struct str bad[] = {STR("\x80"),
	                                 STR("\xbf"),
	                                 STR("\xc0\x80"),
	                                 STR("\xc1\xbf"),
	                                 STR("\xc2"),
	                                 STR("\xc2x"),
	                                 STR("\xe0\x9f\xbf"),
	                                 STR("\xe2\x82"),
	                                 STR("\xe2\x82x"),
	                                 STR("\xed\xa0\x80"),
	                                 STR("\xed\xbf\xbf"),
	                                 STR("\xf0\x8f\xbf\xbf"),
	                                 STR("\xf0\x90\x80"),
	                                 STR("\xf4\x90\x80\x80"),
	                                 STR("\xf5\x80\x80\x80"),
	                                 STR("\xff")};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_reads(good[i], good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(buf) struct buf text = BUF_INIT;

		buf_addf(&text, "\"%.*s\"", (int)bad[i].n, bad[i].p);
		assert_rejected(buf_str(&text));
	}
}

/* Every kind of special byte at every place of a block of the vector scan, and after earlier escapes. */
static void specials_at_every_offset(void **state)
{
	static const struct {
		struct str in, out;
	} specials[] = {
	    {STR("\\n"), STR("\n")}, {STR("\xc3\xa9"), STR("\xc3\xa9")}, {STR("\\u20ac"), STR("\xe2\x82\xac")}};

	for (size_t before = 0; before < 50; before++)
		for (size_t after = 0; after < 50; after += 7)
			for (size_t i = 0; i < ARRAY_LEN(specials); i++) {
				AUTO(buf) struct buf in = BUF_INIT;
				AUTO(buf) struct buf out = BUF_INIT;

				for (int twice = 0; twice < 2; twice++) {
					memset(buf_reserve(&in, before), 'b', before);
					memset(buf_reserve(&out, before), 'b', before);
					in.n += before, out.n += before;
					buf_addstr(&in, specials[i].in);
					buf_addstr(&out, specials[i].out);
					memset(buf_reserve(&in, after), 'a', after);
					memset(buf_reserve(&out, after), 'a', after);
					in.n += after, out.n += after;
				}
				assert_reads(buf_str(&in), buf_str(&out));
			}
	/* A control character is found wherever it stands. */
	for (size_t at = 0; at < 40; at++) {
		char text[48];

		memset(text, 'x', sizeof(text));
		text[0] = text[41] = '"';
		text[1 + at] = 0x1f;
		assert_rejected(str_make(text, 42));
		text[1 + at] = ' ';
		assert_accepted(str_make(text, 42));
	}
}

static void a_cut_document_is_rejected(void **state)
{
	static const struct str whole =
	    STR("{\"a\": [1.5e3, \"\\ud83d\\ude00 \xe2\x82\xac\", true, null], \"b\": {\"c\": -1}}");

	assert_accepted(whole);
	for (size_t n = 0; n < whole.n; n++)
		assert_rejected(str_sub(whole, 0, n));
}

static void integers(void **state)
{
	static const struct {
		const char *text;
		int i64, u64; /* results */
		int64_t i;
		uint64_t u;
	} cases[] = {
	    {"0", 0, 0, 0, 0},
	    {"-0", 0, -ERR_INVALID, 0, 0},
	    {"42", 0, 0, 42, 42},
	    {"null", 0, 0, 0, 0},
	    {"-1", 0, -ERR_INVALID, -1, 0},
	    {"9223372036854775807", 0, 0, INT64_MAX, INT64_MAX},
	    {"9223372036854775808", -ERR_INVALID, 0, 0, (uint64_t)INT64_MAX + 1},
	    {"-9223372036854775808", 0, -ERR_INVALID, INT64_MIN, 0},
	    {"-9223372036854775809", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"18446744073709551615", -ERR_INVALID, 0, 0, UINT64_MAX},
	    {"18446744073709551616", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"99999999999999999999999", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"1.0", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"1e2", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"\"1\"", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"-", -ERR_INVALID, -ERR_INVALID, 0, 0},
	    {"true", -ERR_INVALID, -ERR_INVALID, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(json_reader) struct json_reader *a = json_reader_new(str_of(cases[i].text));
		AUTO(json_reader) struct json_reader *b = json_reader_new(str_of(cases[i].text));
		int64_t v = 1;
		uint64_t u = 1;

		assert_int_equal(json_i64(a, &v, NULL), cases[i].i64);
		if (!cases[i].i64)
			assert_int_equal(v, cases[i].i);
		assert_int_equal(json_u64(b, &u, NULL), cases[i].u64);
		if (!cases[i].u64)
			assert_int_equal(u, cases[i].u);
	}
}

static void doubles(void **state)
{
	static const struct {
		const char *text;
		int result;
		double value;
	} cases[] = {{"1.5", 0, 1.5},
	             {"-2e3", 0, -2000},
	             {"0", 0, 0},
	             {"null", 0, 0},
	             {"1e400", -ERR_INVALID, 0},
	             {"1e-400", 0, 0},
	             {"0x10", -ERR_INVALID, 0},
	             {"\"1\"", -ERR_INVALID, 0},
	             {"inf", -ERR_INVALID, 0}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(json_reader) struct json_reader *r = json_reader_new(str_of(cases[i].text));
		double v = 1;

		assert_int_equal(json_double(r, &v, NULL), cases[i].result);
		if (!cases[i].result)
			assert_true(v == cases[i].value);
	}
}

static void objects(void **state)
{
	static const struct str text = STR("{\"name\":\"x\", \"NumLink\": 2, \"skip\": {\"deep\": [1, {\"a\": []}]},"
	                                   " \"name\": \"y\", \"on\": true, \"list\": [3, 4]}");
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	struct str key, name = STR_NONE;
	int64_t links = 0, sum = 0, v;
	struct err err = ERR_INIT;
	bool on = false;
	int more;

	assert_int_equal(json_object_begin(r, &err), 0);
	while ((more = json_object_next(r, &key, &err)) > 0)
		if (json_key_is(key, "name")) {
			assert_int_equal(json_string(r, &name, &err), 0);
		} else if (json_key_is(key, "numlink")) {
			assert_int_equal(json_i64(r, &links, &err), 0);
		} else if (json_key_is(key, "on")) {
			assert_int_equal(json_bool(r, &on, &err), 0);
		} else if (json_key_is(key, "list")) {
			assert_int_equal(json_array_begin(r, &err), 0);
			while ((more = json_array_next(r, &err)) > 0) {
				assert_int_equal(json_i64(r, &v, &err), 0);
				sum += v;
			}
			assert_int_equal(more, 0);
		} else {
			assert_true(json_key_is(key, "skip"));
			assert_int_equal(json_skip(r, &err), 0);
		}
	assert_int_equal(more, 0);
	assert_int_equal(json_end(r, &err), 0);
	assert_true(str_eqc(name, "y")); /* the last of two */
	assert_int_equal(links, 2);
	assert_int_equal(sum, 7);
	assert_true(on);
	assert_false(json_key_is(STR("nam"), "name"));
	assert_false(json_key_is(STR("nbme"), "name"));
}

/* Go programs write null where a slice, a map, a string or a number is empty. */
static void null_reads_as_empty(void **state)
{
	static const struct str text =
	    STR("{\"o\": null, \"a\": null, \"s\": null, \"b\": null, \"after\": [null, 1]}");
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	struct str key, s = STR("before");
	struct err err = ERR_INIT;
	bool b = true;
	int64_t v;

	assert_int_equal(json_object_begin(r, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_object_begin(r, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_array_begin(r, &err), 0);
	assert_int_equal(json_array_next(r, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_string(r, &s, &err), 0);
	assert_int_equal(s.n, 0);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_bool(r, &b, &err), 0);
	assert_false(b);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_true(str_eqc(key, "after"));
	assert_int_equal(json_array_begin(r, &err), 0);
	assert_int_equal(json_array_next(r, &err), 1);
	assert_int_equal(json_array_begin(r, &err), 0);
	assert_int_equal(json_array_next(r, &err), 0);
	assert_int_equal(json_array_next(r, &err), 1);
	assert_int_equal(json_i64(r, &v, &err), 0);
	assert_int_equal(v, 1);
	assert_int_equal(json_array_next(r, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 0);
	assert_int_equal(json_end(r, &err), 0);
}

static void depth_is_bounded(void **state)
{
	for (int kind = 0; kind < 2; kind++)
		for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
			AUTO(buf) struct buf text = BUF_INIT;

			for (int i = 0; i < depth; i++)
				buf_adds(&text, kind ? "{\"k\":" : "[");
			buf_adds(&text, kind ? "{}" : "1");
			for (int i = 0; i < depth; i++)
				buf_addc(&text, kind ? '}' : ']');
			if (depth + kind <= JSON_DEPTH_MAX)
				assert_accepted(buf_str(&text));
			else
				assert_rejected(buf_str(&text));
		}
}

static void raw_gives_the_bytes_of_the_input(void **state)
{
	static const struct str text = STR("{\"a\": {\"x\" : \"\\u0041\\n\",\t\"y\":[1.50, null] } , \"b\": \"\\\"\"}");
	AUTO(json_reader) struct json_reader *r = json_reader_new(text);
	struct str key, raw, s;
	struct err err = ERR_INIT;

	assert_int_equal(json_object_begin(r, &err), 0);
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_raw(r, &raw, &err), 0);
	assert_true(str_eqc(raw, "{\"x\" : \"\\u0041\\n\",\t\"y\":[1.50, null] }"));
	assert_int_equal(json_object_next(r, &key, &err), 1);
	assert_int_equal(json_string(r, &s, &err), 0);
	assert_true(str_eqc(s, "\""));
	assert_int_equal(json_object_next(r, &key, &err), 0);
	assert_int_equal(json_end(r, &err), 0);
}

static void errors_say_where(void **state)
{
	AUTO(json_reader) struct json_reader *a = json_reader_new(STR("[1, x]"));
	AUTO(json_reader) struct json_reader *b = json_reader_new(STR("{\"size\": \"7\"}"));
	AUTO(json_reader) struct json_reader *c = json_reader_new(STR("[1"));
	struct err err = ERR_INIT;
	struct str key;
	int64_t v;

	assert_int_equal(json_skip(a, &err), -ERR_INVALID);
	assert_string_equal(err.msg, "JSON: 'x' at byte 4 where a value is expected");
	assert_int_equal(json_object_begin(b, &err), 0);
	assert_int_equal(json_object_next(b, &key, &err), 1);
	assert_int_equal(json_i64(b, &v, &err), -ERR_INVALID);
	assert_string_equal(err.msg, "JSON: '\"' at byte 9 where an integer is expected");
	assert_int_equal(json_skip(c, &err), -ERR_INVALID);
	assert_string_equal(err.msg, "JSON ends where ',' or ']' is expected");
}

static void a_taken_buffer_is_not_copied(void **state)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	AUTO(buf) struct buf in = BUF_INIT;
	const char *at;
	struct str s;

	buf_reserve(&in, 1000);
	buf_adds(&in, "\"text\"");
	at = in.p;
	r = json_reader_new_take(&in);
	assert_null(in.p);
	assert_int_equal(json_string(r, &s, NULL), 0);
	assert_ptr_equal(s.p, at + 1);
}

static void writer_compact_and_indented(void **state)
{
	static const struct str text = STR("{\"a\":[1,\"x\",{}],\"b\":{\"c\":[],\"d\":null},\"e\":true}");
	AUTO(buf) struct buf compact = BUF_INIT;
	AUTO(buf) struct buf indented = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(copy_document(text, NULL, &compact, &err), 0);
	assert_true(str_eq(buf_str(&compact), text));
	assert_int_equal(copy_document(text, "\t", &indented, &err), 0);
	assert_string_equal(indented.p, "{\n\t\"a\": [\n\t\t1,\n\t\t\"x\",\n\t\t{}\n\t],\n\t\"b\": {\n\t\t\"c\": [],\n"
	                                "\t\t\"d\": null\n\t},\n\t\"e\": true\n}");
}

static void writer_values(void **state)
{
	AUTO(buf) struct buf out = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &out, NULL);
	json_w_array_begin(&w);
	json_w_i64(&w, INT64_MIN);
	json_w_u64(&w, UINT64_MAX);
	json_w_double(&w, 0.1);
	json_w_double(&w, 1.0 / 3);
	json_w_double(&w, __builtin_nan(""));
	json_w_str(&w, STR("q\" b\\ \x01\n\t\0 \xc3\xa9 \xff\xc3(\xed\xa0\x80"));
	json_w_object_begin(&w);
	json_w_kstr(&w, "k\n", STR("v"));
	json_w_kcstr(&w, "c", "w");
	json_w_ki64(&w, "i", -7);
	json_w_kbool(&w, "t", false);
	json_w_object_end(&w);
	json_w_array_end(&w);
	assert_string_equal(
	    out.p, "[-9223372036854775808,18446744073709551615,0.1,0.3333333333333333,null,"
		   "\"q\\\" b\\\\ \\u0001\\n\\t\\u0000 \xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd"
		   "\xef\xbf\xbd\",{\"k\\n\":\"v\",\"c\":\"w\",\"i\":-7,\"t\":false}]");
	assert_accepted(buf_str(&out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(grammar),
	    cmocka_unit_test(escapes),
	    cmocka_unit_test(utf8),
	    cmocka_unit_test(specials_at_every_offset),
	    cmocka_unit_test(a_cut_document_is_rejected),
	    cmocka_unit_test(integers),
	    cmocka_unit_test(doubles),
	    cmocka_unit_test(objects),
	    cmocka_unit_test(null_reads_as_empty),
	    cmocka_unit_test(depth_is_bounded),
	    cmocka_unit_test(raw_gives_the_bytes_of_the_input),
	    cmocka_unit_test(errors_say_where),
	    cmocka_unit_test(a_taken_buffer_is_not_copied),
	    cmocka_unit_test(writer_compact_and_indented),
	    cmocka_unit_test(writer_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
