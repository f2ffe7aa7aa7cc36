/*
 * What the benchmarks of the format library share: the clock, made-up inputs, and how results are printed. One thread.
 */
#ifndef BENCH_ESTARGZ_BENCH_H
#define BENCH_ESTARGZ_BENCH_H

#include "base/buf.h"
#include "base/err.h"

#define BENCH_ROUNDS 7 /* of which the best counts */

/* CPU time of this process. */
double bench_cpu_ms(void);
void bench_keep_best(double *best, double ms);

/* A generator that gives the same everywhere, 24 bits at a time. */
uint32_t bench_random(uint32_t *seed);
/* n bytes of made-up words: they compress about as well as the files of a system do. */
void bench_text(struct buf *out, size_t n);
/* The bytes of a file. */
int bench_read(const char *path, struct buf *out, struct err *err);

/* One result: a line "name: key value, key value" or, with --json, an object {"bench": name, key: value}. Units stand in
 * the keys. */
extern bool bench_json;
void bench_begin(const char *name);
void bench_text_value(const char *key, const char *value);
void bench_count(const char *key, uint64_t value);
void bench_value(const char *key, double value);
void bench_end(void);

/* The benchmarks; what each measures: main.c. */
int bench_toc(const char *entries, struct err *err);
int bench_tree(const char *entries, struct err *err);
int bench_erofs(const char *entries, struct err *err);
int bench_inflate(const char *layer, struct err *err);
int bench_hash(const char *unused, struct err *err);
int bench_unpack(const char *layer, struct err *err);
int bench_gzseek(const char *layer, struct err *err);
int bench_chunks(const char *unused, struct err *err);
int bench_convert(const char *layer, struct err *err);

#endif
