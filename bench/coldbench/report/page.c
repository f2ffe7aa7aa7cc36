#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/pictures.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define MODES_MAX 20

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
	network_add(&network, c->rtt_ms, c->mbit);
	buf_adds(out, " <small>");
	html_text(out, buf_cstr(&network));
	buf_adds(out, "</small>");
}

static void section(struct buf *out, const char *id, const char *title)
{
	buf_addf(out, "<section id=\"%s\"><h2>", id);
	html_text(out, title);
	buf_adds(out, "</h2>\n");
}

static void section_end(struct buf *out)
{
	buf_adds(out, "</section>\n");
}

/* ---- what was run ---- */

static void term(struct buf *out, const char *key, const char *value, bool is_code)
{
	if (!value || !*value)
		return;
	buf_adds(out, "<dt>");
	html_text_cut(out, key, 60);
	buf_adds(out, is_code ? "</dt><dd><code>" : "</dt><dd>");
	html_text(out, value);
	buf_adds(out, is_code ? "</code></dd>\n" : "</dd>\n");
}

static void terms(struct buf *out, const char *title, const pairs *p)
{
	if (!p->n)
		return;
	buf_addf(out, "<h3>%s</h3>\n<dl>\n", title);
	vec_each(p, it) {
		double bytes = strstr(it->key, "bytes") ? strtod(it->value, NULL) : 0;
		AUTO(buf) struct buf text = BUF_INIT;

		if (bytes > 0) {
			quantity_add(&text, "bytes", bytes);
			term(out, it->key, buf_cstr(&text), false);
		} else {
			term(out, it->key, it->value, false);
		}
	}
	buf_adds(out, "</dl>\n");
}

static void source_run(const struct source *s, bool is_one_of_several, bool shows_machine, struct buf *out)
{
	const struct header *h = &s->header;

	if (is_one_of_several && h->title) {
		buf_adds(out, "<h3>");
		html_text(out, h->title);
		buf_adds(out, "</h3>\n");
	}
	buf_adds(out, "<dl>\n");
	term(out, "Command", h->command, true);
	term(out, "Begun", h->begun, false);
	term(out, "Suite", h->suite, false);
	if (s->link) {
		buf_adds(out, "<dt>Raw data</dt><dd><a href=\"");
		html_text(out, s->link);
		buf_adds(out, "\">");
		html_text(out, s->link);
		buf_adds(out, "</a></dd>\n");
	}
	buf_adds(out, "</dl>\n");
	if (shows_machine)
		terms(out, "Machine", &h->machine);
	terms(out, "Engines", &h->engines);
	terms(out, "Skipped", &h->skipped);
}

static void warn_of_machines(const sources *from, struct buf *out)
{
	for (size_t i = 1; i < from->n; i++)
		if (!header_same_machine(&from->p[0].header, &from->p[i].header)) {
			buf_adds(out,
			         "<p class=\"warning\">These samples come from different machines. Ratios within one "
			         "case mix them.</p>\n");
			return;
		}
}

static void networks_run(const struct analysis *a, struct buf *out)
{
	VEC(const struct cell *) seen = VEC_INIT;

	buf_adds(out, "<h3>Networks</h3>\n<dl>\n");
	vec_each(&a->cells, c) {
		AUTO(buf) struct buf text = BUF_INIT;
		bool known = seen.n >= 40;

		vec_each(&seen, other)
			known |= !strcmp((*other)->network, c->network);
		if (known)
			continue;
		vec_push(&seen, c);
		buf_adds(&text, "round trip and bandwidth: ");
		network_add(&text, c->rtt_ms, c->mbit);
		term(out, c->network, buf_cstr(&text), false);
	}
	buf_adds(out, "</dl>\n");
	vec_fini(&seen);
}

static void run_section(const struct analysis *a, const sources *from, struct buf *out)
{
	section(out, "run", "What was run");
	warn_of_machines(from, out);
	for (size_t i = 0; i < from->n; i++)
		source_run(&from->p[i], from->n > 1, !i || !header_same_machine(&from->p[0].header, &from->p[i].header),
		           out);
	networks_run(a, out);
	section_end(out);
}

/* ---- the start ---- */

