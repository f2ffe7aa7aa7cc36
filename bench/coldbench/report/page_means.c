/* What the engines are to the reference, over all images. */
#include "bench/coldbench/report/page.h"

#include "bench/coldbench/report/html.h"
#include "bench/coldbench/report/page_table.h"
#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define COLUMNS_MAX 40

/* Over the images of a network: geometric mean of the ratios, and how many of them are told to be better or worse. */
struct mean {
	double log_sum;
	unsigned n, better, worse;
};

static bool counts(const struct cell *c, const char *mode, const char *label, const struct cell *network)
{
	return !strcmp(c->mode, mode) && !strcmp(c->label, label) && cell_same_network(c, network) && c->reference &&
	       c->reference != c && c->to_reference.ratio > 0 && isfinite(c->to_reference.ratio);
}

static struct mean mean_of(const struct analysis *a, const char *mode, const char *label, const struct cell *network)
{
	struct mean m = {0};

	vec_each(&a->cells, c)
		if (counts(c, mode, label, network)) {
			bool less = c->to_reference.verdict == VERDICT_LESS;

			m.log_sum += log(c->to_reference.ratio);
			m.n++;
			if (c->to_reference.verdict != VERDICT_CANNOT_TELL)
				*(less == mode_less_is_better(mode) ? &m.better : &m.worse) += 1;
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

/* The mean, and where the images do not all agree how many of them say what. */
static void mean_td(struct buf *out, const struct mean *m)
{
	bool any = false;

	if (!m->n) {
		table_dash(out);
		return;
	}
	buf_addf(out, "<td><b class=\"%s\">", m->better == m->n ? "faster" : m->worse == m->n ? "slower" : "mixed");
	ratio_add(out, exp(m->log_sum / m->n));
	buf_adds(out, "</b>");
	if (m->better != m->n && m->worse != m->n) {
		buf_adds(out, "<small>");
		add_share(out, &any, m->better, "better");
		add_share(out, &any, m->worse, "worse");
		add_share(out, &any, m->n - m->better - m->worse, "open");
		buf_adds(out, "</small>");
	}
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

void table_of_means(const struct analysis *a, const char *mode, struct buf *out)
{
	VEC(const struct cell *) networks = VEC_INIT;
	VEC(const struct cell *) engines = VEC_INIT;

	vec_each(&a->cells, c) {
		bool known = strcmp(c->mode, mode) != 0 || networks.n == COLUMNS_MAX;

		vec_each(&networks, n)
			known |= cell_same_network(*n, c);
		if (!known)
			vec_push(&networks, c);
		known = strcmp(c->mode, mode) != 0 || engines.n == COLUMNS_MAX || !c->reference || c->reference == c;
		vec_each(&engines, e)
			known |= !strcmp((*e)->label, c->label);
		if (!known)
			vec_push(&engines, c);
	}
	if (engines.n) {
		table_begin(out, " fit plain");
		table_head(out, "l", "Engine");
		vec_each(&networks, n)
			network_head(out, *n);
		table_body(out);
		vec_each(&engines, e) {
			buf_adds(out, "<tr>");
			table_engine(out, *e);
			vec_each(&networks, n) {
				struct mean m = mean_of(a, mode, (*e)->label, *n);

				mean_td(out, &m);
			}
			buf_adds(out, "</tr>\n");
		}
		table_end(out);
	}
	vec_fini(&networks);
	vec_fini(&engines);
}
