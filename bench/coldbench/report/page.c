#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/pictures.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define MODES_MAX 20
#define OPEN_PARTS_MAX 3 /* so few are read one after the other */

static bool has_mode(const struct analysis *a, const char *mode)
{
	vec_each(&a->cells, c)
		if (!strcmp(c->mode, mode))
			return true;
	return false;
}

static size_t count_parts(const struct analysis *a, const char *mode)
{
	size_t from, to = 0, n = 0;

	while (analysis_next_part(a, &from, &to))
		n += !strcmp(a->cells.p[from].mode, mode);
	return n;
}

static void part_title(const struct cell *c, struct buf *out)
{
	AUTO(buf) struct buf network = BUF_INIT;

	html_text_cut(out, c->network, 60);
	network_add(&network, c->rtt_ms, c->mbit, c->faults);
	buf_adds(out, " <small>");
	html_text(out, buf_cstr(&network));
	buf_adds(out, "</small>");
}

void page_section(struct buf *out, const char *id, const char *title)
{
	buf_addf(out, "<section id=\"%s\"><h2>", id);
	html_text(out, title);
	buf_adds(out, "</h2>\n");
}

void page_section_end(struct buf *out)
{
	buf_adds(out, "</section>\n");
}

/* ---- parts ---- */

void page_parts(const struct analysis *a, const char *mode, page_part_fn *add, struct buf *out)
{
	size_t n = count_parts(a, mode);
	bool several = n > 1, first = true;
	size_t from, to = 0;

	while (analysis_next_part(a, &from, &to)) {
		AUTO(buf) struct buf part = BUF_INIT;

		if (strcmp(a->cells.p[from].mode, mode) != 0)
			continue;
		add(a, from, to, &part);
		if (!part.n)
			continue;
		if (several) {
			buf_addf(out, "<details%s><summary>", first || n <= OPEN_PARTS_MAX ? " open" : "");
			part_title(&a->cells.p[from], out);
			buf_adds(out, "</summary>\n");
		} else {
			buf_adds(out, "<h3>");
			part_title(&a->cells.p[from], out);
			buf_adds(out, "</h3>\n");
		}
		buf_addstr(out, buf_str(&part));
		if (several)
			buf_adds(out, "</details>\n");
		first = false;
	}
}

void page_grid(struct buf *out, const struct buf *panels)
{
	if (!panels->n)
		return;
	buf_adds(out, "<div class=\"grid\">\n");
	buf_addstr(out, buf_str(panels));
	buf_adds(out, "</div>\n");
}

/* ---- other modes ---- */

static void add_mode_part(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_bars(&p, mode_figure(p.from->mode), &panels);
	page_grid(out, &panels);
	table_of_part(a, from, to, out);
}

char *page_capital(const char *text)
{
	char *copy = xstrndup(text, 60);

	if (*copy >= 'a' && *copy <= 'z')
		*copy = (char)(*copy - 'a' + 'A');
	return copy;
}

static void other_mode(const struct analysis *a, const char *mode, size_t number, struct buf *out)
{
	AUTO_FREE char *id = xasprintf("mode-%zu", number);
	AUTO_FREE char *title = page_capital(mode_title(mode));

	page_section(out, id, title);
	buf_adds(out, "<p class=\"lead\">Figure: <code>");
	html_text(out, mode_figure(mode));
	buf_addf(out, "</code>; %s is better.</p>\n", mode_less_is_better(mode) ? "less" : "more");
	page_parts(a, mode, add_mode_part, out);
	page_section_end(out);
}

/* Cells stand by mode. Adds a link or a section of each but the start. */
static void other_modes(const struct analysis *a, bool links, struct buf *out)
{
	const char *before = "start";
	size_t number = 0;

	vec_each(&a->cells, c) {
		if (!strcmp(c->mode, before))
			continue;
		before = c->mode;
		if (number++ >= MODES_MAX)
			continue;
		if (links) {
			AUTO_FREE char *name = page_capital(c->mode);

			buf_addf(out, "<a href=\"#mode-%zu\">", number);
			html_text_cut(out, name, 40);
			buf_adds(out, "</a>\n");
		} else {
			other_mode(a, c->mode, number, out);
		}
	}
	if (!links)
		table_left_out(out, number > MODES_MAX ? number - MODES_MAX : 0, "modes");
}

/* ---- the page ---- */

static void navigation(const struct analysis *a, bool has_answers, struct buf *out)
{
	buf_adds(out, "<nav aria-label=\"Contents\">\n");
	if (has_answers)
		buf_adds(out, "<a href=\"#answer\">The answer</a>\n");
	if (has_mode(a, "start"))
		buf_adds(out,
		         "<a href=\"#summary\">Time to ready</a>\n<a href=\"#cases\">Cases</a>\n"
		         "<a href=\"#phases\">Phases</a>\n<a href=\"#spread\">Spread</a>\n<a href=\"#wire\">Bytes</a>\n"
		         "<a href=\"#processes\">Processes</a>\n");
	other_modes(a, true, out);
	buf_adds(out, "<a href=\"#noise\">Noise</a>\n<a href=\"#method\">Method</a>\n"
	              "</nav>\n");
}

static void page_head(const struct analysis *a, const sources *from, bool has_answers, struct buf *out)
{
	const struct header *h = from->n ? &from->p[0].header : NULL;
	const char *title = h && h->title && *h->title ? h->title : "Cold starts";
	const char *cpu = h ? pairs_get(&h->machine, "cpu") : NULL;

	buf_adds(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	              "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	              "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
	html_text(out, title);
	buf_addf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>", PAGE_STYLE);
	html_text(out, title);
	buf_adds(out, "</h1>\n<p class=\"lead\">");
	if (h && h->begun)
		html_textf(out, "%.10s \u00b7 ", h->begun);
	if (cpu)
		html_textf(out, "%.100s \u00b7 ", cpu);
	buf_addf(out, "%zu cases \u00b7 %zu repetitions", a->cells.n, a->set->samples.n);
	if (a->n_failed)
		buf_addf(out, ", <b class=\"slower\">%zu failed</b>", a->n_failed);
	if (a->spin.n)
		buf_addf(out, " \u00b7 <a href=\"#noise\">%s</a>",
		         analysis_is_disturbed(a) ? "the machine was disturbed" : "a quiet machine");
	buf_adds(out, "</p>\n");
	page_run(a, from, out);
	navigation(a, has_answers, out);
	buf_adds(out, "</header>\n<main>\n");
}

void page_write(const struct analysis *a, const sources *from, struct buf *out)
{
	AUTO(buf) struct buf answers = BUF_INIT;

	page_answers(a, &answers);
	page_head(a, from, answers.n > 0, out);
	buf_addstr(out, buf_str(&answers));
	if (has_mode(a, "start"))
		page_starts(a, out);
	other_modes(a, false, out);
	page_noise(a, out);
	page_method(out);
	buf_adds(out, "</main>\n<footer>Made by coldbench " CONTENTD_VERSION " from the raw data alone.</footer>\n"
	              "</body>\n</html>\n");
}
