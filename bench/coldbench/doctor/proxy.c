/* The modelled network: is what it does what it is set to? */
#include "bench/coldbench/doctor/doctor.h"
#include "bench/coldbench/net/accuracy.h"

#include <math.h>

static const char LATE[] =
    "Delays end late: something else uses the processors, or timers are coarse (section machine).";
static const char SLOW[] =
    "netproxy gets too little of a processor: free one for it, or use networks below what it reached.";

static void report_error(struct sheet *s, const char *key, const char *label, double error_ms, double p95_ms)
{
	struct finding *f = sheet_number(s, key, label, error_ms, "ms");

	if (isfinite(p95_ms))
		finding_add(f, " (95 %%: %.3f)", p95_ms);
	finding_judgef(f, fabs(error_ms) <= ACCURACY_RTT_ERROR_MS, FINDING_BAD, "<= %g ms", ACCURACY_RTT_ERROR_MS);
	if (f->state == FINDING_BAD)
		finding_advise(f, "%s", LATE);
}

static void report_delay(struct sheet *s, const struct accuracy_delay *d)
{
	AUTO_FREE char *label = xasprintf("round trip of %g ms, error of a request", d->rtt_ms);

	report_error(s, sheet_keyf(s, "rtt_%g.error_ms", d->rtt_ms), label, d->median_ms, d->p95_ms);
	report_error(s, sheet_keyf(s, "rtt_%g.open_error_ms", d->rtt_ms), "... with a new connection",
	             d->open_median_ms, d->open_p95_ms);
	report_error(s, sheet_keyf(s, "rtt_%g.together_error_ms", d->rtt_ms), "... of 16 at once", d->together_ms, NAN);
}

static void report_rate(struct sheet *s, const struct accuracy_rate *r)
{
	const char *way = r->upload ? "up" : "down";
	AUTO_FREE char *speed = r->mbit ? xasprintf("%g Mbit/s", r->mbit) : xstrdup("unlimited");
	AUTO_FREE char *label =
	    xasprintf("%s %s, %u connection%s", speed, way, r->connections, r->connections == 1 ? "" : "s");
	struct finding *f = sheet_number(s, sheet_keyf(s, "rate_%g.%s_%u_mbit", r->mbit, way, r->connections), label,
	                                 r->got_mbit, "Mbit/s");

	if (r->mbit) {
		finding_add(f, " (%+.1f %%)", 100 * r->error);
		finding_judgef(f, fabs(r->error) <= ACCURACY_RATE_ERROR, FINDING_BAD, "within %g %%",
		               100 * ACCURACY_RATE_ERROR);
	} else {
		finding_judgef(f, r->got_mbit >= ACCURACY_UNLIMITED_MBIT, FINDING_BAD, ">= %d Mbit/s",
		               ACCURACY_UNLIMITED_MBIT);
	}
	if (f->state == FINDING_BAD)
		finding_advise(f, "%s", SLOW);
}

int proxy_section(const struct doctor *d, struct sheet *s, struct err *err)
{
	AUTO(accuracy) struct accuracy a = {.delays = VEC_INIT};

	s->title = "how true the modelled network is";
	TRY(accuracy_measure(d->dir, d->quick ? 0.15 : 1, d->cancel_fd, &a, err));
	vec_each(&a.delays, delay)
		report_delay(s, delay);
	vec_each(&a.rates, rate)
		report_rate(s, rate);
	return 0;
}
