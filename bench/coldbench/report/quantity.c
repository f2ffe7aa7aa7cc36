#include "bench/coldbench/report/quantity.h"

#include <math.h>

#define DASH "\u2013"

struct unit_suffix {
	const char *suffix;
	enum unit unit;
	double factor;
};

/* Longer ones first: "_per_s" ends with "_s". */
static const struct unit_suffix SUFFIXES[] = {
    {"mb_per_s", UNIT_BYTES_PER_SECOND, 1e6},
    {"bytes_per_s", UNIT_BYTES_PER_SECOND, 1},
    {"per_s", UNIT_PER_SECOND, 1},
    {"_ms", UNIT_SECONDS, 1e-3},
    {"_us", UNIT_SECONDS, 1e-6},
    {"_ns", UNIT_SECONDS, 1e-9},
    {"_s", UNIT_SECONDS, 1},
    {"bytes", UNIT_BYTES, 1},
};

/* The part between two dots that has a unit may be any: a program's name or a percentile may follow it. */
enum unit unit_of(const char *metric, double *factor)
{
	struct str rest = str_of(metric), part;

	*factor = 1;
	while (str_split(&rest, '.', &part)) {
		/* "cpu_ms_per_container" */
		if (str_ends(part, STR("_per_container")))
			part.n -= strlen("_per_container");
		for (size_t i = 0; i < ARRAY_LEN(SUFFIXES); i++)
			if (str_ends(part, str_of(SUFFIXES[i].suffix))) {
				*factor = SUFFIXES[i].factor;
				return SUFFIXES[i].unit;
			}
	}
	return UNIT_NONE;
}

struct step {
	double least;
	const char *name;
};

/* From the largest to the smallest. */
#define STEPS 4
typedef struct step steps[STEPS];

static const steps SECONDS = {{1, "s"}, {1e-3, "ms"}, {1e-6, "\u00b5s"}, {1e-9, "ns"}};
static const steps BYTES = {{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}, {1, "B"}};
static const steps SPEEDS = {{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}, {1, "B/s"}};
static const steps NUMBERS = {{1, ""}, {1, ""}, {1, ""}, {1, ""}};
static const steps RATES = {{1, "/s"}, {1, "/s"}, {1, "/s"}, {1, "/s"}};

static const struct step *steps_of(enum unit unit)
{
	switch (unit) {
	case UNIT_SECONDS:
		return SECONDS;
	case UNIT_BYTES:
		return BYTES;
	case UNIT_BYTES_PER_SECOND:
		return SPEEDS;
	case UNIT_PER_SECOND:
		return RATES;
	case UNIT_NONE:
		break;
	}
	return NUMBERS;
}

static size_t step_for(enum unit unit, double most)
{
	const struct step *s = steps_of(unit);
	size_t i = 0;

	if (!(most > 0))
		return unit == UNIT_SECONDS ? 1 : STEPS - 1;
	while (i + 1 < STEPS && most < s[i].least * 0.9995)
		i++;
	return i;
}

/* Three digits of a small number, so that intervals show; two decimals at most once there are whole units. */
static int decimals_for(double least)
{
	return !(least > 0) || least >= 99.95 ? 0 : least >= 9.995 ? 1 : least >= 0.0995 ? 2 : 3;
}

struct scale scale_for(enum unit unit, double least, double most)
{
	const struct step *all = steps_of(unit);
	size_t i = step_for(unit, most);
	struct scale s = {.unit = unit};
	bool of_bytes = unit == UNIT_BYTES || unit == UNIT_BYTES_PER_SECOND;
	struct step step;

	/* rather four digits of the most than nothing but zeros of the least */
	while (i + 1 < STEPS && least > 0 && least < all[i].least * 0.1 && most < all[i + 1].least * 9999)
		i++;
	step = all[i];
	s.divisor = step.least;
	s.name = step.name;
	s.decimals = decimals_for(least / step.least);
	if (s.decimals == 3 && most / step.least >= 1)
		s.decimals = 2;
	if (of_bytes && s.decimals)
		s.decimals--;
	if ((of_bytes && step.least == 1) || most / step.least >= 1000)
		s.decimals = 0;
	return s;
}

void scale_add(struct buf *out, const struct scale *s, double value)
{
	if (!isfinite(value))
		buf_adds(out, DASH);
	else
		buf_addf(out, "%.*f", s->decimals, value / s->divisor);
}

void ratio_add(struct buf *out, double value)
{
	double size = fabs(value);

	if (isnan(value))
		buf_adds(out, DASH);
	else if (isinf(value))
		buf_adds(out, "\u221e");
	else if (size >= 1e6)
		buf_addf(out, "%.3g", value);
	else
		buf_addf(out, "%.*f", size >= 99.95 ? 0 : size >= 0.00995 || size == 0 ? 2 : 4, value);
}

void quantity_add(struct buf *out, const char *metric, double value)
{
	double factor;
	enum unit unit = unit_of(metric, &factor);
	struct step step = steps_of(unit)[step_for(unit, fabs(value * factor))];
	double shown = value * factor / step.least;

	if (!isfinite(shown)) {
		buf_adds(out, DASH);
		return;
	}
	if (unit == UNIT_NONE && shown == floor(shown) && fabs(shown) < 1e15)
		buf_addf(out, "%.0f", shown);
	else if (fabs(shown) >= 1e6)
		buf_addf(out, "%.3g", shown);
	else
		buf_addf(out, "%.*f", shown == 0 ? 0 : fabs(shown) >= 99.95 ? 0 : fabs(shown) >= 9.995 ? 1 : 2, shown);
	if (*step.name)
		buf_addf(out, " %s", step.name);
}

void network_add(struct buf *out, double rtt_ms, double mbit, const char *faults)
{
	if (rtt_ms > 0)
		buf_addf(out, "%g ms, ", rtt_ms);
	else
		buf_adds(out, "no delay, ");
	if (mbit >= 1000)
		buf_addf(out, "%g Gbit/s", mbit / 1000);
	else if (mbit > 0)
		buf_addf(out, "%g Mbit/s", mbit);
	else
		buf_adds(out, "no limit");
	if (*faults)
		buf_addf(out, ", faults: %s", faults);
}
