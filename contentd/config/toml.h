/*
 * TOML for C: the values of a document, one call each. The parser is toml++, and toml.cc is the only file that knows;
 * this header is C and C++, so it uses nothing of base/.
 */
#ifndef CONTENTD_CONFIG_TOML_H
#define CONTENTD_CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum toml_type {
	TOML_STRING,
	TOML_INTEGER,
	TOML_REAL,
	TOML_BOOLEAN,
	TOML_STRINGS, /* an empty list, too */
	TOML_INTEGERS,
	TOML_NESTED_STRINGS, /* a list with one list of texts in it */
	TOML_TABLE,          /* without its values, which come on their own */
	TOML_OTHER,          /* dates, lists of other things, infinities */
};

struct toml_value {
	const char *key;         /* with its tables, "fetch.background" */
	const char *const *path; /* the same in pieces, for keys that have dots in them */
	size_t n_path;
	int line;
	enum toml_type type;
	const char *string;
	int64_t integer;
	double real;
	bool boolean;
	const char *const *strings; /* TOML_STRINGS, TOML_NESTED_STRINGS */
	const int64_t *integers;    /* TOML_INTEGERS */
	size_t n_items;
};

/* Calls fn for each value and each table in order of lines; all texts are borrowed for the call. A negative return of fn
 * ends it with that value. -1 and "<line>: <reason>" in `why` for a document that is no TOML. */
int toml_each(const char *text, size_t n, int (*fn)(void *arg, const struct toml_value *v), void *arg, char *why,
              size_t why_bytes);

#ifdef __cplusplus
}
#endif

#endif