static void means_section(const struct analysis *a, struct buf *out)
{
	AUTO(buf) struct buf table = BUF_INIT;

	table_of_means(a, "start", &table);
	section(out, "summary", "Time to ready");
	if (table.n) {
		buf_adds(out,
		         "<p class=\"lead\">Cold start until the program's own first useful sign, as a share of what ");
		html_text(out, a->reference);
		buf_adds(out, " takes beside it: geometric mean over the images. Less is faster; open means that it "
		              "cannot be told.</p>\n");
		buf_addstr(out, buf_str(&table));
	}
	if (a->cells.n && !strcmp(a->cells.p[0].mode, "start")) {
		struct part all = {a->cells.p, a->cells.p + a->cells.n};

		for (all.to = all.from; all.to < a->cells.p + a->cells.n && !strcmp(all.to->mode, "start"); all.to++)
			;
		legend_engines(&all, out);
		buf_adds(out, "<div class=\"grid\">\n");
		picture_overview(a, "start", out);
		buf_adds(out, "</div>\n<p class=\"note\">Medians on a logarithmic axis, the same in all panels. The "
		              "line through a "
		              "dot is the 95 % interval; where none shows, it is narrower than the dot.</p>\n");
	}
	section_end(out);
}

/* The tables or pictures of every part of a mode; the first is open. */
static void each_part(const struct analysis *a, const char *mode,
                      void (*add)(const struct analysis *, size_t, size_t, struct buf *), struct buf *out)
{
	bool several = count_parts(a, mode) > 1, first = true;
	size_t from, to = 0;

	while (analysis_next_part(a, &from, &to)) {
		AUTO(buf) struct buf part = BUF_INIT;

		if (strcmp(a->cells.p[from].mode, mode) != 0)
			continue;
		add(a, from, to, &part);
		if (!part.n)
			continue;
		if (several) {
			buf_addf(out, "<details%s><summary>", first ? " open" : "");
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

static void grid(struct buf *out, const struct buf *panels)
{
	if (!panels->n)
		return;
	buf_adds(out, "<div class=\"grid\">\n");
	buf_addstr(out, buf_str(panels));
	buf_adds(out, "</div>\n");
}

static void add_phases(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_phases(&p, &panels);
	grid(out, &panels);
}

static void add_cdf(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_cdf(&p, &panels);
	if (panels.n)
		legend_engines(&p, out);
	grid(out, &panels);
}

static void add_bytes(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_bars(&p, "net.bytes", &panels);
	grid(out, &panels);
}

static void add_processes(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;
	AUTO(buf) struct buf table = BUF_INIT;

	picture_bars(&p, "cpu_s", &panels);
	grid(out, &panels);
	table_of_processes(a, from, to, &table);
	if (!table.n)
		return;
	buf_adds(out,
	         "<details><summary>By program <small>processor time, peak memory, page faults</small></summary>\n");
	buf_addstr(out, buf_str(&table));
	buf_adds(out, "</details>\n");
}

/* Says why a column has dashes in it. */
static void note_serial(const struct analysis *a, struct buf *out)
{
	size_t without_w = 0, without_b = 0;

	vec_each(&a->cells, c)
		if (!strcmp(c->mode, "start") && c->figure) {
			without_w += !c->warm;
			without_b += isnan(c->touched_bytes) && c->mbit > 0;
		}
	if (without_w || without_b)
		buf_adds(out, "<p class=\"note\">");
	if (without_w)
		buf_addf(out, "W was not measured for %zu cases. ", without_w);
	if (without_b)
		buf_addf(out,
		         "T<sub>serial</sub> is not known for %zu cases: the bytes B that "
		         "their images touch were not measured.",
		         without_b);
	if (without_w || without_b)
		buf_adds(out, "</p>\n");
}

static void network_section(const struct analysis *a, struct buf *out)
{
	struct part all = {a->cells.p, a->cells.p};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_networks(a, "start", &panels);
	if (!panels.n)
		return;
	while (all.to < a->cells.p + a->cells.n && !strcmp(all.to->mode, "start"))
		all.to++;
	section(out, "network", "Against the network");
	buf_adds(out, "<p class=\"lead\">Median time to ready. Logarithmic upwards, networks in steps.</p>\n");
	legend_engines(&all, out);
	grid(out, &panels);
	section_end(out);
}

static void start_sections(const struct analysis *a, struct buf *out)
{
	means_section(a, out);
	section(out, "cases", "Every image and engine");
	buf_adds(
	    out,
	    "<p class=\"lead\">Median of the repetitions with its 95 % interval; ratios with theirs. A ratio whose "
	    "interval holds 1 is not told apart.</p>\n");
	each_part(a, "start", table_of_part, out);
	note_serial(a, out);
	section_end(out);
	section(out, "phases", "Where the time goes");
	buf_adds(
	    out,
	    "<p class=\"lead\">From the exec of the first command to ready. Each image has a scale of its own; phases "
	    "are drawn in proportion to their medians.</p>\n");
	legend_phases(out);
	each_part(a, "start", add_phases, out);
	section_end(out);
	network_section(a, out);
	section(out, "spread", "How much it varies");
	buf_adds(
	    out,
	    "<p class=\"lead\">Share of the repetitions that are ready by then. A steep line is a steady start.</p>\n");
	each_part(a, "start", add_cdf, out);
	section_end(out);
	section(out, "wire", "Bytes until ready");
	buf_adds(
	    out,
	    "<p class=\"lead\">What crossed the network to the client. Requests and dependent round trips stand in the "
	    "tables above.</p>\n");
	each_part(a, "start", add_bytes, out);
	section_end(out);
	section(out, "processes", "Processor time and memory");
	buf_adds(out, "<p class=\"lead\">Processor time of all of the engine's processes until ready; the container's "
	              "own are left "
	              "out.</p>\n");
	each_part(a, "start", add_processes, out);
	section_end(out);
}

/* ---- other modes ---- */

static void add_mode_part(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_bars(&p, mode_figure(p.from->mode), &panels);
	grid(out, &panels);
	table_of_part(a, from, to, out);
	buf_adds(out, "<details><summary>All metrics <small>medians</small></summary>\n");
	table_of_metrics(a, from, to, out);
	buf_adds(out, "</details>\n");
}

/* Names and titles of modes are lower case; headings are not. */
static char *capital(const char *text)
{
	char *copy = xstrndup(text, 60);

	if (*copy >= 'a' && *copy <= 'z')
		*copy = (char)(*copy - 'a' + 'A');
	return copy;
}

static void other_mode(const struct analysis *a, const char *mode, size_t number, struct buf *out)
{
	AUTO_FREE char *id = xasprintf("mode-%zu", number);
	AUTO_FREE char *title = capital(mode_title(mode));

	section(out, id, title);
	buf_adds(out, "<p class=\"lead\">Figure: <code>");
	html_text(out, mode_figure(mode));
	buf_addf(out, "</code>; %s is better.</p>\n", mode_less_is_better(mode) ? "less" : "more");
	each_part(a, mode, add_mode_part, out);
	section_end(out);
}

/* Cells stand by mode. Adds a link or a section of each but the start. */
static void other_modes(const struct analysis *a, bool links, struct buf *out)
{
	const char *before = "start";
	size_t number = 0;

	vec_each(&a->cells, c) {
		if (!strcmp(c->mode, before) || number == MODES_MAX)
			continue;
		before = c->mode;
		number++;
		if (links) {
			AUTO_FREE char *name = capital(c->mode);

			buf_addf(out, "<a href=\"#mode-%zu\">", number);
			html_text_cut(out, name, 40);
			buf_adds(out, "</a>\n");
		} else {
			other_mode(a, c->mode, number, out);
		}
	}
}

/* ---- noise, method ---- */

static void noise_section(const struct analysis *a, struct buf *out)
{
	section(out, "noise", "Noise and failures");
	if (a->spin.n) {
		buf_addf(
		    out,
		    "<p>Before each repetition a fixed piece of computation was timed: median %.2f ms, half of the "
		    "times within %.1f %% of it, 95 %% below %.2f ms, the longest %.2f ms. ",
		    a->spin.median, a->spin.mad * 100, a->spin.p95, a->spin.max);
		buf_adds(out, a->spin.p95 > a->spin.median * 1.1
		                  ? "The machine was disturbed: look at intervals rather than at medians.</p>\n"
		                  : "The machine was quiet.</p>\n");
	}
	if (a->resident.n)
		buf_addf(
		    out,
		    "<p>Of the programs that a start runs, %.0f bytes (median) and %.0f bytes (most) were in the page "
		    "cache after it had been dropped.</p>\n",
		    a->resident.median, a->resident.max);
	if (a->n_failed) {
		buf_addf(out, "<p>%zu of %zu repetitions failed. They are in no figure.</p>\n", a->n_failed,
		         a->set->samples.n);
		table_of_failures(a, out);
	} else {
		buf_addf(out, "<p>None of %zu repetitions failed.</p>\n", a->set->samples.n);
	}
	if (a->n_left_out)
		buf_addf(out, "<p class=\"warning\">%zu cases are left out of this page.</p>\n", a->n_left_out);
	section_end(out);
}

static const char METHOD[] =
    "<dl>\n"
    "<dt>Ready</dt><dd>The program's own first useful sign (a line, an open port, an HTTP answer, a file, its end), "
    "never the "
    "return of a pull.</dd>\n"
    "<dt>Cold</dt><dd>The engine's folders are new, its daemons freshly started, the page cache dropped and looked at "
    "afterwards. The registry keeps its data in memory, so that it is not what is measured.</dd>\n"
    "<dt>Order</dt><dd>Engines take turns in random order within each repetition.</dd>\n"
    "<dt>Interval</dt><dd>95 %, by bootstrap of the median (2000 resamples), wider percentiles for few values.</dd>\n"
    "<dt>Ratio</dt><dd>Hodges and Lehmann's: the median over all pairs of repetitions, one of a side each; its 95 % "
    "interval is that of Mann and Whitney's test.</dd>\n"
    "<dt>Verdict</dt><dd>Told only when the interval of the ratio leaves out 1, and both sides have at least four "
    "repetitions. Each comparison stands alone: of many cases without a difference, one in twenty may be "
    "told.</dd>\n"
    "<dt>W</dt><dd>Median time to ready of the same image, fully unpacked, page cache warm, on plain overlayfs, by the "
    "plain "
    "engine of the same family.</dd>\n"
    "<dt>B</dt><dd>Compressed bytes of the chunks that the start touches, the kernel's read-ahead included.</dd>\n"
    "<dt>T<sub>serial</sub></dt><dd>W + k\u00b7r + B/b, with k dependent round trips (as measured in the case), round "
    "trip r "
    "and bandwidth b: a loader that overlaps nothing. Overlap can beat it. Where B is not known and the bandwidth has "
    "a limit, "
    "T<sub>serial</sub> is not known either.</dd>\n"
    "<dt>Round trips</dt><dd>The longest chain of requests of which each waited for the one before, connections' "
    "set-up "
    "included.</dd>\n"
    "</dl>\n"
    "<p>What the numbers do not say: registry, network model and engines share the machine's processors, so each of "
    "them is "
    "part of every time. The network has no loss, no slow start and no packet headers; a real wide-area network is "
    "worse for "
    "large transfers. A page cache of the host below a virtual machine cannot be dropped from within. Versions are "
    "those named "
    "above, no others.</p>\n";

/* ---- the page ---- */

static void navigation(const struct analysis *a, struct buf *out)
{
	buf_adds(out, "<nav aria-label=\"Contents\">\n");
	if (has_mode(a, "start"))
		buf_adds(out,
		         "<a href=\"#summary\">Time to ready</a>\n<a href=\"#cases\">Cases</a>\n"
		         "<a href=\"#phases\">Phases</a>\n<a href=\"#spread\">Spread</a>\n<a href=\"#wire\">Bytes</a>\n"
		         "<a href=\"#processes\">Processes</a>\n");
	other_modes(a, true, out);
	buf_adds(out,
	         "<a href=\"#noise\">Noise</a>\n<a href=\"#run\">What was run</a>\n<a href=\"#method\">Method</a>\n"
	         "</nav>\n");
}

static void page_head(const struct analysis *a, const sources *from, struct buf *out)
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
	buf_adds(out, "</p>\n");
	navigation(a, out);
	buf_adds(out, "</header>\n<main>\n");
}

void page_write(const struct analysis *a, const sources *from, struct buf *out)
{
	page_head(a, from, out);
	if (has_mode(a, "start"))
		start_sections(a, out);
	other_modes(a, false, out);
	noise_section(a, out);
	run_section(a, from, out);
	section(out, "method", "Method");
	buf_adds(out, METHOD);
	section_end(out);
	buf_adds(out, "</main>\n<footer>Made by coldbench " CONTENTD_VERSION " from the raw data alone.</footer>\n"
	              "</body>\n</html>\n");
}
