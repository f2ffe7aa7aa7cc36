#include "base/metrics.h"

#include "base/vec.h"

#include <assert.h>
#include <stdio.h>

/* Upper bounds of the buckets; powers would be prettier for machines, these are what people read. */
static const struct {
	int64_t ns;
	const char *text;
} BOUNDS[] = {
    {10000, "1e-05"},      {50000, "5e-05"},    {100000, "0.0001"},  {250000, "0.00025"}, {500000, "0.0005"},
    {1000000, "0.001"},    {2500000, "0.0025"}, {5000000, "0.005"},  {10000000, "0.01"},  {25000000, "0.025"},
    {50000000, "0.05"},    {100000000, "0.1"},  {250000000, "0.25"}, {500000000, "0.5"},  {1000000000, "1"},
    {2500000000, "2.5"},   {5000000000, "5"},   {10000000000, "10"}, {30000000000, "30"}, {60000000000, "60"},
    {300000000000, "300"},
};

struct metric_series {
	struct metric_series *next; /* constant once it is in the list */
	char *values[METRIC_LABELS_MAX];
	atomic_int_fast64_t value;      /* of a histogram: the sum, in ns */
	atomic_uint_fast64_t buckets[]; /* of a histogram: not cumulated, the last one is +Inf */
};

static _Atomic(struct metric *) all;

void metric_register(struct metric *m)
{
	m->next = atomic_load(&all);
	while (!atomic_compare_exchange_weak(&all, &m->next, m))
		;
}

/* ---- series ---- */

static size_t n_labels(const struct metric *m)
{
	size_t n = 0;

	while (m->labels[n])
		n++;
	return n;
}

static bool has_values(const struct metric_series *s, const char *const *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(s->values[i], values[i]))
			return false;
	return true;
}

static struct metric_series *series_new(const struct metric *m, const char *const *values, size_t n)
{
	size_t buckets = m->kind == METRIC_KIND_HISTOGRAM ? ARRAY_LEN(BOUNDS) + 1 : 0;
	struct metric_series *s = xcalloc(1, sizeof(*s) + buckets * sizeof(s->buckets[0]));

	for (size_t i = 0; i < n; i++)
		s->values[i] = xstrdup(values[i]);
	return s;
}

static void series_free(struct metric_series *s)
{
	for (size_t i = 0; i < METRIC_LABELS_MAX; i++)
		free(s->values[i]);
	free(s);
}

static struct metric_series *find(struct metric_series *from, const struct metric_series *to, const char *const *values,
                                  size_t n)
{
	for (; from != to; from = from->next)
		if (has_values(from, values, n))
			return from;
	return NULL;
}

/* Lists only grow at their heads, so whoever loses the race looks through what has come in front. */
static struct metric_series *series_of(struct metric *m, const char *const *values)
{
	static const char *const others[METRIC_LABELS_MAX + 1] = {"other", "other", "other"};
	struct metric_series *head, *seen = NULL, *s, *made = NULL;
	size_t n = n_labels(m);
	uint64_t hash = 0;

	assert(values == others || !values[n]);
	for (size_t i = 0; i < n; i++)
		hash = hash * 31 + str_hash(str_of(values[i]));
	head = atomic_load_explicit(&m->slots[hash % METRIC_SLOTS], memory_order_acquire);
	for (;;) {
		s = find(head, seen, values, n);
		if (s) {
			if (made) {
				series_free(made);
				atomic_fetch_sub(&m->n_series, 1);
			}
			return s;
		}
		if (!made && values != others && atomic_fetch_add(&m->n_series, 1) >= METRIC_SERIES_MAX)
			return series_of(m, others);
		if (!made)
			made = series_new(m, values, n);
		made->next = seen = head;
		if (atomic_compare_exchange_strong_explicit(&m->slots[hash % METRIC_SLOTS], &head, made,
		                                            memory_order_release, memory_order_acquire))
			return made;
	}
}

void metric_add_to(struct metric *m, int64_t n, const char *const *values)
{
	atomic_fetch_add_explicit(&series_of(m, values)->value, n, memory_order_relaxed);
}

void metric_set_to(struct metric *m, int64_t n, const char *const *values)
{
	atomic_store_explicit(&series_of(m, values)->value, n, memory_order_relaxed);
}

