/* The answer in sentences. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/answer.h"
#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

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
	} floors[] = {{c->to_warm.ratio, "W"},
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

void page_answers(const struct analysis *a, struct buf *out)
{
	AUTO(buf) struct buf lists = BUF_INIT;
	const struct cell *last = NULL;
	struct answer n;
	size_t at = 0, rows = 0;

	while (answer_next(a, &at, &n)) {
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
	buf_adds(out, "<p class=\"lead\">");
	html_textf(out, "%s beside %s, and beside the best of the other engines.", answer_engine(a), a->reference);
	buf_adds(out,
	         " Medians; in brackets the 95 % interval of the ratio. What \u201ccannot be told\u201d has 1 within "
	         "it.</p>\n<div class=\"answers\">\n");
	buf_addstr(out, buf_str(&lists));
	buf_adds(out, "</ul></div>\n</div>\n");
	table_left_out(out, rows > TABLE_ROWS_MAX ? rows - TABLE_ROWS_MAX : 0, "answers");
	page_section_end(out);
}
