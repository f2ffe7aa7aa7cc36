/* Cold starts: how long they take, where the time goes, and what they cost. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/pictures.h"

#include <math.h>

static void means_section(const struct analysis *a, struct buf *out)
{
	AUTO(buf) struct buf table = BUF_INIT;

	table_of_means(a, "start", &table);
	page_section(out, "summary", "Time to ready");
	if (table.n) {
		buf_adds(out,
		         "<p class=\"lead\">Cold start until the program's own first useful sign, as a share of what ");
		html_text(out, a->reference);
		buf_adds(out, " takes beside it: geometric mean over the images that both started. Less is faster; "
		              "failed means that not one start of an image succeeded."
		              "</p>\n");
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
	page_section_end(out);
}

static void add_phases(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_phases(&p, &panels);
	page_grid(out, &panels);
}

static void add_cdf(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_cdf(&p, &panels);
	if (panels.n)
		legend_engines(&p, out);
	page_grid(out, &panels);
}

static void add_bytes(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;

	picture_bars(&p, "net.bytes", &panels);
	page_grid(out, &panels);
}

static void add_processes(const struct analysis *a, size_t from, size_t to, struct buf *out)
{
	struct part p = {a->cells.p + from, a->cells.p + to};
	AUTO(buf) struct buf panels = BUF_INIT;
	AUTO(buf) struct buf table = BUF_INIT;

	picture_bars(&p, "cpu_s", &panels);
	page_grid(out, &panels);
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
		         "T<sub>serial</sub> is not known for %zu cases: the raw data do not have B of their "
		         "images.",
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
	page_section(out, "network", "Against the network");
	buf_adds(out, "<p class=\"lead\">Median time to ready. Logarithmic upwards, networks in steps.</p>\n");
	legend_engines(&all, out);
	page_grid(out, &panels);
	page_section_end(out);
}

void page_starts(const struct analysis *a, struct buf *out)
{
	means_section(a, out);
	page_section(out, "cases", "Every image and engine");
	buf_adds(
	    out,
	    "<p class=\"lead\">Median of the repetitions with its 95 % interval; ratios with theirs. A ratio whose "
	    "interval holds 1 is not told apart.</p>\n");
	page_parts(a, "start", table_of_part, out);
	note_serial(a, out);
	page_section_end(out);
	page_section(out, "phases", "Where the time goes");
	buf_adds(
	    out,
	    "<p class=\"lead\">From the exec of the first command to ready. Each image has a scale of its own; phases "
	    "are drawn in proportion to their medians. The mark is T<sub>serial</sub>, where it is known.</p>\n");
	legend_phases(out);
	page_parts(a, "start", add_phases, out);
	page_section_end(out);
	network_section(a, out);
	page_section(out, "spread", "How much it varies");
	buf_adds(
	    out,
	    "<p class=\"lead\">Share of the repetitions that are ready by then. A steep line is a steady start.</p>\n");
	page_parts(a, "start", add_cdf, out);
	page_section_end(out);
	page_section(out, "wire", "Bytes until ready");
	buf_adds(out,
	         "<p class=\"lead\">What crossed the network to the client; the mark is B: what the start reads, or "
	         "all layers where the form has no chunks. Requests and dependent round trips stand in the "
	         "tables above.</p>\n");
	page_parts(a, "start", add_bytes, out);
	page_section_end(out);
	page_section(out, "processes", "Processor time and memory");
	buf_adds(out, "<p class=\"lead\">Processor time of all of the engine's processes until ready; the container's "
	              "own are left "
	              "out.</p>\n");
	page_parts(a, "start", add_processes, out);
	page_section_end(out);
}
