/* The short table for a terminal. */
#include "bench/coldbench/report/analysis.h"
#include "bench/coldbench/report/answer.h"
#include "bench/coldbench/report/quantity.h"
#include "bench/coldbench/report/report.h"

#include <math.h>

#define COLUMNS 13
#define GAP 2
#define NAME_BYTES_MAX 60

/* ---- text in columns ---- */

struct row {
	char *text[COLUMNS]; /* NULL: empty */
};

struct columns {
	VEC(struct row) rows;
	const char *right; /* per column: 'r' to the right, 'l' to the left */
};

static void columns_fini(struct columns *t)
{
	vec_each(&t->rows, r)
		for (size_t i = 0; i < COLUMNS; i++)
			free(r->text[i]);
	vec_fini(&t->rows);
}
DEFINE_AUTO_FINI(columns);

static int width(const char *text)
{
	int n = 0;

	for (; text && *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void columns_print(const struct columns *t, FILE *to)
{
	int widest[COLUMNS] = {0};

	vec_each(&t->rows, r)
		for (size_t i = 0; i < COLUMNS; i++)
			if (width(r->text[i]) > widest[i])
				widest[i] = width(r->text[i]);
	vec_each(&t->rows, r) {
		int owed = 0; /* blanks are written before text only, so that no line ends with one */

		for (size_t i = 0; i < COLUMNS; i++) {
			int pad = widest[i] - width(r->text[i]);

			if (!widest[i])
				continue;
			if (r->text[i]) {
				fprintf(to, "%*s%s", owed + (t->right[i] == 'r' ? pad : 0), "", r->text[i]);
				owed = 0;
			}
			owed += (!r->text[i] || t->right[i] == 'l' ? pad : 0) + GAP;
		}
		fputc('\n', to);
	}
}

/* ---- what is in them ---- */

enum { IMAGE, ENGINE, N, FIGURE, INTERVAL, RATIO, VERDICT, TO_WARM, TO_SERIAL, WIRE, TO_TOUCHED, STRUCK, REMARK };
_Static_assert(REMARK + 1 == COLUMNS, "a column each");

static char *name_text(const char *name)
{
	char *text = xstrndup(name, NAME_BYTES_MAX);

	text_clean(text);
	return text;
}

static char *scaled(const struct scale *s, double value)
{
	struct buf b = BUF_INIT;

	scale_add(&b, s, value);
	return buf_steal(&b);
}

static char *interval_text(const struct scale *s, struct interval ci)
{
	struct buf b = BUF_INIT;

	if (isnan(ci.low))
		return NULL;
	scale_add(&b, s, ci.low);
	buf_addc(&b, '-');
	scale_add(&b, s, ci.high);
	return buf_steal(&b);
}

static char *ratio_text(double ratio)
{
	struct buf b = BUF_INIT;

	if (isnan(ratio))
		return NULL;
	ratio_add(&b, ratio);
	return buf_steal(&b);
}

static char *remark_text(const struct cell *c)
{
	struct buf b = BUF_INIT;

	if (c->n_failed)
		buf_addf(&b, "%u failed: %.60s", c->n_failed, c->error);
	if (b.n)
		text_clean(b.p);
	return b.n ? buf_steal(&b) : NULL;
}

/* One scale for all numbers of a column. */
static struct scale column_scale(const struct cell *from, const struct cell *to, const char *metric, double *factor)
{
	double least = INFINITY, most = 0;
	enum unit unit = unit_of(metric, factor);

	for (const struct cell *c = from; c < to; c++) {
		const struct measure *m = cell_measure(c, metric);

		if (m && m->s.median * *factor < least)
			least = m->s.median * *factor;
		if (m && m->s.median * *factor > most)
			most = m->s.median * *factor;
	}
	return scale_for(unit, isinf(least) ? 0 : least, most);
}

static struct interval times(struct interval ci, double factor)
{
	return (struct interval){ci.low * factor, ci.high * factor};
}

static void add_row(struct columns *t, const struct cell *c, bool names_image, const struct scale *figure,
                    double factor, const struct scale *wire)
{
	struct row *r = vec_add(&t->rows);

	if (names_image)
		r->text[IMAGE] = c->count == 1 ? name_text(c->image) : xasprintf("%.60s x%u", c->image, c->count);
	if (r->text[IMAGE])
		text_clean(r->text[IMAGE]);
	r->text[ENGINE] = name_text(c->label);
	r->text[N] = xasprintf("%u", c->n_ok);
	r->text[REMARK] = remark_text(c);
	if (!c->figure)
		return;
	r->text[FIGURE] = scaled(figure, c->figure->s.median * factor);
	r->text[INTERVAL] = interval_text(figure, times(cell_interval(c), factor));
	r->text[TO_WARM] = ratio_text(c->to_warm);
	r->text[TO_SERIAL] = ratio_text(c->figure->s.median / c->t_serial_ms);
	if (c->reference == c)
		r->text[VERDICT] = xstrdup("reference");
	else if (c->reference)
		r->text[VERDICT] = xstrdup(cell_verdict(c));
	if (c->reference != c)
		r->text[RATIO] = ratio_text(c->to_reference.ratio);
	if (cell_measure(c, "net.bytes"))
		r->text[WIRE] = scaled(wire, cell_median(c, "net.bytes"));
	r->text[TO_TOUCHED] = ratio_text(cell_median(c, "net.bytes") / c->touched_bytes);
	if (cell_measure(c, "net.faults"))
		r->text[STRUCK] = xasprintf("%.0f", cell_median(c, "net.faults"));
}

static void add_head(struct columns *t, const struct analysis *a, const char *figure, const struct scale *s,
                     const struct scale *wire)
{
	struct row *r = vec_add(&t->rows);

	r->text[IMAGE] = xstrdup("image");
	r->text[ENGINE] = xstrdup("engine");
	r->text[N] = xstrdup("n");
	r->text[FIGURE] = *s->name ? xasprintf("median %s", s->name) : xasprintf("median %.40s", figure);
	r->text[INTERVAL] = xstrdup("95 %");
	r->text[TO_WARM] = xstrdup("/ W");
	r->text[TO_SERIAL] = xstrdup("/ T_serial");
	r->text[TO_TOUCHED] = xstrdup("/ B");
	r->text[STRUCK] = xstrdup("struck");
	r->text[RATIO] = xasprintf("/ %.40s", a->reference);
	text_clean(r->text[RATIO]);
	r->text[WIRE] = xasprintf("%s", wire->name);
}

/* Columns that no row has anything in are no columns: their titles go. */
static void drop_empty(struct columns *t)
{
	for (size_t i = 0; i < COLUMNS; i++) {
		bool used = false;

		vec_each(&t->rows, r)
			used |= r != t->rows.p && r->text[i];
		if (used)
			continue;
		free(t->rows.p[0].text[i]);
		t->rows.p[0].text[i] = NULL;
	}
}

static void print_part(const struct analysis *a, const struct cell *from, const struct cell *to, FILE *out)
{
	AUTO(columns) struct columns t = {.right = "llrrlrlrrrrrl"};
	AUTO(buf) struct buf title = BUF_INIT;
	const char *figure = mode_figure(from->mode);
	double factor, one;
	struct scale s = column_scale(from, to, figure, &factor);
	struct scale wire = column_scale(from, to, "net.bytes", &one);

	buf_addf(&title, "%.30s: %.60s; %.60s: ", from->mode, mode_title(from->mode), from->network);
	network_add(&title, from->rtt_ms, from->mbit, from->faults);
	text_clean(title.p);
	fprintf(out, "%s\n", title.p);
	add_head(&t, a, figure, &s, &wire);
	for (const struct cell *c = from; c < to; c++)
		add_row(&t, c, c == from || !cell_same_image(c, &c[-1]), &s, factor, &wire);
	drop_empty(&t);
	columns_print(&t, out);
}

/* ---- the answer ---- */

static void add_words(const struct answer *n, const struct cell *other, const struct comparison *c, struct buf *line)
{
	AUTO(words) struct words w;

	words_init(&w, n->subject, other, c);
	buf_addf(line, ", %s %s", buf_cstr(&w.verdict), buf_cstr(&w.relation));
	if (w.interval.n)
		buf_addf(line, " (%s)", buf_cstr(&w.interval));
}

static void add_answer(const struct answer *n, struct buf *line)
{
	const struct cell *c = n->subject;

	buf_addf(line, "%.60s", c->image);
	if (c->count != 1)
		buf_addf(line, " x%u", c->count);
	buf_addf(line, ": %.60s ", c->label);
	if (!c->figure) {
		buf_addf(line, "failed each time (%u)", c->n_failed);
		return;
	}
	quantity_add(line, c->figure->name, c->figure->s.median);
	add_words(n, c->reference, &c->to_reference, line);
	if (n->rival)
		add_words(n, n->rival, &n->to_rival, line);
	if (c->n_failed)
		buf_addf(line, ", %u of %u failed", c->n_failed, c->n_failed + c->n_ok);
}

/* A network's name alone may be that of several. */
static void print_answers_head(const struct cell *c, FILE *to)
{
	AUTO(buf) struct buf line = BUF_INIT;

	buf_addf(&line, "%.60s; %.60s: ", mode_title(c->mode), c->network);
	network_add(&line, c->rtt_ms, c->mbit, c->faults);
	text_clean(line.p);
	fprintf(to, "%s (ratios with their 95 %% intervals)\n", line.p);
}

static void print_answers(const struct analysis *a, FILE *to)
{
	const struct cell *last = NULL;
	struct answer n;
	size_t at = 0;

	while (answer_next(a, &at, &n)) {
		AUTO(buf) struct buf line = BUF_INIT;

		if (!last || strcmp(last->mode, n.subject->mode) != 0 || !cell_same_network(last, n.subject)) {
			fputs(last ? "\n" : "", to);
			print_answers_head(n.subject, to);
		}
		last = n.subject;
		add_answer(&n, &line);
		text_clean(line.p);
		fprintf(to, "  %s\n", line.p);
	}
	if (last)
		fputc('\n', to);
}

/* ---- all ---- */

static void print_noise(const struct analysis *a, FILE *to)
{
	if (a->n_failed)
		fprintf(to, "\n%zu of %zu samples failed.\n", a->n_failed, a->set->samples.n);
	if (a->n_left_out)
		fprintf(to, "\n%zu cases are left out.\n", a->n_left_out);
	if (a->spin.n)
		fprintf(to,
		        "\nNoise: a fixed computation took %.2f ms (median), half of the time within %.1f %% of it; "
		        "longest %.2f ms: %s.\n",
		        a->spin.median, a->spin.mad * 100, a->spin.max,
		        analysis_is_disturbed(a) ? "the machine was disturbed" : "a quiet machine");
}

int table_print(const struct analysis *a, FILE *to)
{
	size_t from, end = 0;

	print_answers(a, to);
	while (analysis_next_part(a, &from, &end)) {
		if (from)
			fputc('\n', to);
		print_part(a, a->cells.p + from, a->cells.p + end, to);
	}
	if (!a->cells.n)
		fputs("No samples.\n", to);
	print_noise(a, to);
	return fflush(to) || ferror(to) ? -1 : 0;
}

int report_print_table(const struct sample_set *set, FILE *to)
{
	AUTO(analysis) struct analysis a;

	analysis_init(&a, set, NULL);
	return table_print(&a, to);
}
