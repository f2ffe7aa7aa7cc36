/* The answer in sentences. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/answer.h"
#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define FORMS_MAX 40

static void add_words(const struct answer *n, const struct cell *other, const struct comparison *c, struct buf *out)
{
	AUTO(words) struct words w;

	words_init(&w, n->subject, other, c);
	buf_addf(out, "<b class=\"%s\">%s</b> ", w.class, buf_cstr(&w.verdict));
	html_text(out, buf_cstr(&w.relation));
	if (w.interval.n)
		buf_addf(out, " <small>(%s)</small>", buf_cstr(&w.interval));
}

/* How far from what cannot be undercut without overlap. */
static void add_floors(const struct cell *c, struct buf *out)
{
	double wire = cell_median(c, "net.bytes");
	const struct {
		double ratio;
		const char *to;
	} floors[] = {{c->to_warm, "W"},
	              {c->figure->s.median / c->t_serial_ms, "T<sub>serial</sub>"},
	              {wire / c->touched_bytes, "B"}};
	const char *gap = "<br><small>";

	for (size_t i = 0; i < ARRAY_LEN(floors); i++) {
		if (!isfinite(floors[i].ratio))
			continue;
		buf_adds(out, gap);
		ratio_add(out, floors[i].ratio);
		buf_addf(out, " \u00d7 %s", floors[i].to);
		gap = " \u00b7 ";
	}
	if (isfinite(wire)) {
		buf_adds(out, gap);
		quantity_add(out, "bytes", wire);
		buf_adds(out, " fetched");
		gap = "";
	}
	if (*gap != '<')
		buf_adds(out, "</small>");
}

static void add_answer(const struct answer *n, struct buf *out)
{
	const struct cell *c = n->subject;

	buf_adds(out, "<li><b>");
	html_text_cut(out, c->image, 60);
	if (c->count != 1)
		buf_addf(out, " \u00d7 %u", c->count);
	buf_adds(out, "</b>: ");
	html_text_cut(out, c->label, 60);
	buf_addc(out, ' ');
	if (!c->figure) {
		buf_addf(out, "<b class=\"slower\">failed</b> each time (%u)</li>\n", c->n_failed);
		return;
	}
	quantity_add(out, c->figure->name, c->figure->s.median);
	buf_adds(out, ", ");
	add_words(n, c->reference, &c->to_reference, out);
	if (n->rival) {
		buf_adds(out, ", ");
		add_words(n, n->rival, &n->to_rival, out);
	}
	if (c->n_failed)
		buf_addf(out, ", <b class=\"slower\">%u of %u</b> failed", c->n_failed, c->n_failed + c->n_ok);
	add_floors(c, out);
	buf_adds(out, "</li>\n");
}

static void list_begin(const struct cell *c, struct buf *out)
{
	AUTO(buf) struct buf network = BUF_INIT;

	AUTO_FREE char *title = page_capital(mode_title(c->mode));

	network_add(&network, c->rtt_ms, c->mbit, c->faults);
	buf_adds(out, "<div><h3>");
	html_text(out, title);
	buf_adds(out, ", ");
	html_text_cut(out, c->network, 60);
	buf_adds(out, " <small>");
	html_text(out, buf_cstr(&network));
	buf_adds(out, "</small></h3>\n<ul>\n");
}

/* The cold starts against the fastest engine that is not ours. */
struct tally {
	unsigned n, better, worse;
};

static void tally_add(struct tally *t, const struct answer *n)
{
	const struct comparison *c = n->rival ? &n->to_rival : &n->subject->to_reference;

	if (strcmp(n->subject->mode, "start") != 0)
		return;
	t->n++;
	if (!n->subject->figure)
		t->worse++;
	else if (c->verdict != VERDICT_CANNOT_TELL)
		*(c->verdict == VERDICT_LESS ? &t->better : &t->worse) += 1;
}

/* Engines of the mode, each with its form: they do not start the same bytes. */
static void add_forms(const struct analysis *a, const char *mode, struct buf *out)
{
	const char *gap = "";
	size_t n = 0;

	vec_each(&a->cells, c) {
		bool known = strcmp(c->mode, mode) != 0;

		for (const struct cell *other = a->cells.p; other < c && !known; other++)
			known = !strcmp(other->mode, mode) && !strcmp(other->engine, c->engine) &&
			        !strcmp(other->form, c->form);
		if (known || n++ >= FORMS_MAX)
			continue;
		html_textf(out, "%s%.40s %.40s", gap, c->engine, c->form);
		gap = ", ";
	}
	if (n > FORMS_MAX)
		html_textf(out, " and %zu more", n - FORMS_MAX);
}

static void add_lead(const struct analysis *a, const char *mode, const struct tally *t, struct buf *out)
{
	buf_adds(out, "<p class=\"lead\">");
	html_textf(out, "%s beside %s, and beside the fastest engine for the image that has no contentd in it.",
	           answer_engine(a), a->reference);
	if (t->n)
		html_textf(out, " It is ahead of that one in %u of %u cold starts and behind in %u.", t->better, t->n,
		           t->worse);
	buf_adds(
	    out,
	    " Medians; in brackets the 95 % interval of the ratio. What \u201ccannot be told\u201d has 1 within it; "
	    "<a href=\"#method\">W, T<sub>serial</sub>, B</a>. Forms of the images: ");
	add_forms(a, mode, out);
	buf_adds(out, ".</p>\n");
}

void page_answers(const struct analysis *a, struct buf *out)
{
	struct tally tally = {0};
	AUTO(buf) struct buf lists = BUF_INIT;
	const struct cell *last = NULL;
	struct answer n;
	const char *mode = NULL;
	size_t at = 0, rows = 0;

	while (answer_next(a, &at, &n)) {
		tally_add(&tally, &n);
		mode = mode && strcmp(n.subject->mode, "start") != 0 ? mode : n.subject->mode;
		if (rows++ >= TABLE_ROWS_MAX)
			continue;
		if (last && (strcmp(last->mode, n.subject->mode) != 0 || !cell_same_network(last, n.subject)))
			buf_adds(&lists, "</ul></div>\n");
		if (!last || strcmp(last->mode, n.subject->mode) != 0 || !cell_same_network(last, n.subject))
			list_begin(n.subject, &lists);
		last = n.subject;
		add_answer(&n, &lists);
	}
	if (!last)
		return;
	page_section(out, "answer", "The answer");
	add_lead(a, mode, &tally, out);
	buf_adds(out, "<div class=\"answers\">\n");
	buf_addstr(out, buf_str(&lists));
	buf_adds(out, "</ul></div>\n</div>\n");
	table_left_out(out, rows > TABLE_ROWS_MAX ? rows - TABLE_ROWS_MAX : 0, "answers");
	page_section_end(out);
}
