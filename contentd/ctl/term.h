/* What the terminal shows: sizes, ages, tables, and progress bars that are redrawn in place. */
#ifndef CTL_TERM_H
#define CTL_TERM_H

#include "base/buf.h"
#include "base/vec.h"

#include <time.h>

/* "1.5 MB": decimal units, three digits. dst needs 16 bytes. */
char *term_size(int64_t bytes, char dst[static 16]);

/* "3 minutes ago". dst needs 32 bytes. */
char *term_age(struct timespec then, char dst[static 32]);

/* Rows of texts, printed with columns as wide as their widest cell. The first row is the heading. */
struct term_table {
	unsigned columns;
	VEC(char *) cells;
};
void term_row(struct term_table *t, ...);    /* `columns` C strings */
void term_table_print(struct term_table *t); /* to stdout; empties the table */

/* One line per item, in order of first appearance. */
struct term_item {
	char *name, *state;
	int64_t done, total;
};

struct term_progress {
	bool enabled;
	VEC(struct term_item) items;
	unsigned drawn; /* lines on the screen now */
	int64_t last_ns;
};
#define TERM_PROGRESS_INIT(on) ((struct term_progress){.enabled = (on)})

/* Updates (or adds) an item, and redraws, at most 20 times a second. */
void term_progress_set(struct term_progress *p, const char *name, const char *state, int64_t done, int64_t total);
/* Draws the last state, or with `keep` false takes the lines away; frees. */
void term_progress_end(struct term_progress *p, bool keep);

#endif
