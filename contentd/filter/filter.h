/*
 * containerd's filter language: what List calls and Subscribe select by.
 *
 *	filter   := selector ("," selector)*            all must hold
 *	selector := field ("." field)* [op value]       no operator: the field is present
 *	field    := [A-Za-z0-9_]+ | quoted
 *	op       := "==" | "!=" | "~="                  ~= searches a regular expression (regex.h)
 *	value    := printable characters but comma and white space | quoted; after ~= also /.../ and |...|
 *	quoted   := "..." with Go's escapes
 *
 * White space may stand before each token, but not behind a path or a value. A list of filters holds when any of them does;
 * an empty list, and an empty filter, hold for everything. An absent field is != to everything, and "" for ~=. A broken
 * regular expression matches nothing. Immutable: any thread.
 */
#ifndef CONTENTD_FILTER_FILTER_H
#define CONTENTD_FILTER_FILTER_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define CD_FILTER_DEPTH_MAX 64 /* fields of one path */

struct cd_filter;

/* ERR_INVALID with the position of the mistake. The texts are not needed afterwards. */
int cd_filter_new(const char *const *texts, size_t n, struct cd_filter **out, struct err *err);
void cd_filter_free(struct cd_filter *f);
DEFINE_AUTO_FREE(cd_filter);

/* Gives the value of a field of `object`; false when it has none. `path` has at least one element. *value may point
 * into the object or into `path`. */
typedef bool (*cd_filter_field)(const void *object, const struct str *path, size_t n_path, struct str *value);

bool cd_filter_match(const struct cd_filter *f, cd_filter_field field, const void *object);

#endif
