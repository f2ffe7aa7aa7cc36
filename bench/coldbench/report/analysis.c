#include "bench/coldbench/report/analysis.h"

#include "bench/coldbench/modes/mode.h"
#include "bench/coldbench/report/header.h"

#include <math.h>

/* Reports of the same data are the same. */
#define SEED 1

/* Far more than any suite has: cases are looked for in one another's neighbourhood below. */
#define CELLS_MAX 4000

/* ---- order ---- */

/* The order of things in reports; what is not listed comes behind, by name. */
static const char *const MODES[] = {"start", "burst", "read", "datapath", "unpack", "density", "warm", "touched", NULL};
static const char *const ENGINES[] = {
    "contentd", "contentd-plain", "containerd-contentd", "containerd", "containerd-crun", "containerd-stargz", "podman",
    NULL};

static unsigned rank(const char *const *list, const char *name)
{
	unsigned i = 0;

	while (list[i] && strcmp(list[i], name) != 0)
		i++;
	return i;
}

static int compare_ranked(const char *const *list, const char *a, const char *b)
{
	unsigned x = rank(list, a), y = rank(list, b);

	return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

static int compare_numbers(double a, double b)
{
	return (a > b) - (a < b);
}

/* No limit is the largest bandwidth. */
static double bandwidth(double mbit)
{
	return mbit > 0 ? mbit : INFINITY;
}

/* Healthy networks come first. */
static int compare_faults(const struct sample *a, const struct sample *b)
{
	const char *x = a->faults ? a->faults : "", *y = b->faults ? b->faults : "";
	int r;

	if ((r = (*x != 0) - (*y != 0)) || (r = strcmp(a->network, b->network)))
		return r;
	return strcmp(x, y);
}

static int compare_cases(const struct sample *a, const struct sample *b)
{
	int r;

	if ((r = compare_ranked(MODES, a->mode, b->mode)) || (r = compare_numbers(a->rtt_ms, b->rtt_ms)) ||
	    (r = compare_numbers(bandwidth(b->mbit), bandwidth(a->mbit))) || (r = compare_faults(a, b)) ||
	    (r = strcmp(a->image, b->image)) || (r = (a->count > b->count) - (a->count < b->count)) ||
	    (r = compare_ranked(ENGINES, a->engine, b->engine)))
		return r;
	return strcmp(a->form, b->form);
}

static int compare_samples(const void *a, const void *b)
{
	const struct sample *const *x = a, *const *y = b;
	int r = compare_cases(*x, *y);

	/* they lie in one array: whoever is equal stays in the order of the raw data */
	return r ? r : (*x > *y) - (*x < *y);
}

unsigned engine_style(const char *engine)
{
	unsigned i = rank(ENGINES, engine);

	return i < ENGINE_STYLES - 1 ? i : ENGINE_STYLES - 1;
}

/* ---- modes ---- */

/* Data may be of a mode that this program does not have: it is taken for a kind of start. */
const char *mode_figure(const char *mode)
{
	const struct mode *m = mode_find(mode);

	return m ? m->figure : "ready_ms";
}

bool mode_less_is_better(const char *mode)
{
	const struct mode *m = mode_find(mode);

	return !m || m->less_is_better;
}

const char *mode_title(const char *mode)
{
	const struct mode *m = mode_find(mode);

	return m ? m->title : mode;
}

/* ---- measures ---- */

static int compare_metrics(const void *a, const void *b)
{
	const struct metric *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : compare_numbers(x->value, y->value);
}

/* What a program costs adds up to what the engine does: a repetition in which the program did not run says 0. The size of a
 * program (peak_bytes) is that of the repetitions in which it ran. */
static bool is_cost_of_program(const char *metric)
{
	static const char *const COSTS[] = {"cpu_s.", "processes.", "majflt.", "minflt."};

	for (size_t i = 0; i < ARRAY_LEN(COSTS); i++)
		if (!strncmp(metric, COSTS[i], strlen(COSTS[i])))
			return true;
	return false;
}

static void add_measure(struct cell *c, const struct metric *metrics, size_t n, size_t n_counted)
{
	struct measure *m = vec_add(&c->measures);
	size_t all = is_cost_of_program(metrics[0].name) && n < n_counted ? n_counted : n;

	m->name = metrics[0].name;
	m->values = xcalloc(all, sizeof(*m->values));
	for (size_t i = 0; i < n; i++)
		m->values[i] = metrics[i].value;
	stats_summary(m->values, all, SEED, &m->s);
}

static void add_measures(struct cell *c, struct sample *const *samples, size_t n)
{
	VEC(struct metric) all = VEC_INIT;
	size_t n_counted = 0; /* samples that say what the engine cost */

	for (size_t i = 0; i < n; i++) {
		if (samples[i]->error)
			continue;
		n_counted += isfinite(sample_get(samples[i], "cpu_s"));
		vec_each(&samples[i]->metrics, m)
			if (isfinite(m->value))
				vec_push(&all, *m);
	}
	if (all.n)
		qsort(all.p, all.n, sizeof(*all.p), compare_metrics);
	for (size_t i = 0, end; i < all.n; i = end) {
		for (end = i + 1; end < all.n && !strcmp(all.p[end].name, all.p[i].name); end++)
			;
		add_measure(c, all.p + i, end - i, n_counted);
	}
	vec_fini(&all);
}

const struct measure *cell_measure(const struct cell *c, const char *name)
{
	size_t low = 0, high = c->measures.n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int r = strcmp(c->measures.p[mid].name, name);

		if (!r)
			return &c->measures.p[mid];
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

double cell_median(const struct cell *c, const char *name)
{
	const struct measure *m = cell_measure(c, name);

	return m ? m->s.median : NAN;
}

static void add_cell(struct analysis *a, struct sample *const *samples, size_t n)
{
	const struct sample *first = samples[0];
	struct cell *c = vec_add(&a->cells);

	c->mode = first->mode;
	c->image = first->image;
	c->form = first->form;
	c->engine = first->engine;
	c->network = first->network;
	c->rtt_ms = first->rtt_ms;
	c->mbit = first->mbit;
	c->faults = first->faults ? first->faults : "";
	c->count = first->count;
	for (size_t i = 0; i < n; i++) {
		c->n_failed += samples[i]->error != NULL;
		if (samples[i]->error && !c->error)
			c->error = samples[i]->error;
	}
	c->n_ok = (unsigned)n - c->n_failed;
	a->n_failed += c->n_failed;
	add_measures(c, samples, n);
	c->figure = cell_measure(c, mode_figure(first->mode));
}

static void add_cells(struct analysis *a)
{
	size_t n = a->set->samples.n;
	AUTO_FREE struct sample **sorted = xcalloc(n ? n : 1, sizeof(*sorted));

	for (size_t i = 0; i < n; i++)
		sorted[i] = &a->set->samples.p[i];
	qsort(sorted, n, sizeof(*sorted), compare_samples);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && !compare_cases(sorted[i], sorted[end]); end++)
			;
		if (a->cells.n < CELLS_MAX)
			add_cell(a, sorted + i, end - i);
		else
			a->n_left_out++;
	}
}

