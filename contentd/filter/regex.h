/*
 * Regular expressions with RE2's syntax, as far as clients' filters use it, and its promise: time linear in the text.
 * Search is unanchored and answers yes or no. Text is UTF-8; bytes that are not count as U+FFFD.
 * Known: | * + ? {n,m} and their lazy forms (the same for a yes or no), groups (?:) (?P<n>) (?i) (?s) (?m) (?i:), classes,
 * [[:alpha:]] names, \d \s \w \D \S \W \b \B \A \z \Q..\E, \n \t \x{10FFFF} \101 and the like. Unicode classes (\pL) are
 * not. Immutable once made: any thread.
 */
#ifndef CONTENTD_FILTER_REGEX_H
#define CONTENTD_FILTER_REGEX_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

struct cd_regex;

/* ERR_INVALID for an expression that is malformed, uses what is not known, or is too large (4096 steps). */
int cd_regex_new(struct str pattern, struct cd_regex **out, struct err *err);
void cd_regex_free(struct cd_regex *re);
DEFINE_AUTO_FREE(cd_regex);

bool cd_regex_search(const struct cd_regex *re, struct str text);

#endif
