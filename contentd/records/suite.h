/*
 * What the tests with containerd's cases share (suite_test.c, sandbox_suite_test.c): their tables are text, requests and
 * answers are not. Everything made lives in the world's arena; what is not as expected fails the test.
 */
#ifndef CONTENTD_RECORDS_SUITE_H
#define CONTENTD_RECORDS_SUITE_H

#include "contentd/testing/world.h"

struct suite_list_row {
	const char *name, *filters, *want;
};

/* Of a timestamp that is there. */
int64_t suite_ns_of(const Pb__Timestamp *t);
/* The code of a call, which gave r, must be the row's. */
void suite_expect_code(struct world *w, const char *name, const char *what, int r, int want);
void suite_expect_text(const char *name, const char *what, const char *got, const char *want);

/* Comma-separated paths as a mask; NULL: none. */
Pb__FieldMask *suite_mask_of(struct world *w, const char *text);
Pb__Any *suite_any(struct world *w, const char *type_url);
/* "k=url k=url" as extensions, and back. */
Kv__AnyEntry **suite_extensions_of(struct world *w, const char *text, size_t *n);
const char *suite_extensions_text(struct world *w, Kv__AnyEntry *const *list, size_t n);
/* The filters of a row: "" none, else separated by ';'. */
const char **suite_filters_of(struct world *w, const char *text, size_t *n);

/* "a b c " of the names that a list call gave. */
#define SUITE_NAMES_OF(out, list, n, field)                                                                            \
	do {                                                                                                           \
		AUTO(buf) struct buf names_ = BUF_INIT;                                                                \
		for (size_t i_ = 0; i_ < (n); i_++)                                                                    \
			buf_addf(&names_, "%s ", (list)[i_]->field);                                                   \
		(out) = arena_str(&w->a, buf_str(&names_));                                                            \
	} while (0)

#endif
