#include "bench/coldbench/report/json.h"

#include "base/json.h"

#include <math.h>

static void number(struct json_writer *w, const char *key, double v)
{
	if (!isfinite(v))
		return;
	json_w_key(w, key);
	json_w_double(w, v);
}

static void interval(struct json_writer *w, const char *key, struct interval ci)
{
	if (!isfinite(ci.low) || !isfinite(ci.high))
		return;
	json_w_key(w, key);
	json_w_array_begin(w);
	json_w_double(w, ci.low);
	json_w_double(w, ci.high);
	json_w_array_end(w);
}

static void summary(struct json_writer *w, const char *key, const struct summary *s)
{
	json_w_key(w, key);
	json_w_object_begin(w);
	json_w_ki64(w, "n", (int64_t)s->n);
	number(w, "median", s->median);
	interval(w, "ci", s->ci);
	number(w, "mad", s->mad);
	number(w, "min", s->min);
	number(w, "p95", s->p95);
	number(w, "max", s->max);
	json_w_object_end(w);
}

static void one_case(struct json_writer *w, const struct cell *c)
{
	json_w_object_begin(w);
	json_w_kcstr(w, "mode", c->mode);
	json_w_kcstr(w, "image", c->image);
	json_w_kcstr(w, "form", c->form);
	json_w_kcstr(w, "engine", c->engine);
	json_w_kcstr(w, "network", c->network);
	number(w, "rtt_ms", c->rtt_ms);
	number(w, "mbit", c->mbit);
	if (*c->faults)
		json_w_kcstr(w, "faults", c->faults);
	json_w_ki64(w, "count", c->count);
	json_w_ki64(w, "n", c->n_ok);
	json_w_ki64(w, "failed", c->n_failed);
	if (c->figure)
		json_w_kcstr(w, "figure", c->figure->name);
	if (*cell_verdict(c)) {
		number(w, "ratio", c->to_reference.ratio);
		interval(w, "ratio_ci", c->to_reference.ci);
		json_w_kcstr(w, "verdict", cell_verdict(c));
	}
	number(w, "ratio_to_w", c->to_warm);
	number(w, "t_serial_ms", c->t_serial_ms);
	number(w, "touched_bytes", c->touched_bytes);
	json_w_key(w, "metrics");
	json_w_object_begin(w);
	vec_each(&c->measures, m)
		summary(w, m->name, &m->s);
	json_w_object_end(w);
	json_w_object_end(w);
}

void json_report(const struct analysis *a, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "reference", a->reference);
	summary(&w, "noise", &a->spin);
	json_w_key(&w, "cases");
	json_w_array_begin(&w);
	vec_each(&a->cells, c)
		one_case(&w, c);
	json_w_array_end(&w);
	json_w_object_end(&w);
	buf_addc(out, '\n');
}
