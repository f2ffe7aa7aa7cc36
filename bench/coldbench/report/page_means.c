/* What the engines are to the reference, over all images. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define COLUMNS_MAX 40

/* Over the images of a network: geometric mean of the ratios, and how many of them are told to be better or worse. Images that
 * the engine failed to start are in no mean. */
struct mean {
	double log_sum;
	unsigned n, better, worse, failed;
	unsigned n_images; /* of all engines */
};

static void add_ratio(struct mean *m, const struct cell *c)
{
	bool less = c->to_reference.verdict == VERDICT_LESS;

	if (c->reference == c || !(c->to_reference.ratio > 0) || !isfinite(c->to_reference.ratio))
		return;
	m->log_sum += log(c->to_reference.ratio);
	m->n++;
	if (c->to_reference.verdict != VERDICT_CANNOT_TELL)
		*(less == mode_less_is_better(c->mode) ? &m->better : &m->worse) += 1;
}

static struct mean mean_of(const struct analysis *a, const char *mode, const char *label, const struct cell *network)
{
	const struct cell *last = NULL;
	struct mean m = {0};

	vec_each(&a->cells, c) {
		if (strcmp(c->mode, mode) != 0 || !cell_same_network(c, network))
			continue;
		m.n_images += !last || !cell_same_image(last, c);
		last = c;
		if (strcmp(c->label, label) != 0)
			continue;
		m.failed += !c->figure;
		add_ratio(&m, c);
	}
	return m;
}

static void add_share(struct buf *out, bool *any, unsigned n, const char *what)
{
	if (!n)
		return;
	buf_addf(out, "%s%u %s", *any ? ", " : "", n, what);
	*any = true;
}

/* How many images say what, where they do not all agree; and over how many of them the mean is, where it is not all. */
static void add_shares(struct buf *out, const struct mean *m)
{
	bool any = false;

	if (m->better != m->n && m->worse != m->n) {
		add_share(out, &any, m->better, "better");
		add_share(out, &any, m->worse, "worse");
		add_share(out, &any, m->n - m->better - m->worse, "cannot be told");
	}
	add_share(out, &any, m->failed, "failed");
	if (m->n && m->n < m->n_images)
		buf_addf(out, "%s%u of %u images", any ? "; " : "", m->n, m->n_images);
}

/* An engine that failed to start some image is not better throughout, whatever the others say. */
static void mean_td(struct buf *out, const struct mean *m)
{
	AUTO(buf) struct buf shares = BUF_INIT;
	bool agree = m->n && !m->failed;

	if (!m->n && !m->failed) {
		table_dash(out);
		return;
	}
	buf_addf(out, "<td><b class=\"%s\">",
	         agree && m->better == m->n  ? "faster"
	         : agree && m->worse == m->n ? "slower"
	                                     : "mixed");
	ratio_add(out, m->n ? exp(m->log_sum / m->n) : NAN);
	buf_adds(out, "</b>");
	add_shares(&shares, m);
	if (shares.n)
		buf_addf(out, "<small>%s</small>", buf_cstr(&shares));
	buf_adds(out, "</td>");
}

/* Its name alone may be that of several. */
static void network_head(struct buf *out, const struct cell *c)
{
	AUTO(buf) struct buf definition = BUF_INIT;

	network_add(&definition, c->rtt_ms, c->mbit, c->faults);
	buf_adds(out, "<th scope=\"col\">");
	html_text_cut(out, c->network, 40);
	buf_adds(out, "<small>");
	html_text(out, buf_cstr(&definition));
	buf_adds(out, "</small></th>");
}

typedef VEC(const struct cell *) cell_list;
DEFINE_CLEANUP(cell_list, cell_list, vec_fini(it));

/* The first case of each network of the mode, and of each engine that is compared in it. */
static void collect(const struct analysis *a, const char *mode, cell_list *networks, cell_list *engines)
{
	vec_each(&a->cells, c) {
		bool known = strcmp(c->mode, mode) != 0;

		vec_each(networks, n)
			known |= cell_same_network(*n, c);
		if (!known)
			vec_push(networks, c);
		known = strcmp(c->mode, mode) != 0 || !c->reference || c->reference == c;
		vec_each(engines, e)
			known |= !strcmp((*e)->label, c->label);
		if (!known)
			vec_push(engines, c);
	}
}

static size_t shown(const cell_list *all)
{
	return all->n < COLUMNS_MAX ? all->n : COLUMNS_MAX;
}

void table_of_means(const struct analysis *a, const char *mode, struct buf *out)
{
	AUTO(cell_list) cell_list networks = VEC_INIT;
	AUTO(cell_list) cell_list engines = VEC_INIT;

	collect(a, mode, &networks, &engines);
	if (!engines.n)
		return;
	table_begin(out, " fit plain");
	table_head(out, "l", "Engine");
	for (size_t i = 0; i < shown(&networks); i++)
		network_head(out, networks.p[i]);
	table_body(out);
	for (size_t i = 0; i < shown(&engines); i++) {
		buf_adds(out, "<tr>");
		table_engine(out, engines.p[i]);
		for (size_t k = 0; k < shown(&networks); k++) {
			struct mean m = mean_of(a, mode, engines.p[i]->label, networks.p[k]);

			mean_td(out, &m);
		}
		buf_adds(out, "</tr>\n");
	}
	table_end(out);
	table_left_out(out, networks.n - shown(&networks), "networks");
	table_left_out(out, engines.n - shown(&engines), "engines");
}
