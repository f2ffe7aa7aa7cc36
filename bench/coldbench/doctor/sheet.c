#include "bench/coldbench/doctor/sheet.h"

#include <math.h>

#define TEXT_WIDTH 36

static const char *const STATE_KEYS[] = {"fact", "good", "warning", "bad"};
static const char *const STATE_WORDS[] = {"", "ok", "warning", "MISSED"};

static void finding_fini(struct finding *f)
{
	free(f->label);
	free(f->text);
	free(f->bound);
	free(f->advice);
}

void sheet_fini(struct sheet *s)
{
	vec_each(&s->findings, f)
		finding_fini(f);
	vec_each(&s->grids, g)
		vec_fini(&g->cells);
	vec_each(&s->keys, key)
		free(*key);
	vec_fini(&s->findings);
	vec_fini(&s->grids);
	vec_fini(&s->keys);
}

static char *format(const char *fmt, va_list ap)
{
	AUTO(buf) struct buf b = BUF_INIT;

	buf_vaddf(&b, fmt, ap);
	return buf_steal(&b);
}

static struct finding *add(struct sheet *s, const char *key, const char *label)
{
	struct finding *f = vec_add(&s->findings);

	f->key = key;
	f->label = xstrdup(label);
	return f;
}

/* Three digits that mean something, and never an exponent; counts are whole. */
static char *number_text(double value, const char *unit)
{
	double size = fabs(value);
	int digits = size >= 100 || size == floor(size) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;

	if (!isfinite(value))
		return xstrdup("none");
	return xasprintf("%.*f%s%s", digits, value, *unit ? " " : "", unit);
}

struct finding *sheet_number(struct sheet *s, const char *key, const char *label, double value, const char *unit)
{
	struct finding *f = add(s, key, label);

	f->number = value;
	f->is_number = true;
	f->text = number_text(value, unit);
	return f;
}

struct finding *sheet_text(struct sheet *s, const char *key, const char *label, const char *fmt, ...)
{
	struct finding *f = add(s, key, label);
	va_list ap;

	va_start(ap, fmt);
	f->text = format(fmt, ap);
	va_end(ap);
	return f;
}

const char *sheet_keyf(struct sheet *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vec_push(&s->keys, format(fmt, ap));
	va_end(ap);
	return *vec_last(&s->keys);
}

void finding_judge(struct finding *f, bool kept, enum finding_state otherwise, const char *bound)
{
	f->state = kept ? FINDING_GOOD : otherwise;
	free(f->bound);
	f->bound = bound ? xstrdup(bound) : NULL;
}

void finding_judgef(struct finding *f, bool kept, enum finding_state otherwise, const char *fmt, ...)
{
	AUTO_FREE char *bound = NULL;
	va_list ap;

	va_start(ap, fmt);
	bound = format(fmt, ap);
	va_end(ap);
	finding_judge(f, kept, otherwise, bound);
}

void finding_advise(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	free(f->advice);
	va_start(ap, fmt);
	f->advice = format(fmt, ap);
	va_end(ap);
}

void finding_add(struct finding *f, const char *fmt, ...)
{
	AUTO(buf) struct buf b = BUF_INIT;
	va_list ap;

	buf_adds(&b, f->text);
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	free(f->text);
	f->text = buf_steal(&b);
}

struct grid *sheet_grid(struct sheet *s, const char *key, const char *title, const char *const *columns,
                        size_t n_columns)
{
	struct grid *g = vec_add(&s->grids);

	g->key = key;
	g->title = title;
	g->columns = columns;
	g->n_columns = n_columns;
	return g;
}

size_t sheet_count(const struct sheet *s, enum finding_state state)
{
	size_t n = 0;

	vec_each(&s->findings, f)
		n += f->state == state;
	return n;
}

/* ---- for people ---- */

/* Words of `text` in lines of `width`, each after `indent` blanks. */
static void print_wrapped(FILE *to, const char *text, unsigned indent, unsigned width)
{
	struct str rest = str_of(text), word;
	size_t at = 0;

	while (str_split(&rest, ' ', &word)) {
		if (at && at + 1 + word.n > width) {
			fputc('\n', to);
			at = 0;
		}
		fprintf(to, "%*s" STR_FMT, at ? 1 : (int)indent, "", STR_ARG(word));
		at += (at ? 1 : 0) + word.n;
	}
	fputc('\n', to);
}