static void summarize_all(const struct analysis *a, const char *metric, struct summary *out)
{
	VEC(double) values = VEC_INIT;

	vec_each(&a->set->samples, s) {
		double v = sample_get(s, metric);

		if (isfinite(v))
			vec_push(&values, v);
	}
	stats_summary(values.p, values.n, SEED, out);
	vec_fini(&values);
}

/* ---- names ---- */

/* Is there a cell before it with the same engine and form? */
static bool repeats_form(const struct analysis *a, const struct cell *c)
{
	for (const struct cell *other = a->cells.p; other < c; other++)
		if (!strcmp(other->engine, c->engine) && !strcmp(other->form, c->form))
			return true;
	return false;
}

/* Forms that the engine occurs in get numbers, and are in its label when there are several: the same ones in all modes, so that
 * a name means one thing throughout. */
static void name_cells(struct analysis *a)
{
	AUTO_FREE bool *repeats = xcalloc(a->cells.n + 1, sizeof(*repeats));

	for (size_t i = 0; i < a->cells.n; i++)
		repeats[i] = repeats_form(a, &a->cells.p[i]);
	vec_each(&a->cells, c) {
		bool several = false;

		vec_each(&a->cells, other) {
			int r = strcmp(other->form, c->form);

			if (!r || repeats[other - a->cells.p] || strcmp(other->engine, c->engine) != 0)
				continue;
			several = true;
			c->variant += r < 0;
		}
		c->label = several ? xasprintf("%s:%s", c->engine, c->form) : xstrdup(c->engine);
	}
}

