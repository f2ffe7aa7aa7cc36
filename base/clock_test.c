#include "base/clock.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void parse_and_write(void **state)
{
	static const struct {
		const char *text;
		time_t s;
		long ns;
		const char *again; /* NULL: the same text */
	} cases[] = {
	    {"1970-01-01T00:00:00Z", 0, 0, NULL},
	    {"2026-01-02T03:04:05.25Z", 1767323045, 250000000, NULL},
	    {"2026-01-02T03:04:05.123456789Z", 1767323045, 123456789, NULL},
	    {"2026-01-02T03:04:05.000000001Z", 1767323045, 1, NULL},
	    {"2026-01-02t03:04:05.500z", 1767323045, 500000000, "2026-01-02T03:04:05.5Z"},
	    {"2024-02-29T23:59:59+05:30", 1709231399, 0, "2024-02-29T18:29:59Z"},
	    {"2024-02-29T23:59:59-00:01", 1709251259, 0, "2024-03-01T00:00:59Z"},
	    {"1969-12-31T23:59:59.9Z", -1, 900000000, NULL},
	    {"0000-01-01T00:00:00Z", -62167219200, 0, NULL},
	    {"0001-01-01T00:00:00Z", -62135596800, 0, NULL}, /* Go's zero time */
	    {"9999-12-31T23:59:59.999999999Z", 253402300799, 999999999, NULL},
	    {"2000-02-29T00:00:00Z", 951782400, 0, NULL},
	};
	struct timespec t;
	char text[40];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (!time_parse_rfc3339(str_of(cases[i].text), &t))
			fail_msg("rejected: %s", cases[i].text);
		assert_int_equal(t.tv_sec, cases[i].s);
		assert_int_equal(t.tv_nsec, cases[i].ns);
		assert_string_equal(time_rfc3339(t, text), cases[i].again ?: cases[i].text);
	}
}

static void rejects(void **state)
{
	static const char *const bad[] = {
	    "",
	    "2026-01-02",
	    "2026-01-02T03:04:05",
	    "2026-01-02 03:04:05Z",
	    "2026-1-02T03:04:05Z",
	    "26-01-02T03:04:05Z",
	    "2026-00-02T03:04:05Z",
	    "2026-13-02T03:04:05Z",
	    "2026-01-00T03:04:05Z",
	    "2026-01-32T03:04:05Z",
	    "2026-02-29T03:04:05Z",
	    "1900-02-29T03:04:05Z",
	    "2026-04-31T03:04:05Z",
	    "2026-01-02T24:04:05Z",
	    "2026-01-02T03:60:05Z",
	    "2026-01-02T03:04:60Z",
	    "2026-01-02T03:04:05.Z",
	    "2026-01-02T03:04:05.1234567890Z",
	    "2026-01-02T03:04:05+0530",
	    "2026-01-02T03:04:05+24:00",
	    "2026-01-02T03:04:05+05:60",
	    "2026-01-02T03:04:05+05:30x",
	    "2026-01-02T03:04:05ZZ",
	    "+026-01-02T03:04:05Z",
	    "2026-01-02T03:04:-5Z",
	    "2026-01-02T03:04:05,5Z",
	    "2026-01-02U03:04:05Z", /* between T and t */
	    "2026-01-02s03:04:05Z",
	    "2026-01-02\xd4"
	    "03:04:05Z",
	    "2026/01/02T03:04:05Z",
	    "2026-01-02T03:04:0:Z",
	    "2026-01-02T03:04:0/Z",
	    "2026-01-02T03.04:05Z",
	    ":026-01-02T03:04:05Z",
	    "2026-01-02T03:04:05+5:300",
	    "2026-01-02T03:04:05+05-30",
	    "2026-01-02T03:04:05*05:30",
	    "2026-01-02T03:04:05+05:3",
	};
	struct timespec t;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (time_parse_rfc3339(str_of(bad[i]), &t))
			fail_msg("accepted: %s", bad[i]);
}

/* Every day of 400 years, a whole cycle of the calendar. */
static void all_days(void **state)
{
	struct timespec t = {.tv_sec = 946684800, .tv_nsec = 0}, back; /* 2000-01-01 */
	char text[40];

	for (int day = 0; day < 146097; day++, t.tv_sec += 86400) {
		time_rfc3339(t, text);
		assert_true(time_parse_rfc3339(str_of(text), &back));
		assert_int_equal(back.tv_sec, t.tv_sec);
	}
	assert_string_equal(time_rfc3339(t, text), "2400-01-01T00:00:00Z");
}

static void times_outside_the_calendar_are_clamped(void **state)
{
	char text[40];

	assert_string_equal(time_rfc3339((struct timespec){.tv_sec = INT64_MAX, .tv_nsec = 5}, text),
	                    "9999-12-31T23:59:59Z");
	assert_string_equal(time_rfc3339((struct timespec){.tv_sec = INT64_MIN}, text), "0000-01-01T00:00:00Z");
}

static void monotonic(void **state)
{
	int64_t a = clock_mono_ns(), b = clock_mono_ns();

	assert_true(a > 0 && b >= a);
	assert_true(clock_wall().tv_sec > 1700000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(parse_and_write), cmocka_unit_test(rejects),
	    cmocka_unit_test(all_days),        cmocka_unit_test(times_outside_the_calendar_are_clamped),
	    cmocka_unit_test(monotonic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
