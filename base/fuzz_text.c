/* The small text parsers: what they accept, they can write again, and it reads as the same. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "fuzz_text: line %d: %s\n", __LINE__, #condition);                             \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void check_base64(struct str text)
{
	AUTO(buf) struct buf plain = BUF_INIT;
	AUTO(buf) struct buf again = BUF_INIT;

	if (!base64_decode(text, &plain, NULL)) {
		base64_encode(buf_str(&plain), &again);
		REQUIRE(str_eq(buf_str(&again), text)); /* one spelling for each value */
	}
	buf_clear(&plain);
	buf_clear(&again);
	base64_encode(text, &again);
	REQUIRE(!base64_decode(buf_str(&again), &plain, NULL));
	REQUIRE(str_eq(buf_str(&plain), text));
}

static void check_time(struct str text)
{
	struct timespec t, u;
	char again[40];

	if (!time_parse_rfc3339(text, &t))
		return;
	REQUIRE(t.tv_nsec >= 0 && t.tv_nsec < NS_PER_S);
	time_rfc3339(t, again);
	REQUIRE(time_parse_rfc3339(str_of(again), &u));
	/* An offset may carry the ends of the calendar over its edge, where writing clamps. */
	if (str_starts(text, STR("0000-01-01")) || str_starts(text, STR("9999-12-31")))
		return;
	REQUIRE(u.tv_sec == t.tv_sec && u.tv_nsec == t.tv_nsec);
}

static void check_digest(struct str text)
{
	char again[DIGEST_TEXT_MAX];
	struct digest d;

	if (!digest_parse(text, &d, NULL))
		REQUIRE(str_eqc(text, digest_text(&d, again)));
}

static void check_numbers(struct str text)
{
	char again[32];
	uint64_t u;
	int64_t i;

	if (str_i64(text, &i) && text.p[0] != '0' && text.p[0] != '-') {
		snprintf(again, sizeof(again), "%lld", (long long)i);
		REQUIRE(str_eqc(text, again));
	}
	if (str_u64(text, 16, &u) && text.p[0] != '0') {
		snprintf(again, sizeof(again), "%llx", (unsigned long long)u);
		REQUIRE(str_ieq(text, str_of(again)));
	}
}

static void check_cleaning(struct str text)
{
	AUTO_FREE char *clean = str_dup(text);

	text_clean(clean);
	REQUIRE(str_is_utf8(str_of(clean)));
	for (const char *p = clean; *p; p++)
		REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str text = str_make(data, n);

	check_base64(text);
	check_time(text);
	check_digest(text);
	check_numbers(text);
	check_cleaning(text);
	return 0;
}