/* ---- headers ---- */

typedef VEC(struct header) headers;

/* Of each run that the samples are from; what is none says nothing. */
static void read_headers(const struct sample_set *set, headers *out)
{
	struct str rest = buf_str(&set->header), line;

	while (str_split(&rest, '\n', &line)) {
		struct header h = {0};

		if (!header_parse(line, &h, NULL))
			vec_push(out, h);
	}
}

static void headers_fini(headers *all)
{
	vec_each(all, h)
		header_fini(h);
	vec_fini(all);
}
DEFINE_CLEANUP(headers, headers, headers_fini(it));

/* ---- comparisons ---- */

bool cell_same_network(const struct cell *a, const struct cell *b)
{
	return !strcmp(a->network, b->network) && a->rtt_ms == b->rtt_ms && a->mbit == b->mbit &&
	       !strcmp(a->faults, b->faults);
}

bool cell_same_image(const struct cell *a, const struct cell *b)
{
	return !strcmp(a->image, b->image) && a->count == b->count;
}

bool cell_is_beside(const struct cell *a, const struct cell *b)
{
	return !strcmp(a->mode, b->mode) && cell_same_image(a, b) && cell_same_network(a, b);
}

static bool is_named(const struct cell *c, struct str name)
{
	ptrdiff_t colon = str_find(name, ':');

	if (colon < 0)
		return str_eqc(name, c->engine);
	return str_eqc(str_sub(name, 0, (size_t)colon), c->engine) &&
	       str_eqc(str_sub(name, (size_t)colon + 1, SIZE_MAX), c->form);
}

static void compare_measures(const struct measure *a, const struct measure *b, struct comparison *out)
{
	*out = (struct comparison){.ratio = NAN, .ci = {NAN, NAN}, .verdict = VERDICT_CANNOT_TELL};
	if (a && b)
		stats_compare(a->values, a->s.n, b->values, b->s.n, out);
}

static void compare_to_reference(struct analysis *a, struct cell *c)
{
	vec_each(&a->cells, other)
		if (cell_is_beside(c, other) && is_named(other, str_of(a->reference))) {
			c->reference = other;
			break;
		}
	compare_measures(c->reference && c->reference != c ? c->figure : NULL,
	                 c->reference ? c->reference->figure : NULL, &c->to_reference);
}

/* The engines whose warm start is W for this one, best first: the same runtime, all files there, no lazy mount. */
static const struct cell *find_warm(const struct analysis *a, const struct cell *c)
{
	bool ours = !strncmp(c->engine, "contentd", strlen("contentd"));
	bool theirs = !strncmp(c->engine, "containerd", strlen("containerd"));
	const char *const ours_plain[] = {"contentd-plain", NULL};
	const char *const crun[] = {"containerd-crun", "containerd", NULL};
	const char *const runc[] = {"containerd", NULL};
	const char *const itself[] = {c->engine, NULL};
	const char *const *names = ours ? ours_plain : !theirs ? itself : strstr(c->engine, "crun") ? crun : runc;

	for (; *names; names++)
		vec_each(&a->cells, w)
			if (!strcmp(w->mode, "warm") && !strcmp(w->engine, *names) && !strcmp(w->image, c->image) &&
			    w->figure)
				return w;
	return NULL;
}

/* Compressed, of the case's image in its form. NaN when no header says it, or when two runs had different images of one name. */
static double find_layer_bytes(const headers *all, const struct cell *c)
{
	AUTO_FREE char *key = xasprintf("%s:%s.layer_bytes", c->image, c->form);
	double bytes = NAN;

	vec_each(all, h) {
		const char *text = pairs_get(&h->images, key);
		double v = text ? strtod(text, NULL) : NAN;

		if (!isfinite(v) || v <= 0)
			continue;
		if (isfinite(bytes) && v != bytes)
			return NAN;
		bytes = v;
	}
	return bytes;
}

