/* What was run, how much it varies, and by what method. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#define NETWORKS_MAX 40

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
		html_file(out, s->link);
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
		bool known = false;

		vec_each(&seen, other)
			known |= cell_same_network(*other, c);
		if (known)
			continue;
		vec_push(&seen, c);
		if (seen.n > NETWORKS_MAX)
			continue;
		network_add(&text, c->rtt_ms, c->mbit, c->faults);
		term(out, c->network, buf_cstr(&text), false);
	}
	buf_adds(out, "</dl>\n");
	table_left_out(out, seen.n > NETWORKS_MAX ? seen.n - NETWORKS_MAX : 0, "networks");
	vec_fini(&seen);
}

/* One line for those who will not open it. */
static void run_summary(const sources *from, struct buf *out)
{
	const struct header *h = &from->p[0].header;

	buf_adds(out, "<summary>What was run <small>");
	if (from->n > 1)
		html_textf(out, "%zu files of raw data", from->n);
	else if (h->command)
		html_text_cut(out, h->command, 70);
	buf_adds(out, "</small></summary>\n");
}

void page_run(const struct analysis *a, const sources *from, struct buf *out)
{
	warn_of_machines(from, out);
	buf_adds(out, "<details id=\"run\">");
	run_summary(from, out);
	for (size_t i = 0; i < from->n; i++)
		source_run(&from->p[i], from->n > 1, !i || !header_same_machine(&from->p[0].header, &from->p[i].header),
		           out);
	networks_run(a, out);
	buf_adds(out, "</details>\n");
}

/* ---- noise, method ---- */

void page_noise(const struct analysis *a, struct buf *out)
{
	page_section(out, "noise", "Noise and failures");
	if (a->spin.n) {
		buf_addf(out,
		         "<p>Before %zu of %zu repetitions a fixed piece of computation was timed: median %.2f ms, "
		         "half of the "
		         "times within %.1f %% of it, 95 %% below %.2f ms (a quiet machine: not above 1.1 of the "
		         "median), the "
		         "longest %.2f ms. ",
		         a->spin.n, a->set->samples.n, a->spin.median, a->spin.mad * 100, a->spin.p95, a->spin.max);
		buf_adds(out, analysis_is_disturbed(a)
		                  ? "The machine was disturbed: look at intervals rather than at medians.</p>\n"
		                  : "The machine was quiet.</p>\n");
	}
	if (a->resident.n)
		buf_addf(out,
		         "<p>Of the programs that engines are driven with, all of them, %.0f bytes (median) and %.0f "
		         "bytes (most) were in the page cache after it had been dropped.</p>\n",
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
	page_section_end(out);
}

static const char METHOD[] =
    "<dl>\n"
    "<dt>Ready</dt><dd>The program's own first useful sign (a line, an open port, an HTTP answer, a file, its end), "
    "never the "
    "return of a pull.</dd>\n"
    "<dt>Cold</dt><dd>The engine's folders are new, its daemons freshly started, the page cache dropped and looked at "
    "afterwards. The registry keeps its data in memory, so that it is not what is measured.</dd>\n"
    "<dt>Engines</dt><dd>contentd starts what it has hardly fetched; contentd-plain fetches and unpacks all first; "
    "contentd-exact fetches nothing that is not read (for B); containerd-contentd is containerd with contentd as its "
    "snapshotter, containerd-stargz with stargz-snapshotter, containerd-crun with crun in runc's place; podman pulls "
    "in "
    "parts where an image allows it. Each uses the runtime that comes with it: the versions are under \"What was "
    "run\".</dd>\n"
    "<dt>Forms</dt><dd>The same trees, of which an engine gets the form that is its best: gzip and zstd have to be "
    "fetched as a "
    "whole; estargz is eStargz by contentd's converter, esgz by ctr-remote, zstdchunked zstd:chunked by skopeo. "
    "esgz-opt is "
    "optimized for this very start: it was made after a look at one, with what that read in front.</dd>\n"
    "<dt>Phases</dt><dd>resolve: until the manifest is there; metadata: the image's configuration; unpack: the rest of "
    "the pull, whatever it does then; create: until the container's first process exists; start: until that executes "
    "the "
    "program; ready: what the program does, and all that it waits for.</dd>\n"
    "<dt>Order</dt><dd>Engines take turns in random order within each repetition.</dd>\n"
    "<dt>Interval</dt><dd>95 %, by bootstrap of the median (2000 resamples), wider percentiles for few values: of five "
    "it has "
    "all, of fewer than four there is none.</dd>\n"
    "<dt>Ratio</dt><dd>Hodges and Lehmann's: the median over all pairs of repetitions, one of a side each; its 95 % "
    "interval is that of Mann and Whitney's test.</dd>\n"
    "<dt>Verdict</dt><dd>Told only when the interval of the ratio leaves out 1, and both sides have at least four "
    "repetitions. Each comparison stands alone: of many cases without a difference, one in twenty may be "
    "told.</dd>\n"
    "<dt>W</dt><dd>Median time to ready of the same image, fully unpacked, page cache warm, on plain overlayfs, by the "
    "plain "
    "engine of the same family. Families differ in W: multiples of it compare an engine with itself, not with "
    "others.</dd>\n"
    "<dt>B</dt><dd>Compressed bytes of the chunks that the start touches, the kernel's read-ahead included, in the "
    "case's "
    "own form. A form without chunks (gzip, zstd) can only be fetched as a whole: its B is the size of the layers. "
    "Manifests, headers of exchanges and what is fetched twice are in no B.</dd>\n"
    "<dt>T<sub>serial</sub></dt><dd>W + k\u00b7r + B/b, with k dependent round trips (as measured in the case), round "
    "trip r "
    "and bandwidth b: a loader that overlaps nothing. Overlap can beat it. It is each engine's own, by its form and "
    "its "
    "round trips: it says how much the engine wastes, not which engine is faster. Where B is not known and the "
    "bandwidth has "
    "a limit, "
    "T<sub>serial</sub> is not known either.</dd>\n"
    "<dt>Programs</dt><dd>What a program costs is 0 in a repetition in which it did not run; its peak memory is that "
    "of "
    "the repetitions in which it did.</dd>\n"
    "<dt>Round trips</dt><dd>The longest chain of requests of which each waited for the one before, connections' "
    "set-up "
    "included.</dd>\n"
    "</dl>\n"
    "<p>What the numbers do not say: registry, network model and engines share the machine's processors, so each of "
    "them is "
    "part of every time. The network has no loss, no slow start and no packet headers; a real wide-area network is "
    "worse for "
    "large transfers. A page cache of the host below a virtual machine cannot be dropped from within. Versions are "
    "those named under \"What was run\", no others.</p>\n";

void page_method(struct buf *out)
{
	page_section(out, "method", "Method");
	buf_adds(out, METHOD);
	page_section_end(out);
}
