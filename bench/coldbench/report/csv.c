#include "bench/coldbench/report/csv.h"

#include "base/map.h"

#include <math.h>

/* Columns: a run has some hundreds. */
#define METRICS_MAX 4096

static void text(struct buf *out, const char *s)
{
	if (!s)
		return;
	if (!s[strcspn(s, ",\"\r\n")]) {
		buf_adds(out, s);
		return;
	}
	buf_addc(out, '"');
	for (; *s; s++) {
		if (*s == '"')
			buf_addc(out, '"');
		buf_addc(out, *s);
	}
	buf_addc(out, '"');
}

static void number(struct buf *out, double v)
{
	if (isfinite(v))
		buf_addf(out, "%.10g", v);
}

typedef VEC(const char *) names;
DEFINE_CLEANUP(names, names, vec_fini(it));

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of all metrics, sorted; *columns says which number each has, from 1. */
static void collect_names(const struct sample_set *set, names *out, struct map *columns)
{
	vec_each(&set->samples, s)
		vec_each(&s->metrics, m)
			if (!map_has(columns, str_of(m->name))) {
				map_put(columns, str_of(m->name), NULL);
				vec_push(out, m->name);
			}
	if (out->n)
		qsort(out->p, out->n, sizeof(*out->p), compare_names);
	for (size_t i = 0; i < out->n; i++)
		map_put(columns, str_of(out->p[i]), (void *)(uintptr_t)(i + 1));
}

static void sample_line(const struct sample *s, const struct map *columns, double *row, size_t n, struct buf *out)
{
	const char *const texts[] = {s->group, s->mode, s->image, s->form, s->engine, s->network};

	for (size_t i = 0; i < n; i++)
		row[i] = NAN;
	vec_each(&s->metrics, m) {
		uintptr_t column = (uintptr_t)map_get(columns, str_of(m->name));

		if (column)
			row[column - 1] = m->value;
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		text(out, texts[i]);
		buf_addc(out, ',');
	}
	buf_addf(out, "%.10g,%.10g,", s->rtt_ms, s->mbit);
	text(out, s->faults);
	buf_addf(out, ",%u,%u,%u,", s->count, s->repetition, s->order);
	text(out, s->at);
	buf_addc(out, ',');
	text(out, s->error);
	for (size_t i = 0; i < n; i++) {
		buf_addc(out, ',');
		number(out, row[i]);
	}
	buf_addc(out, '\n');
}

int csv_samples(const struct sample_set *set, struct buf *out, struct err *err)
{
	AUTO(map) struct map columns = MAP_INIT;
	AUTO_FREE double *row = NULL;
	AUTO(names) names metrics = VEC_INIT;

	collect_names(set, &metrics, &columns);
	if (metrics.n > METRICS_MAX)
		return err_set(err, ERR_EXHAUSTED, "%zu different metrics: a table has room for %d columns of them",
		               metrics.n, METRICS_MAX);
	row = xcalloc(metrics.n + 1, sizeof(*row));
	buf_adds(out, "group,mode,image,form,engine,network,rtt_ms,mbit,faults,count,repetition,order,at,error");
	vec_each(&metrics, name) {
		buf_addc(out, ',');
		text(out, *name);
	}
	buf_addc(out, '\n');
	vec_each(&set->samples, s)
		sample_line(s, &columns, row, metrics.n, out);
	return 0;
}

void csv_summary(const struct analysis *a, struct buf *out)
{
	buf_adds(
	    out,
	    "mode,image,form,engine,network,rtt_ms,mbit,faults,count,failed,metric,n,median,ci_low,ci_high,mad,min,p25,"
	    "p75,p95,max,mean\n");
	vec_each(&a->cells, c)
		vec_each(&c->measures, m) {
			const char *const texts[] = {c->mode, c->image, c->form, c->engine, c->network};
			const double numbers[] = {m->s.median, m->s.ci.low, m->s.ci.high, m->s.mad, m->s.min,
			                          m->s.p25,    m->s.p75,    m->s.p95,     m->s.max, m->s.mean};

			for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
				text(out, texts[i]);
				buf_addc(out, ',');
			}
			buf_addf(out, "%.10g,%.10g,", c->rtt_ms, c->mbit);
			text(out, c->faults);
			buf_addf(out, ",%u,%u,", c->count, c->n_failed);
			text(out, m->name);
			buf_addf(out, ",%zu", m->s.n);
			for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
				buf_addc(out, ',');
				number(out, numbers[i]);
			}
			buf_addc(out, '\n');
		}
}