/* A property of the image in that form, whatever the network. Of a form without chunks nothing less than all can be had. */
static double find_touched_bytes(const struct analysis *a, const headers *all, const struct cell *c)
{
	if (!strcmp(c->form, "gzip") || !strcmp(c->form, "zstd"))
		return find_layer_bytes(all, c);
	vec_each(&a->cells, other)
		if (!strcmp(other->mode, "touched") && !strcmp(other->image, c->image) &&
		    !strcmp(other->form, c->form) && other->figure)
			return other->figure->s.median;
	return NAN;
}

/* b = 0, no limit, needs no B. A case that has no count of round trips has no T_serial. */
static double serial_ms(const struct cell *c)
{
	double transfer_ms = c->mbit > 0 ? c->touched_bytes * 8 / (c->mbit * 1e3) : 0;

	return (c->warm ? c->warm->s.median : NAN) + cell_median(c, "net.round_trips") * c->rtt_ms + transfer_ms;
}

static void compare_to_warm(struct analysis *a, const headers *all, struct cell *c)
{
	const struct cell *warm = NULL;

	c->t_serial_ms = NAN;
	c->touched_bytes = NAN;
	c->to_warm = NAN;
	if (strcmp(c->mode, "start") != 0)
		return;
	warm = find_warm(a, c);
	c->warm = warm ? warm->figure : NULL;
	if (c->warm && c->figure)
		c->to_warm = c->figure->s.median / c->warm->s.median;
	c->touched_bytes = find_touched_bytes(a, all, c);
	c->t_serial_ms = serial_ms(c);
}

static char *choose_reference(const struct analysis *a)
{
	vec_each(&a->cells, c)
		if (!strcmp(c->engine, "containerd"))
			return xstrdup(c->engine);
	return xstrdup(a->cells.n ? a->cells.p[0].engine : "containerd");
}

/* ---- */

void analysis_init(struct analysis *a, const struct sample_set *set, const char *reference)
{
	AUTO(headers) headers all = VEC_INIT;

	*a = (struct analysis){.set = set};
	read_headers(set, &all);
	add_cells(a);
	name_cells(a);
	a->reference = reference ? xstrdup(reference) : choose_reference(a);
	vec_each(&a->cells, c) {
		compare_to_reference(a, c);
		compare_to_warm(a, &all, c);
	}
	summarize_all(a, "noise.spin_ms", &a->spin);
	summarize_all(a, "cold.resident_bytes", &a->resident);
}

void analysis_fini(struct analysis *a)
{
	vec_each(&a->cells, c) {
		vec_each(&c->measures, m)
			free(m->values);
		vec_fini(&c->measures);
		free(c->label);
	}
	vec_fini(&a->cells);
	free(a->reference);
	*a = (struct analysis){0};
}

bool analysis_next_part(const struct analysis *a, size_t *from, size_t *to)
{
	const struct cell *first, *c;

	*from = *to;
	if (*from >= a->cells.n)
		return false;
	first = &a->cells.p[*from];
	for (c = first; c < a->cells.p + a->cells.n; c++)
		if (strcmp(c->mode, first->mode) != 0 || !cell_same_network(c, first))
			break;
	*to = (size_t)(c - a->cells.p);
	return true;
}

bool analysis_is_disturbed(const struct analysis *a)
{
	return a->spin.p95 > a->spin.median * 1.1;
}

struct interval cell_interval(const struct cell *c)
{
	return c->figure && c->figure->s.n >= STATS_LEAST ? c->figure->s.ci : (struct interval){NAN, NAN};
}

const char *cell_verdict(const struct cell *c)
{
	bool less_is_better = mode_less_is_better(c->mode);

	if (!c->reference || c->reference == c || isnan(c->to_reference.ratio))
		return "";
	if (c->figure->s.n < STATS_LEAST || c->reference->figure->s.n < STATS_LEAST)
		return "too few";
	switch (c->to_reference.verdict) {
	case VERDICT_LESS:
		return less_is_better ? "faster" : "less";
	case VERDICT_MORE:
		return less_is_better ? "slower" : "more";
	case VERDICT_CANNOT_TELL:
		break;
	}
	return "cannot tell";
}