void metric_observe_in(struct metric *m, int64_t ns, const char *const *values)
{
	struct metric_series *s = series_of(m, values);
	size_t i = 0;

	while (i < ARRAY_LEN(BOUNDS) && ns > BOUNDS[i].ns)
		i++;
	atomic_fetch_add_explicit(&s->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->value, ns, memory_order_relaxed);
}

/* ---- printing ---- */

static void print_escaped(const char *text, bool quotes, struct buf *out)
{
	for (; *text; text++)
		if (*text == '\n')
			buf_adds(out, "\\n");
		else if (*text == '\\' || (quotes && *text == '"'))
			buf_addf(out, "\\%c", *text);
		else
			buf_addc(out, *text);
}

/* `le`: the bucket's bound, or NULL. */
static void print_labels(const struct metric *m, const struct metric_series *s, const char *le, struct buf *out)
{
	char before = '{';

	for (size_t i = 0; m->labels[i]; i++) {
		buf_addf(out, "%c%s=\"", before, m->labels[i]);
		print_escaped(s->values[i], true, out);
		buf_addc(out, '"');
		before = ',';
	}
	if (le) {
		buf_addf(out, "%cle=\"%s\"", before, le);
		before = ',';
	}
	if (before == ',')
		buf_addc(out, '}');
}

static void print_histogram(const struct metric *m, const struct metric_series *s, struct buf *out)
{
	int64_t sum = atomic_load_explicit(&s->value, memory_order_relaxed);
	uint64_t count = 0;

	for (size_t i = 0; i <= ARRAY_LEN(BOUNDS); i++) {
		count += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
		buf_addf(out, "%s_bucket", m->name);
		print_labels(m, s, i < ARRAY_LEN(BOUNDS) ? BOUNDS[i].text : "+Inf", out);
		buf_addf(out, " %llu\n", (unsigned long long)count);
	}
	buf_addf(out, "%s_sum", m->name);
	print_labels(m, s, NULL, out);
	buf_addf(out, " %lld.%09lld\n", (long long)(sum / 1000000000), (long long)(sum % 1000000000));
	buf_addf(out, "%s_count", m->name);
	print_labels(m, s, NULL, out);
	buf_addf(out, " %llu\n", (unsigned long long)count);
}

static int by_values(const void *a, const void *b)
{
	const struct metric_series *x = *(struct metric_series *const *)a, *y = *(struct metric_series *const *)b;
	int c = 0;

	for (size_t i = 0; !c && i < METRIC_LABELS_MAX && x->values[i]; i++)
		c = strcmp(x->values[i], y->values[i]);
	return c;
}

static void print_metric(struct metric *m, struct buf *out)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	VEC(struct metric_series *) series = VEC_INIT;

	/* Without labels there is one series from the start. */
	if (!m->labels[0])
		series_of(m, METRIC_VALUES_());
	for (size_t i = 0; i < METRIC_SLOTS; i++)
		for (struct metric_series *s = atomic_load_explicit(&m->slots[i], memory_order_acquire); s; s = s->next)
			vec_push(&series, s);
	if (series.n)
		qsort(series.p, series.n, sizeof(series.p[0]), by_values);
	buf_addf(out, "# HELP %s ", m->name);
	print_escaped(m->help, false, out);
	buf_addf(out, "\n# TYPE %s %s\n", m->name, kinds[m->kind]);
	vec_each(&series, s) {
		if (m->kind == METRIC_KIND_HISTOGRAM) {
			print_histogram(m, *s, out);
			continue;
		}
		buf_adds(out, m->name);
		print_labels(m, *s, NULL, out);
		buf_addf(out, " %lld\n", (long long)atomic_load_explicit(&(*s)->value, memory_order_relaxed));
	}
	vec_fini(&series);
}

int64_t process_resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (f) {
		if (fscanf(f, "%*d %ld", &pages) != 1)
			pages = 0;
		fclose(f);
	}
	return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct metric *const *)a)->name, (*(struct metric *const *)b)->name);
}

void metrics_print(struct buf *out)
{
	VEC(struct metric *) sorted = VEC_INIT;

	for (struct metric *m = atomic_load(&all); m; m = m->next)
		vec_push(&sorted, m);
	if (sorted.n)
		qsort(sorted.p, sorted.n, sizeof(sorted.p[0]), by_name);
	vec_each(&sorted, m)
		print_metric(*m, out);
	vec_fini(&sorted);
}
