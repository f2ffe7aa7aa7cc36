/* What a conversion would do, and what it has done, for people and as JSON. To standard output; notes to standard error. */
#ifndef CONVERT_REPORT_H
#define CONVERT_REPORT_H

#include "contentd/convert/convert.h"
#include "contentd/convert/index.h"

void report_plan(const struct convert *c, bool json);
void report_result(const struct convert *c, bool json);
/* report_index.c: of an indexing that is planned, or done. */
void report_indexes(const struct indexing *x, bool done, bool json);

#endif
