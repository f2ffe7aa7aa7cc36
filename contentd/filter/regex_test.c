#include "contentd/filter/regex.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool search(const char *pattern, const char *text)
{
	AUTO(cd_regex) struct cd_regex *re = NULL;
	struct err err = ERR_INIT;

	if (cd_regex_new(str_of(pattern), &re, &err) < 0)
		fail_msg("%s", err.msg);
	return cd_regex_search(re, str_of(text));
}

static void matches_and_misses(void **state)
{
	static const struct {
		const char *pattern, *yes, *no; /* NULL: none to try */
	} cases[] = {
	    {"", "", NULL},
	    {"b", "abc", "ac"},
	    {"^b", "bc", "ab"},
	    {"b$", "ab", "ba"},
	    {"^$", "", "a"},
	    {"a.c", "xabcx", "a\nc"},
	    {"(?s)a.c", "a\nc", "ac"},
	    {"^/tasks/(start|exit)$", "/tasks/exit", "/tasks/exited"},
	    {"^(ab|a)(c|bcd)$", "abcd", "abd"},
	    {"^a*$", "aaa", "aab"},
	    {"^a+$", "a", ""},
	    {"^a?b$", "b", "aab"},
	    {"^(ab)*c$", "ababc", "abac"},
	    {"^a{3}$", "aaa", "aa"},
	    {"^a{2,}$", "aaaa", "a"},
	    {"^a{0,2}$", "", "aaa"},
	    {"^a{1,3}b$", "aaab", "aaaab"},
	    {"^(a|b){2}c$", "abc", "ac"},
	    {"^x{0}y$", "y", "xy"},
	    {"a{,2}", "a{,2}", "aa"},
	    {"^a*?b$", "aab", "aac"},
	    {"^[a-c]+$", "abc", "abd"},
	    {"^[^a-c]+$", "xyz", "xbz"},
	    {"^[]a]+$", "]a]", "b"},
	    {"^[a\\]b-]+$", "a]b-", "c"},
	    {"^[\\d.]+$", "1.2", "1.x"},
	    {"^[[:alpha:]_]+$", "Ab_", "a1"},
	    {"^[[:^digit:]]+$", "abc", "a1"},
	    {"^\\d+\\.\\w*\\s$", "12.ab ", "a.b "},
	    {"^\\D\\W\\S$", "a-b", "1-b"},
	    {"\\bfoo\\b", "a foo b", "afoob"},
	    {"\\Boo", "foo", "oo"},
	    {"(?i)ABC", "xaBcx", "abd"},
	    {"(?i:a)b", "Ab", "AB"},
	    {"a(?i)b|c", "aB", "Ab"},
	    {"(?m)^b$", "a\nb\nc", "a b c"},
	    {"\\Ab", "b", "a\nb"},
	    {"\\Qa.c\\E+", "a.cc", "abc"},
	    {"^\\x41\\x{e9}\\101$",
	     "A\xc3\xa9"
	     "A",
	     "A"},
	    {"^.$", "\xe2\x82\xac", "ab"},
	    {"^[\xc3\xa0-\xc3\xbf]$", "\xc3\xa9", "e"},
	    {"^(?P<name>a)(?:b)$", "ab", "a"},
	    {"a|b|", "x", NULL},
	    {"^(a*)*$", "aaa", "b"},
	    {"^(|a)+$", "aa", "b"},
	    {"^(a|(b|c)+)d$", "bcbd", "abd"},
	    {"\\.io/(foo|bar)", "containerd.io/bar", "containerdXio/bar"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (!search(cases[i].pattern, cases[i].yes))
			fail_msg("%s should match %s", cases[i].pattern, cases[i].yes);
		if (cases[i].no && search(cases[i].pattern, cases[i].no))
			fail_msg("%s should not match %s", cases[i].pattern, cases[i].no);
	}
}

static void broken(void **state)
{
	static const char *const bad[] = {
	    "(",   ")",    "a)",      "[",         "[a",      "[b-a]",       "*a",
	    "+",   "a**",  "a{2}{3}", "a{3,2}",    "a{1001}", "\\",          "\\pL",
	    "\\8", "(?z)", "(?P<>a)", "[[:foo:]]", "\\x4",    "\\x{110000}", "((((a{100}){100}){100}){100})"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(cd_regex) struct cd_regex *re = NULL;

		if (cd_regex_new(str_of(bad[i]), &re, NULL) != -ERR_INVALID)
			fail_msg("%s should be refused", bad[i]);
	}
}

static void bytes_that_are_no_text(void **state)
{
	assert_true(search("^.{3}$", "\xff\xc3(")); /* each bad byte is one character */
	assert_true(search("^\\x{fffd}$", "\xf5"));
}

/* A matcher that backtracks would take 2^40 steps here. */
static void no_explosion(void **state)
{
	AUTO(buf) struct buf text = BUF_INIT;

	for (int i = 0; i < 10000; i++)
		buf_addc(&text, 'a');
	assert_false(search("^(a+)+(a|aa)+(a*)*b$", buf_cstr(&text)));
}

static void deep_nesting(void **state)
{
	AUTO(cd_regex) struct cd_regex *re = NULL;
	AUTO(buf) struct buf b = BUF_INIT;

	for (int i = 0; i < 100000; i++)
		buf_addc(&b, '(');
	assert_int_equal(cd_regex_new(buf_str(&b), &re, NULL), -ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(matches_and_misses),     cmocka_unit_test(broken),
	    cmocka_unit_test(bytes_that_are_no_text), cmocka_unit_test(no_explosion),
	    cmocka_unit_test(deep_nesting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