static size_t longest(const struct sheet *s, bool of_labels)
{
	size_t n = 0;

	vec_each(&s->findings, f) {
		size_t len = strlen(of_labels ? f->label : f->text);

		/* a long text does not push the others' bounds away */
		if (len > n && (of_labels || (len <= TEXT_WIDTH && (f->bound || f->state != FINDING_FACT))))
			n = len;
	}
	return n;
}

static void print_finding(const struct finding *f, FILE *to, int label_width, int text_width, unsigned width)
{
	const char *bound = f->bound ? f->bound : "";

	fprintf(to, "  %-*s  ", label_width, f->label);
	if (*bound || *STATE_WORDS[f->state])
		fprintf(to, "%-*s  %s%s%s\n", text_width, f->text, bound, *bound ? "  " : "", STATE_WORDS[f->state]);
	else
		fprintf(to, "%s\n", f->text);
	if (f->advice)
		print_wrapped(to, f->advice, 6, width);
}

static int grid_width(const struct grid *g, size_t column)
{
	size_t head = strlen(g->columns[column]);

	return (int)(head > 6 ? head : 6);
}

static void print_grid(const struct grid *g, FILE *to)
{
	fprintf(to, "\n  %s\n  ", g->title);
	for (size_t c = 0; c < g->n_columns; c++)
		fprintf(to, "  %*s", grid_width(g, c), g->columns[c]);
	for (size_t i = 0; i < g->cells.n; i++) {
		size_t c = i % g->n_columns;

		fprintf(to, "%s  ", c ? "" : "\n  ");
		if (isfinite(g->cells.p[i]))
			fprintf(to, "%*.*f", grid_width(g, c), c ? 2 : 0, g->cells.p[i]);
		else
			fprintf(to, "%*s", grid_width(g, c), "-");
	}
	fputc('\n', to);
}

void sheet_print(const struct sheet *s, FILE *to, unsigned width)
{
	int label_width = (int)longest(s, true), text_width = (int)longest(s, false);

	fprintf(to, "%s: %s\n", s->name, s->title);
	vec_each(&s->findings, f)
		print_finding(f, to, label_width, text_width, width > 30 ? width - 8 : 30);
	vec_each(&s->grids, g)
		print_grid(g, to);
	fputc('\n', to);
}

/* ---- for programs ---- */

static void finding_json(const struct finding *f, struct json_writer *w)
{
	json_w_key(w, f->key);
	json_w_object_begin(w);
	json_w_kcstr(w, "label", f->label);
	json_w_key(w, "value");
	if (f->is_number)
		json_w_double(w, f->number);
	else
		json_w_cstr(w, f->text);
	json_w_kcstr(w, "state", STATE_KEYS[f->state]);
	if (f->bound)
		json_w_kcstr(w, "bound", f->bound);
	if (f->advice)
		json_w_kcstr(w, "advice", f->advice);
	json_w_object_end(w);
}

static void grid_json(const struct grid *g, struct json_writer *w)
{
	json_w_key(w, g->key);
	json_w_array_begin(w);
	for (size_t i = 0; i + g->n_columns <= g->cells.n; i += g->n_columns) {
		json_w_object_begin(w);
		for (size_t c = 0; c < g->n_columns; c++) {
			json_w_key(w, g->columns[c]);
			json_w_double(w, g->cells.p[i + c]);
		}
		json_w_object_end(w);
	}
	json_w_array_end(w);
}

void sheet_json(const struct sheet *s, struct json_writer *w)
{
	json_w_object_begin(w);
	json_w_kbool(w, "passed", !sheet_count(s, FINDING_BAD));
	json_w_key(w, "findings");
	json_w_object_begin(w);
	vec_each(&s->findings, f)
		finding_json(f, w);
	json_w_object_end(w);
	json_w_key(w, "tables");
	json_w_object_begin(w);
	vec_each(&s->grids, g)
		grid_json(g, w);
	json_w_object_end(w);
	json_w_object_end(w);
}
