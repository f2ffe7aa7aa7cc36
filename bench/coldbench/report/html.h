/* Text for a page, from names that others chose. Any thread. */
#ifndef BENCH_COLDBENCH_REPORT_HTML_H
#define BENCH_COLDBENCH_REPORT_HTML_H

#include "base/buf.h"

/* Longer texts are cut, and end in an ellipsis. */
#define HTML_TEXT_MAX 400

/* Adds text that may stand between tags and in quoted attributes, whatever it holds: control characters become blanks, bytes
 * that are not UTF-8 U+FFFD. NULL is "". */
void html_text(struct buf *out, const char *text);

/* The same, cut after `max` characters. */
void html_text_cut(struct buf *out, const char *text, size_t max);

/* The address of a file in the page's own folder, for a quoted attribute. */
void html_file(struct buf *out, const char *name);

/* Formats, then escapes. */
void html_textf(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
