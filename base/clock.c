#include "base/clock.h"

#include <stdio.h>

/* 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the ends of what RFC 3339 can say. */
#define WALL_MIN_S (-62167219200LL)
#define WALL_MAX_S 253402300799LL

int64_t clock_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

struct timespec clock_wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

char *time_rfc3339(struct timespec t, char dst[static 40])
{
	struct tm tm;
	int n;

	if (t.tv_sec < WALL_MIN_S)
		t = (struct timespec){.tv_sec = WALL_MIN_S};
	else if (t.tv_sec > WALL_MAX_S)
		t = (struct timespec){.tv_sec = WALL_MAX_S};
	gmtime_r(&t.tv_sec, &tm);
	n = snprintf(dst, 40, "%04d-%02d-%02dT%02d:%02d:%02d", (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday,
	             tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (t.tv_nsec) {
		n += snprintf(dst + n, 40 - (size_t)n, ".%09ld", t.tv_nsec % 1000000000L);
		while (dst[n - 1] == '0')
			n--;
	}
	dst[n++] = 'Z';
	dst[n] = 0;
	return dst;
}

static inline bool are_digits(const char *p)
{
	return p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9';
}

static inline int two_digits(const char *p)
{
	return (p[0] - '0') * 10 + (p[1] - '0');
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* Whether each of 16 bytes lies within the range that the two others begin and end. */
static bool within(const char *p, const char *least, const char *most)
{
	bytes16 v, from, to, in;
	uint64_t halves[2];

	memcpy(&v, p, sizeof(v));
	memcpy(&from, least, sizeof(from));
	memcpy(&to, most, sizeof(to));
	in = (bytes16)(v >= from) & (bytes16)(v <= to);
	memcpy(halves, &in, sizeof(halves));
	return (halves[0] & halves[1]) == UINT64_MAX;
}

#define DATE_TIME_BYTES (sizeof("0000-00-00T00:00:00") - 1)

static bool has_date_time(struct str s)
{
	static const char least[] = "0000-00-00T00:00:00", most[] = "9999-99-99t99:99:99";
	const size_t rest = DATE_TIME_BYTES - sizeof(bytes16);

	return s.n >= DATE_TIME_BYTES && within(s.p, least, most) && within(s.p + rest, least + rest, most + rest) &&
	       (s.p[10] | 0x20) == 't';
}

static bool take_fraction(struct str *s, long *ns)
{
	long unit = NS_PER_S / 10;
	size_t i = 0;

	*ns = 0;
	if (!str_skip(s, STR(".")))
		return true;
	for (; i < s->n && s->p[i] >= '0' && s->p[i] <= '9'; i++, unit /= 10)
		*ns += unit * (s->p[i] - '0');
	*s = str_sub(*s, i, SIZE_MAX);
	return i >= 1 && i <= 9;
}

/* "Z" or "+hh:mm", to the end of the text. */
static bool take_offset(struct str *s, int *seconds)
{
	bool west = s->n && s->p[0] == '-';
	int h, m;

	*seconds = 0;
	if (str_eq(*s, STR("Z")) || str_eq(*s, STR("z")))
		return true;
	if (s->n != strlen("+hh:mm") || (!west && s->p[0] != '+') || !are_digits(s->p + 1) || s->p[3] != ':' ||
	    !are_digits(s->p + 4))
		return false;
	h = two_digits(s->p + 1);
	m = two_digits(s->p + 4);
	if (h > 23 || m > 59)
		return false;
	*seconds = (h * 60 + m) * (west ? -60 : 60);
	return true;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

/* Of the proleptic Gregorian calendar. Years begin in March here, so that the leap day is their last; timegm(3) takes
 * ten times as long, and a layer has a time for each of its files. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = (month + 9) % 12;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * m + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

bool time_parse_rfc3339(struct str s, struct timespec *out)
{
	int year, month, day, hour, minute, second, offset;
	long ns;

	if (!has_date_time(s))
		return false;
	year = two_digits(s.p) * 100 + two_digits(s.p + 2);
	month = two_digits(s.p + 5);
	day = two_digits(s.p + 8);
	hour = two_digits(s.p + 11);
	minute = two_digits(s.p + 14);
	second = two_digits(s.p + 17);
	s = str_sub(s, DATE_TIME_BYTES, SIZE_MAX);
	if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return false;
	/* No leap seconds, as in Go: a time_t has no place for them. */
	if (hour > 23 || minute > 59 || second > 59)
		return false;
	if (!take_fraction(&s, &ns) || !take_offset(&s, &offset))
		return false;
	*out = (struct timespec){.tv_sec = (time_t)days_since_1970(year, month, day) * 86400 + hour * 3600 +
	                                   minute * 60 + second - offset,
	                         .tv_nsec = ns};
	return true;
}
