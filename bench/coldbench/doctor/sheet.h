/*
 * What the doctor found in one section: findings, each with a value, perhaps a bound and whether it is kept, and advice when
 * it is not; and tables of numbers. Printed for people and as JSON from the same facts. One owner.
 */
#ifndef BENCH_COLDBENCH_DOCTOR_SHEET_H
#define BENCH_COLDBENCH_DOCTOR_SHEET_H

#include "base/json.h"
#include "base/vec.h"

#include <stdio.h>

/* FACT: there is nothing to judge. WARN: figures will be worse than they could be. BAD: they cannot be trusted, or not be
 * had at all. */
enum finding_state { FINDING_FACT, FINDING_GOOD, FINDING_WARN, FINDING_BAD };

struct finding {
	const char *key; /* in JSON, with its unit; static, or of sheet_keyf */
	char *label;     /* for people */
	char *text;      /* the value for people */
	double number;   /* ... for programs, when is_number; NaN: there is none */
	bool is_number;
	enum finding_state state;
	char *bound;  /* "<= 0.3 ms", or NULL */
	char *advice; /* what to do about it, or how to read it; or NULL */
};

/* A table of numbers; NaN is an empty cell. */
struct grid {
	const char *key, *title;
	const char *const *columns; /* keys of JSON and heads alike; static */
	size_t n_columns;
	VEC(double) cells; /* row by row */
};

struct sheet {
	const char *name, *title; /* static */
	VEC(struct finding) findings;
	VEC(struct grid) grids;
	VEC(char *) keys;
};

void sheet_fini(struct sheet *s);
DEFINE_AUTO_FINI(sheet);

/* Adds a finding; what it returns is valid until the next one. */
struct finding *sheet_number(struct sheet *s, const char *key, const char *label, double value, const char *unit);
struct finding *sheet_text(struct sheet *s, const char *key, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A key that lives as long as the sheet. */
const char *sheet_keyf(struct sheet *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Is the bound kept? `otherwise` is the state when not. */
void finding_judge(struct finding *f, bool kept, enum finding_state otherwise, const char *bound);
void finding_judgef(struct finding *f, bool kept, enum finding_state otherwise, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void finding_advise(struct finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Adds behind the text of the value, e.g. its interval. */
void finding_add(struct finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct grid *sheet_grid(struct sheet *s, const char *key, const char *title, const char *const *columns,
                        size_t n_columns);

size_t sheet_count(const struct sheet *s, enum finding_state state);

/* `width` columns of the terminal, for the advice. */
void sheet_print(const struct sheet *s, FILE *to, unsigned width);

/* The sheet as one JSON object. */
void sheet_json(const struct sheet *s, struct json_writer *w);

#endif
